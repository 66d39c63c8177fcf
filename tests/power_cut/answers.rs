//! The whole program under load from clients that do everything: what it answered must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use pulk_proof_disk::chance::Seeded;
use pulk_proof_disk::{Chance, History, Operation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::again::{all_hold_again, kept};
use crate::clients::{Call, Client, Hands, Keys};
use crate::door::Door;
use crate::images::{self, all_hold};
use crate::ledger::{Expected, Is, Ledger};
use crate::node::{Node, within};
use crate::recording::Recording;

/// What the clients have asked and were told, in the folder of the recording.
const CALLS: &str = "calls.json";
const CLIENTS: u64 = 8;
/// How many of a kind are tried out in each image.
const TRIED: usize = 6;
/// One image in so many is opened by the real program.
const PROGRAM_EVERY: u64 = 6;

/// How much is done before the program is killed, and then before it is stopped.
#[derive(Clone, Copy)]
struct Load {
    seed: u64,
    calls: [usize; 2],
}

async fn record(load: Load, kept_in: &Path) -> Recording {
    let mut recording = Recording::begin(kept_in);
    let data_dir = recording.root().join("data");
    let mut calls = Vec::new();
    let mut hands: Vec<Hands> = (0..CLIENTS).map(|_| Hands::default()).collect();
    for (life, count) in load.calls.into_iter().enumerate() {
        let node = Node::spawn(node_command(&recording)).await;
        let mut working = JoinSet::new();
        for (number, hands) in (0..).zip(hands.drain(..)) {
            let address = node.address.clone();
            let client = Client::connect(number, life, load.seed, &address, hands).await;
            // The last life works until it is done; the one before until it is killed.
            working.spawn(client.work(count));
        }
        let pid = pid_of(&data_dir);
        if life == 0 {
            let (mut done, mut first) = (Vec::new(), true);
            while let Some(ended) = within("the end of a client", working.join_next()).await {
                done.push(ended.unwrap());
                if std::mem::take(&mut first) {
                    // The others are in the midst of it.
                    kill_process(pid, Signal::KILL).unwrap();
                }
            }
            (calls, hands) = gathered(done, calls);
        } else {
            let done = within("the end of the clients", working.join_all()).await;
            (calls, hands) = gathered(done, calls);
            kill_process(pid, Signal::TERM).unwrap();
        }
        node.ended().await;
        recording.ended();
    }
    fs::write(kept_in.join(CALLS), serde_json::to_vec(&calls).unwrap()).unwrap();
    recording
}

/// A node under strace.
fn node_command(recording: &Recording) -> Command {
    let mut command = recording.command(env!("CARGO_BIN_EXE_pulk"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--disk-reserve-bytes", "0"]);
    command.arg("--data-dir").arg(recording.root().join("data"));
    // strace is looked for there.
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Command::from(command)
}

fn gathered(done: Vec<(Vec<Call>, Hands)>, mut calls: Vec<Call>) -> (Vec<Call>, Vec<Hands>) {
    let mut all_hands = Vec::new();
    for (mut made, hands) in done {
        calls.append(&mut made);
        all_hands.push(hands);
    }
    (calls, all_hands)
}

/// The process that holds a directory: strace is another one.
fn pid_of(data_dir: &Path) -> Pid {
    let lock = fs::read_to_string(data_dir.join("lock")).unwrap();
    let pid = lock.lines().find_map(|line| line.strip_prefix("pid ")).unwrap();
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

/// All jobs: as what they are found, and the names in their payloads.
async fn found(door: &Door) -> BTreeMap<String, (String, String)> {
    let mut found = BTreeMap::new();
    let mut path = "/v1/jobs?limit=1000".to_owned();
    loop {
        let (status, page) = door.get(&path).await;
        assert_eq!(status, 200, "{page}");
        for job in page["jobs"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let known = (text(&job["state"]), text(&job["payload"]["name"]));
            let pad = job["payload"]["pad"].as_str().unwrap();
            assert!(pad.bytes().all(|byte| byte == b'x'), "{} has another payload", job["id"]);
            assert!(found.insert(text(&job["id"]), known).is_none(), "{job} is there twice");
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/jobs?limit=1000&cursor={cursor}"),
            None => return found,
        }
    }
}

fn compare(expected: &Expected<'_>, found: &BTreeMap<String, (String, String)>) {
    for (id, (may_be, name)) in &expected.jobs {
        let state = match found.get(*id) {
            Some((state, found_name)) => {
                assert_eq!(found_name, name, "{id} has another payload");
                state.as_str()
            }
            None => "absent",
        };
        let fits = may_be.iter().any(|is: &Is| is.states().contains(&state));
        assert!(fits, "{id} ({name}) is {state}, and may be {may_be:?}");
    }
    for (id, (state, name)) in found {
        let is_known = expected.jobs.contains_key(id.as_str());
        let may_be = expected.untold.contains(name.as_str());
        assert!(is_known || may_be, "{id} ({name}) is {state}, and nobody enqueued it");
    }
    let names: BTreeSet<&String> = found.values().map(|(_, name)| name).collect();
    assert_eq!(names.len(), found.len(), "a job is there twice");
    for batch in &expected.batches {
        let there = batch.iter().filter(|id| found.contains_key(*id)).count();
        assert!(there == 0 || there == batch.len(), "{there} of {} jobs: {batch:?}", batch.len());
    }
}

/// Some of them, drawn.
fn some<'a, T>(all: &'a [T], chance: &mut Seeded) -> Vec<&'a T> {
    let count = TRIED.min(all.len());
    let mut picked = BTreeSet::new();
    for _ in 0..count {
        picked.insert(chance.below(all.len() as u64) as usize);
    }
    picked.into_iter().map(|at| &all[at]).collect()
}

async fn try_out(expected: &Expected<'_>, door: &Door, chance: &mut Seeded) {
    for (id, token) in some(&expected.good, chance) {
        let path = format!("/v1/jobs/{id}/extend");
        let (status, reply) = door.post(&path, json!({"token": token, "progress": 1})).await;
        assert_eq!(status, 200, "the lease {token} was given, and is not good: {reply}");
    }
    for (id, token) in some(&expected.spent, chance) {
        let path = format!("/v1/jobs/{id}/ack");
        let (status, reply) = door.post(&path, json!({"token": token})).await;
        assert!([404, 409].contains(&status), "the lease {token} is over, and good: {reply}");
    }
    let again = |keys: &Keys| {
        let unique = keys.unique.as_ref().map(|key| json!({"key": key}));
        let mut job = json!({"queue": keys.queue, "kind": "again", "delay_ms": 1_000_000});
        if let Some(unique) = unique {
            job["unique"] = unique;
        }
        job
    };
    for (id, keys) in some(&expected.idempotent, chance) {
        let key = keys.idempotency.as_deref();
        let method = reqwest::Method::POST;
        let (status, reply) = door.call(method, "/v1/jobs", again(keys), key).await;
        assert_eq!((status, reply["id"].as_str()), (200, Some(*id)), "{keys:?}: {reply}");
    }
    for (id, keys) in some(&expected.unique, chance) {
        let (status, reply) = door.post("/v1/jobs", again(keys)).await;
        assert_eq!((status, reply["id"].as_str()), (409, Some(*id)), "{keys:?}: {reply}");
    }
}

/// Claims and acks all that can be claimed: it must be what waits.
async fn drain(door: &Door, found: &BTreeMap<String, (String, String)>) {
    let wait = ["ready", "retrying"];
    let waits = |(_, (state, _)): &(&String, &(String, String))| wait.contains(&state.as_str());
    let mut waiting: BTreeSet<&String> = found.iter().filter(waits).map(|(id, _)| id).collect();
    while !waiting.is_empty() {
        let body = json!({"limit": 500, "wait_ms": 5_000, "lease_ms": 60_000});
        let (status, reply) = door.post("/v1/claim", body).await;
        assert_eq!(status, 200, "{reply}");
        let jobs = reply["jobs"].as_array().unwrap();
        assert!(!jobs.is_empty(), "these wait, and none is handed out: {waiting:?}");
        let acks: Vec<Value> = jobs
            .iter()
            .map(|job| json!({"id": job["id"], "token": job["lease"]["token"]}))
            .collect();
        for job in jobs {
            // What was scheduled may have come due meanwhile.
            waiting.remove(&job["id"].as_str().unwrap().to_owned());
        }
        let (status, reply) = door.post("/v1/settle", json!({"acks": acks})).await;
        assert_eq!(status, 200, "{reply}");
    }
}

/// What a killed program had written into its journal and not synced must be synced before any of
/// it is moved into the database: a power cut would take a part of a commit back.
fn assert_synced_before_moved(history: &History) {
    let lock = |operation: &Operation| match operation {
        Operation::SetLength { path, .. } => path.ends_with("data/lock"),
        _ => false,
    };
    let is_sync = |operation: &Operation| match operation {
        Operation::SyncBegan { path, .. } => {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal."))
        }
        _ => false,
    };
    let is_move = |operation: &Operation| match operation {
        Operation::Write { path, .. } => path.ends_with("sled/durable"),
        _ => false,
    };
    let begun = history.operations.iter().rposition(lock).unwrap();
    let life = &history.operations[begun..];
    let synced = life.iter().position(is_sync).unwrap();
    let moved = life.iter().position(is_move).unwrap();
    assert!(synced < moved, "moved at {moved}, synced at {synced}, of what follows {begun}");
}

fn holds(ledger: &Ledger, data_dir: &Path, cut: usize) {
    let expected = ledger.expected(cut);
    let mut chance = Seeded::new(cut as u64);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let door = match chance.below(PROGRAM_EVERY) {
            0 => Door::program(data_dir).await,
            _ => Door::router(data_dir).await,
        };
        let found = found(&door).await;
        compare(&expected, &found);
        try_out(&expected, &door, &mut chance).await;
        if chance.below(4) == 0 {
            drain(&door, &found).await;
        }
        door.close().await;
    });
    let report = pulk::queue::doctor(data_dir).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// A node comes up on what a power cut has left, and is stopped when it serves.
async fn come_up(recording: &mut Recording) {
    let data_dir = recording.root().join("data");
    let node = Node::spawn(node_command(recording)).await;
    kill_process(pid_of(&data_dir), Signal::TERM).unwrap();
    let (_, log) = node.ended().await;
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    recording.ended();
}

/// How many images, then how many of them are opened under strace, and images of each of these.
fn every_image_holds(load: Load, counts: [u64; 3]) {
    let [count, generations, count_again] = images::counts(counts);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = images::folder_to_go_through();
    let (first, second) = match &folder {
        Some(folder) => kept(folder),
        None => (runtime.block_on(record(load, &images::directory())), None),
    };
    assert_synced_before_moved(&first.history);
    let given_up = first.renames_to("journal.spare");
    assert!(given_up > 2, "only {given_up} journal files were given up");
    let calls = fs::read(first.keep().join(CALLS)).unwrap();
    let ledger = Ledger::new(&first, serde_json::from_slice(&calls).unwrap());
    let again = |cut, image: &Path| holds(&ledger, &image.join("data"), cut);
    if let Some((cut, second)) = second {
        return all_hold(&second, (load.seed, count_again), |image, _| again(cut, image));
    }
    all_hold(&first, (load.seed, count), |image, cut| again(cut, image));
    if folder.is_none() {
        let open = |second: &mut Recording| runtime.block_on(come_up(second));
        let check = |cut, _: &Recording, image: &Path, _| again(cut, image);
        all_hold_again(&first, (load.seed, generations, count_again), open, check);
        first.forget();
    }
}

#[test]
fn what_the_program_answered_holds_whenever_the_power_goes() {
    let load = Load { seed: images::seed(), calls: [120, 40] };
    every_image_holds(load, [80, 3, 12]);
}
