//! Batches as lines of JSON: one job a line, all of them or none.

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

use node::{Node, post_head};
use serde_json::{Value, json};

/// Sends a body of this type; gives the status and the answer.
async fn send(node: &Node, media_type: &str, body: impl AsRef<[u8]>) -> (u16, Value) {
    let body = body.as_ref();
    let head = post_head("/v1/jobs/batch", body.len());
    let head = head.replace("application/json", media_type);
    let head = head.replace("\r\nhost: ", "\r\nconnection: close\r\nhost: ");
    let mut connection = node.connect().await;
    connection.send(head).await;
    connection.send(body).await;
    let text = connection.read_to_end().await;
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap())
}

async fn lines(node: &Node, body: impl AsRef<[u8]>) -> (u16, Value) {
    send(node, "application/x-ndjson", body).await
}

async fn ready(node: &Node) -> u64 {
    let queues = node.http.get("/v1/queues").await.json();
    let counts = queues["queues"].as_array().unwrap().iter();
    counts.map(|queue| queue["counts"]["ready"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn each_line_is_a_job_in_its_order() {
    let node = Node::start_with(["--store", "memory"]).await;
    let body = "{\"kind\":\"a\",\"payload\":{ \"n\" : 1.50 }}\n\n \t\r\n\
                {\"kind\":\"b\"}\r\n{\"kind\":\"c\"}";
    let types = ["application/x-ndjson", "application/ndjson", "application/jsonl; charset=utf-8"];
    for (round, media_type) in types.into_iter().enumerate() {
        let (status, answer) = send(&node, media_type, body).await;
        assert_eq!(status, 201, "{answer}");
        let ids = answer["ids"].as_array().unwrap();
        assert_eq!(ids.len(), 3);
        for (id, kind) in ids.iter().zip(["a", "b", "c"]) {
            let job = node.http.get(&format!("/v1/jobs/{}", id.as_str().unwrap())).await;
            assert_eq!(job.json()["kind"], kind);
            assert_eq!(kind == "a", job.text().contains("\"payload\":{ \"n\" : 1.50 }"));
        }
        assert_eq!(ready(&node).await, 3 * (round as u64 + 1));
    }
    // One object is a batch too, as any other type says; a line of it is none.
    let (status, _) = send(&node, "application/json", r#"{"jobs":[{"kind":"a"}]}"#).await;
    assert_eq!(status, 201);
    let (status, problem) = send(&node, "application/json", body).await;
    assert_eq!((status, &problem["field"]), (400, &json!("kind")), "{problem}");
    let (status, problem) = lines(&node, r#"{"jobs":[{"kind":"a"}]}"#).await;
    assert_eq!((status, &problem["field"]), (400, &json!("jobs[0].jobs")), "{problem}");
    assert_eq!(ready(&node).await, 10);
}

#[tokio::test]
async fn ten_thousand_lines_are_one_commit_and_one_more_is_too_many() {
    let node = Node::start_with(["--store", "memory"]).await;
    let body = "{\"kind\":\"a\"}\n".repeat(10_000);
    let (status, answer) = lines(&node, &body).await;
    assert_eq!((status, answer["ids"].as_array().unwrap().len()), (201, 10_000));
    let (status, problem) = lines(&node, body + "{\"kind\":\"a\"}\n").await;
    assert_eq!((status, &problem["field"]), (400, &json!("jobs")), "{problem}");
    let large = format!("{{\"kind\":\"a\",\"payload\":\"{}\"}}\n", "x".repeat(1 << 20));
    let (status, problem) = lines(&node, large.repeat(5)).await;
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")), "{problem}");
    assert_eq!(ready(&node).await, 10_000);
}

#[tokio::test]
async fn one_bad_line_refuses_them_all_and_is_named() {
    let node = Node::start_with(["--store", "memory"]).await;
    let good = "{\"kind\":\"a\"}\n";
    for (line, field, line_number) in [
        ("{\"kind\":\"a\"", "jobs[2]", "line 4"),
        ("{\"kind\":\"a\",\"payl", "jobs[2]", "line 4"),
        ("{\"kind\":3}", "jobs[2].kind", "line 4"),
        ("{\"kind\":\"\"}", "jobs[2].kind", "line 4"),
        ("{\"kind\":\"a b\"}", "jobs[2].kind", "line 4"),
        ("{\"kind\":\"a\",\"queue\":\"/\\n\"}", "jobs[2].queue", "line 4"),
        ("{\"kind\":\"a\",\"knd\":1}", "jobs[2].knd", "line 4"),
        ("{\"kind\":\"a\",\"timeout_ms\":0}", "jobs[2].timeout_ms", "line 4"),
        ("null", "jobs[2]", "line 4"),
        ("{\"kind\":\"a\"}{\"kind\":\"a\"}", "jobs[2]", "line 4"),
    ] {
        // At the end, as when it was cut off, and in the middle.
        for rest in ["", "\n", "\n{\"kind\":\"b\"}\n"] {
            let (status, problem) = lines(&node, format!("{good}\n{good}{line}{rest}")).await;
            assert_eq!((status, &problem["code"]), (400, &json!("bad_request")), "{problem}");
            assert_eq!(problem["field"], field, "{line}: {problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(line_number), "{line}: {detail}");
        }
    }
    let large = format!("{{\"kind\":\"a\",\"payload\":\"{}\"}}", "x".repeat(1 << 20));
    let (status, problem) = lines(&node, format!("{good}{large}\n")).await;
    assert_eq!((status, &problem["field"]), (413, &json!("jobs[1].payload")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().ends_with("(line 2)"), "{problem}");
    let (status, problem) = lines(&node, b"{\"kind\":\"\xff\"}\n").await;
    assert_eq!((status, &problem["field"]), (400, &json!("jobs[0].kind")), "{problem}");
    assert_eq!(ready(&node).await, 0);
}

#[tokio::test]
async fn a_batch_of_no_lines_is_refused() {
    let node = Node::start_with(["--store", "memory"]).await;
    for body in ["", "\n", " \r\n\n"] {
        let (status, problem) = lines(&node, body).await;
        assert_eq!((status, &problem["field"]), (400, &json!("jobs")), "{problem}");
    }
    // Lines are for batches.
    let one = post_head("/v1/jobs", 12).replace("application/json", "application/x-ndjson");
    let mut connection = node.connect().await;
    connection.send(one + r#"{"kind":"a"}"#).await;
    let (status, text) = connection.answer().await;
    assert_eq!(status, 415, "{text}");
    // A body that breaks off in its last line, or between two, is no batch.
    for part in ["{\"kind\":\"a\"}\n{\"kind\":\"a\"}\n", "{\"kind\":\"a\"}\n{\"ki"] {
        let head = post_head("/v1/jobs/batch", part.len() + 20);
        let mut connection = node.connect().await;
        connection.send(head.replace("application/json", "application/x-ndjson") + part).await;
        let text = connection.close_and_read().await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{text}");
    }
    assert_eq!(ready(&node).await, 0);
}
