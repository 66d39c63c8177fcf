//! `pulk bench`: what it measures, embedded and against a node, and that it leaves nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::node::{Node, assert_sound, within};
use crate::program::{Client, refused};

const WORKLOADS: [&str; 18] = [
    "enqueue-1",
    "enqueue-16",
    "enqueue-64",
    "enqueue-256",
    "batch-10",
    "batch-100",
    "batch-1000",
    "claim-1",
    "claim-10",
    "claim-100",
    "cycle",
    "priorities",
    "backlog",
    "delayed",
    "payload-256",
    "payload-1k",
    "payload-16k",
    "payload-256k",
];

/// Runs `pulk bench` in this directory; it must work. Gives what it printed.
#[track_caller]
fn bench_in(directory: &Path, arguments: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pulk"));
    program.arg("bench").args(arguments).current_dir(directory).env_clear();
    let output = program.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every workload must be there, with numbers that can be.
fn assert_all_measured(run: &Value) {
    let measured = run["workloads"].as_array().unwrap();
    let names: Vec<&str> = measured.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, WORKLOADS);
    for it in measured {
        let number = |name: &str| it[name].as_f64().unwrap_or_else(|| panic!("{name}: {it}"));
        assert!(number("jobs_per_s") > 0.0 && number("limit_jobs_per_s") > 0.0, "{it}");
        let ratio = number("jobs_per_s") / number("limit_jobs_per_s");
        assert!((number("ratio") / ratio - 1.0).abs() < 1e-9, "{it}");
        let latencies = ["p50_us", "p99_us", "p999_us", "max_us"].map(number);
        assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{it}");
        assert!(number("jobs") >= 1.0 && number("jobs_per_commit") > 0.0, "{it}");
        assert_eq!(number("jobs") % number("jobs_per_call"), 0.0, "{it}");
    }
}

#[test]
fn an_embedded_run_measures_everything_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let printed = bench_in(directory.path(), &["--quick", "--json", "--jobs=200"]);
    let run: Value = serde_json::from_str(&printed).unwrap();
    assert_all_measured(&run);
    assert_eq!((&run["target"], &run["rounds"]), (&"embedded".into(), &1.into()));
    for it in run["workloads"].as_array().unwrap() {
        assert!(it["cpu_us_per_job"].as_f64().unwrap() > 0.0, "{it}");
        assert!(it["written_bytes_per_job"].is_number(), "{it}");
        let backlog = if it["name"] == "backlog" { 1_000 } else { 0 };
        assert_eq!(it["backlog"], backlog, "{it}");
    }
    // One caller, one job a call: nothing can share a commit.
    assert_eq!(run["workloads"][0]["jobs_per_commit"], 1.0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_measured_and_left_as_it_was() {
    let (data, limit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start(data.path()).await;
    let client = Client(format!("http://{}", node.address));
    client.printed(&["enqueue", "k", "--queue=mine"]);
    let limit_dir = format!("--limit-dir={}", limit.path().display());
    let url = format!("--url={}", client.0);
    let run = client.json(&["bench", &url, &limit_dir, "--quick", "--json", "--jobs=200"]);
    assert_all_measured(&run);
    assert_eq!(run["target"], client.0);
    assert_eq!(fs::read_dir(limit.path()).unwrap().count(), 0);

    // The limit is left out without a directory, and that is said.
    let shown =
        client.printed(&["bench", &url, "--quick", "--only=batch-10,claim-10", "--jobs=8000"]);
    assert!(shown.contains("No limit was measured"), "{shown}");
    let rows: Vec<&str> = shown.lines().filter(|line| line.ends_with('-')).collect();
    assert!(rows.len() == 2 && rows[1].starts_with("claim-10 "), "{shown}");

    let queues = client.json(&["stats", "--json"])["queues"].as_array().unwrap().clone();
    assert_eq!(queues.len(), 1, "{queues:?}");
    assert_eq!((&queues[0]["name"], &queues[0]["counts"]["ready"]), (&"mine".into(), &1.into()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_full_says_what_to_do_and_keeps_nothing() {
    let data = tempfile::tempdir().unwrap();
    let node =
        Node::start_with(["--queue-capacity-default=100", "--data-dir", text(data.path())]).await;
    let client = Client(format!("http://{}", node.address));
    let url = format!("--url={}", client.0);
    let bench = ["bench", &url, "--quick", "--only=enqueue-16"];
    client.refused(&bench, 1, "JOBS_QUEUE_CAPACITY_DEFAULT=0");
    assert_eq!(client.printed(&["stats"]), "There are no queues yet.\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_takes_its_queue_away() {
    let node = Node::start_with(["--store=memory", "--queue-capacity-default=0"]).await;
    let client = Client(format!("http://{}", node.address));
    let mut bench = tokio::process::Command::new(env!("CARGO_BIN_EXE_pulk"));
    bench.args(["bench", "--only=enqueue-1", "--jobs=10000000", "--url", &client.0]);
    bench.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let bench = bench.kill_on_drop(true).spawn().unwrap();
    while !client.printed(&["stats"]).contains("pulk-bench-") {}
    let pid = rustix::process::Pid::from_raw(bench.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let ended = within("the end of the bench", bench.wait_with_output()).await.unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr, "pulk: stopped by a signal; nothing was measured to the end\n");
    assert_eq!(client.printed(&["stats"]), "There are no queues yet.\n");
    node.stop().await;
}

#[test]
fn a_saved_run_stands_beside_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let only = ["--quick", "--jobs=100", "--only=batch-10,claim-10"];
    let before = bench_in(directory.path(), &[&only[..], &["--json"]].concat());
    fs::write(directory.path().join("before.json"), before).unwrap();
    let shown = bench_in(directory.path(), &[&only[..], &["--against=before.json"]].concat());
    for name in ["batch-10 ", "claim-10 "] {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        let cells: Vec<f64> =
            line.split_whitespace().skip(1).map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(cells.len(), 9, "{shown}");
        // What is printed is rounded.
        assert!((cells[2] - cells[1] / cells[0]).abs() < 0.02, "{shown}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_anything_is_refused_and_stays() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path()).await;
    let client = Client(format!("http://{}", node.address));
    client.printed(&["enqueue", "k"]);
    let bench = ["bench", "--quick", "--data-dir", text(data.path())];
    refused(&bench, &[], 64, "holds a queue");
    node.stop().await;
    refused(&bench, &[], 64, "holds a queue");
    assert_sound(data.path()).await;

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("notes"), "mine").unwrap();
    refused(&["bench", "--data-dir", text(other.path())], &[], 64, "is not empty");
    assert_eq!(fs::read_to_string(other.path().join("notes")).unwrap(), "mine");
}

#[test]
fn bad_usage_is_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.json");
    fs::write(&file, "{}").unwrap();
    let missing = directory.path().join("missing.json");
    let node = "--url=http://127.0.0.1:9";
    for (arguments, named) in [
        (&["--only=dance"][..], "dance"),
        (&["--jobs=0"], "--jobs"),
        (&["--rounds=0"], "--rounds"),
        (&["--backlog=x"], "--backlog"),
        (&["--payload-bytes=1"], "--payload-bytes"),
        (&["--payload-bytes=5000"], "batch-1000"),
        (&["--url=ftp://host"], "--url"),
        (&[node, "--data-dir=x"], "--data-dir"),
        (&["--limit-dir=x"], "--url"),
        (&["--json", "--against=x"], "--against"),
        (&["--against", text(&missing)], "can't be read"),
        (&["--against", text(&file)], "is not what pulk bench --json prints"),
    ] {
        refused(&[&["bench"], arguments].concat(), &[], 64, named);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_told_before_anything() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&["bench", "--url", &format!("http://{free}")], &[], 1, "can't be reached");
    let (node, client) = crate::node_with(&[]).await;
    let bench = ["bench", "--url", &client.0, "--limit-dir=/nowhere/at/all"];
    refused(&bench, &[], 1, "/nowhere/at/all");
    node.stop().await;
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
