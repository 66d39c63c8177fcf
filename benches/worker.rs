//! What a worker in the process costs: `cargo bench --bench worker`.
//!
//! First, round by round, a queue of no-op jobs is emptied twice: by bare claims of 64 jobs with
//! the acks of the last 64 riding along, and by a worker of 64 slots. The median of the rounds
//! counts. Then single jobs are put in an idle queue: the time from the call to the start of the
//! handler, beside that of one append + fdatasync of the same bytes after each.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_ROUNDS` how often (5).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures real time")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pulk::queue::{Claim, Settle};
use pulk::worker::{Handler, Job, Outcome, Running, Worker};
use pulk::{Config, NewJob, Payload, Queue};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const SLOTS: usize = 64;
const JOBS: usize = 10_000;
const SINGLE_JOBS: usize = 500;
const PAYLOAD_BYTES: usize = 256;
const LONG: Duration = Duration::from_secs(3_600);

fn main() {
    let rounds = std::env::var("PULK_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let directory = tempfile::tempdir_in(root).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(directory.path(), rounds.unwrap_or(5)));
}

async fn run(directory: &Path, rounds: usize) {
    let config = Config { data_dir: directory.join("queue"), ..Config::default() };
    let queue = Queue::open(config).await.unwrap();
    let (mut bare, mut worker) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(jobs_a_second(&queue, empty_bare(&queue)).await);
        worker.push(jobs_a_second(&queue, empty_with_worker(&queue)).await);
    }
    let (bare, worker) = (median(&mut bare), median(&mut worker));
    println!("{JOBS} no-op jobs a round, {SLOTS} at once; medians of {rounds}");
    println!("{:<34}{bare:>10.0} jobs/s", "bare claim + ack");
    println!("{:<34}{worker:>10.0} jobs/s{:>8.2}", "worker", worker / bare);
    start_single_jobs(&queue, &directory.join("synced")).await;
    queue.close().await.unwrap();
}

fn job() -> NewJob {
    NewJob::new("no-op").payload(Payload::json(&"x".repeat(PAYLOAD_BYTES - 2)).unwrap())
}

async fn jobs_a_second(queue: &Queue, empty: impl Future<Output = ()>) -> f64 {
    for _ in 0..JOBS / 1_000 {
        queue.enqueue_many(vec![job(); 1_000]).await.unwrap();
    }
    let started = Instant::now();
    empty.await;
    let seconds = started.elapsed().as_secs_f64();
    let counts = queue.queue("default").await.unwrap().counts;
    assert!(counts.iter().all(|(_, counts)| counts.ready + counts.running == 0), "{counts:?}");
    JOBS as f64 / seconds
}

async fn empty_bare(queue: &Queue) {
    let mut settle = Settle::default();
    loop {
        let claim = Claim { limit: SLOTS, settle, in_process: true, ..Claim::default() };
        let claimed = queue.claim(claim).await.unwrap();
        if claimed.jobs.is_empty() {
            return;
        }
        let acks = claimed.jobs.into_iter().map(|job| job.token.into()).collect();
        settle = Settle { acks, fails: Vec::new() };
    }
}

/// Says when a job is started, and is done with it.
struct Told(UnboundedSender<Instant>);

impl Handler for Told {
    fn run(&self, _: Job) -> Running {
        let started = self.0.clone();
        Box::pin(async move {
            started.send(Instant::now()).unwrap();
            Outcome::Done
        })
    }
}

/// Does nothing, and says when it has done nothing for the last job.
struct NoOp {
    left: AtomicUsize,
    over: Arc<Notify>,
}

impl Handler for NoOp {
    fn run(&self, _: Job) -> Running {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.over.notify_one();
        }
        Box::pin(std::future::ready(Outcome::Done))
    }
}

async fn empty_with_worker(queue: &Queue) {
    let over = Arc::new(Notify::new());
    let handler = NoOp { left: AtomicUsize::new(JOBS), over: over.clone() };
    let builder = Worker::builder(queue.clone()).fallback(handler);
    let worker = builder.concurrency(SLOTS).reserved(0).build().unwrap().start();
    over.notified().await;
    // What was said last is on the disk then.
    worker.stop(LONG).await;
}

async fn start_single_jobs(queue: &Queue, synced: &Path) {
    let (sender, mut started) = unbounded_channel();
    let builder = Worker::builder(queue.clone()).fallback(Told(sender));
    let worker = builder.concurrency(SLOTS).build().unwrap().start();
    let mut file = File::create(synced).unwrap();
    let (mut starts, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE_JOBS {
        let before = Instant::now();
        queue.enqueue(job()).await.unwrap();
        starts.push(started.recv().await.unwrap().duration_since(before).as_secs_f64() * 1e3);
        while queue.queue("default").await.unwrap().counts.iter().any(|(_, it)| it.running > 0) {
            tokio::task::yield_now().await;
        }
        let before = Instant::now();
        file.write_all(&[b'x'; PAYLOAD_BYTES]).unwrap();
        file.sync_data().unwrap();
        syncs.push(before.elapsed().as_secs_f64() * 1e3);
    }
    worker.stop(LONG).await;
    let sync_ms = median(&mut syncs);
    println!("{SINGLE_JOBS} single jobs on an idle queue; ms, and times one fdatasync (median)");
    println!(
        "{:<34}{sync_ms:>10.2}{:>10.2}",
        "append + fdatasync, p50, p99",
        percentile(&syncs, 99)
    );
    let (p50, p99) = (median(&mut starts), percentile(&starts, 99));
    println!("{:<34}{p50:>10.2}{p99:>10.2}", "enqueue to start, p50, p99");
    println!("{:<34}{:>10.2}{:>10.2}", "times one fdatasync", p50 / sync_ms, p99 / sync_ms);
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    percentile(numbers, 50)
}

/// Of sorted numbers.
fn percentile(numbers: &[f64], percent: usize) -> f64 {
    let last = numbers.len().saturating_sub(1);
    numbers.get((numbers.len() * percent / 100).min(last)).copied().unwrap_or_default()
}
