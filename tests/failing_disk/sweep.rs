//! One fault at every call of every life.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::Fault;
use crate::ledger::Ledger;
use crate::node::{Node, assert_sound};
use crate::scene::{Scene, command, place};
use crate::workload::Client;

/// How many lives go on at once.
const AT_ONCE: usize = 3;
/// A row of the same calls that is longer gets some of them only.
const ROW: usize = 6;
/// What the program ends with when its storage fails.
const EXIT_STORAGE: i32 = 74;

/// Has every call fail by turns, or those that `PULK_FAULTS` and the seed say.
pub async fn sweep(fault: Fault) {
    let seed = match std::env::var("PULK_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => StdRng::try_from_rng(&mut rand::rngs::SysRng).unwrap().random(),
    };
    let mut random = StdRng::seed_from_u64(seed);
    for scene in Scene::all().await {
        let name = scene.name;
        let counted = Life::new(&scene, fault, 0).run(&scene).await.unwrap();
        assert!(!counted.is_empty(), "no call was counted");
        let chosen = choose(name, fault, &counted, &mut random);
        let (runs, missed) = run_all(Arc::new(scene), fault, chosen).await;
        println!("{name}: {} calls, {runs} of them failed", counted.len());
        // Its threads are not always in the same order, and may make a call less.
        assert!(missed <= runs / 4, "{missed} of {runs} runs did not come to their fault");
    }
}

/// The numbers of the calls that are to fail.
fn choose(scene: &str, fault: Fault, calls: &[String], random: &mut StdRng) -> Vec<usize> {
    let wanted = std::env::var("PULK_FAULTS").unwrap_or_default();
    if let Some((wanted, number)) = wanted.split_once(':') {
        return if wanted == scene { vec![number.parse().unwrap()] } else { Vec::new() };
    }
    let mut chosen = Vec::new();
    let mut first = 1;
    for row in calls.chunk_by(|one, other| what(one) == what(other)) {
        let numbers = first..first + row.len();
        first = numbers.end;
        match wanted == "all" || row.len() <= ROW {
            true => chosen.extend(numbers),
            false => {
                let (start, last) = (numbers.start, numbers.end - 1);
                chosen.extend([start, start + 1, random.random_range(start + 2..last), last]);
            }
        }
    }
    if wanted != "all" {
        let drawn = random.random_range(0..fault.one_in);
        chosen = chosen.into_iter().skip(drawn).step_by(fault.one_in).collect();
    }
    chosen
}

/// A line of the log without its number.
fn what(line: &str) -> &str {
    line.split_once(' ').unwrap().1
}

async fn run_all(scene: Arc<Scene>, fault: Fault, numbers: Vec<usize>) -> (usize, usize) {
    let (numbers, next) = (Arc::new(numbers), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (scene, numbers, next) = (scene.clone(), numbers.clone(), next.clone());
        workers.spawn(async move {
            let mut missed = 0;
            while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let scene_name = scene.name;
                match Life::new(&scene, fault, *number).run(&scene).await {
                    Ok(calls) => missed += usize::from(calls.is_empty()),
                    Err(wrong) => panic!(
                        "{wrong}\nof {fault:?}; again by PULK_FAULTS={scene_name}:{number} and \
                         the name of this test"
                    ),
                }
            }
            missed
        });
    }
    let missed = workers.join_all().await.iter().sum();
    (numbers.len(), missed)
}

/// One run of the program with one fault, and its next run without.
struct Life {
    fault: Fault,
    number: usize,
    place: tempfile::TempDir,
    data: PathBuf,
}

impl Life {
    fn new(scene: &Scene, fault: Fault, number: usize) -> Life {
        let place = place();
        fs::create_dir(place.path().join("disk")).unwrap();
        let data = place.path().join("disk/data");
        scene.set(&data);
        Life { fault, number, place, data }
    }

    /// Gives the calls that failed; all of them when they were only counted.
    async fn run(&self, scene: &Scene) -> Result<Vec<String>, String> {
        let mut ledger = scene.ledger.clone();
        let (refused, status, log) = self.live(scene, &mut ledger).await;
        let calls = self.calls();
        let checked = self.check_end(refused, status, &log).map_err(str::to_owned);
        let checked = match checked {
            Ok(()) => self.check_directory(&ledger).await,
            wrong => wrong,
        };
        checked.map_err(|wrong| format!("{wrong}; {status}; failed: {calls:#?}\n{log}"))?;
        Ok(calls)
    }

    /// The node ends as it promises to, and says what has happened.
    fn check_end(&self, refused: bool, status: ExitStatus, log: &str) -> Result<(), &'static str> {
        let failed = if self.number == 0 { Vec::new() } else { self.calls() };
        let may_be_silent = |call: &String| self.fault.kind == "short" || is_harmless(call);
        // What becomes of jobs is no word about the disk.
        let said = |line: &str| line.contains(" WARN ") || line.contains(" ERROR ");
        let said = log.lines().any(|line| said(line) && !line.contains(" pulk::jobs: "));
        match status.code() {
            None if !refused && self.may_be_killed() => Ok(()),
            Some(0) if refused => Err("a call was refused, and the node did not fail"),
            Some(0) if !said && !failed.iter().all(may_be_silent) => Err("nothing was said"),
            Some(0) => Ok(()),
            Some(EXIT_STORAGE) if failed.is_empty() => Err("nothing was to fail"),
            Some(EXIT_STORAGE) if log.contains("pulk: ") => Ok(()),
            _ => Err("it ended in another way than it promises"),
        }
    }

    /// A node without faults has all that was acknowledged.
    async fn check_directory(&self, ledger: &Ledger) -> Result<(), String> {
        let opened = Node::try_spawn(command(&self.data)).await;
        let node = opened.map_err(|(_, log)| format!("it does not open again: {log}"))?;
        ledger.check(&node.http).await?;
        let (status, log) = node.stop().await;
        if status.code() != Some(0) {
            return Err(format!("the next node ends with {status}: {log}"));
        }
        assert_sound(&self.data).await;
        Ok(())
    }

    /// The run with the fault.
    async fn live(&self, scene: &Scene, ledger: &mut Ledger) -> (bool, ExitStatus, String) {
        let mut command = command(&self.data);
        command
            .env("LD_PRELOAD", shared_object())
            .env("PULK_FAULT_DIR", self.place.path().join("disk").canonicalize().unwrap())
            .env("PULK_FAULT_CALL", self.fault.calls)
            .env("PULK_FAULT_AT", self.number.to_string())
            .env("PULK_FAULT_KIND", self.fault.kind)
            .env("PULK_FAULT_LASTING", if self.fault.lasting { "1" } else { "0" })
            .env("PULK_FAULT_LOG", self.log());
        let node = match Node::try_spawn(command).await {
            Ok(node) => node,
            Err((status, log)) => return (false, status, log),
        };
        let mut client = Client { node: node.http.clone(), ledger: ledger.clone() };
        let refused = scene.live(&mut client).await.is_err();
        *ledger = client.ledger;
        if !refused {
            let kill = self.may_be_killed() && !self.calls().is_empty();
            node.signal(if kill { Signal::KILL } else { Signal::TERM });
        }
        // After a failure it ends by itself.
        let (status, log) = node.ended().await;
        (refused, status, log)
    }

    /// True for a life that may go on after its fault. It ends by SIGKILL then: after an orderly
    /// end nobody reads the journal.
    fn may_be_killed(&self) -> bool {
        self.number > 0 && self.fault.kind == "short"
    }

    fn log(&self) -> PathBuf {
        self.place.path().join("log")
    }

    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

/// What nobody has to be told of: an older snapshot of sled that stays, which goes with the
/// next one.
fn is_harmless(call: &str) -> bool {
    call.contains(" remove data/sled/snap.")
}

/// The shared object of the crate that this test is built with.
fn shared_object() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let found = test.parent().map(|dir: &Path| dir.join("libpulk_proof_disk.so")).unwrap();
    assert!(found.is_file(), "{} is missing", found.display());
    found
}
