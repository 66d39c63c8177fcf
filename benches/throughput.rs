//! What the queue reaches beside the limit of the disk: `cargo bench --bench throughput`.
//!
//! In one run, on one directory: append + fdatasync of the same bytes in the same group sizes
//! (the limit), then the library; each part several times, the median counts. `PULK_BENCH_DIR`
//! names the directory, `PULK_BENCH_ROUNDS` how often, `PULK_BENCH_BACKLOG` the large backlog.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures real time")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pulk::queue::{Claim, Settle};
use pulk::{Config, NewJob, Payload, Queue};

const PAYLOAD_BYTES: usize = 256;
const BATCH: usize = 100;
/// Callers at once: what is handed in while a group is synced makes the next one.
const CALLERS: usize = 4;
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
    println!("{JOBS} jobs of {PAYLOAD_BYTES} bytes, {BATCH} a call, {CALLERS} callers");
    println!("median of {rounds} rounds; jobs a second, and the share of the limit");
    let small = open(&directory.join("small")).await;
    fill(&small, 10_000).await;
    let mut limit = Vec::new();
    let mut enqueue = Vec::new();
    let mut drain = Vec::new();
    for _ in 0..rounds {
        limit.push(append_and_sync(directory));
        enqueue.push(enqueue_rate(&small).await);
        drain.push(drain_rate(&small).await);
    }
    let limit_rate = median(&mut limit);
    row("append + fdatasync, 100 jobs a sync", limit_rate, limit_rate);
    let (enqueue_rate_small, drain_rate_small) = (median(&mut enqueue), median(&mut drain));
    row("enqueue, 10 k waiting", enqueue_rate_small, limit_rate);
    row("claim + ack, 10 k waiting", drain_rate_small, limit_rate);
    small.close().await.unwrap();

    let large = open(&directory.join("large")).await;
    let started = Instant::now();
    fill(&large, backlog).await;
    println!("filled {backlog} jobs in {:.1} s", started.elapsed().as_secs_f64());
    memory("at the large backlog");
    let (mut enqueue, mut drain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        enqueue.push(enqueue_rate(&large).await);
        drain.push(drain_rate(&large).await);
    }
    let (enqueue_rate_large, drain_rate_large) = (median(&mut enqueue), median(&mut drain));
    row("enqueue, large backlog", enqueue_rate_large, limit_rate);
    row("claim + ack, large backlog", drain_rate_large, limit_rate);
    println!("flat: enqueue {:.2}", enqueue_rate_large / enqueue_rate_small);
    println!("flat: claim + ack {:.2}", drain_rate_large / drain_rate_small);
    memory("at the end");
    large.close().await.unwrap();
    let started = Instant::now();
    let again = open(&directory.join("large")).await;
    println!("reopened after a clean close in {:.2} s", started.elapsed().as_secs_f64());
    again.close().await.unwrap();
}

async fn open(data_dir: &Path) -> Queue {
    Queue::open(Config { data_dir: data_dir.to_owned(), ..Config::default() }).await.unwrap()
}

fn job() -> NewJob {
    NewJob::new("bench").payload(Payload::Binary(vec![b'x'; PAYLOAD_BYTES].into()))
}

async fn fill(queue: &Queue, jobs: usize) {
    each_caller(jobs, queue, |queue, jobs| async move {
        for _ in 0..jobs / BATCH {
            queue.enqueue_many(vec![job(); BATCH]).await.unwrap();
        }
    })
    .await;
}

async fn enqueue_rate(queue: &Queue) -> f64 {
    let started = Instant::now();
    fill(queue, JOBS).await;
    JOBS as f64 / started.elapsed().as_secs_f64()
}

/// Claims and acks as many jobs as a round enqueues, the acks of one call in the next.
async fn drain_rate(queue: &Queue) -> f64 {
    let started = Instant::now();
    each_caller(JOBS, queue, |queue, jobs| async move {
        let mut settle = Settle::default();
        for _ in 0..jobs / BATCH {
            let claim = Claim { limit: BATCH, settle, ..Claim::default() };
            let claimed = queue.claim(claim).await.unwrap();
            assert_eq!(claimed.jobs.len(), BATCH);
            assert!(claimed.outcomes.iter().all(Result::is_ok));
            let acks = claimed.jobs.iter().map(|job| job.token).collect();
            settle = Settle { acks, fails: Vec::new() };
        }
        queue.settle(settle).await.unwrap();
    })
    .await;
    JOBS as f64 / started.elapsed().as_secs_f64()
}

async fn each_caller<F: Future<Output = ()> + Send + 'static>(
    jobs: usize,
    queue: &Queue,
    run: impl Fn(Queue, usize) -> F,
) {
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(run(queue.clone(), jobs / CALLERS))).collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// The limit: the payloads of a batch appended and synced, as often as the jobs need.
fn append_and_sync(directory: &Path) -> f64 {
    let path = directory.join("limit");
    let mut file = std::fs::File::create(&path).unwrap();
    let group = vec![b'x'; PAYLOAD_BYTES * BATCH];
    let started = Instant::now();
    for _ in 0..JOBS / BATCH {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
    }
    let rate = JOBS as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn row(name: &str, rate: f64, limit: f64) {
    println!("{name:<40} {rate:>10.0} {:>6.2}", rate / limit);
}

fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("{when}: {resident}");
}
