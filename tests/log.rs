//! The log tells every change of a job's state that an operator asks for, as one JSON object a
//! line, and never a payload or a header.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use std::collections::BTreeSet;

use node::{Http, Node};
use serde_json::{Value, json};

const SECRET: &str = "s3cret-payload";

async fn post(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, body.to_string()).await;
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

async fn enqueue(http: &Http, kind: &str) -> String {
    let job = json!({
        "queue": "mails", "kind": kind, "payload": {"card": SECRET}, "headers": {"auth": SECRET},
        "max_attempts": 2, "retry": {"base_ms": 0, "max_ms": 0}, "max_interruptions": 0,
    });
    post(http, "/v1/jobs", job).await["id"].as_str().unwrap().to_owned()
}

async fn claim(http: &Http, lease_ms: u64) -> (String, String) {
    let claim = json!({"queues": ["mails"], "wait_ms": 30_000, "lease_ms": lease_ms});
    let claimed = post(http, "/v1/claim", claim).await;
    let token = claimed["jobs"][0]["lease"]["token"].as_str().unwrap().to_owned();
    (token.split('-').next().unwrap().to_owned(), token)
}

/// A life in which everything happens.
async fn live(node: &mut Node) {
    let http = node.http.clone();
    let id = enqueue(&http, "mail.fails").await;
    for _ in 0..2 {
        let (_, token) = claim(&http, 60_000).await;
        let fail = json!({"token": token, "error": "no route to host"});
        post(&http, &format!("/v1/jobs/{id}/fail"), fail).await;
    }
    post(&http, &format!("/v1/dead/{id}/replay"), json!({})).await;
    let (id, token) = claim(&http, 60_000).await;
    post(&http, &format!("/v1/jobs/{id}/ack"), json!({"token": token})).await;
    enqueue(&http, "mail.interrupted").await;
    claim(&http, 1).await;
    node.line("Job interrupted").await;
    let cancelled = enqueue(&http, "mail.cancelled").await;
    let gone = http.call(reqwest::Method::DELETE, &format!("/v1/jobs/{cancelled}"), "").await;
    assert_eq!(gone.unwrap().status, 200);
    let limits = "/v1/queues/mails/limits";
    assert_eq!(http.put(limits, r#"{"concurrency":1000}"#).await.status, 200);
    assert_eq!(http.put(limits, "{}").await.status, 200);
    post(&http, "/v1/queues/mails/pause", json!({})).await;
    post(&http, "/v1/queues/mails/resume", json!({})).await;
}

/// The lines about jobs and queues, by their message.
fn told(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == "pulk::jobs").collect()
}

async fn log_of(filter: &str) -> String {
    let arguments = ["--store", "memory", "--log-format", "json", "--log", filter];
    let mut node = Node::start_with(arguments).await;
    live(&mut node).await;
    let (status, log) = node.stop().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains(SECRET), "a payload or a header is in the log:\n{log}");
    log
}

#[tokio::test]
async fn every_change_is_told_to_who_asks_for_it() {
    let log = log_of("info,pulk::jobs=debug").await;
    let told = told(&log);
    let messages: BTreeSet<&str> =
        told.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let all = [
        "Job cancelled",
        "Job completed",
        "Job dead",
        "Job enqueued",
        "Job failed",
        "Job interrupted",
        "Job replayed",
        "Job retried",
        "Job started",
        "Queue limited",
        "Queue not limited any more",
        "Queue paused",
        "Queue resumed",
    ];
    assert_eq!(messages, BTreeSet::from(all));
    for line in &told {
        let message = line["message"].as_str().unwrap();
        assert_eq!(line["queue"], "mails", "{line}");
        if message.starts_with("Job ") {
            assert_eq!(line["priority"], "default", "{line}");
            assert_eq!(line["id"].as_str().unwrap().len(), 26, "{line}");
        }
        match message {
            "Job failed" => {
                assert_eq!((&line["level"], &line["kind"]), (&json!("WARN"), &json!("mail.fails")));
                assert_eq!(line["error"], "no route to host");
                assert!(line["attempt"].is_u64() && line["duration_ms"].is_u64(), "{line}");
            }
            "Job enqueued" | "Job started" | "Job completed" => {
                assert!(line["kind"].as_str().unwrap().starts_with("mail."), "{line}");
            }
            "Job dead" => assert!(line["reason"].is_string() && line["kind"].is_string()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn by_itself_the_log_tells_no_job_that_goes_well() {
    let log = log_of("info").await;
    for line in told(&log) {
        let message = line["message"].as_str().unwrap();
        assert!(!["Job enqueued", "Job started", "Job completed"].contains(&message), "{line}");
    }
    assert!(log.contains("Job failed"), "{log}");
}
