//! On a full disk jobs are refused and everything else goes on; what was acknowledged is there
//! after a crash; and the node takes jobs again by itself once there is room.
//!
//! On small file systems of their own, which the tests mount.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(clippy::indexing_slicing, reason = "the same")]

#[allow(unreachable_pub, reason = "shared with other test binaries")]
#[path = "../node/mod.rs"]
mod node;
mod volume;

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use node::{Answer, Node, assert_sound, run, within};
use volume::{Volume, ballast_bytes};

const VOLUME_MB: u64 = 160;
const PAYLOAD_BYTES: usize = 4_000;
/// Longer than any drain here takes on a machine however busy.
const LEASE_MS: u64 = 3_600_000;

/// The ids of jobs.
type Ids = BTreeSet<String>;

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A node whose queues take as much as the disk does.
async fn start(data: &Path) -> Node {
    Node::start_with(["--queue-capacity-default=0", "--data-dir", data.to_str().unwrap()]).await
}

/// Enqueues until a batch is refused; gives what was taken, and the refusal.
async fn fill(node: &Node) -> (Ids, Answer) {
    let job = json!({ "kind": "mail", "payload": "x".repeat(PAYLOAD_BYTES) });
    let body = json!({ "jobs": vec![job; 50] }).to_string();
    let mut ids = Ids::new();
    loop {
        let answer = node.http.post("/v1/jobs/batch", body.clone()).await;
        if answer.status != 201 {
            return (ids, answer);
        }
        ids.extend(answer.json()["ids"].as_array().unwrap().iter().map(text));
    }
}

async fn claim(node: &Node, call: Value) -> Vec<Value> {
    let answer = node.http.post("/v1/claim", call.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["jobs"].as_array().unwrap().clone()
}

fn settled(job: &Value) -> Value {
    json!({ "id": job["id"], "token": job["lease"]["token"] })
}

/// Claims and acks until nothing is left; gives what there was.
async fn drain(node: &Node) -> Ids {
    let (mut ids, mut acks) = (Ids::new(), Vec::new());
    loop {
        let jobs = claim(node, json!({ "limit": 100, "acks": acks, "lease_ms": LEASE_MS })).await;
        if jobs.is_empty() {
            return ids;
        }
        for job in &jobs {
            assert!(ids.insert(text(&job["id"])), "handed out twice: {job}");
        }
        acks = jobs.iter().map(settled).collect();
    }
}

async fn enqueue(node: &Node) -> Answer {
    node.http.post("/v1/jobs", r#"{"kind":"small"}"#).await
}

/// Asks until a job is taken: compaction goes on beside, and the node tells nobody of its end.
async fn taken_again(node: &Node) {
    within("room for jobs", async { while enqueue(node).await.status != 201 {} }).await;
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert_eq!(answer.json()["code"], "disk_full");
    assert!(answer.json()["detail"].as_str().unwrap().contains("PULK_DISK_RESERVE_BYTES"));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn jobs_are_refused_and_all_else_goes_on() {
    let volume = Volume::tmpfs(VOLUME_MB);
    let mut node = start(&volume.data()).await;
    assert_eq!(ballast_bytes(&volume.data()), 64 << 20);
    assert_eq!(enqueue(&node).await.status, 201);
    let job = claim(&node, json!({})).await.remove(0);
    let fail = json!({ "token": job["lease"]["token"], "error": "no", "retry": false });
    let path = format!("/v1/jobs/{}/fail", job["id"].as_str().unwrap());
    assert_eq!(node.http.post(&path, fail.to_string()).await.status, 200);
    let replay = format!("/v1/dead/{}/replay", job["id"].as_str().unwrap());

    let (mut ids, refusal) = fill(&node).await;
    assert_refused(&refusal);
    node.line("Disk full").await;
    assert_refused(&enqueue(&node).await);
    assert_refused(&node.http.post(&replay, "{}").await);
    let health = node.http.get("/q/health").await;
    let disk = health.json()["checks"][3].clone();
    assert_eq!((health.status, &disk["status"]), (200, &json!("UP")));
    assert_eq!(disk["data"]["reserve_bytes"], 64 << 20);
    assert_eq!(disk["data"]["room_bytes"], 0);
    assert!(disk["data"]["warning"].as_str().unwrap().contains("refused"), "{disk}");
    assert_eq!(node.http.get("/q/health/ready").await.status, 200);
    let metrics = node.http.get("/q/metrics").await.text();
    assert!(metrics.contains("\npulk_disk_room_bytes 0\n"), "{metrics}");
    assert!(metrics.contains("\npulk_disk_free_bytes "), "{metrics}");

    each_way_to_settle(&node, &mut ids).await;
    assert_eq!(drain(&node).await, ids);
    taken_again(&node).await;
    node.line("The disk has room again").await;
    assert_eq!(node.http.post(&replay, "{}").await.status, 200);
    let (status, log) = node.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("compacted the database"), "{log}");
    assert_sound(&volume.data()).await;
}

/// Ack, fail, extend and release, each by its own call; `ids` are left with what still waits.
async fn each_way_to_settle(node: &Node, ids: &mut Ids) {
    let jobs = claim(node, json!({ "limit": 4, "lease_ms": LEASE_MS })).await;
    let post = async |number: usize, verb: &str, more: Value| {
        let path = format!("/v1/jobs/{}/{verb}", jobs[number]["id"].as_str().unwrap());
        let mut body = more;
        body["token"] = jobs[number]["lease"]["token"].clone();
        node.http.post(&path, body.to_string()).await.status
    };
    let fail = |error: &str| json!({ "error": error, "retry_in_ms": 0 });
    assert_eq!(post(0, "ack", json!({})).await, 204);
    assert_eq!(post(1, "fail", fail("no")).await, 200);
    assert_eq!(post(2, "extend", json!({ "progress": 50 })).await, 200);
    assert_eq!(post(2, "release", json!({})).await, 200);
    assert_eq!(post(3, "release", json!({ "delay_ms": 1 })).await, 200);
    assert!(ids.remove(jobs[0]["id"].as_str().unwrap()));
    // The two that wait for a moment are ready before the last one of the others is claimed.
}

/// Fills, lets somebody else take the rest, kills the node, and drains what is there then.
async fn survives_on(volume: Volume) {
    let node = start(&volume.data()).await;
    let (mut ids, refusal) = fill(&node).await;
    assert_refused(&refusal);
    volume.fill();
    assert_refused(&enqueue(&node).await);
    let jobs = claim(&node, json!({ "limit": 100, "lease_ms": LEASE_MS })).await;
    let acks: Vec<Value> = jobs.iter().map(settled).collect();
    let body = json!({ "acks": acks }).to_string();
    assert_eq!(node.http.post("/v1/settle", body).await.status, 200);
    for job in &jobs {
        ids.remove(job["id"].as_str().unwrap());
    }
    node.kill().await;

    let node = start(&volume.data()).await;
    assert_eq!(drain(&node).await, ids, "what was acknowledged is there, and nothing else");
    taken_again(&node).await;
    let (status, log) = node.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_sound(&volume.data()).await;
}

#[tokio::test]
async fn a_volume_that_somebody_else_filled_can_be_drained_after_a_crash() {
    survives_on(Volume::tmpfs(VOLUME_MB)).await;
}

#[tokio::test]
async fn the_same_on_a_real_file_system() {
    survives_on(Volume::ext4(VOLUME_MB)).await;
}

#[tokio::test]
async fn a_node_that_is_running_when_somebody_else_fills_the_volume_drains_and_recovers() {
    let volume = Volume::ext4(VOLUME_MB);
    let node = start(&volume.data()).await;
    let (ids, _) = fill(&node).await;
    volume.fill();
    assert_eq!(drain(&node).await, ids);
    taken_again(&node).await;
    // What is refused meanwhile is taken when the next compaction is done.
    let mut again = Ids::new();
    within("room for many", async {
        while again.len() * 4 < ids.len() {
            again.extend(fill(&node).await.0);
        }
    })
    .await;
    node.kill().await;
    assert_sound(&volume.data()).await;
}

#[tokio::test]
async fn without_a_reserve_a_full_disk_loses_nothing_and_is_told_in_a_sentence() {
    let volume = Volume::tmpfs(60);
    let data = volume.data();
    let flags = ["--disk-reserve-bytes=0", "--queue-capacity-default=0", "--data-dir"];
    let node = Node::start_with(flags.into_iter().chain([data.to_str().unwrap()])).await;
    let (mut ids, refusal) = fill(&node).await;
    assert_refused(&refusal);
    assert_eq!(ballast_bytes(&data), 0);
    volume.fill();
    // However far it comes with that.
    let mut unsure = Ids::new();
    while let Ok(answer) = node.http.call(Method::POST, "/v1/claim", r#"{"limit":100}"#).await
        && answer.status == 200
        && let Some(jobs) = answer.json()["jobs"].as_array().filter(|jobs| !jobs.is_empty())
    {
        let acks: Vec<Value> = jobs.iter().map(settled).collect();
        unsure = jobs.iter().map(|job| text(&job["id"])).collect();
        let body = json!({ "acks": acks }).to_string();
        match node.http.call(Method::POST, "/v1/settle", body).await {
            Ok(answer) if answer.status == 200 => ids.retain(|id| !unsure.contains(id)),
            _ => break,
        }
    }
    node.kill().await;

    // It opens, or says what is wrong; it does no damage either way.
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_pulk"));
    doctor.arg("doctor").arg(&data).env_clear();
    let (code, _, stderr) = run(doctor).await;
    if code != Some(0) {
        assert_eq!(code, Some(74), "{stderr}");
        assert!(stderr.contains(" is full: ") && stderr.contains("bytes are needed"), "{stderr}");
    }
    volume.enlarge(VOLUME_MB);
    let node = start(&data).await;
    let found = drain(&node).await;
    assert!(ids.is_superset(&found), "what was acked comes back");
    for id in ids.difference(&found).filter(|id| !unsure.contains(*id)) {
        // Handed out by a claim whose answer never came.
        let job = node.http.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!((job.status, &job.json()["state"]), (200, &json!("running")), "{id} is lost");
    }
    node.stop().await;
    assert_sound(&data).await;
}
