//! `pulk jobs`: list, show, cancel, purge.

use crate::{node_with, words};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_shown_with_its_payload() {
    let (node, client) = node_with(&[]).await;
    let id = client.printed(&["enqueue", "k", "--payload={\"n\": 1.50}", "--header=a=b"]);
    let shown = client.printed(&["jobs", "show", id.trim()]);
    assert!(shown.contains(&format!("id                 {id}")), "{shown}");
    assert!(shown.contains("header             a: b\n"), "{shown}");
    assert!(shown.ends_with("\npayload:\n{\"n\": 1.50}\n"), "{shown}");
    assert_eq!(client.json(&["jobs", "show", id.trim(), "--json"])["state"], "ready");
    client.refused(&["jobs", "show", "nonsense"], 64, "nonsense");
    client.refused(&["jobs", "show", &"0".repeat(26)], 1, &"0".repeat(26));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_as_far_as_asked() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["jobs"]), "There are none.\n");
    let line = "{\"kind\":\"k\",\"queue\":\"q\",\"payload\":[1,\t2]}\n";
    client.run_reading(&["enqueue", "--file=-"], &line.repeat(1_100));
    client.printed(&["enqueue", "other", "--priority=high"]);
    let list = client.run(&["jobs"]);
    assert_eq!(list.stdout.lines().count(), 101);
    assert!(list.stderr.contains("There are more"), "{list:?}");
    let first = words(&list.stdout)[1][1..6].to_vec();
    assert_eq!(first, ["ready", "default", "high", "other", "1/3"]);
    let all = client.printed(&["jobs", "--all", "--json", "--queue=q"]);
    assert_eq!(all.lines().count(), 1_100);
    let job: serde_json::Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
    assert_eq!(job["payload"], serde_json::json!([1, 2]));
    let few = client.run(&["jobs", "--limit=1", "--json", "--kind=other", "--state=ready"]);
    assert_eq!(few.stdout.lines().count(), 1);
    assert_eq!(client.printed(&["jobs", "--state=dead"]), "There are none.\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled() {
    let (node, client) = node_with(&[]).await;
    let running = client.printed(&["enqueue", "k"]);
    node.http.post("/v1/claim", "{}").await;
    let waiting = client.printed(&["enqueue", "k"]);
    let (running, waiting) = (running.trim(), waiting.trim());
    client.refused(&["jobs", "cancel", waiting], 64, "--yes");
    let told = client.printed(&["jobs", "cancel", waiting, running, "--yes"]);
    assert_eq!(told, format!("{waiting} cancelled\n{running} running; its holder is told\n"));
    let ended = client.run(&["jobs", "cancel", waiting, "--yes"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.starts_with(&format!("{waiting} not cancelled: ")), "{ended:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_purged_only_with_consent() {
    let (node, client) = node_with(&[]).await;
    for priority in ["high", "low", "low"] {
        client.printed(&["enqueue", "k", "--queue=q", "--priority", priority]);
    }
    let asked = "This removes 2 jobs of queue q (waiting low)";
    client.refused(&["jobs", "purge", "q", "--priority=low"], 64, asked);
    assert_eq!(client.json(&["stats", "--json"])["queues"][0]["counts"]["ready"], 3);
    let told = client.printed(&["jobs", "purge", "q", "--priority=low", "-y"]);
    assert_eq!(told, "2 jobs removed\n");
    let purged = client.json(&["jobs", "purge", "q", "--state=ready", "--yes", "--json"]);
    assert_eq!(purged["removed"], 1);
    client.refused(&["jobs", "purge", "nowhere", "--yes"], 1, "nowhere");
    node.stop().await;
}
