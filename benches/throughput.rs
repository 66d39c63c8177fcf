//! What the library reaches beside the limit of the disk: `cargo bench --bench throughput`.
//!
//! In one run, on one directory, and round by round: the queue does its work, and right after it
//! the same payload bytes are appended and synced in the same number of groups as the queue
//! committed (the limit). The median of the rounds counts, for rates and for ratios. A backlog is
//! measured when what was filled has been moved into sled: as one that waits, not one that grows.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_ROUNDS` how often (5), `PULK_BENCH_BACKLOG`
//! the large backlog (3,000,000).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures real time")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pulk::priority::PerPriority;
use pulk::queue::{Claim, Settle};
use pulk::{Config, NewJob, Payload, Queue};

const PAYLOAD_BYTES: usize = 256;
const BATCH: usize = 100;
const JOBS: usize = 100_000;

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let rounds = number("PULK_BENCH_ROUNDS", 5);
    let backlog = number("PULK_BENCH_BACKLOG", 3_000_000);
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let directory = tempfile::tempdir_in(root).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(directory.path(), rounds, backlog));
}

async fn run(directory: &Path, rounds: usize, backlog: usize) {
    println!("{JOBS} jobs of {PAYLOAD_BYTES} bytes a round, {BATCH} a call; medians of {rounds}");
    println!("{:<34}{:>10}{:>12}{:>12}{:>8}", "", "jobs/s", "jobs/commit", "limit", "ratio");
    let small = open(&directory.join("small")).await;
    fill(&small, 10_000, 1).await;
    until_nothing_is_written().await;
    let few =
        [measure(&small, directory, rounds, 1).await, measure(&small, directory, rounds, 8).await];
    small.close().await.unwrap();

    let large = open(&directory.join("large")).await;
    let started = Instant::now();
    fill(&large, backlog, 8).await;
    println!("-- filled {backlog} jobs in {:.1} s", started.elapsed().as_secs_f64());
    until_nothing_is_written().await;
    println!("-- moved into sled {:.1} s after the first job", started.elapsed().as_secs_f64());
    memory("with the large backlog");
    let many =
        [measure(&large, directory, rounds, 1).await, measure(&large, directory, rounds, 8).await];
    for (callers, few, many) in [(1, few[0], many[0]), (8, few[1], many[1])] {
        println!(
            "flat with {callers} callers: enqueue {:.2}, claim + ack {:.2}",
            many.0 / few.0,
            many.1 / few.1
        );
    }
    memory("at the end");
    large.close().await.unwrap();
    let started = Instant::now();
    let again = open(&directory.join("large")).await;
    println!("reopened after a clean close in {:.2} s", started.elapsed().as_secs_f64());
    again.close().await.unwrap();
}

/// Enqueues a round and drains it, with the limit after each. Gives both rates.
async fn measure(queue: &Queue, directory: &Path, rounds: usize, callers: usize) -> (f64, f64) {
    let (mut enqueue, mut drain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        enqueue.push(round(queue, directory, fill(queue, JOBS, callers)).await);
        drain.push(round(queue, directory, drain_all(queue, callers)).await);
    }
    (
        row(&format!("enqueue, {callers} callers"), &enqueue),
        row(&format!("claim + ack, {callers} callers"), &drain),
    )
}

/// One round: jobs a second, jobs in each commit, and the limit for the same groups.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    jobs_per_commit: f64,
    limit: f64,
}

async fn round(queue: &Queue, directory: &Path, work: impl Future<Output = ()>) -> Round {
    let commits_before = commits(queue).await;
    let started = Instant::now();
    work.await;
    let rate = JOBS as f64 / started.elapsed().as_secs_f64();
    let commits = commits(queue).await - commits_before;
    let limit = append_and_sync(directory, commits as usize);
    Round { rate, jobs_per_commit: JOBS as f64 / commits, limit }
}

/// How many groups the queue has committed.
async fn commits(queue: &Queue) -> f64 {
    let text = queue.metrics().encode(&queue.snapshot().await.unwrap()).unwrap();
    let line = text.lines().find(|line| line.starts_with("pulk_commit_seconds_count")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until this process has written nothing for two seconds.
async fn until_nothing_is_written() {
    let written = || std::fs::read_to_string("/proc/self/io").unwrap();
    let mut before = String::new();
    loop {
        let now: String = written().lines().filter(|line| line.starts_with("write_")).collect();
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn open(data_dir: &Path) -> Queue {
    let queue_capacity = PerPriority::default();
    let data_dir = data_dir.to_owned();
    Queue::open(Config { data_dir, queue_capacity, ..Config::default() }).await.unwrap()
}

fn job() -> NewJob {
    NewJob::new("bench").payload(Payload::Binary(vec![b'x'; PAYLOAD_BYTES].into()))
}

async fn fill(queue: &Queue, jobs: usize, callers: usize) {
    each_caller(jobs, callers, queue, |queue, jobs| async move {
        for _ in 0..jobs / BATCH {
            queue.enqueue_many(vec![job(); BATCH]).await.unwrap();
        }
    })
    .await;
}

/// Claims and acks as many jobs as a round enqueues, the acks of one call in the next.
async fn drain_all(queue: &Queue, callers: usize) {
    each_caller(JOBS, callers, queue, |queue, jobs| async move {
        let mut settle = Settle::default();
        for _ in 0..jobs / BATCH {
            let claim = Claim { limit: BATCH, settle, ..Claim::default() };
            let claimed = queue.claim(claim).await.unwrap();
            assert_eq!(claimed.jobs.len(), BATCH);
            assert!(claimed.outcomes.iter().all(Result::is_ok));
            let acks = claimed.jobs.iter().map(|job| job.token.into()).collect();
            settle = Settle { acks, fails: Vec::new() };
        }
        queue.settle(settle).await.unwrap();
    })
    .await;
}

async fn each_caller<F: Future<Output = ()> + Send + 'static>(
    jobs: usize,
    callers: usize,
    queue: &Queue,
    run: impl Fn(Queue, usize) -> F,
) {
    let callers: Vec<_> =
        (0..callers).map(|_| tokio::spawn(run(queue.clone(), jobs / callers))).collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// The limit: the payloads of a round appended and synced in so many groups.
fn append_and_sync(directory: &Path, groups: usize) -> f64 {
    let path = directory.join("limit");
    let mut file = std::fs::File::create(&path).unwrap();
    let group = vec![b'x'; PAYLOAD_BYTES * JOBS / groups];
    let started = Instant::now();
    for _ in 0..groups {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
    }
    let rate = JOBS as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

fn row(name: &str, rounds: &[Round]) -> f64 {
    let rate = median(rounds.iter().map(|round| round.rate));
    let jobs_per_commit = median(rounds.iter().map(|round| round.jobs_per_commit));
    let limit = median(rounds.iter().map(|round| round.limit));
    let ratio = median(rounds.iter().map(|round| round.rate / round.limit));
    println!("{name:<34}{rate:>10.0}{jobs_per_commit:>12.0}{limit:>12.0}{ratio:>8.2}");
    rate
}

fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("{when}: {resident}");
}
