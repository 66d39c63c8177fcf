//! What push reaches beside plain POSTs: `cargo bench --bench push`.
//!
//! In one run, round by round: the same HTTP client (hyper-util's, 64 requests at a time, kept
//! connections) sends POSTs of 256 bytes to an axum server in a process of its own, first plainly,
//! then as jobs: claimed from a queue on the disk, pushed with their headers, and durably acked.
//! The median of the rounds counts.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_ROUNDS` how often (5).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "node/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use process::Server;
use pulk::clock::SystemClock;
use pulk::priority::PerPriority;
use pulk::server::{ConnectionLimits, serve_router};
use pulk::worker::Worker;
use pulk::worker::push::{Push, PushConfig, TargetConfig};
use pulk::{Config, NewJob, Payload, Queue};

const AT_ONCE: usize = 64;
const ROUND: Duration = Duration::from_secs(3);
const JOBS: usize = 20_000;

fn main() {
    let runtime = pulk::server::runtime().unwrap();
    if std::env::args().any(|argument| argument == "target") {
        return runtime.block_on(target());
    }
    let rounds = std::env::var("PULK_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    runtime.block_on(run(rounds.unwrap_or(5)));
}

async fn target() {
    async fn read(body: Bytes) -> StatusCode {
        assert!(!body.is_empty());
        StatusCode::NO_CONTENT
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    let routes = axum::Router::new().route("/", axum::routing::post(read));
    serve_router(listener, routes, ConnectionLimits::default(), std::future::pending()).await;
}

async fn run(rounds: usize) {
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let target = Server::start(command.arg("target"));
    let url = format!("http://{}/", target.address);
    let (mut plain, mut pushed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(posts(&url).await);
        let directory = tempfile::tempdir_in(&root).unwrap();
        pushed.push(pushes(&url, directory.path()).await);
    }
    let ratio = median(pushed.iter().zip(&plain).map(|(pushed, plain)| pushed / plain));
    println!("{AT_ONCE} requests of 256 bytes at a time, medians of {rounds}");
    println!("{:<16}{:>12.0} a second", "plain POSTs", median(plain.into_iter()));
    println!("{:<16}{:>12.0} a second", "pushed jobs", median(pushed.into_iter()));
    println!("{:<16}{ratio:>12.2}", "ratio");
}

fn payload() -> String {
    format!("\"{}\"", "x".repeat(254))
}

/// POSTs a second.
async fn posts(url: &str) -> f64 {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let (body, began) = (Bytes::from(payload()), Instant::now());
    let post = |client: Client<_, Full<Bytes>>, url: String, body: Bytes| async move {
        let mut done = 0;
        while began.elapsed() < ROUND {
            let request = Request::post(&url).header("content-type", "application/json");
            let answer = client.request(request.body(Full::new(body.clone())).unwrap()).await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 204);
            answer.into_body().collect().await.unwrap();
            done += 1;
        }
        done
    };
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| tokio::spawn(post(client.clone(), url.to_owned(), body.clone())))
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    f64::from(done) / began.elapsed().as_secs_f64()
}

/// Jobs a second, from the start of the worker to the last ack on the disk.
async fn pushes(url: &str, directory: &Path) -> f64 {
    let config = Config {
        data_dir: directory.to_owned(),
        queue_capacity: PerPriority::from_fn(|_| 0),
        ..Config::default()
    };
    let queue = Queue::open(config).await.unwrap();
    for _ in 0..JOBS / 1_000 {
        let job = NewJob::new("bench").payload(Payload::Json(payload().into()));
        queue.enqueue_many(vec![job; 1_000]).await.unwrap();
    }
    let targets = vec![TargetConfig::new("bench", url.parse().unwrap())];
    let push = PushConfig { targets, ..PushConfig::default() };
    let push = Push::new(push, Arc::new(SystemClock)).unwrap();
    push.counted_by(queue.metrics());
    let worker = Worker::builder(queue.clone()).fallback(push).concurrency(AT_ONCE).reserved(0);
    let worker = worker.build().unwrap();
    let began = Instant::now();
    let running = worker.start();
    loop {
        let view = queue.queue("default").await.unwrap();
        if view.counts.iter().all(|(_, counts)| counts.ready + counts.running == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = JOBS as f64 / began.elapsed().as_secs_f64();
    running.stop(Duration::ZERO).await;
    queue.close().await.unwrap();
    rate
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
