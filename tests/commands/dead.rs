//! `pulk dead`: list, show, edit, replay, purge.

use crate::{dead_letter, node_with, words};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_shown() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["dead", "list"]), "There are none.\n");
    let id = dead_letter(&node, &client, "q", "k", "no \u{1b}[31mroute").await;
    dead_letter(&node, &client, "other", "k", "broken").await;
    let list = client.printed(&["dead", "list", "--queue=q"]);
    let table = words(&list);
    assert_eq!(table.len(), 2, "{list}");
    assert_eq!(table[1][..4], [&id, "q", "k", "rejected"]);
    assert!(list.contains("no ·[31mroute"), "{list}");
    let shown = client.printed(&["dead", "show", &id]);
    assert!(shown.contains("reason             rejected\n"), "{shown}");
    assert!(shown.contains("\npayload:\n{\"n\":1.50}\n"), "{shown}");
    assert!(shown.contains("ATTEMPT"), "{shown}");
    let lines = client.printed(&["dead", "list", "--json", "--all"]);
    assert_eq!(lines.lines().count(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_by_kind_reason_and_error() {
    let (node, client) = node_with(&[]).await;
    let wanted = dead_letter(&node, &client, "q", "a", "no route to host").await;
    dead_letter(&node, &client, "q", "b", "no route to host").await;
    dead_letter(&node, &client, "q", "a", "broken").await;
    let list = ["dead", "list", "--json", "--kind=a", "--reason=rejected", "--error=no route"];
    let found = client.json(&list);
    assert_eq!(found["id"], wanted.as_str());
    client.refused(&["dead", "list", "--reason=tired"], 64, "exhausted");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_edited_and_replayed() {
    let (node, client) = node_with(&[]).await;
    let id = dead_letter(&node, &client, "q", "k", "broken").await;
    client.refused(&["dead", "edit", &id], 64, "say what to change");
    let change = ["--payload={\"n\": 2.50}", "--priority=high", "--max-attempts=9", "--header=a=b"];
    let edited = client.json(&[&["dead", "edit", &id, "--json"], &change[..]].concat());
    assert_eq!((&edited["priority"], &edited["max_attempts"]), (&"high".into(), &9.into()));
    client.refused(&["dead", "replay", &id], 64, "This replays 1 dead letter (by id). Go on?");
    assert_eq!(client.printed(&["dead", "replay", &id, "--yes"]), "1 dead letter replayed\n");
    let job = node.http.get(&format!("/v1/jobs/{id}")).await;
    assert!(job.text().contains("\"payload\":{\"n\": 2.50}"), "{}", job.text());
    assert_eq!(job.json()["state"], "ready");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matches_is_counted_before_anything_is_done() {
    let (node, client) = node_with(&[]).await;
    for (queue, error) in [("q", "no route"), ("q", "no route"), ("q", "broken"), ("r", "no route")]
    {
        dead_letter(&node, &client, queue, "k", error).await;
    }
    client.refused(&["dead", "replay"], 64, "--all");
    client.refused(&["dead", "purge", "--yes"], 64, "--all");
    let filter = ["--queue=q", "--error=no route"];
    let asked = "This replays 1 of 2 dead letters (queue \"q\", error \"no route\"). Go on?";
    client.refused(&[&["dead", "replay", "--limit=1"], &filter[..]].concat(), 64, asked);
    client.refused(
        &[&["dead", "purge"], &filter[..]].concat(),
        64,
        "removes 2 dead letters for good",
    );
    assert_eq!(client.printed(&["dead", "list", "--json"]).lines().count(), 4);
    let told = client.printed(&[&["dead", "replay", "--limit=1", "-y"], &filter[..]].concat());
    assert_eq!(told, "1 dead letter replayed\n");
    let told = client.printed(&[&["dead", "purge", "-y"], &filter[..]].concat());
    assert_eq!(told, "1 dead letter removed\n");
    let purged = client.json(&["dead", "purge", "--all", "--yes", "--json"]);
    assert_eq!((&purged["matched"], &purged["removed"]), (&2.into(), &2.into()));
    let told = client.printed(&["dead", "purge", "--all"]);
    assert_eq!(told, "No dead letter matches; nothing was done.\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_runs_in_the_background_and_can_be_stopped() {
    let (node, client) = node_with(&[]).await;
    assert_eq!(client.printed(&["dead", "replays"]), "There are none.\n");
    for _ in 0..2 {
        dead_letter(&node, &client, "q", "k", "broken").await;
    }
    let slow = ["dead", "replay", "--all", "--rate=0.001", "--max-error-share=0.5", "--yes"];
    let told = client.printed(&slow);
    assert!(told.contains("runs in the background"), "{told}");
    let list = client.printed(&["dead", "replays"]);
    let table = words(&list);
    let id = table[1][0];
    assert_eq!(table[1][1..5], ["running", "all", "0.001", "2"], "{list}");
    assert!(told.contains(id), "{told}");
    assert_eq!(client.printed(&["dead", "stop", id]), format!("{id} stopped\n"));
    let state = &client.json(&["dead", "replays", "--json"])["replays"][0]["state"];
    assert_eq!(state, "cancelled");
    client.refused(&["dead", "replay", "--all", "--max-error-share=0.5"], 64, "--rate");
    node.stop().await;
}
