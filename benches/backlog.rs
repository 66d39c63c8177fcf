//! What a backlog costs the real binary: `cargo bench --bench backlog`.
//!
//! Fills a node over HTTP, shows its memory and disk, kills it with SIGKILL, starts it again and
//! shows how long it takes from the start of the process to the first 200 of `/q/health/ready`.
//! Then it drains the node and shows memory and disk again.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_JOBS` the number of
//! jobs enqueued in batches (3,000,000); a third of it goes in one by one over 64 connections,
//! and a thirtieth one by one over a single one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench measures real time"
)]

#[path = "node/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;

use process::{Connection, Server};

const BATCH: usize = 100;

fn main() {
    let jobs = std::env::var("PULK_BENCH_JOBS").ok().and_then(|text| text.parse().ok());
    let jobs: usize = jobs.unwrap_or(3_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{:<44}{:>8}{:>9}{:>9}{:>9}", "", "jobs/s", "RSS MB", "disk MB", "ready s");
    runtime.block_on(async {
        backlog("in batches of 100", jobs, 8, BATCH).await;
        backlog("one by one, 64 connections", jobs / 3, 64, 1).await;
        backlog("one by one, one connection", jobs / 30, 1, 1).await;
    });
}

async fn backlog(name: &str, jobs: usize, connections: usize, batch: usize) {
    let root = std::env::var("PULK_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let directory = tempfile::tempdir_in(root).unwrap();
    let mut node = Server::pulk(directory.path());
    let started = Instant::now();
    fill(&node.address, jobs, connections, batch).await;
    let rate = jobs as f64 / started.elapsed().as_secs_f64();
    let (memory, disk) = (node.resident_mb(), disk_mb(directory.path()));
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    let started = Instant::now();
    let node = Server::pulk(directory.path());
    let ready = started.elapsed().as_secs_f64();
    println!("{:<44}{rate:>8.0}{memory:>9.0}{disk:>9.0}{ready:>9.2}", format!("{jobs} {name}"));
    let (started, memory) = (Instant::now(), node.resident_mb());
    println!("{:<44}{:>8}{memory:>9.0}", "  after the restart", "");
    drain(&node.address, jobs).await;
    let rate = jobs as f64 / started.elapsed().as_secs_f64();
    let (memory, disk) = (node.resident_mb(), disk_mb(directory.path()));
    println!("{:<44}{rate:>8.0}{memory:>9.0}{disk:>9.0}", "  drained, claims of 100 with acks");
}

async fn fill(address: &str, jobs: usize, connections: usize, batch: usize) {
    let job = format!(r#"{{"kind":"bench","payload":"{}"}}"#, "x".repeat(254));
    let (path, body) = match batch {
        1 => ("/v1/jobs", job),
        _ => ("/v1/jobs/batch", format!(r#"{{"jobs":[{}]}}"#, vec![job; batch].join(","))),
    };
    let body = Bytes::from(body);
    let connections: Vec<_> = (0..connections)
        .map(|number| {
            let (address, body) = (address.to_owned(), body.clone());
            let calls =
                jobs / batch / connections + usize::from(number < jobs / batch % connections);
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                for _ in 0..calls {
                    connection.post(path, body.clone(), 201).await;
                }
            })
        })
        .collect();
    for connection in connections {
        connection.await.unwrap();
    }
}

/// One worker: claims a hundred, and acks them in its next claim.
async fn drain(address: &str, jobs: usize) {
    let mut connection = Connection::open(address).await;
    let mut acks = Vec::new();
    let mut done = 0;
    while done < jobs {
        let call = serde_json::json!({ "limit": BATCH, "acks": acks, "wait_ms": 1_000 });
        let answer = connection.post("/v1/claim", call.to_string().into(), 200).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let claimed = answer["jobs"].as_array().unwrap();
        assert!(!claimed.is_empty(), "{done} of {jobs} jobs came back");
        let token = |job: &serde_json::Value| job["lease"]["token"].clone();
        let ack =
            |job: &serde_json::Value| serde_json::json!({ "id": job["id"], "token": token(job) });
        acks = claimed.iter().map(ack).collect();
        done += claimed.len();
    }
    let call = serde_json::json!({ "acks": acks });
    connection.post("/v1/settle", call.to_string().into(), 200).await;
}

fn disk_mb(directory: &Path) -> f64 {
    // What is kept free is not what the backlog takes.
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let entries = entries.filter(|entry| entry.file_name() != "reserve");
    let bytes = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => disk_mb(&entry.path()),
        false => entry.metadata().unwrap().len() as f64 / 1e6,
    };
    entries.map(bytes).sum()
}
