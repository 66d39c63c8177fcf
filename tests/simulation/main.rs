//! Whole lives of a queue, each from one number: producers, workers that misbehave, operators,
//! clocks that jump, commits that fail, crashes. After every step everything that was answered,
//! that can be seen and that is stored is compared with a model that knows the truth
//! (`pulk_proof::Truth`).
//!
//! `PULK_SEEDS=1000 cargo test --release --test simulation` runs so many worlds; `PULK_SEED=7` that
//! one, and tells its whole history.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first surprise"
)]

mod calm;
mod coverage;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Summary, World};

/// The worlds in which every broken queue of `tests/mutations` was caught.
const FIRST_SEEDS: u64 = 12;
/// Worlds that are run when nobody says how many.
const SEEDS: u64 = 100;
/// What ran with fewer need not have met everything.
const SEEDS_THAT_MEET_ALL: u64 = 100;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs a world to its end.
fn run(seed: u64, told: bool) -> Summary {
    let mut world = World::new(seed);
    world.tell(told);
    if let Some(steps) = number("PULK_EXAMINE_EVERY") {
        world.examine_every(steps);
    }
    world.run()
}

/// Runs worlds on all processors. A panic of one is told with the command that runs it again.
fn run_all(first: u64, seeds: u64) -> BTreeMap<String, u64> {
    let (next, total) = (AtomicU64::new(first), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
                        Ok(summary) => {
                            let mut total = total.lock().unwrap();
                            for (what, count) in summary.counts {
                                *total.entry(what).or_default() += count;
                            }
                        }
                        Err(_) => *failed.lock().unwrap() = Some(seed),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if let Some(seed) = failed {
        panic!("run it again: PULK_SEED={seed} cargo test --test simulation -- --nocapture");
    }
    total.into_inner().unwrap()
}

#[test]
fn the_first_worlds_keep_every_promise() {
    run_all(0, FIRST_SEEDS);
}

#[test]
fn every_world_keeps_every_promise() {
    if let Some(seed) = number("PULK_SEED") {
        run(seed, true);
        return;
    }
    let seeds = number("PULK_SEEDS").unwrap_or(SEEDS);
    let first = number("PULK_FIRST_SEED").unwrap_or(FIRST_SEEDS);
    let counts = run_all(first, seeds);
    println!("{seeds} seeds: {}", coverage::line(&counts));
    if seeds >= SEEDS_THAT_MEET_ALL {
        let missed = coverage::missed(&counts);
        assert!(missed.is_empty(), "no world met these: {missed:#?}\nbut {counts:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [3, 11] {
        let (once, again) = (run(seed, false), run(seed, false));
        assert_eq!(once.digests, again.digests, "seed {seed}, in one process");
        let elsewhere = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tell_the_digests_of_a_seed", "--ignored", "--nocapture"])
            .env("PULK_SEED", seed.to_string())
            .output()
            .unwrap();
        let told = String::from_utf8(elsewhere.stdout).unwrap();
        let digests = format!("digests: {}", once.digests);
        assert!(told.contains(&digests), "seed {seed}: {digests}, in another process {told}");
    }
}

#[test]
#[ignore = "another test runs it in a process of its own"]
fn tell_the_digests_of_a_seed() {
    let summary = run(number("PULK_SEED").unwrap(), false);
    println!("digests: {}", summary.digests);
}
