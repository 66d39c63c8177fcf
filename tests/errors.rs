//! Every way to call a node wrongly: the status, the code, the field, and nothing is changed.
//! Nothing that a client sends gives a 5xx.

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

use node::{Answer, Http, Node, post_head};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

const NOBODY: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A node with a running, a waiting and a dead job, and what it told of them.
struct Ground {
    node: Node,
    running: String,
    token: String,
    waiting: String,
    before: Value,
}

impl Ground {
    async fn new() -> Ground {
        let node = Node::start_with(["--store", "memory"]).await;
        let http = node.http.clone();
        let claim = async || {
            let body = r#"{"lease_ms":3600000}"#;
            let job = http.post("/v1/claim", body).await.json()["jobs"][0].take();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&job["id"]), text(&job["lease"]["token"]))
        };
        http.post("/v1/jobs", r#"{"kind":"dies"}"#).await;
        let (id, token) = claim().await;
        let body = json!({"token": token, "error": "no", "retry": false}).to_string();
        assert_eq!(http.post(&format!("/v1/jobs/{id}/fail"), body).await.status, 200);
        http.post("/v1/jobs", r#"{"kind":"runs"}"#).await;
        let (running, token) = claim().await;
        let waiting = http.post("/v1/jobs", r#"{"kind":"waits"}"#).await.json()["id"].take();
        let waiting = waiting.as_str().unwrap().to_owned();
        let before = seen(&http, &running, &waiting).await;
        Ground { node, running, token, waiting, before }
    }

    async fn assert_unchanged(&self) {
        let now = seen(&self.node.http, &self.running, &self.waiting).await;
        assert_eq!(now, self.before);
    }

    async fn finish(self) {
        self.assert_unchanged().await;
        let (status, log) = self.node.stop().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    }
}

/// All that a reader can see, without what only time changes.
async fn seen(http: &Http, running: &str, waiting: &str) -> Value {
    let mut queues = http.get("/v1/queues").await.json();
    for queue in queues["queues"].as_array_mut().unwrap() {
        let priorities = queue["priorities"].as_object_mut().unwrap();
        // What changes with the time alone.
        for (_, priority) in priorities {
            priority["oldest_age_ms"].take();
            priority["rates"].take();
        }
        queue["oldest_age_ms"].take();
        queue["rates"].take();
    }
    let job = async |id: &str| http.get(&format!("/v1/jobs/{id}")).await.json();
    let dead = http.get("/v1/dead").await.json();
    json!([queues, job(running).await, job(waiting).await, dead])
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str, field: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["field"].as_str(), field, "{problem}");
    assert!(problem["title"].is_string() && problem["type"].is_string(), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
}

#[tokio::test]
async fn a_bad_body_names_its_field() {
    let ground = Ground::new().await;
    let (id, token) = (&ground.running, &ground.token);
    let of = |verb: &str| format!("/v1/jobs/{id}/{verb}");
    let with = |rest: &str| format!(r#"{{"token":"{token}"{rest}}}"#);
    let item = |rest: &str| format!(r#"{{"acks":[{{"id":"{id}","token":"{token}"{rest}}}]}}"#);
    for (path, body, field) in [
        ("/v1/jobs".into(), "{".to_owned(), "body"),
        ("/v1/jobs".into(), "null".into(), "body"),
        ("/v1/jobs".into(), "{}".into(), "kind"),
        ("/v1/jobs".into(), r#"{"kind":"k"}{}"#.into(), "body"),
        ("/v1/jobs".into(), r#"{"kind":["k"]}"#.into(), "kind"),
        ("/v1/jobs".into(), r#"{"kind":"k","knid":"k"}"#.into(), "knid"),
        ("/v1/jobs".into(), r#"{"kind":"k","priority":"urgent"}"#.into(), "priority"),
        ("/v1/jobs".into(), r#"{"kind":"k","delay_ms":-1}"#.into(), "delay_ms"),
        ("/v1/jobs".into(), r#"{"kind":"k","delay_ms":1e400}"#.into(), "delay_ms"),
        ("/v1/jobs".into(), r#"{"kind":"k","run_at":"soon"}"#.into(), "run_at"),
        ("/v1/jobs".into(), r#"{"kind":"k","payload_base64":"="}"#.into(), "payload_base64"),
        ("/v1/jobs".into(), r#"{"kind":"k","headers":{"a":null}}"#.into(), "headers.a"),
        ("/v1/jobs".into(), r#"{"kind":"k","retry":{"jitter":2}}"#.into(), "retry.jitter"),
        ("/v1/jobs/batch".into(), "{}".into(), "jobs"),
        ("/v1/jobs/batch".into(), r#"{"jobs":[{"kind":"k"},{"kind":1}]}"#.into(), "jobs[1].kind"),
        ("/v1/jobs/batch".into(), r#"{"jobs":[{"kind":"k"},{"kind":""}]}"#.into(), "jobs[1].kind"),
        ("/v1/claim".into(), r#"{"limit":0}"#.into(), "limit"),
        ("/v1/claim".into(), r#"{"limit":1001}"#.into(), "limit"),
        ("/v1/claim".into(), r#"{"wait_ms":60001}"#.into(), "wait_ms"),
        ("/v1/claim".into(), r#"{"lease_ms":"30s"}"#.into(), "lease_ms"),
        ("/v1/claim".into(), r#"{"queue":"a"}"#.into(), "queue"),
        ("/v1/jobs".into(), r#"{"kind":"k","unique":{"key":""}}"#.into(), "unique.key"),
        (
            "/v1/jobs".into(),
            r#"{"kind":"k","unique":{"key":"a","ttl_ms":0}}"#.into(),
            "unique.ttl_ms",
        ),
        (
            "/v1/jobs".into(),
            r#"{"kind":"k","expires_in_ms":9,"delay_ms":9}"#.into(),
            "expires_in_ms",
        ),
        (of("ack"), "{}".into(), "token"),
        (of("ack"), r#"{"token":"nonsense"}"#.into(), "token"),
        (of("ack"), format!(r#"{{"token":"{NOBODY}-1"}}"#), "token"),
        (of("fail"), with(""), "error"),
        (of("fail"), with(r#","error":"no","retry_in_ms":2592000001"#), "retry_in_ms"),
        (of("extend"), with(r#","progress":101"#), "progress"),
        (of("extend"), with(r#","progress":256"#), "progress"),
        (of("extend"), with(r#","lease_ms":0"#), "lease_ms"),
        (of("release"), with(r#","delay_ms":99999999999999"#), "delay_ms"),
        ("/v1/settle".into(), item(r#","x":1"#), "acks[0].x"),
        ("/v1/settle".into(), r#"{"fails":{}}"#.into(), "fails"),
        ("/v1/jobs/nonsense/ack".into(), with(""), "id"),
        (format!("/v1/dead/{NOBODY}/replay"), r#"{"limit":1}"#.into(), "limit"),
    ] {
        let answer = ground.node.http.post(&path, body).await;
        assert_problem(&answer, 400, "bad_request", Some(field));
    }
    let answer = ground.node.http.post("/v1/jobs", b"{\"kind\":\"\xff\xfe\"}".to_vec()).await;
    assert_problem(&answer, 400, "bad_request", Some("kind"));
    ground.finish().await;
}

#[tokio::test]
async fn a_bad_path_or_query_is_told() {
    let ground = Ground::new().await;
    let http = &ground.node.http;
    for (path, status, code, field) in [
        ("/v1/jobs/short".to_owned(), 400, "bad_request", Some("id")),
        ("/v1/jobs/%FF".into(), 400, "bad_request", Some("id")),
        (format!("/v1/jobs/{NOBODY}"), 404, "not_found", None),
        (format!("/v1/dead/{NOBODY}"), 404, "not_found", None),
        (format!("/v1/dead/{}", ground.waiting), 409, "conflict", None),
        ("/v1/queues/nobody".into(), 404, "not_found", None),
        ("/v1/dead?cursor=nonsense".into(), 400, "bad_request", Some("cursor")),
        ("/v1/dead?limit=0".into(), 400, "bad_request", Some("limit")),
        ("/v1/dead?limit=1001".into(), 400, "bad_request", Some("limit")),
        ("/v1/dead?limit=ten".into(), 400, "bad_request", Some("limit")),
        ("/v1/dead?order=up".into(), 400, "bad_request", Some("order")),
        ("/v1/jobs?limit=0".into(), 400, "bad_request", Some("limit")),
        ("/v1/jobs?limit=-1".into(), 400, "bad_request", Some("limit")),
        ("/v1/jobs?state=done".into(), 400, "bad_request", Some("state")),
        ("/v1/jobs?state=ready,done".into(), 400, "bad_request", Some("state")),
        ("/v1/jobs?priority=urgent".into(), 400, "bad_request", Some("priority")),
        ("/v1/jobs?cursor=lane.low.1.01".into(), 400, "bad_request", Some("cursor")),
        ("/v1/jobs?order=up".into(), 400, "bad_request", Some("order")),
        ("/".into(), 404, "not_found", None),
        ("/v1".into(), 404, "not_found", None),
        ("/v1/jobs/".into(), 404, "not_found", None),
        ("/v2/jobs".into(), 404, "not_found", None),
    ] {
        assert_problem(&http.get(&path).await, status, code, field);
    }
    for (path, status, code, field) in [
        ("/v1/jobs/short".to_owned(), 400, "bad_request", Some("id")),
        (format!("/v1/jobs/{NOBODY}"), 404, "not_found", None),
        ("/v1/queues/nobody".into(), 404, "not_found", None),
        ("/v1/queues/default".into(), 409, "conflict", None),
        ("/v1/queues/nobody/jobs".into(), 404, "not_found", None),
        ("/v1/queues/default/jobs?state=all".into(), 400, "bad_request", Some("state")),
        ("/v1/queues/default/jobs?priority=1".into(), 400, "bad_request", Some("priority")),
        ("/v1/queues/default/jobs?kind=k".into(), 400, "bad_request", Some("kind")),
    ] {
        assert_problem(&http.delete(&path).await, status, code, field);
    }
    let replay = |id: &str| format!("/v1/dead/{id}/replay");
    let answer = http.post(&replay(NOBODY), "").await;
    assert_problem(&answer, 404, "not_found", None);
    for id in [&ground.waiting, &ground.running] {
        assert_problem(&http.post(&replay(id), "").await, 409, "conflict", None);
    }
    ground.finish().await;
}

#[tokio::test]
async fn a_lost_lease_is_a_conflict() {
    let ground = Ground::new().await;
    let other = format!("{}-1", ground.waiting);
    let body = json!({"token": other, "error": "late"}).to_string();
    for verb in ["ack", "fail", "extend", "release"] {
        let body = if verb == "fail" { body.clone() } else { json!({"token": other}).to_string() };
        let path = format!("/v1/jobs/{}/{verb}", ground.waiting);
        let answer = ground.node.http.post(&path, body).await;
        assert_problem(&answer, 409, "lease_lost", None);
    }
    let body = json!({"acks": [{"id": ground.waiting, "token": other}]}).to_string();
    let outcomes = ground.node.http.post("/v1/settle", body).await.json();
    assert_eq!(outcomes["outcomes"][0]["outcome"], "error");
    assert_eq!(outcomes["outcomes"][0]["code"], "lease_lost");
    assert_eq!(outcomes["outcomes"][0]["id"], ground.waiting.as_str());
    ground.finish().await;
}

#[tokio::test]
async fn what_ends_a_cancelled_job_is_a_conflict_once() {
    let ground = Ground::new().await;
    let http = &ground.node.http;
    for verb in ["ack", "fail", "release"] {
        http.post("/v1/jobs", r#"{"kind":"cancelled","queue":"other"}"#).await;
        let claimed = http.post("/v1/claim", r#"{"queues":["other"]}"#).await.json();
        let token = claimed["jobs"][0]["lease"]["token"].as_str().unwrap().to_owned();
        let id = token.split('-').next().unwrap();
        let told = http.call(Method::DELETE, &format!("/v1/jobs/{id}"), "").await.unwrap();
        assert_eq!((told.status, &told.json()["state"]), (200, &json!("running")));
        let mut body = json!({"token": token});
        if verb == "fail" {
            body["error"] = json!("late");
        }
        let path = format!("/v1/jobs/{id}/{verb}");
        let answer = http.post(&path, body.to_string()).await;
        assert_problem(&answer, 409, "cancelled", None);
        let answer = http.post(&path, body.to_string()).await;
        assert_problem(&answer, 409, "lease_lost", None);
        let gone = http.get(&format!("/v1/jobs/{id}")).await;
        assert_problem(&gone, 404, "not_found", None);
    }
    let answer = http.call(Method::DELETE, "/v1/queues/other", "").await.unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    ground.finish().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let ground = Ground::new().await;
    let http = &ground.node.http;
    let payload = |bytes: usize| format!(r#"{{"kind":"k","payload":"{}"}}"#, "x".repeat(bytes - 2));
    let answer = http.post("/v1/jobs", payload((1 << 20) + 1)).await;
    assert_problem(&answer, 413, "too_large", Some("payload"));
    let batch = format!(r#"{{"jobs":[{}]}}"#, payload((1 << 20) + 1));
    let answer = http.post("/v1/jobs/batch", batch).await;
    assert_problem(&answer, 413, "too_large", Some("jobs[0].payload"));
    let jobs = vec![r#"{"kind":"k"}"#; 10_001].join(",");
    let answer = http.post("/v1/jobs/batch", format!(r#"{{"jobs":[{jobs}]}}"#)).await;
    assert_problem(&answer, 400, "bad_request", Some("jobs"));
    for path in ["/v1/jobs", "/v1/jobs/batch", "/v1/claim", "/v1/settle"] {
        let answer = http.post(path, " ".repeat((4 << 20) + 1)).await;
        assert_problem(&answer, 413, "too_large", None);
    }
    // Nor does it matter whether the client says beforehand how long its body is.
    let mut connection = ground.node.connect().await;
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    connection.send(format!("{head}{}0\r\n\r\n", chunk.repeat(6))).await;
    let text = connection.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    // Who asks first is answered without being asked for the body.
    let mut connection = ground.node.connect().await;
    let expect = "\r\nexpect: 100-continue\r\nconnection: close\r\nhost: ";
    let head = post_head("/v1/jobs", 5 << 20).replace("\r\nhost: ", expect);
    connection.send(head).await;
    let text = connection.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    let item = format!(r#"{{"id":"{0}","token":"{0}-1"}}"#, ground.waiting);
    let items = vec![item; 1_001].join(",");
    let answer = http.post("/v1/settle", format!(r#"{{"acks":[{items}]}}"#)).await;
    assert_problem(&answer, 400, "bad_request", Some("acks"));
    let deep = format!(r#"{{"kind":{}}}"#, "[".repeat(1 << 20));
    let answer = http.post("/v1/jobs", deep).await;
    assert_problem(&answer, 400, "bad_request", Some("kind"));
    ground.finish().await;
}

#[tokio::test]
async fn a_method_or_a_media_type_that_is_not_taken_is_told() {
    let ground = Ground::new().await;
    let http = &ground.node.http;
    let job = format!("/v1/jobs/{}", ground.waiting);
    for (method, path, allow) in [
        (Method::GET, "/v1/claim", "POST"),
        (Method::PUT, "/v1/jobs", "GET,HEAD,POST"),
        (Method::PUT, "/v1/queues/a", "GET,HEAD,DELETE"),
        (Method::GET, "/v1/queues/a/jobs", "DELETE"),
        (Method::PATCH, &job, "GET,HEAD,DELETE"),
        (Method::POST, "/v1/queues", "GET,HEAD"),
        (Method::PATCH, "/q/health", "GET,HEAD"),
    ] {
        let answer = http.call(method, path, "{}").await.unwrap();
        assert_problem(&answer, 405, "method_not_allowed", None);
        assert_eq!(answer.headers["allow"], allow);
    }
    for path in [&job, "/v1/queues", "/q/health/ready", "/q/metrics"] {
        let answer = http.call(Method::HEAD, path, "").await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    let head = |media_type: &str| {
        format!("POST /v1/jobs HTTP/1.1\r\nhost: n\r\ncontent-type: {media_type}\r\n")
    };
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let mut connection = ground.node.connect().await;
        let length = "content-length: 12\r\nconnection: close\r\n\r\n";
        connection.send(head(media_type) + length + r#"{"kind":"k"}"#).await;
        let text = connection.read_to_end().await;
        assert!(text.starts_with("HTTP/1.1 415 "), "{text}");
        assert!(text.contains(r#""code":"unsupported_media_type""#), "{text}");
    }
    ground.finish().await;
}

#[tokio::test]
async fn a_request_that_breaks_off_changes_nothing() {
    let ground = Ground::new().await;
    let body = r#"{"kind":"k"}"#;
    let ack = json!({"token": ground.token}).to_string();
    for (head, part) in [
        // A whole job, in a body that was said to be longer.
        (post_head("/v1/jobs", body.len() + 1), body),
        (post_head("/v1/jobs/batch", 100), r#"{"jobs":[{"kind":"k"}"#),
        (post_head(&format!("/v1/jobs/{}/ack", ground.running), ack.len() + 1), &ack),
        ("POST /v1/jobs HTTP/1.1\r\ncontent-le".to_owned(), ""),
        (post_head("/v1/jobs", body.len()).replace("12", "-1"), body),
        (post_head("/v1/jobs", body.len()).replace("HTTP/1.1", "HTTP/9"), body),
        ("nonsense\r\n\r\n".to_owned(), ""),
        ("\u{16}\u{3}\u{1}".to_owned(), ""),
    ] {
        let mut connection = ground.node.connect().await;
        connection.send(head + part).await;
        let text = connection.close_and_read().await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    ground.finish().await;
}

/// Bytes that are rarely a call, and calls with one thing wrong.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let words = "(\\{|\\}|\\[|\\]|:|,|\"kind\"|\"jobs\"|\"limit\"|\"acks\"|\"token\"|\"id\"|\
                 \"k\"|\"wait_ms\"|\"payload\"|\"delay_ms\"|0|-1|1e9|18446744073709551616|null|\
                 true|\"01ARZ3NDEKTSV4RRFFQ69G5FAV-1\"|\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"){0,24}";
    let field = "(queue|kind|payload|payload_base64|priority|delay_ms|run_at|max_attempts|retry|\
                 timeout_ms|headers|unique|expires_in_ms|result|limit|lease_ms|worker|queues|kinds|\
                 acks|fails|token|error)";
    let value = "(0|1|-1|1.5|1e999|18446744073709551615|9007199254740993|null|true|\"\"|\"a\"|\
                 \"9999-12-31T23:59:59Z\"|\"\\\\ud800\"|\\[\\]|\\{\\}|\\[\\[1\\]\\]|\
                 \\{\"a\":\"b\"\\})";
    prop_oneof![
        vec(any::<u8>(), 0..200),
        words.prop_map(String::into_bytes),
        vec((field, value), 0..4).prop_map(|fields| {
            let fields = fields.iter().map(|(name, value)| format!(r#","{name}":{value}"#));
            format!(r#"{{"kind":"k"{}}}"#, fields.collect::<String>()).into_bytes()
        }),
        vec((field, value), 0..3).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(k, v)| format!(r#""{k}":{v}"#)).collect();
            format!("{{{}}}", fields.join(",")).into_bytes()
        }),
    ]
}

#[test]
fn no_body_gives_a_5xx() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(Node::start_with(["--store", "memory"]));
    let ack = format!("/v1/jobs/{NOBODY}/ack");
    let fail = format!("/v1/jobs/{NOBODY}/fail");
    let paths = ["/v1/jobs", "/v1/jobs/batch", "/v1/claim", "/v1/settle", &ack, &fail];
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&body(), |body| {
            for path in paths {
                let answer = runtime.block_on(node.http.post(path, body.clone()));
                prop_assert!(answer.status < 500, "{path}: {answer:?}");
                if answer.status >= 400 {
                    assert_eq!(answer.headers["content-type"], "application/problem+json");
                    assert!(answer.json()["code"].is_string());
                }
            }
            Ok(())
        })
        .unwrap();
    let (status, log) = runtime.block_on(node.stop());
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}
