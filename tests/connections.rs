//! Connections: slow, idle, broken and too many ones cost the node little, and others nothing.

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

use std::process::Stdio;

use node::{Connection, Node, post_head, run, serve, within};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};
use tokio::process::Command;

const GET: &str = "GET /readyz HTTP/1.1\r\nhost: node\r\n\r\n";
/// As long as a timeout may be.
const TEN_MINUTES: &str = "600000";
const AN_HOUR: &str = "3600000";

/// A node that keeps nothing, with these settings.
async fn node(settings: &[&str]) -> Node {
    Node::start_with([&["--store", "memory", "--log", "pulk=debug"], settings].concat()).await
}

/// The same on one thread, which has done all that a connection needs before it takes another.
async fn orderly_node(settings: &[&str]) -> Node {
    let mut command = serve([&["--store", "memory"], settings].concat());
    command.env("TOKIO_WORKER_THREADS", "1");
    Node::spawn(command).await
}

/// A connection on which one request was answered.
async fn used(node: &Node) -> Connection {
    let mut connection = node.connect().await;
    ask(&mut connection).await;
    connection
}

async fn ask(connection: &mut Connection) {
    connection.send(GET).await;
    assert_eq!(connection.answer().await.0, 200);
}

/// A connection with a request under way: the node has asked for its body, `{}`.
async fn busy(node: &Node, path: &str) -> Connection {
    let mut connection = node.connect().await;
    let expect = "\r\nexpect: 100-continue\r\nhost: ";
    connection.send(post_head(path, 2).replace("\r\nhost: ", expect)).await;
    assert_eq!(connection.answer().await.0, 100);
    connection
}

/// The status and the text of the only answer that came; 0 for none.
fn only_answer(text: &str) -> u16 {
    text.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

/// How many files the node has open.
fn open_files(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

// ---- slow ----

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_dropped() {
    let node = node(&["--read-timeout-ms", "300", "--idle-timeout-ms", AN_HOUR]).await;
    let mut first = node.connect().await;
    first.send("GET /readyz HTTP/1.1\r\nhost").await;
    assert_eq!(first.read_to_end().await, "");
    // The second request of a connection, too.
    let mut second = used(&node).await;
    second.send(&GET[..5]).await;
    assert_eq!(second.read_to_end().await, "");
    let (status, log) = node.stop().await;
    assert!(status.success() && log.contains("took too long"), "{log}");
}

#[tokio::test]
async fn a_body_that_does_not_come_to_its_end_is_told() {
    let node = node(&["--read-timeout-ms", "300", "--idle-timeout-ms", AN_HOUR]).await;
    let chunked = "POST /v1/jobs HTTP/1.1\r\nhost: n\r\ntransfer-encoding: chunked\r\n\r\n";
    for (head, part) in [
        (post_head("/v1/jobs", 12), r#"{"kind":"k""#),
        (post_head("/v1/jobs", 12), ""),
        (post_head("/v1/claim", 5), "{"),
        (chunked.to_owned(), "c\r\n{\"kind\""),
    ] {
        let mut connection = node.connect().await;
        connection.send(head + part).await;
        let text = connection.read_to_end().await;
        assert_eq!(only_answer(&text), 408, "{text}");
        assert!(text.contains("connection: close"), "{text}");
        assert!(text.contains(r#""code":"timeout""#), "{text}");
        assert!(text.contains("the body was not complete after 300 ms; send it faster"), "{text}");
    }
    // One that is too large is not waited for either.
    for head in [post_head("/v1/jobs", 5 << 20), chunked.to_owned() + "500000\r\n"] {
        let mut connection = node.connect().await;
        connection.send(head).await;
        let text = connection.read_to_end().await;
        assert!([408, 413].contains(&only_answer(&text)), "{text}");
    }
    assert_eq!(node.http.get("/v1/queues").await.json()["queues"], serde_json::json!([]));
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_dropped() {
    let mut node = node(&["--read-timeout-ms", "300", "--idle-timeout-ms", AN_HOUR]).await;
    let payload = "x".repeat(1 << 20);
    let job = format!(r#"{{"kind":"k","payload":"{}"}}"#, &payload[8..]);
    let id = node.http.post("/v1/jobs", job).await.json()["id"].as_str().unwrap().to_owned();
    let mut connection = node.connect().await;
    // More than the buffers of both sides hold.
    let request = format!("GET /v1/jobs/{id} HTTP/1.1\r\nhost: node\r\n\r\n");
    connection.send(request.repeat(64)).await;
    node.line("took too long").await;
    let text = connection.read_to_end().await;
    assert!(text.len() < 64 << 20, "all of it was written");
    // Who takes it gets it.
    let mut connection = node.connect().await;
    connection.send(request.repeat(64)).await;
    for _ in 0..64 {
        assert_eq!(connection.answer().await.0, 200);
    }
}

// ---- idle ----

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let node = node(&["--idle-timeout-ms", "300", "--read-timeout-ms", TEN_MINUTES]).await;
    let (silent, used) = (node.connect().await, used(&node).await);
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(used.read_to_end().await, "");
}

#[tokio::test]
async fn a_long_poll_is_not_idle() {
    let node = node(&["--idle-timeout-ms", "200", "--read-timeout-ms", "200"]).await;
    let claim = r#"{"wait_ms":60000}"#;
    let mut waiting = node.connect().await;
    waiting.send(post_head("/v1/claim", claim.len()) + claim).await;
    // Each of these lasts as long as the timeouts, or longer.
    for _ in 0..3 {
        assert_eq!(node.connect().await.read_to_end().await, "");
    }
    assert_eq!(node.http.post("/v1/jobs", r#"{"kind":"late"}"#).await.status, 201);
    let (status, body) = waiting.answer().await;
    assert!(status == 200 && body.contains(r#""kind":"late""#), "{body}");
    assert_eq!(waiting.read_to_end().await, "");
}

// ---- strange ----

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let node = node(&[]).await;
    let job = r#"{"kind":"k"}"#;
    let missing = "GET /v1/queues/none HTTP/1.1\r\nhost: node\r\n\r\n";
    let mut connection = node.connect().await;
    let enqueue = post_head("/v1/jobs", job.len()) + job;
    connection.send([GET, &enqueue, missing, GET, &missing[..9]].concat()).await;
    for status in [200, 201, 404, 200] {
        assert_eq!(connection.answer().await.0, status);
    }
    connection.send(&missing[9..]).await;
    assert_eq!(connection.answer().await.0, 404);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_told() {
    let node = node(&[]).await;
    let sized = |bytes: usize| {
        let head =
            |filler: usize| format!("{}a: {}\r\n\r\n", &GET[..GET.len() - 2], "b".repeat(filler));
        head(bytes - head(0).len())
    };
    let many = |fields: usize| format!("GET /readyz HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200 << 10));
    for head in [sized((64 << 10) + 1), sized(1 << 20), many(101), path] {
        let mut connection = node.connect().await;
        connection.send(head).await;
        let text = connection.close_and_read().await;
        assert_eq!(only_answer(&text), 431, "{text}");
        assert!(text.contains("connection: close") && text.ends_with("\r\n\r\n"), "{text}");
    }
    for head in [sized(64 << 10), many(100)] {
        let mut connection = node.connect().await;
        connection.send(head).await;
        assert_eq!(connection.answer().await.0, 200);
    }
}

#[tokio::test]
async fn what_is_no_request_ends_its_own_connection_only() {
    let node = node(&["--max-connections", "4"]).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\ncontent-length: 12\r\n\r\n{\"kind\"",
        b"POST /v1/jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        &[0xff; 100_000],
        b"",
    ] {
        let mut connection = node.connect().await;
        connection.send(garbage).await;
        let text = connection.close_and_read().await;
        assert!(text.is_empty() || (400..500).contains(&only_answer(&text)), "{text}");
    }
    assert_eq!(node.http.get("/v1/queues").await.json()["queues"], serde_json::json!([]));
    let (status, log) = node.stop().await;
    assert!(status.success() && !log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

// ---- many ----

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_one_idle_longest() {
    let settings = ["--max-connections", "3", "--read-timeout-ms", TEN_MINUTES];
    let node = orderly_node(&[&settings[..], &["--idle-timeout-ms", AN_HOUR]].concat()).await;
    let (mut first, second) = (used(&node).await, used(&node).await);
    let mut slow = used(&node).await;
    slow.send(&GET[..9]).await;
    ask(&mut first).await;
    let mut fourth = used(&node).await;
    assert_eq!(second.read_to_end().await, "");
    // A head that is not complete is no request under way.
    let mut fifth = used(&node).await;
    assert_eq!(slow.read_to_end().await, "");
    for connection in [&mut first, &mut fourth, &mut fifth] {
        ask(connection).await;
    }
}

#[tokio::test]
async fn a_connection_is_refused_when_all_have_requests() {
    let mut node = orderly_node(&["--max-connections", "2"]).await;
    let mut first = busy(&node, "/v1/claim").await;
    let second = busy(&node, "/v1/claim").await;
    for _ in 0..3 {
        let mut third = node.connect().await;
        let job = format!(r#"{{"kind":"{}"}}"#, " ".repeat(100_000));
        third.send(post_head("/v1/jobs", job.len()) + &job).await;
        let text = third.read_to_end().await;
        assert_eq!(only_answer(&text), 503, "{text}");
        assert!(text.contains(r#""code":"too_many_connections""#), "{text}");
        assert!(text.contains("retry-after: 1") && text.contains("connection: close"), "{text}");
    }
    // Those who do not even ask are as little trouble.
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(node.connect().await);
    }
    for connection in crowd {
        let text = connection.read_to_end().await;
        assert_eq!(text, "");
    }
    let line = node.line("new ones were refused").await;
    assert!(line.contains("All 2 connections have a request under way"), "{line}");
    // The first is idle again: its place can be had.
    first.send("{}").await;
    assert_eq!(first.answer().await.0, 200);
    let mut next = used(&node).await;
    assert_eq!(first.read_to_end().await, "");
    ask(&mut next).await;
    drop(second);
}

/// Lets this process open more files; fails with a sentence where that can't be.
fn raise_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    assert!(
        maximum.is_none_or(|most| most >= wanted),
        "this test opens {wanted} files: raise the hard limit (ulimit -Hn), now {maximum:?}"
    );
    if current.is_some_and(|now| now < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_idle_connections_hold_up_nobody() {
    const CONNECTIONS: usize = 10_000;
    raise_files(CONNECTIONS as u64 + 1_000);
    let most = (CONNECTIONS + 10).to_string();
    let node = node(&["--max-connections", &most, "--idle-timeout-ms", AN_HOUR]).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(node.connect().await);
    }
    within("all connections", async { while open_files(&node) < CONNECTIONS {} }).await;
    assert_eq!(node.http.post("/v1/jobs", r#"{"kind":"k"}"#).await.status, 201);
    for place in [0, CONNECTIONS / 2, CONNECTIONS - 1] {
        ask(&mut idle[place]).await;
    }
    let (status, log) = node.stop().await;
    assert!(status.success() && log.contains("All requests are finished"), "{log}");
    for connection in idle {
        assert_eq!(connection.read_to_end().await, "");
    }
}

#[tokio::test]
async fn a_node_with_a_thousand_idle_connections_stops_when_told() {
    raise_files(2_000);
    let node = node(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(node.connect().await);
        idle.push(used(&node).await);
    }
    let (status, log) = node.stop().await;
    assert!(status.success() && log.contains("All requests are finished"), "{log}");
    for connection in idle {
        assert_eq!(connection.read_to_end().await, "");
    }
}

#[tokio::test]
async fn a_burst_waits_until_the_node_has_time_for_it() {
    const BURST: usize = 1_000;
    raise_files(2 * BURST as u64);
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: usize = most.trim().parse().unwrap();
    assert!(most >= BURST, "this test needs net.core.somaxconn of {BURST}; it is {most}");
    let node = node(&[]).await;
    node.signal(Signal::STOP);
    let mut burst = Vec::new();
    for _ in 0..BURST {
        burst.push(within("a place in the backlog", node.connect()).await);
    }
    node.signal(Signal::CONT);
    for connection in &mut burst {
        ask(connection).await;
    }
}

// ---- files ----

#[tokio::test]
async fn a_node_without_files_for_connections_goes_on() {
    let mut node = node(&["--idle-timeout-ms", AN_HOUR]).await;
    // The directory's own descriptor is in the count.
    let most = open_files(&node) as u64 - 1 + 8;
    let pid = i32::try_from(node.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.push(node.connect().await);
    }
    node.line("New connections can't be taken").await;
    // The latest have the places of the others.
    ask(connections.last_mut().unwrap()).await;
    assert_eq!(connections.swap_remove(0).read_to_end().await, "");
    drop(connections);
    for _ in 0..3 {
        used(&node).await;
    }
    let (status, log) = node.stop().await;
    assert!(status.success(), "{log}");
    let lines = log.matches("New connections can't be taken").count();
    assert!(lines < 5, "the log was flooded: {log}");
}

#[tokio::test]
async fn a_limit_of_files_that_is_too_low_is_told() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 1000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pulk"), "serve"]);
    shell.args(["--listen", "127.0.0.1:0", "--store", "memory", "--max-connections", "5000"]);
    shell.env_clear().env("PATH", "/usr/bin:/bin").kill_on_drop(true);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let node = Node::spawn(shell).await;
    used(&node).await;
    let (_, log) = node.stop().await;
    let told = "The process may open 1000 files: only 680 of 5000 connections fit; raise the hard \
                limit (ulimit -Hn, LimitNOFILE) to 5320, or set PULK_MAX_CONNECTIONS to 680";
    assert!(log.contains(told), "{log}");

    // A soft limit is raised.
    let mut shell = Command::new("sh");
    let script = "ulimit -Sn 100; ulimit -Hn 1000; exec \"$0\" \"$@\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_pulk"), "serve"]);
    shell.args(["--listen", "127.0.0.1:0", "--store", "memory", "--max-connections", "500"]);
    shell.env_clear().env("PATH", "/usr/bin:/bin").kill_on_drop(true);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let node = Node::spawn(shell).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("820"), "{files}");
    let (_, log) = node.stop().await;
    assert!(!log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn a_limit_out_of_range_is_named() {
    for (flag, value, said) in [
        ("--max-connections", "0", "'--max-connections <COUNT>': 0 is not in 1..=1000000"),
        ("--read-timeout-ms", "600001", "600001 is not in 1..=600000"),
        ("--idle-timeout-ms", "0", "0 is not in 1..=86400000"),
    ] {
        let (code, _, stderr) = run(serve([flag, value])).await;
        assert_eq!(code, Some(64), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}
