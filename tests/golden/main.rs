//! Data directories of every format that was released, and what is in them: they open for ever.
//!
//! `tests/golden/format-N/NAME` is a directory, without the zeros at the end of its files (their
//! lengths are in `NAME.lengths.json`); `NAME.json` is what the API said of it when it was made.
//! Neither ever changes. `cargo test --test golden -- --ignored make` writes those of the format
//! of today, when there are none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "../everything/mod.rs"]
mod everything;
#[path = "../node/mod.rs"]
mod node;

mod directories;
mod listing;

use std::collections::BTreeSet;

use everything::NOW_MS;
use node::{Node, assert_sound};
use pulk::queue::Claim;
use pulk::{NewJob, Timestamp};
use serde_json::{Value, json};

use crate::directories::{Golden, all};
use crate::listing::{list, without_what_time_changes};

/// The format of today.
const FORMAT: &str = "format-2";
/// A queue, since format 2, with one job. It ran in the process, after all was listed.
const IN_PROCESS: &str = "in-process";

#[tokio::test]
#[ignore = "writes the directories of a new format"]
async fn make() {
    for name in ["closed", "killed"] {
        let golden = Golden { format: FORMAT.to_owned(), name: name.to_owned() };
        assert!(!golden.path().exists(), "{} never changes", golden.path().display());
        let directory = tempfile::tempdir().unwrap();
        let (queue, clock) = everything::open(directory.path()).await.unwrap();
        let mut with_results = everything::fill(&queue, "before").await;
        queue.close().await.unwrap();
        let (queue, _) = everything::open(directory.path()).await.unwrap();
        with_results.extend(everything::fill(&queue, "after").await);
        queue.enqueue(NewJob::new("ran").queue(IN_PROCESS)).await.unwrap();
        everything::settle(directory.path()).await;
        let listing = list(&queue, &clock, &with_results).await;
        let claim =
            Claim { queues: vec![IN_PROCESS.to_owned()], in_process: true, ..Claim::default() };
        assert_eq!(queue.claim(claim).await.unwrap().jobs.len(), 1);
        if name == "closed" {
            queue.close().await.unwrap();
        }
        golden.write(directory.path(), &listing);
    }
}

#[tokio::test]
async fn the_library_finds_all_that_was_there() {
    for golden in all() {
        let (directory, expected) = golden.copied();
        let (queue, clock) = everything::open(directory.path()).await.unwrap();
        let results = expected["results"].as_array().unwrap();
        let results: Vec<_> =
            results.iter().map(|job| job["id"].as_str().unwrap().parse().unwrap()).collect();
        let found = list(&queue, &clock, &results).await;
        let expected = with_interruption(expected);
        for part in ["queues", "jobs", "results", "replays"] {
            assert_eq!(found[part], expected[part], "{part} of {golden:?}");
        }
        queue.close().await.unwrap();
        let report = pulk::queue::doctor(directory.path()).unwrap();
        assert!(report.is_sound() && report.mended == 0, "{report:#?}");
    }
}

/// A lease of the process that wrote the directory ended with the opening.
fn with_interruption(mut expected: Value) -> Value {
    for job in expected["jobs"].as_array_mut().unwrap() {
        if job["queue"] == IN_PROCESS {
            assert_eq!((&job["state"], &job["interruptions"]), (&json!("ready"), &json!(0)));
            job["interruptions"] = json!(1);
        }
    }
    expected
}

#[tokio::test]
async fn keys_and_leases_hold_in_the_library() {
    for golden in all() {
        let (directory, expected) = golden.copied();
        let now = Timestamp::from_ms(NOW_MS + 1_000);
        let (queue, _) = everything::open_at(directory.path(), now).await.unwrap();
        everything::assert_keys_hold(&queue, "before").await;
        everything::assert_keys_hold(&queue, "after").await;
        let jobs = expected["jobs"].as_array().unwrap();
        let running: Vec<_> = jobs.iter().filter(|job| job["state"] == "running").collect();
        // Jobs with keys came with format 2; two of the keys let one run, in each life.
        let running_then = if golden.format == "format-1" { 6 } else { 10 };
        assert_eq!(running.len(), running_then);
        for job in running {
            let token = format!("{}-{}", job["id"].as_str().unwrap(), job["attempt"]);
            let acked = queue.ack(token.parse().unwrap()).await;
            assert_eq!(acked.is_ok(), job["cancelled"] != true, "{token}: {acked:?}");
        }
        queue.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_program_works_on_from_there() {
    for golden in all() {
        let (directory, expected) = golden.copied();
        let node = Node::start(directory.path()).await;
        let mut ids = BTreeSet::new();
        for job in expected["jobs"].as_array().unwrap() {
            let id = job["id"].as_str().unwrap();
            if job["cancelled"] == true {
                // It is gone with its lease, which has long ended.
                continue;
            }
            let found = node.http.get(&format!("/v1/jobs/{id}")).await.json();
            let is_running = job["state"] == "running";
            let found = without_what_time_changes(listing::shortened(found), is_running);
            let expected = without_what_time_changes(job.clone(), is_running);
            assert_eq!(found, expected, "of {golden:?}");
            ids.insert(id.to_owned());
        }
        let replayed = node.http.post("/v1/dead/replay", "{}").await.json();
        assert!(replayed["replayed"].as_u64().unwrap() > 0, "{replayed}");
        for queue in ["paused-before", "paused-after"] {
            let resumed = node.http.post(&format!("/v1/queues/{queue}/resume"), "{}").await;
            assert_eq!(resumed.status, 200);
        }
        let claimed = node.http.post("/v1/claim", r#"{"limit":1000}"#).await.json();
        let claimed = claimed["jobs"].as_array().unwrap();
        assert!(claimed.len() > 200, "{}", claimed.len());
        let acks: Vec<Value> = claimed
            .iter()
            .map(|job| {
                assert!(ids.contains(job["id"].as_str().unwrap()), "{job}");
                json!({"id": job["id"], "token": job["lease"]["token"]})
            })
            .collect();
        let settled = node.http.post("/v1/settle", json!({"acks": acks}).to_string()).await;
        assert_eq!(settled.status, 200, "{settled:?}");
        node.stop().await;
        assert_sound(directory.path()).await;
    }
}
