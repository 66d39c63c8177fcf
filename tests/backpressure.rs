//! What a node refuses for want of room, and what goes on all the same.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use node::{Answer, Http, Node};
use serde_json::{Value, json};

async fn start(arguments: &[&str]) -> Node {
    Node::start_with([&["--store", "memory"], arguments].concat()).await
}

async fn enqueue(http: &Http, job: Value) -> Answer {
    http.post("/v1/jobs", job.to_string()).await
}

/// The token of the next job.
async fn claim(http: &Http) -> (String, String) {
    let answer = http.post("/v1/claim", r#"{"lease_ms":3600000}"#).await.json();
    let token = answer["jobs"][0]["lease"]["token"].as_str().unwrap().to_owned();
    (token.split('-').next().unwrap().to_owned(), token)
}

/// The answer is this refusal, and says when to come back.
#[track_caller]
fn refused(answer: &Answer, code: &str, about: &str) -> u64 {
    assert_eq!(answer.status, 429, "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(about), "{problem}");
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_full_queue_refuses_new_jobs_and_nothing_else() {
    let node = start(&["--queue-capacity-default", "4", "--queue-capacity-critical", "1"]).await;
    let http = &node.http;
    for _ in 0..2 {
        assert_eq!(enqueue(http, json!({"kind": "k"})).await.status, 201);
    }
    // A job for later waits too. A batch is taken whole or not at all.
    assert_eq!(enqueue(http, json!({"kind": "k", "delay_ms": 3_600_000})).await.status, 201);
    let two = json!({"jobs": [{"kind": "k"}, {"kind": "k"}]}).to_string();
    let answer = http.post("/v1/jobs/batch", two.clone()).await;
    let wait_s = refused(&answer, "queue_full", "JOBS_QUEUE_CAPACITY_DEFAULT");
    assert_eq!(wait_s, 60, "nothing drains");
    assert_eq!(enqueue(http, json!({"kind": "k"})).await.status, 201);
    refused(&enqueue(http, json!({"kind": "k"})).await, "queue_full", "4 default jobs waiting");
    // Other queues and priorities have room of their own.
    assert_eq!(enqueue(http, json!({"kind": "k", "queue": "other"})).await.status, 201);
    let critical = json!({"kind": "k", "priority": "critical"});
    assert_eq!(enqueue(http, critical.clone()).await.status, 201);
    let answer = enqueue(http, critical).await;
    refused(&answer, "queue_full", "JOBS_QUEUE_CAPACITY_CRITICAL");
    // Work goes on, also what puts a job back into the full queue.
    let (id, token) = claim(http).await;
    let ack = json!({"token": token}).to_string();
    assert_eq!(http.post(&format!("/v1/jobs/{id}/ack"), ack).await.status, 204);
    let (id, token) = claim(http).await;
    assert_eq!(enqueue(http, json!({"kind": "k"})).await.status, 201, "one was handed out");
    let answer = enqueue(http, json!({"kind": "k"})).await;
    let wait_s = refused(&answer, "queue_full", "default");
    assert!((1..60).contains(&wait_s), "{wait_s}: two were handed out since the start");
    let fail = json!({"token": token, "error": "no", "retry_in_ms": 3_600_000}).to_string();
    assert_eq!(http.post(&format!("/v1/jobs/{id}/fail"), fail).await.status, 200);
    let metrics = http.get("/q/metrics").await.text();
    let line = r#"pulk_enqueue_rejected_total{reason="queue_full"} 4"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn inventing_queues_comes_to_an_end() {
    let node = start(&["--max-queues", "2"]).await;
    for (queue, status) in [("a", 201), ("b", 201), ("a", 201), ("c", 429), ("b", 201)] {
        let answer = enqueue(&node.http, json!({"kind": "k", "queue": queue})).await;
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 429 {
            refused(&answer, "too_many_queues", "PULK_MAX_QUEUES");
        }
    }
    let metrics = node.http.get("/q/metrics").await.text();
    assert!(!metrics.contains(r#"queue="c""#), "{metrics}");
}

#[tokio::test]
async fn a_node_short_of_bytes_refuses_bulk_first_and_critical_last() {
    let node = start(&["--max-bytes", "100000"]).await;
    let payload = "x".repeat(1_000);
    let mut taken = Vec::new();
    for priority in ["bulk", "low", "default", "high", "critical"] {
        let job = json!({"kind": "k", "priority": priority, "payload": payload});
        let mut jobs = 0;
        let answer = loop {
            let answer = enqueue(&node.http, job.clone()).await;
            if answer.status != 201 {
                break answer;
            }
            jobs += 1;
        };
        refused(&answer, "queue_full", "PULK_MAX_BYTES");
        taken.push(jobs);
    }
    assert!(taken[0] > 50 && taken.iter().all(|jobs| *jobs >= 3), "{taken:?}");
    // When there is room again, all are taken.
    for _ in 0..taken.iter().sum::<usize>() {
        let (id, token) = claim(&node.http).await;
        let ack = json!({"token": token}).to_string();
        assert_eq!(node.http.post(&format!("/v1/jobs/{id}/ack"), ack).await.status, 204);
    }
    let job = json!({"kind": "k", "priority": "bulk", "payload": payload});
    assert_eq!(enqueue(&node.http, job).await.status, 201);
}
