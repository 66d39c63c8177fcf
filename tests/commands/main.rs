//! The commands that speak to a running node: what they print, what they do, and how they end.

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

mod bench;
mod dead;
mod enqueue;
mod jobs;
mod ndjson;
mod queues;
mod schedules;
mod terminal;

use node::Node;
use program::Client;

/// A node that keeps nothing, and the program that speaks to it.
async fn node_with(arguments: &[&str]) -> (Node, Client) {
    let node = Node::start_with([&["--store", "memory"], arguments].concat()).await;
    let client = Client(format!("http://{}", node.address));
    (node, client)
}

/// Text cut at white space, line by line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// Enqueues a job that its first worker rejects; gives its id.
async fn dead_letter(node: &Node, client: &Client, queue: &str, kind: &str, error: &str) -> String {
    let id = client.printed(&["enqueue", kind, "--queue", queue, "--payload", "{\"n\":1.50}"]);
    let id = id.trim().to_owned();
    let claim = format!(r#"{{"queues":["{queue}"]}}"#);
    let claimed = node.http.post("/v1/claim", claim).await.json();
    let token = claimed["jobs"][0]["lease"]["token"].as_str().unwrap().to_owned();
    let fail = serde_json::json!({"token": token, "error": error, "retry": false}).to_string();
    let failed = node.http.post(&format!("/v1/jobs/{id}/fail"), fail).await;
    assert_eq!(failed.json()["state"], "dead");
    id
}
