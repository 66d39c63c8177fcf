//! One fault at every call of every life.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::Fault;
use crate::ledger::Ledger;
use crate::node::{Node, assert_sound};
use crate::scene::{Scene, command};
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
    println!("PULK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for scene in Scene::all().await {
        let counted = Life::new(&scene, fault, 0).run(&scene).await.unwrap();
        assert!(!counted.calls.is_empty(), "no call was counted");
        let chosen = choose(&counted.calls, &mut random);
        let started = std::time::Instant::now();
        if std::env::var("PULK_SHOW").is_ok() {
            println!("{:#?}", counted.calls);
        }
        let (runs, missed) = run_all(Arc::new(scene), fault, chosen).await;
        println!(
            "{fault:?}: {} calls, {runs} runs, {missed} that made no such call, {:?}",
            counted.calls.len(),
            started.elapsed()
        );
        assert!(missed < runs / 2, "most runs did not come to their fault");
    }
}

/// The numbers of the calls that are to fail.
fn choose(calls: &[String], random: &mut StdRng) -> Vec<usize> {
    let all = std::env::var("PULK_FAULTS").is_ok_and(|faults| faults == "all");
    let mut chosen = Vec::new();
    let mut first = 0;
    for row in calls.chunk_by(|one, other| what(one) == what(other)) {
        let numbers = first + 1..first + 1 + row.len();
        first += row.len();
        match all || row.len() <= ROW {
            true => chosen.extend(numbers),
            false => {
                let (start, end) = (numbers.start, numbers.end - 1);
                chosen.extend([start, start + 1, random.random_range(start + 2..end), end]);
            }
        }
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
                let life = Life::new(&scene, fault, *number);
                match life.run(&scene).await {
                    Ok(lived) => missed += usize::from(lived.calls.is_empty()),
                    Err(wrong) => println!("XXX {} {fault:?} at {number}: {wrong}", scene.name),
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

/// What became of it.
struct Lived {
    /// Calls that failed; all of them when they were only counted.
    calls: Vec<String>,
}

impl Life {
    fn new(scene: &Scene, fault: Fault, number: usize) -> Life {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("disk")).unwrap();
        let data = place.path().join("disk/data");
        scene.set(&data);
        Life { fault, number, place, data }
    }

    async fn run(&self, scene: &Scene) -> Result<Lived, String> {
        let mut ledger = scene.ledger.clone();
        let (status, log) = self.live(scene, &mut ledger).await;
        let calls = self.calls();
        let wrong = |what: &str| Err(format!("{what}; {status}; failed: {calls:#?}\n{log}"));
        let reads = self.fault.calls == "read" || calls.iter().any(|call| is_harmless(call));
        let said = log.lines().any(|line| line.contains("WARN") || line.contains("ERROR"));
        let failed = self.number > 0 && !calls.is_empty() && self.fault.kind != "short";
        match status.code() {
            None => return wrong(&format!("ended by signal {:?}", status.signal())),
            Some(0) if failed && !said && !reads => return wrong("nothing was said"),
            Some(0) => {}
            Some(EXIT_STORAGE) if calls.is_empty() => return wrong("nothing has failed"),
            Some(EXIT_STORAGE) if log.contains("pulk: ") => {}
            Some(_) => return wrong("another end than was promised"),
        }
        let node = match Node::try_spawn(command(&self.data)).await {
            Ok(node) => node,
            Err((_, said)) => return wrong(&format!("it does not open again: {said}")),
        };
        if let Err(what) = ledger.check(&node.http).await {
            return wrong(&what);
        }
        let (status, log) = node.stop().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert_sound(&self.data).await;
        Ok(Lived { calls })
    }

    /// The run with the fault.
    async fn live(&self, scene: &Scene, ledger: &mut Ledger) -> (ExitStatus, String) {
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
            Err(ended) => return ended,
        };
        let mut client = Client { node: node.http.clone(), ledger: ledger.clone() };
        let lived = scene.live(&mut client).await;
        *ledger = client.ledger;
        match lived {
            Ok(()) => node.stop().await,
            // It ends by itself.
            Err(_) => node.ended().await,
        }
    }

    fn log(&self) -> PathBuf {
        self.place.path().join("log")
    }

    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

/// What sled does not depend on, and so tells nobody: an older snapshot goes when the next is made.
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
