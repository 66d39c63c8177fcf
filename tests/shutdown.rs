//! Stopping a node: what is under way is finished, what waits is answered, nothing is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use std::path::Path;

use node::{Connection, Node, assert_sound, post_head, within};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A job of the queue `a`, leased for a minute; gives its id and the body of its ack.
async fn leased(node: &Node) -> (String, String) {
    node.http.post("/v1/jobs", r#"{"kind":"mail","queue":"a"}"#).await;
    let body = r#"{"queues":["a"],"lease_ms":60000}"#;
    let job = node.http.post("/v1/claim", body).await.json()["jobs"][0].take();
    let ack = json!({"token": job["lease"]["token"]}).to_string();
    (job["id"].as_str().unwrap().to_owned(), ack)
}

/// A claim on a connection of its own that has reached the queue and waits there: the job that
/// it acks on the way is gone.
async fn parked(node: &Node) -> Connection {
    let (id, ack) = leased(node).await;
    let token: Value = serde_json::from_str::<Value>(&ack).unwrap()["token"].take();
    let body = json!({"queues": ["b"], "wait_ms": 60_000, "acks": [{"id": id, "token": token}]});
    let body = body.to_string();
    let mut connection = node.connect().await;
    connection.send(post_head("/v1/claim", body.len())).await;
    connection.send(&body).await;
    let gone = async { while node.http.get(&format!("/v1/jobs/{id}")).await.status != 404 {} };
    within("the ack that rides along", gone).await;
    connection
}

/// The status and the body of the one answer in this text.
fn answer(text: &str) -> (u16, &str) {
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or_else(|| panic!("no answer: {text:?}")), body)
}

/// The state of a job after the node was started again on its directory.
async fn state_after(directory: &Path, id: &str) -> Option<String> {
    let node = Node::start(directory).await;
    let answer = node.http.get(&format!("/v1/jobs/{id}")).await;
    node.stop().await;
    assert_sound(directory).await;
    (answer.status == 200).then(|| answer.json()["state"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_node_told_to_stop_finishes_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path()).await;
    let (id, ack) = leased(&node).await;
    let (held, late) = leased(&node).await;
    let waiting = [parked(&node).await, parked(&node).await, parked(&node).await];

    // Three requests of which the node has read a part: an ack, an enqueue, a readiness probe.
    let mut acking = node.connect().await;
    acking.send(post_head(&format!("/v1/jobs/{id}/ack"), ack.len())).await;
    acking.send(&ack[..5]).await;
    let job = r#"{"kind":"mail"}"#;
    let mut enqueuing = node.connect().await;
    enqueuing.send(post_head("/v1/jobs", job.len())).await;
    enqueuing.send(&job[..5]).await;
    let mut probing = node.connect().await;
    probing.send("GET /q/health/ready HTTP/1.1\r\nhost: node\r\n").await;
    // The node has accepted the three, which came before this one.
    assert_eq!(node.http.get("/q/health/ready").await.status, 200);

    node.signal(Signal::TERM);
    node.line("Draining").await;
    for claim in waiting {
        let text = claim.read_to_end().await;
        let (status, body) = answer(&text);
        let reply: Value = serde_json::from_str(body).unwrap();
        assert_eq!((status, &reply["jobs"]), (200, &json!([])), "{text}");
        assert_eq!(reply["outcomes"][0]["outcome"], "acked");
    }
    probing.send("\r\n").await;
    let text = probing.read_to_end().await;
    assert_eq!(answer(&text).0, 503, "{text}");
    assert!(text.contains(r#""phase":"draining""#), "{text}");
    enqueuing.send(&job[5..]).await;
    let text = enqueuing.read_to_end().await;
    assert_eq!(answer(&text).0, 503, "{text}");
    assert!(text.contains(r#""code":"draining""#) && text.contains("retry-after: 1"), "{text}");
    acking.send(&ack[5..]).await;
    assert_eq!(answer(&acking.read_to_end().await), (204, ""));

    let (status, log) = node.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("All requests are finished") && log.contains("Stopped"), "{log}");
    assert_eq!(state_after(directory.path(), &id).await, None);
    assert_eq!(state_after(directory.path(), &held).await.as_deref(), Some("running"));
    let node = Node::start(directory.path()).await;
    let acked = node.http.post(&format!("/v1/jobs/{held}/ack"), late).await;
    assert_eq!(acked.status, 204);
    node.stop().await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path()).await;
    let (id, ack) = leased(&node).await;
    let ready = node.http.post("/v1/jobs", r#"{"kind":"mail"}"#).await.json();
    let mut acking = node.connect().await;
    acking.send(post_head(&format!("/v1/jobs/{id}/ack"), ack.len())).await;
    acking.send(&ack[..5]).await;
    assert_eq!(node.http.get("/q/health/ready").await.status, 200);

    node.signal(Signal::TERM);
    node.line("Draining").await;
    node.signal(Signal::INT);
    let (status, log) = node.ended().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert_eq!(state_after(directory.path(), &id).await.as_deref(), Some("running"));
    let ready = ready["id"].as_str().unwrap();
    assert_eq!(state_after(directory.path(), ready).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_after_the_grace_time() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().to_str().unwrap();
    let node = Node::start_with(["--data-dir", dir, "--shutdown-grace-ms", "200"]).await;
    let (id, ack) = leased(&node).await;
    let mut acking = node.connect().await;
    acking.send(post_head(&format!("/v1/jobs/{id}/ack"), ack.len())).await;
    acking.send(&ack[..5]).await;
    assert_eq!(node.http.get("/q/health/ready").await.status, 200);
    let (status, log) = node.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cut off") && log.contains("Stopped"), "{log}");
    assert_eq!(state_after(directory.path(), &id).await.as_deref(), Some("running"));
}

#[tokio::test]
async fn an_interrupt_stops_an_idle_node() {
    let node = Node::start_with(["--store", "memory"]).await;
    // A connection that is kept alive without a request must not hold up the end.
    assert_eq!(node.http.get("/readyz").await.status, 200);
    let idle = node.connect().await;
    node.signal(Signal::INT);
    let (status, log) = node.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(idle.read_to_end().await, "");
}
