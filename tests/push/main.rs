//! Push: a real node sends jobs to a real target, and takes its answers as it promises.

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
#[path = "../program/mod.rs"]
mod program;

mod answers;
mod breaker;
mod configuration;
mod request;
mod restart;
mod target;

use node::{Http, Node, within};
use serde_json::{Value, json};

/// A node that keeps nothing and pushes to this URL.
async fn pushing(url: &str, arguments: &[&str]) -> Node {
    Node::start_with([&["--store", "memory", "--push-url", url], arguments].concat()).await
}

/// Enqueues a job and gives its id.
async fn enqueue(http: &Http, job: Value) -> String {
    let answer = http.post("/v1/jobs", job.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The job once it is in this state; `null` once it is gone, when that is what is wanted.
async fn job_in(http: &Http, id: &str, state: &str) -> Value {
    let found = async {
        loop {
            let answer = http.get(&format!("/v1/jobs/{id}")).await;
            let job = if answer.status == 404 { json!({"state": "gone"}) } else { answer.json() };
            if job["state"] == state {
                return job;
            }
            tokio::task::yield_now().await;
        }
    };
    within(&format!("{id} in the state {state}"), found).await
}

/// The check `scheduler` once it is as wanted.
async fn scheduler_where(http: &Http, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = async {
        loop {
            let health = http.get("/q/health").await;
            assert_eq!(health.status, 200, "{health:?}");
            let checks = health.json()["checks"].take();
            let checks = checks.as_array().unwrap().clone();
            let check = checks.into_iter().find(|check| check["name"] == "scheduler").unwrap();
            if wanted(&check["data"]) {
                return check["data"].clone();
            }
        }
    };
    within("the state of the scheduler", found).await
}

/// The value of one series in the node's metrics; 0 when it is not there.
async fn metric(http: &Http, series: &str) -> f64 {
    let text = http.get("/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}
