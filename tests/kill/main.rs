//! SIGKILL under load: whatever a client was told before its node was killed holds after it.
//!
//! Workers enqueue, claim, ack, fail, extend and release over HTTP and write down every answer
//! after it came; the [`ledger`] knows what must be true. The node is killed again and again after
//! a number of answers drawn from a seed, and started on the same directory. In the end all that
//! is left is drained, and the ledger, the node and `pulk doctor` must agree.
//!
//! A kill never loses what is in the page cache: this shows that commits are whole and recovery is
//! right, not that the disk was told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "../node/mod.rs"]
mod node;

mod ledger;
mod workload;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use ledger::Ledger;
use node::{Node, within};
use workload::Worker;

const ROUNDS: u64 = 8;
const WORKERS: u64 = 10;
/// The answers of one round before the kill.
const ANSWERS: std::ops::Range<u64> = 40..900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_keeps_every_word_it_gave() {
    let seed = match std::env::var("PULK_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => StdRng::try_from_rng(&mut rand::rngs::SysRng).unwrap().random(),
    };
    // Printed when the test fails; PULK_SEED=… draws the same again.
    println!("PULK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut workers: Vec<Worker> =
        (0..WORKERS).map(|number| Worker::new(number, random.random(), ledger.clone())).collect();
    let mut killed_under_way = 0;
    for round in 0..ROUNDS {
        let node = Node::start(directory.path()).await;
        let held_before = workers.iter().map(Worker::held).sum::<usize>();
        let kill_after = ledger.answers() + random.random_range(ANSWERS);
        let mut running = JoinSet::new();
        for mut worker in workers.drain(..) {
            let http = node.http.clone();
            running.spawn(async move {
                worker.work(&http).await;
                worker
            });
        }
        within("a number of answers", ledger.reached(kill_after)).await;
        node.kill().await;
        workers = within("the end of the workers", running.join_all()).await;
        let under_way = workers.iter().filter(|worker| worker.was_cut_off()).count();
        killed_under_way += under_way;
        println!(
            "round {round}: killed after {} answers, {under_way} calls under way, \
             {held_before} leases from before",
            ledger.answers()
        );
    }
    assert!(killed_under_way > 0, "no call was under way at any kill");
    finish(directory.path(), &ledger, workers).await;
}

/// Drains what is left, and checks every job that was ever acknowledged.
async fn finish(directory: &std::path::Path, ledger: &Ledger, mut workers: Vec<Worker>) {
    let node = Node::start(directory).await;
    let mut settled = 0;
    for worker in &mut workers {
        settled += worker.settle_all(&node.http).await;
    }
    assert!(settled > 0, "nobody held a lease over the last kill");
    workload::drain(&node.http, ledger).await;
    let dead = workload::dead_letters(&node.http).await;
    ledger.check(&node.http, &dead).await;
    let (status, log) = node.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    node::assert_sound(directory).await;
}
