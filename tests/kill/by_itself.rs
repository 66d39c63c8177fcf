//! What the node does by itself while it is killed: a schedule fires every second, and the jobs of
//! one queue are pushed to a target in this process.
//!
//! # Invariants
//! - S1 A schedule that makes up for what was missed has one job for every second.
//! - S2 A job whose enqueue was answered is pushed; once it was found gone, never again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use pulk::server::{ConnectionLimits, serve_router};
use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::clients::calls::{Calls, moment_ms};
use crate::node::{Http, Node, within};

const PUSHED: &str = "pushed";
const TICKS: &str = "ticks";
/// So many jobs are pushed in a round at most.
const PUSHED_A_ROUND: usize = 30;
/// So many of them are asked for after the next kill.
const LOOKS: usize = 5;

/// What came to the target, and what must come.
#[derive(Default)]
struct Seen {
    enqueued: Vec<String>,
    pushed: HashSet<String>,
    gone: HashSet<String>,
    pushed_after_it_was_gone: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

pub struct ByItself {
    seen: Shared,
    /// Holds the configuration file.
    directory: TempDir,
    has_schedule: bool,
}

async fn take(State(seen): State<Shared>, headers: HeaderMap) {
    let id = headers["ce-id"].to_str().unwrap().to_owned();
    let mut seen = seen.lock().unwrap();
    if seen.gone.contains(&id) {
        seen.pushed_after_it_was_gone.push(id.clone());
    }
    seen.pushed.insert(id);
}

impl ByItself {
    /// Serves the target, and writes the configuration that names it.
    pub async fn start() -> ByItself {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let seen = Shared::default();
        let target = Router::new().fallback(take).with_state(seen.clone());
        // It ends with the test's runtime.
        let limits = ConnectionLimits::default();
        drop(tokio::spawn(serve_router(listener, target, limits, std::future::pending())));
        let directory = tempfile::tempdir().unwrap();
        let push = format!("[[push]]\nname = \"app\"\nurl = \"{url}\"\nqueues = [\"{PUSHED}\"]\n");
        std::fs::write(directory.path().join("pulk.toml"), push).unwrap();
        ByItself { seen, directory, has_schedule: false }
    }

    pub fn config(&self) -> PathBuf {
        Path::new(self.directory.path()).join("pulk.toml")
    }

    /// Makes the schedule, and looks for some jobs that were pushed before the kill.
    pub async fn begin(&mut self, node: &Node, random: &mut StdRng) {
        if !self.has_schedule {
            let schedule = json!({
                "cron": "* * * * * *", "catch_up": "all", "job": {"kind": "tick", "queue": TICKS},
            });
            let put = node.http.call(Method::PUT, "/v1/schedules/ticking", schedule.to_string());
            assert_eq!(put.await.unwrap().status, 201);
            self.has_schedule = true;
        }
        let pushed: Vec<String> = {
            let seen = self.seen.lock().unwrap();
            let pushed: Vec<&String> = seen.pushed.difference(&seen.gone).collect();
            let some = |_| pushed.get(random.random_range(0..pushed.len().max(1)));
            (0..LOOKS).filter_map(some).map(|id| (*id).clone()).collect()
        };
        for id in pushed {
            if node.http.get(&format!("/v1/jobs/{id}")).await.status == 404 {
                self.seen.lock().unwrap().gone.insert(id);
            }
        }
    }

    /// Enqueues jobs to push until the node is gone.
    pub fn load(&self, http: &Http) -> JoinHandle<()> {
        let (http, seen) = (http.clone(), self.seen.clone());
        let job = json!({
            "queue": PUSHED, "kind": "pushed", "max_attempts": 1, "max_interruptions": 1_000,
        });
        tokio::spawn(async move {
            for _ in 0..PUSHED_A_ROUND {
                let enqueued = http.call(Method::POST, "/v1/jobs", job.to_string());
                let Ok(answer) = within("an enqueue", enqueued).await else { return };
                assert_eq!(answer.status, 201, "{answer:?}");
                let id = answer.json()["id"].as_str().unwrap().to_owned();
                seen.lock().unwrap().enqueued.push(id);
            }
        })
    }

    /// Waits until all is pushed; then all that was promised must have happened, once.
    pub async fn finish(&self, node: &Node, calls: &Calls<'_>) -> String {
        let pushed = async {
            loop {
                let queue = node.http.get(&format!("/v1/queues/{PUSHED}")).await.json();
                assert_eq!(queue["counts"]["dead"], 0, "S2: a kill cost an attempt: {queue}");
                let states = ["scheduled", "ready", "running", "retrying"];
                if states.iter().all(|state| queue["counts"][state] == 0) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within("the end of all pushes", pushed).await;
        let ticks = self.ticks(node, calls).await;
        let seen = self.seen.lock().unwrap();
        for id in &seen.enqueued {
            assert!(seen.pushed.contains(id), "S2: {id} was never pushed");
        }
        let again = &seen.pushed_after_it_was_gone;
        assert!(again.is_empty(), "S2: {again:?} were pushed after they were gone");
        assert!(!seen.gone.is_empty(), "nothing was found gone");
        format!("{} pushed jobs, {ticks} moments of a schedule", seen.pushed.len())
    }

    /// How many moments of the schedule have a job; each must have one.
    async fn ticks(&self, node: &Node, calls: &Calls<'_>) -> usize {
        let paused = node.http.post("/v1/schedules/ticking/pause", "").await;
        assert_eq!(paused.status, 200, "{paused:?}");
        let jobs = calls.list(&format!("/v1/jobs?queue={TICKS}"), 500).await.unwrap();
        let moment = |job: &serde_json::Value| moment_ms(&job["headers"]["pulk-scheduled-at"]);
        let mut moments: Vec<u64> = jobs.iter().map(moment).collect();
        moments.sort_unstable();
        for pair in moments.windows(2) {
            assert_eq!(pair[1] - pair[0], 1_000, "S1: a moment is missing or doubled: {pair:?}");
        }
        assert!(moments.len() > 1, "the schedule never fired");
        moments.len()
    }
}
