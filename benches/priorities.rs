//! How long an urgent job waits with a backlog of others: `cargo bench --bench priorities`.
//!
//! A queue on the disk with bulk jobs waiting and workers that claim and ack one job after the
//! other. Now and then a critical job comes; shown is the time from the call that enqueues it to
//! the answer that hands it out, the goal being 50 ms. Then the same when every bulk job counts as
//! critical too, and the jobs a second of a claim for many out of many queues.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_JOBS` the bulk jobs (100,000),
//! `PULK_BENCH_ROUNDS` the critical ones (300).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench measures real time"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pulk::priority::PerPriority;
use pulk::queue::Claim;
use pulk::{Config, NewJob, Priority, Queue};

const GOAL_MS: f64 = 50.0;
const WORKERS: usize = 4;
const BATCH: usize = 1_000;

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (jobs, rounds) = (number("PULK_BENCH_JOBS", 100_000), number("PULK_BENCH_ROUNDS", 300));
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let directory = tempfile::tempdir_in(root).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{jobs} bulk jobs, {WORKERS} workers, {rounds} critical jobs; ms until it starts");
        println!("{:<34}{:>8}{:>8}{:>8}{:>12}", "", "p50", "p99", "max", "p99 / goal");
        for (name, queues, ageing_ms, rounds) in [
            ("in one queue", 1, 600_000, rounds),
            ("in 1,000 queues", 1_000, 600_000, rounds),
            ("in 10 queues, all aged", 10, 1, rounds),
            // A critical one waits for the turn of its queue there: a whole backlog would go by.
            ("in 1,000 queues, all aged", 1_000, 1, rounds / 10),
        ] {
            let directory = directory.path().join(name.replace([' ', ','], "-"));
            latency(&directory, name, jobs, queues, ageing_ms, rounds).await;
        }
        many_queues(&directory.path().join("many"), jobs).await;
    });
}

async fn open(directory: &Path, ageing_ms: u64) -> Queue {
    let config = Config {
        data_dir: directory.to_owned(),
        queue_capacity: PerPriority::default(),
        // Those of the bulk jobs, and that of the critical ones.
        max_queues: 1_001,
        ageing_ms: PerPriority::from_fn(|_| ageing_ms),
        ..Config::default()
    };
    Queue::open(config).await.unwrap()
}

async fn fill(queue: &Queue, jobs: usize, queues: usize) {
    for first in (0..jobs).step_by(BATCH) {
        let bulk = |number| {
            let name = format!("bulk-{}", number % queues);
            NewJob::new("bench").queue(name).priority(Priority::Bulk)
        };
        queue.enqueue_many((first..first + BATCH).map(bulk).collect()).await.unwrap();
    }
}

/// Workers take whatever is next; a critical job is timed from its enqueue to its start.
async fn latency(
    directory: &Path,
    name: &str,
    jobs: usize,
    queues: usize,
    ageing_ms: u64,
    rounds: usize,
) {
    let queue = open(directory, ageing_ms).await;
    fill(&queue, jobs, queues).await;
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let enqueued_at = Arc::new(AtomicU64::new(0));
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let workers = (0..WORKERS).map(|_| {
        let (queue, stop, started) = (queue.clone(), stop.clone(), started.clone());
        let enqueued_at = enqueued_at.clone();
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                for job in queue.claim(Claim::default()).await.unwrap().jobs {
                    if job.priority == Priority::Critical {
                        let now_us = begun.elapsed().as_micros() as u64;
                        started.send(now_us - enqueued_at.load(Ordering::SeqCst)).unwrap();
                    }
                    queue.ack(job.token).await.unwrap();
                }
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut waits_ms = Vec::new();
    for _ in 0..rounds {
        enqueued_at.store(begun.elapsed().as_micros() as u64, Ordering::SeqCst);
        let urgent = NewJob::new("bench").queue("urgent").priority(Priority::Critical);
        queue.enqueue(urgent).await.unwrap();
        waits_ms.push(starts.recv().await.unwrap() as f64 / 1_000.0);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(queue.claim(Claim::default()).await.unwrap().jobs.len() == 1, "the backlog ran out");
    waits_ms.sort_by(f64::total_cmp);
    let at = |share: usize| waits_ms[(waits_ms.len() * share / 100).min(waits_ms.len() - 1)];
    let (p50, p99, max) = (at(50), at(99), at(100));
    println!("{name:<34}{p50:>8.2}{p99:>8.2}{max:>8.2}{:>12.2}", p99 / GOAL_MS);
    queue.close().await.unwrap();
}

/// Claims for a hundred, out of few queues and out of many, whose turn changes with every job.
async fn many_queues(directory: &Path, jobs: usize) {
    println!("{:<34}{:>12}", "claim 100 + ack, out of", "jobs/s");
    for queues in [1, 10, 1_000] {
        let queue = open(&directory.join(queues.to_string()), 600_000).await;
        fill(&queue, jobs, queues).await;
        let started = Instant::now();
        let mut claim = Claim { limit: 100, ..Claim::default() };
        let mut done = 0;
        while done < jobs {
            let claimed = queue.claim(claim.clone()).await.unwrap().jobs;
            done += claimed.len();
            claim.settle.acks = claimed.iter().map(|job| job.token.into()).collect();
        }
        queue.settle(claim.settle).await.unwrap();
        let rate = jobs as f64 / started.elapsed().as_secs_f64();
        println!("{:<34}{rate:>12.0}", format!("{queues} queues"));
        queue.close().await.unwrap();
    }
}
