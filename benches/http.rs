//! What the server reaches beside an empty one: `cargo bench --bench http`.
//!
//! In one run, round by round: 64 connections enqueue one job a request at the real binary, then
//! send the same requests to the same server (threads, accept loop, timeouts, layers) with a
//! handler that only reads the body. Both run in a process of their own; the load comes from this
//! one. The median of the rounds counts.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_ROUNDS` how often (5).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "node/process.rs"]
mod process;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use process::{Connection, Server};
use pulk::api::ApiState;
use pulk::clock::SystemClock;
use pulk::server::{ConnectionLimits, serve_router};
use pulk::{Config, Queue, StoreKind};

const CONNECTIONS: usize = 64;
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().any(|argument| argument == "empty-server") {
        return pulk::server::runtime().unwrap().block_on(empty_server());
    }
    let rounds = std::env::var("PULK_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    runtime.block_on(run(rounds.unwrap_or(5)));
}

async fn run(rounds: usize) {
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let directory = tempfile::tempdir_in(root).unwrap();
    let pulk = Server::pulk(directory.path());
    let mut command = Command::new(std::env::current_exe().unwrap());
    let empty = Server::start(command.arg("empty-server"));
    let job = format!(r#"{{"kind":"bench","payload":"{}"}}"#, "x".repeat(254));
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(round(&pulk, &job).await);
        limits.push(round(&empty, &job).await);
    }
    let ratio = median(ours.iter().zip(&limits).map(|(ours, limit)| ours.rate / limit.rate));
    println!("{CONNECTIONS} connections, one job of 256 bytes a request, medians of {rounds}");
    println!("{:<16}{:>12}{:>24}", "", "requests/s", "CPU of the server, us");
    for (name, rounds) in [("empty handler", &limits), ("enqueue", &ours)] {
        let rate = median(rounds.iter().map(|round| round.rate));
        let cpu_us = median(rounds.iter().map(|round| round.cpu_us));
        println!("{name:<16}{rate:>12.0}{cpu_us:>24.1}");
    }
    println!("{:<16}{ratio:>12.2}", "ratio");
}

/// Requests a second, and what each cost the server's process.
struct Round {
    rate: f64,
    cpu_us: f64,
}

async fn round(server: &Server, job: &str) -> Round {
    let (cpu_before, started) = (server.cpu_seconds(), Instant::now());
    let requests = load(&server.address, job).await;
    let cpu_us = (server.cpu_seconds() - cpu_before) * 1e6 / requests;
    Round { rate: requests / started.elapsed().as_secs_f64(), cpu_us }
}

async fn load(address: &str, job: &str) -> f64 {
    let body = Bytes::copy_from_slice(job.as_bytes());
    let started = Instant::now();
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(requests(address.to_owned(), body.clone(), started + ROUND)))
        .collect();
    let mut done = 0;
    for connection in connections {
        done += connection.await.unwrap();
    }
    f64::from(done)
}

/// One connection: request after request, each after the answer to the one before.
async fn requests(address: String, body: Bytes, until: Instant) -> u32 {
    let mut connection = Connection::open(&address).await;
    let mut done = 0;
    while Instant::now() < until {
        connection.post("/v1/jobs", body.clone(), 201).await;
        done += 1;
    }
    done
}

/// The same server, with everything that lies round a route, and a handler that reads the body.
async fn empty_server() {
    use axum::http::StatusCode;
    async fn read(body: Bytes) -> (StatusCode, [(&'static str, &'static str); 1], Bytes) {
        assert!(!body.is_empty());
        let reply = br#"{"id":"01M839HZ1R0000005000000001","state":"ready","queue":"default",
"priority":"default","run_at":"2026-11-23T04:10:19.064Z"}"#;
        let json = [("content-type", "application/json")];
        (StatusCode::CREATED, json, Bytes::from_static(reply))
    }
    let config = Config { store: StoreKind::Memory, ..Config::default() };
    let state = ApiState::starting(config.clone(), Arc::new(SystemClock));
    state.opened(Queue::open(config).await.unwrap());
    let routes = axum::Router::new().route("/v1/jobs", axum::routing::post(read));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("address={}", listener.local_addr().unwrap());
    let (routes, limits) = (pulk::api::layered(routes, state), ConnectionLimits::default());
    serve_router(listener, routes, limits, std::future::pending()).await;
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
