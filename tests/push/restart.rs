//! What becomes of pushed jobs when the node stops or dies.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::node::{Node, assert_sound};
use crate::target::Target;
use crate::{enqueue, job_in};

async fn start(directory: &Path, target: &Target, arguments: &[&str]) -> Node {
    let (directory, url) = (directory.to_str().unwrap(), target.url());
    let own = ["--data-dir", directory, "--push-url", &url, "--concurrency", "2"];
    Node::start_with([&own, arguments].concat()).await
}

#[tokio::test]
async fn a_node_told_to_stop_finishes_what_it_can_and_gives_the_rest_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    let mut node = start(directory.path(), &target, &["--shutdown-grace-ms=3000"]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(enqueue(&node.http, json!({"kind": "k", "max_attempts": 1})).await);
    }
    let (finishes, hangs) = (target.next().await, target.next().await);
    let (finished, hanging) = (finishes.id().to_owned(), hangs.id().to_owned());
    // A worker of its own outside has a job too, and acks it while the node stops.
    let other = enqueue(&node.http, json!({"kind": "k", "queue": "other"})).await;
    let claim = r#"{"queues":["other"],"lease_ms":60000}"#;
    let claimed = node.http.post("/v1/claim", claim).await.json();
    let token = json!({"token": claimed["jobs"][0]["lease"]["token"]}).to_string();

    node.signal(Signal::TERM);
    node.line("Draining").await;
    assert_eq!(node.http.get("/q/health/ready").await.status, 503);
    let acked = node.http.post(&format!("/v1/jobs/{other}/ack"), token).await;
    assert_eq!(acked.status, 204);
    finishes.answer(200);
    hangs.given_up().await;
    let (status, log) = node.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("finished=1") && log.contains("given_back=1"), "{log}");
    assert_sound(directory.path()).await;

    // The one that was given back has its only attempt still, and no interruption.
    let node = start(directory.path(), &target, &[]).await;
    job_in(&node.http, &finished, "gone").await;
    let mut left = Vec::new();
    for _ in 0..2 {
        let delivery = target.next().await;
        assert_eq!(delivery.header("ce-attempt"), "1");
        let job = node.http.get(&format!("/v1/jobs/{}", delivery.id())).await.json();
        assert_eq!(job["interruptions"], 0, "{job}");
        left.push(delivery.id().to_owned());
        delivery.answer(200);
    }
    assert!(left.contains(&hanging) && !left.contains(&finished), "{left:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    let mut node = start(directory.path(), &target, &[]).await;
    let id = enqueue(&node.http, json!({"kind": "k", "max_attempts": 1})).await;
    let delivery = target.next().await;
    node.signal(Signal::TERM);
    node.line("Draining").await;
    node.signal(Signal::TERM);
    let (status, log) = node.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    delivery.given_up().await;
    let node = start(directory.path(), &target, &[]).await;
    let again = target.next().await;
    assert_eq!((again.id(), again.header("ce-attempt")), (id.as_str(), "1"));
    again.answer(200);
    job_in(&node.http, &id, "gone").await;
    node.stop().await;
}

#[tokio::test]
async fn a_killed_node_counts_an_interruption_and_no_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let mut target = Target::start();
    let mut id = None;
    for interruptions in 0..3 {
        let node = start(directory.path(), &target, &[]).await;
        let job = json!({"kind": "k", "max_attempts": 1});
        if id.is_none() {
            id = Some(enqueue(&node.http, job).await);
        }
        let delivery = target.next().await;
        assert_eq!(Some(delivery.id()), id.as_deref());
        assert_eq!(delivery.header("ce-attempt"), "1");
        let found = node.http.get(&format!("/v1/jobs/{}", delivery.id())).await.json();
        assert_eq!(found["interruptions"], interruptions, "{found}");
        node.kill().await;
        delivery.given_up().await;
    }
    let node = start(directory.path(), &target, &[]).await;
    target.next().await.answer(200);
    job_in(&node.http, &id.unwrap(), "gone").await;
    node.stop().await;
    assert_sound(directory.path()).await;
}
