//! Bits taken at random from every part of every file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::subject::{CountMended, Damage, Outcome, Subject, outcome, used};

/// Flips of a run that says nothing else.
const FLIPS: u64 = 300;
/// The part of a file at its end, and at its beginning, that gets flips of its own.
const EDGE_BYTES: u64 = 300;
/// sled writes its log in segments of this size; each has a header.
const SEGMENT_BYTES: u64 = 16 << 20;

/// A part of a file: from here up to there.
type Part = (PathBuf, u64, u64);

/// The parts of a directory's files: the same number of flips for each.
fn parts(subject: &Subject) -> Vec<Part> {
    let mut parts = Vec::new();
    for (file, length) in subject.files() {
        let used = used(&subject.directory.path().join(&file));
        let edge = EDGE_BYTES.min(used);
        parts.extend(
            [(0, edge), (used - edge, used), (0, used), (used, length)]
                .map(|(from, until)| (file.clone(), from, until)),
        );
        if file.ends_with("db") {
            // Most of what is worth anything.
            parts.extend([(file.clone(), 0, used), (file.clone(), 0, used), (file, 0, 20)]);
        }
    }
    parts.retain(|(_, from, until)| from < until);
    parts
}

/// A run of damages and what became of them.
struct Run {
    seed: u64,
    random: StdRng,
    outcomes: BTreeMap<(String, Outcome), usize>,
    wrong: Vec<String>,
}

impl Run {
    fn new() -> Run {
        let _ = tracing_subscriber::registry().with(CountMended).try_init();
        let seed = number("PULK_SEED", 20_261_123);
        let random = StdRng::seed_from_u64(seed);
        Run { seed, random, outcomes: BTreeMap::new(), wrong: Vec::new() }
    }

    async fn flips(&mut self, subject: &Subject, parts: &[Part], flips: usize) {
        for flip in 0..flips {
            let (file, from, until) = &parts[flip % parts.len()];
            let bit = self.random.random_range(from * 8..until * 8);
            self.one(subject, file, Damage::Bit(bit)).await;
        }
    }

    async fn bytes(&mut self, subject: &Subject, parts: &[Part], times: usize) {
        for time in 0..times {
            let (file, from, until) = &parts[time % parts.len()];
            let from = self.random.random_range(*from..*until);
            let until = until.min(&(from + self.random.random_range(2..600))).to_owned();
            self.one(subject, file, Damage::Bytes { from, until }).await;
        }
    }

    async fn one(&mut self, subject: &Subject, file: &Path, damage: Damage) {
        let directory = subject.damaged(file, damage);
        let file = file.display().to_string();
        match outcome(subject, directory.path()).await {
            Ok(outcome) => *self.outcomes.entry((kind(&file), outcome)).or_default() += 1,
            Err(what) => self.wrong.push(format!("{damage:?} of {file}: {what}")),
        }
    }

    fn count(&self, wanted: Outcome) -> usize {
        self.outcomes.iter().filter(|((_, outcome), _)| *outcome == wanted).map(|(_, n)| n).sum()
    }

    #[track_caller]
    fn assert_never_silent(&self) {
        if std::env::var_os("PULK_FLIPS").is_some() {
            println!("{:#?}", self.outcomes);
        }
        let (seed, wrong) = (self.seed, self.wrong.len());
        let told: String = self.wrong.iter().take(5).map(|what| format!("{what}\n\n")).collect();
        assert!(wrong == 0, "{wrong} times; again: PULK_SEED={seed}\n\n{told}");
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect(variable))
}

fn flips(share: u64) -> usize {
    (number("PULK_FLIPS", FLIPS) * share / 100) as usize
}

/// A file's name without its number.
fn kind(file: &str) -> String {
    let number = file.rfind('.').filter(|_| file.contains("journal") || file.contains("snap"));
    file[..number.unwrap_or(file.len())].to_owned()
}

/// One at a time: what the log says is counted for the whole process.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn any_bit_of_a_directory_that_was_closed() {
    let _turn = TURN.lock().await;
    let (subject, mut run) = (Subject::closed().await, Run::new());
    run.flips(&subject, &parts(&subject), flips(35)).await;
    run.assert_never_silent();
    assert_eq!(run.count(Outcome::Refused), 0, "a single bit is mended");
}

#[tokio::test]
async fn any_bit_of_a_directory_that_was_killed() {
    let _turn = TURN.lock().await;
    let (subject, mut run) = (Subject::killed().await, Run::new());
    run.flips(&subject, &parts(&subject), flips(45)).await;
    run.assert_never_silent();
    assert_eq!(run.count(Outcome::Refused), 0, "a single bit is mended");
}

#[tokio::test]
async fn any_bit_of_what_is_only_read_when_it_is_asked_for() {
    let _turn = TURN.lock().await;
    let (subject, mut run) = (Subject::aged().await, Run::new());
    let log = PathBuf::from("sled/db");
    let snapshot = subject.files().into_iter().find_map(|(file, _)| {
        u64::from_str_radix(file.to_str()?.strip_prefix("sled/snap.")?, 16).ok()
    });
    let only_asked_for = snapshot.unwrap() / SEGMENT_BYTES * SEGMENT_BYTES;
    run.flips(&subject, &[(log, 0, only_asked_for)], flips(20)).await;
    run.assert_never_silent();
    assert!(run.count(Outcome::MendedAfterRestart) > 0, "{:?}", run.outcomes);
}

#[tokio::test]
async fn more_than_a_bit_is_told_too() {
    let _turn = TURN.lock().await;
    let (subject, mut run) = (Subject::closed().await, Run::new());
    let mut parts = parts(&subject);
    parts.retain(|(file, ..)| file.starts_with("sled"));
    run.bytes(&subject, &parts, flips(20)).await;
    run.assert_never_silent();
    assert!(run.count(Outcome::Refused) > 0, "{:?}", run.outcomes);
}
