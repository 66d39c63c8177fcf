//! `pulk stats`, `pulk queues` and what else is about queues.

use crate::{node_with, words};

#[tokio::test(flavor = "multi_thread")]
async fn stats_are_a_table_with_sums() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["stats"]), "There are no queues yet.\n");
    client.printed(&["enqueue", "k", "--queue=b"]);
    client.printed(&["enqueue", "k", "--queue=a", "--delay-ms=60000"]);
    client.printed(&["enqueue", "k", "--queue=a"]);
    client.printed(&["queues", "pause", "b"]);
    let stats = client.printed(&["stats"]);
    let table = words(&stats);
    assert_eq!(table[0][..6], ["QUEUE", "READY", "RUN", "SCHED", "RETRY", "DEAD"]);
    assert_eq!(table[1][..6], ["a", "1", "0", "1", "0", "0"]);
    assert_eq!(table[2][..6], ["b", "1", "0", "0", "0", "0"]);
    assert_eq!(table[2].last(), Some(&"paused"));
    assert_eq!(table[3][..6], ["all", "2", "0", "1", "0", "0"]);
    assert!(!stats.contains('\x1b'), "{stats}");
    let json = client.json(&["stats", "--json"]);
    assert_eq!(json["queues"][1]["counts"]["ready"], 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_and_goes_on() {
    let (node, client) = node_with(&[]).await;
    client.printed(&["enqueue", "k", "--queue=a/b"]);
    assert_eq!(client.printed(&["queues", "pause", "a/b"]), "a/b is paused; 1 job ready\n");
    let claimed = node.http.post("/v1/claim", "{}").await.json();
    assert_eq!(claimed["jobs"], serde_json::json!([]));
    assert_eq!(client.json(&["queues", "resume", "a/b", "--json"])["paused"], false);
    client.refused(&["queues", "pause", "nowhere"], 1, "nowhere");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_queue_is_removed() {
    let (node, client) = node_with(&[]).await;
    client.printed(&["enqueue", "k", "--queue=q"]);
    client.refused(&["queues", "remove", "q"], 1, "q");
    client.printed(&["jobs", "purge", "q", "--yes"]);
    assert_eq!(client.printed(&["queues", "remove", "q"]), "q is removed\n");
    assert_eq!(client.printed(&["stats"]), "There are no queues yet.\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_node_comes_from_the_environment_too() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["healthcheck"]), format!("{} is ready\n", client.0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_that_is_next_is_told_with_the_reason() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["queues", "next"]), "No job is ready.\n");
    let id = client.printed(&["enqueue", "k", "--queue=q"]);
    let why = "No ready job counts as more urgent than default.";
    let told = client.printed(&["queues", "next"]);
    assert_eq!(told, format!("{} q k default: {why}\n", id.trim()));
    assert_eq!(client.json(&["queues", "next", "--json"])["next"]["why"], why);
    node.stop().await;
}
