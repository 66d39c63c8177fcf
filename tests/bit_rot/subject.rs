//! Directories that hold everything, and what a flipped bit makes of them.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulk::{Error, ErrorKind, JobId, NewJob, Payload, Queue};

use crate::everything::{self, Contents};

/// Longer than opening takes, however busy the machine is: only a hang lasts so long.
const HANG: Duration = Duration::from_secs(90);
/// More than a file of the journal holds, so that one is moved.
const FILLING_JOBS: usize = 20;
const FILLING_BYTES: usize = 20_000;
/// So that damage in the middle of a file has whole commits behind it.
const JOURNAL_BYTES_LEAST: u64 = 8_000;
/// More than a segment of sled's log holds.
const AGED_JOBS: usize = 250;
const AGED_BYTES: usize = 50_000;

/// A directory at rest, and what is in it.
pub struct Subject {
    pub directory: tempfile::TempDir,
    pub contents: Contents,
    pub with_results: Vec<JobId>,
}

impl Subject {
    /// Closed in an orderly way, twice: one half of it lies before sled's snapshot.
    pub async fn closed() -> Subject {
        let (directory, queue, with_results) = Self::lived().await;
        let contents = everything::contents(&queue, &with_results).await.unwrap();
        queue.close().await.unwrap();
        Subject { directory, contents, with_results }
    }

    /// As SIGKILL leaves it: with a journal, of which files were moved before.
    pub async fn killed() -> Subject {
        let (lived, queue, with_results) = Self::lived().await;
        let contents = everything::contents(&queue, &with_results).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        everything::copy(lived.path(), directory.path());
        queue.close().await.unwrap();
        Subject { directory, contents, with_results }
    }

    /// Closed twice, with so much in it that sled reads part of it only when it is asked for.
    pub async fn aged() -> Subject {
        let directory = tempfile::tempdir().unwrap();
        let (queue, _) = everything::open(directory.path()).await.unwrap();
        let mut with_results = everything::fill(&queue, "before").await;
        for number in 0..AGED_JOBS {
            queue.enqueue(filling(number, AGED_BYTES)).await.unwrap();
        }
        queue.close().await.unwrap();
        let (queue, _) = everything::open(directory.path()).await.unwrap();
        with_results.extend(everything::fill(&queue, "after").await);
        let contents = everything::contents(&queue, &with_results).await.unwrap();
        queue.close().await.unwrap();
        Subject { directory, contents, with_results }
    }

    async fn lived() -> (tempfile::TempDir, Queue, Vec<JobId>) {
        let directory = tempfile::tempdir().unwrap();
        let (queue, _) = everything::open(directory.path()).await.unwrap();
        let mut with_results = everything::fill(&queue, "before").await;
        queue.close().await.unwrap();
        let (queue, _) = everything::open(directory.path()).await.unwrap();
        let files = || names(directory.path()).into_iter().filter(|name| name.contains("journal."));
        // Filled until a journal file was moved and given up.
        let before: Vec<_> = files().collect();
        let mut number = 0;
        while !files().any(|name| name.contains("spare")) || number < FILLING_JOBS {
            let id = queue.enqueue(filling(number, FILLING_BYTES)).await.unwrap().id;
            if number > 3 {
                queue.cancel(id).await.unwrap();
            }
            number += 1;
            assert!(number < 100 * FILLING_JOBS, "no file is moved: {before:?}");
        }
        with_results.extend(everything::fill(&queue, "after").await);
        // The newest file holds many commits, and nothing is moved any more.
        while used(&directory.path().join(newest_journal(directory.path()))) < JOURNAL_BYTES_LEAST {
            queue.enqueue(NewJob::new("last")).await.unwrap();
        }
        everything::settle(directory.path()).await;
        (directory, queue, with_results)
    }

    /// A copy in which a file has a damage.
    pub fn damaged(&self, file: &Path, damage: Damage) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        everything::copy(self.directory.path(), copy.path());
        let path = copy.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            Damage::Bit(bit) => bytes[(bit / 8) as usize] ^= 1 << (bit % 8),
            Damage::Bytes { from, until } => {
                bytes[from as usize..until as usize].iter_mut().for_each(|byte| *byte ^= 0xa5);
            }
        }
        fs::write(&path, bytes).unwrap();
        copy
    }

    /// The files that the store reads, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        for name in names(self.directory.path()) {
            let length = fs::metadata(self.directory.path().join(&name)).unwrap().len();
            if name != "lock" && name != "reserve" {
                found.push((PathBuf::from(name), length));
            }
        }
        found
    }
}

fn filling(number: usize, bytes: usize) -> NewJob {
    let bytes = (0..bytes).map(|at| (at * number / 3 + at) as u8);
    NewJob::new("fills").payload(Payload::Binary(bytes.collect()))
}

/// The journal file that commits were written to last.
pub fn newest_journal(directory: &Path) -> PathBuf {
    let newest = names(directory).into_iter().max_by_key(|name| journal_number(name)).unwrap();
    assert!(journal_number(&newest).is_some(), "{newest}");
    PathBuf::from(newest)
}

/// Bytes of a file that were written: in a journal the entries of its number, elsewhere up to the
/// last byte that is not zero.
pub fn used(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    match journal_number(file.file_name().unwrap().to_str().unwrap()) {
        Some(number) => entries(&bytes, number),
        None => bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1),
    }
}

fn journal_number(name: &str) -> Option<u64> {
    name.strip_prefix("journal.")?.parse().ok()
}

/// `"pulk"`, the length of the body, the file's number, a checksum, the body.
fn entries(bytes: &[u8], number: u64) -> u64 {
    let mut end = 0;
    while bytes[end..].starts_with(b"pulk") && bytes[end + 8..end + 16] == number.to_le_bytes() {
        let length: [u8; 4] = bytes[end + 4..end + 8].try_into().unwrap();
        end += 20 + u32::from_le_bytes(length) as usize;
    }
    end as u64
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// This bit is flipped.
    Bit(u64),
    /// These bytes are others.
    Bytes { from: u64, until: u64 },
}

fn names(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found
                .extend(names(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}"))),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

/// What became of a directory with a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is there, and nothing was said.
    Harmless,
    /// All is there, and the log says that a bit was mended.
    Mended,
    /// The same after the process ended once, and was started again.
    MendedAfterRestart,
    /// What is not there is reported as damaged.
    SetAside,
    /// It does not open, and says what to do.
    Refused,
}

/// How often the log said that something was mended.
pub static MENDED: AtomicU64 = AtomicU64::new(0);

/// Counts what the log says of mended bits.
pub struct CountMended;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for CountMended {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Says(bool);
        impl tracing::field::Visit for Says {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "message" && format!("{value:?}").contains("was mended");
            }
        }
        let mut says = Says(false);
        event.record(&mut says);
        MENDED.fetch_add(u64::from(says.0), Ordering::SeqCst);
    }
}

/// Opens a directory as a node would, and again when it fails at first, and compares.
pub async fn outcome(subject: &Subject, directory: &Path) -> Result<Outcome, String> {
    let before = MENDED.load(Ordering::SeqCst);
    let mended = || MENDED.load(Ordering::SeqCst) > before;
    let mut restarts = 0;
    // A store that failed keeps its directory for as long as the process lives.
    let restarted = tempfile::tempdir().unwrap();
    let mut directory = directory;
    let found = loop {
        let (queue, _) = match within("opening", everything::open(directory)).await? {
            Ok(opened) => opened,
            Err(error) => return refusal(&error).map(|()| Outcome::Refused),
        };
        let found = within("reading", everything::contents(&queue, &subject.with_results)).await?;
        let closed = within("closing", queue.close()).await?;
        match found.and_then(|found| closed.map(|()| found)) {
            Ok(found) => break found,
            Err(error) if restarts == 0 => {
                expect(&error, &["restart the process"])?;
                restarts += 1;
                everything::copy(directory, restarted.path());
                directory = restarted.path();
            }
            Err(error) => return refusal(&error).map(|()| Outcome::Refused),
        }
    };
    if found == subject.contents {
        let report = pulk::queue::doctor(directory).map_err(|error| error.to_string())?;
        return match (report.is_sound(), mended(), restarts) {
            (false, ..) => Err(format!("all is there, but: {:#?}", report.problems)),
            (true, true, 0) => Ok(Outcome::Mended),
            (true, true, _) => Ok(Outcome::MendedAfterRestart),
            (true, false, 0) => Ok(Outcome::Harmless),
            (true, false, _) => Err("it ended once for nothing".to_owned()),
        };
    }
    if found.damaged_records > 0 {
        return missing_are_reported(subject, &found).map(|()| Outcome::SetAside);
    }
    Err(format!("something else is there, and nothing was said:\n{}", difference(subject, &found)))
}

fn missing_are_reported(subject: &Subject, found: &Contents) -> Result<(), String> {
    let changed = found.jobs.iter().find(|(id, job)| subject.contents.jobs.get(id) != Some(job));
    match changed {
        Some((id, job)) => {
            let was = subject.contents.jobs.get(id);
            Err(format!("a record was set aside, and job {id} is another: {was:?}, {job:?}"))
        }
        None => Ok(()),
    }
}

fn difference(subject: &Subject, found: &Contents) -> String {
    let was = &subject.contents;
    let gone = was.jobs.keys().filter(|id| !found.jobs.contains_key(id)).count();
    let new = found.jobs.keys().filter(|id| !was.jobs.contains_key(id)).count();
    let other = found.jobs.iter().find(|(id, job)| was.jobs.get(id).is_some_and(|w| w != *job));
    let (results, had) = (found.results.len(), was.results.len());
    let mut text = format!(
        "{gone} of {} jobs are gone, {new} are new, {results} of {had} results\n",
        was.jobs.len()
    );
    if let Some((id, job)) = other {
        text += &format!("was {:?}\nis  {job:?}\n", was.jobs.get(id));
    }
    if found.queues != was.queues {
        text += &format!("queues were {:?}\nare {:?}\n", was.queues, found.queues);
    }
    if found.replays != was.replays {
        text += &format!("replays were {:?}\nare {:?}\n", was.replays, found.replays);
    }
    text
}

/// A refusal must be one of the store, and say what to do.
pub fn refusal(error: &Error) -> Result<(), String> {
    let kinds = [ErrorKind::Corrupt, ErrorKind::Storage, ErrorKind::Poisoned];
    match kinds.contains(&error.kind()) {
        true => expect(error, &["restore the data directory from a"]),
        false => Err(format!("refused with {:?}: {error}", error.kind())),
    }
}

fn expect(error: &Error, words: &[&str]) -> Result<(), String> {
    match words.iter().all(|word| error.to_string().contains(word)) {
        true => Ok(()),
        false => Err(format!("it does not say {words:?}: {error}")),
    }
}

async fn within<T>(what: &str, outcome: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(HANG, outcome).await.map_err(|_| format!("{what} did not end"))
}
