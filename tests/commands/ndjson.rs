//! `pulk enqueue --file`: many jobs, in batches, with a place to go on after an error.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::node_with;

/// One job a line, its number as its payload.
fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| format!("{{\"kind\":\"k\",\"payload\":{number}}}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_in_batches_and_in_order() {
    let (node, client) = node_with(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jobs.ndjson");
    std::fs::write(&file, lines(0..2_500) + "\n\n").unwrap();
    let file = file.to_str().unwrap();
    let printed = client.printed(&["enqueue", "--file", file]);
    assert_eq!(printed, "2500 jobs enqueued\n");
    let claimed = node.http.post("/v1/claim", r#"{"limit":1000}"#).await.json();
    let payloads: Vec<u64> = claimed["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["payload"].as_u64().unwrap())
        .collect();
    assert_eq!(payloads, (0..1_000).collect::<Vec<_>>());
    let ended = client.run_reading(&["enqueue", "--file=-", "--json"], &lines(0..1_001));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "1001 jobs enqueued\n"));
    let batches: Vec<usize> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|batch| batch["ids"].as_array().unwrap().len())
        .collect();
    assert_eq!(batches, [1_000, 1]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_jobs_make_small_batches() {
    let (node, client) = node_with(&[]).await;
    let payload = "x".repeat(1 << 19);
    let line = format!("{{\"kind\":\"k\",\"payload\":\"{payload}\"}}\n");
    let ended = client.run_reading(&["enqueue", "--file=-", "--json"], &line.repeat(7));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "7 jobs enqueued\n"));
    assert_eq!(ended.stdout.lines().count(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_named_and_the_rest_can_follow() {
    let (node, client) = node_with(&[]).await;
    let good = lines(0..1_500);
    // No JSON: what stands before it is enqueued.
    let ended = client.run_reading(&["enqueue", "--file=-"], &format!("{good}nonsense\n{good}"));
    assert_eq!(ended.code, 64);
    assert!(ended.stderr.starts_with("pulk: line 1501: it is no JSON"), "{ended:?}");
    assert!(ended.stderr.contains("1500 jobs enqueued before"), "{ended:?}");
    assert!(ended.stderr.contains("--from-line 1501"), "{ended:?}");
    // Refused by the node: its whole batch is not enqueued.
    let refused = format!("{good}{{\"kind\":\"\"}}\n{good}");
    let ended = client.run_reading(&["enqueue", "--file=-"], &refused);
    assert_eq!(ended.code, 64);
    assert!(ended.stderr.starts_with("pulk: line 1501: kind: must not be empty"), "{ended:?}");
    assert!(ended.stderr.contains("1000 jobs enqueued before, none from line 1001"), "{ended:?}");
    let mended = refused.replace("\"kind\":\"\"", "\"kind\":\"mended\"");
    let ended = client.run_reading(&["enqueue", "--file=-", "--from-line=1001"], &mended);
    assert_eq!(ended.stdout, "2001 jobs enqueued\n");
    let queue = client.json(&["stats", "--json"]);
    assert_eq!(queue["queues"][0]["counts"]["ready"], 1_500 + 1_000 + 2_001);
    client.refused(&["enqueue", "--file=/nowhere"], 64, "--file: /nowhere");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_waited_for_or_told() {
    let (node, client) = node_with(&["--queue-capacity-default=5"]).await;
    // Ten jobs started within the last minute: the node names a short wait.
    for _ in 0..2 {
        client.run_reading(&["enqueue", "--file=-"], &lines(0..5));
        node.http.post("/v1/claim", r#"{"limit":5}"#).await;
    }
    let ended = client.run_reading(&["enqueue", "--file=-", "--no-wait"], &lines(0..8));
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("0 jobs enqueued before"), "{ended:?}");
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_pulk"))
        .args(["enqueue", "--file=-", "--url", &client.0])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut waiting.stdin.take().unwrap(), lines(0..8).as_bytes()).unwrap();
    let mut stderr = BufReader::new(waiting.stderr.take().unwrap());
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    assert!(told.starts_with("pulk: waits ") && told.contains("5"), "{told}");
    // Five found room; there is room for the others now.
    let claimed = node.http.post("/v1/claim", r#"{"limit":10}"#).await.json();
    assert_eq!(claimed["jobs"].as_array().unwrap().len(), 5);
    let mut printed = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "8 jobs enqueued\n");
    assert!(waiting.wait().unwrap().success());
    node.stop().await;
}

/// A node that goes away while it has a batch: nobody knows whether it took it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_told_as_such() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = crate::program::Client(format!("http://{}", listener.local_addr().unwrap()));
    let node = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut some = [0; 64];
        connection.read(&mut some).unwrap()
    });
    let ended = client.run_reading(&["enqueue", "--file=-"], &lines(0..3));
    assert!(node.join().unwrap() > 0);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("did the call is not known"), "{ended:?}");
    assert!(ended.stderr.contains("lines 1 to 3"), "{ended:?}");
}
