//! Hours of mixed load at half the peak: `cargo bench --bench long_run`.
//!
//! Starts the real binary, measures the peak of the mix (closed loop: every connection sends its
//! next call after the answer), then offers half of that rate by the clock (open loop). A call's
//! latency counts from the moment it was due, so a stall shows in all calls that fell into it.
//! One job in a hundred is a straggler: half of them are delayed beyond the end of the run, half
//! fail for good and stay as dead letters. All else is worked off as it comes. At the end every
//! job must be accounted for, or the run fails. `long_run/mix.rs` has the mix.
//!
//! Each sample is a line of JSON (`long_run/sample.rs` says what is in it); the node's log lies
//! beside it. The samples as a picture, also while the run goes on:
//! `cargo bench --bench long_run -- plot FILE.jsonl OUT.svg`, and their summary:
//! `cargo bench --bench long_run -- summary FILE.jsonl`.
//!
//! `PULK_BENCH_MINUTES` how long (120), `PULK_BENCH_PEAK_S` how long the peak is measured (20),
//! `PULK_BENCH_RATE` jobs a second instead of half the peak, `PULK_BENCH_SAMPLE_S` how often a
//! sample is taken (10), `PULK_BENCH_DIR` the directory for the data, `PULK_BENCH_OUT` the file
//! of the samples (`long_run.jsonl` in cargo's target/tmp); a picture (`.svg`) is made beside it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench measures real time"
)]

#[path = "long_run/load.rs"]
mod load;
#[path = "long_run/mix.rs"]
mod mix;
#[path = "long_run/noise.rs"]
mod noise;
#[path = "long_run/panel.rs"]
mod panel;
#[path = "long_run/plot.rs"]
mod plot;
#[path = "node/process.rs"]
mod process;
#[path = "long_run/sample.rs"]
mod sample;
#[path = "long_run/summary.rs"]
mod summary;
#[path = "long_run/tally.rs"]
mod tally;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Load, Phase};
use noise::Noise;
use process::{Connection, Server};
use sample::{Node, Sampler};
use tally::Tally;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run());
        }
        ["plot", from, to] => plot::write(&sample::read(Path::new(from)), Path::new(to)),
        ["summary", from] => summary::print(&sample::read(Path::new(from))),
        _ => panic!("nothing, `plot FILE.jsonl OUT.svg` or `summary FILE.jsonl`"),
    }
}

fn setting(name: &str) -> Option<f64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

async fn run() {
    let minutes = setting("PULK_BENCH_MINUTES").unwrap_or(120.0);
    let every = Duration::from_secs_f64(setting("PULK_BENCH_SAMPLE_S").unwrap_or(10.0));
    let peak_time = Duration::from_secs_f64(setting("PULK_BENCH_PEAK_S").unwrap_or(20.0));
    let out = std::env::var("PULK_BENCH_OUT").map_or_else(
        |_| Path::new(env!("CARGO_TARGET_TMPDIR")).join("long_run.jsonl"),
        PathBuf::from,
    );
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let directory = tempfile::tempdir_in(root).unwrap();
    let data_dir = directory.path().join("data");

    let node = start(&data_dir, File::create(out.with_extension("log")).unwrap());
    let tally = Arc::new(Tally::default());
    let load = Load { address: node.server.address.clone(), tally: Arc::clone(&tally) };

    let peak_per_s = peak(&load, peak_time).await;
    let jobs_per_s = setting("PULK_BENCH_RATE").unwrap_or(peak_per_s / 2.0);
    println!("peak {peak_per_s:.0} jobs/s; {jobs_per_s:.0} jobs/s for {minutes} minutes");
    println!("samples: {}", out.display());

    tally.take();
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let phase = load.start(Phase::Open { jobs_per_s, until });
    let mut file = File::create(&out).unwrap();
    let noise = Noise::start(directory.path());
    let mut sampler = Sampler::new(node, tally.clone(), noise, jobs_per_s, peak_per_s);
    while Instant::now() < until {
        let next = (Instant::now() + every).min(until);
        tokio::time::sleep_until(next.into()).await;
        // The last call may be due a moment before the end.
        if Instant::now() + Duration::from_secs(1) < until {
            phase.must_go_on();
        }
        let sample = sampler.sample().await;
        writeln!(file, "{}", serde_json::to_string(&sample).unwrap()).unwrap();
    }
    phase.end().await;

    let samples = sample::read(&out);
    plot::write(&samples, &out.with_extension("svg"));
    summary::print(&samples);
    balance(&load.address, &tally).await;
}

/// The node without limits to what waits, and its log.
fn start(data_dir: &Path, log: File) -> Node {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    command.env("NO_COLOR", "1").env("JOBS_QUEUE_CAPACITY_CRITICAL", "0");
    // A line for each of millions of jobs that fail would be a log of gigabytes.
    command.env("PULK_LOG", "info,pulk::jobs=error");
    // Results are expired during the run, not after it.
    command.env("PULK_RESULT_TTL_MS", "60000");
    let compactions = Arc::default();
    let server = Server::start_with_log(&mut command, sample::watch(log, Arc::clone(&compactions)));
    Node { server, data_dir: data_dir.to_owned(), compactions }
}

/// Jobs a second that go all the way through, when every connection does what it can.
async fn peak(load: &Load, time: Duration) -> f64 {
    let warm = Duration::from_secs(3).min(time);
    load.start(Phase::Closed { until: Instant::now() + warm }).end().await;
    let (before, started) = (load.tally.finished(), Instant::now());
    load.start(Phase::Closed { until: started + time }).end().await;
    (load.tally.finished() - before) as f64 / started.elapsed().as_secs_f64()
}

/// Every job that was taken in is done, dead, delayed or waits: no more, no less.
async fn balance(address: &str, tally: &Tally) {
    let counts = sample::counts(&mut Connection::open(address).await).await;
    let told = tally.totals();
    println!("\n{told:?}\n{counts:?}");
    let there = counts.waiting + counts.running + counts.retrying;
    assert_eq!(
        told.enqueued,
        told.acked + counts.dead + counts.delayed + there,
        "jobs are missing"
    );
    assert_eq!(told.dead, counts.dead, "dead letters");
    assert_eq!(told.later, counts.delayed, "delayed jobs");
    println!("every job is accounted for");
}
