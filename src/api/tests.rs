//! What a node answers while its queue is being opened, and to calls that reach no queue.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::get;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::config::StoreKind;
use crate::store::memory::MemoryStore;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn starting() -> ApiState {
    let config = Config { store: StoreKind::Memory, ..Config::default() };
    ApiState::starting(config, Arc::new(ManualClock::new(Timestamp::from_ms(0))))
}

async fn send(request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let response = router(starting()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

async fn call(method: &str, path: &str, body: &str) -> (StatusCode, HeaderMap, Value) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[track_caller]
fn is_problem(answer: &(StatusCode, HeaderMap, Value), status: u16, code: &str) {
    let (found, headers, body) = answer;
    assert_eq!(found.as_u16(), status, "{body}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(body["status"], status);
    assert_eq!(body["code"], code, "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
}

#[tokio::test]
async fn calls_wait_for_the_queue_to_open() {
    let token = format!(r#"{{"token":"{ID}-1"}}"#);
    let ack = format!("/v1/jobs/{ID}/ack");
    let (replay, show) = (format!("/v1/dead/{ID}/replay"), format!("/v1/jobs/{ID}"));
    for (method, path, body) in [
        ("POST", "/v1/jobs", r#"{"kind":"k"}"#),
        ("POST", "/v1/jobs/batch", r#"{"jobs":[{"kind":"k"}]}"#),
        ("POST", "/v1/claim", ""),
        ("POST", "/v1/settle", "{}"),
        ("POST", ack.as_str(), token.as_str()),
        ("POST", replay.as_str(), ""),
        ("GET", show.as_str(), ""),
        ("DELETE", show.as_str(), ""),
        ("GET", "/v1/jobs?state=ready,dead&priority=LOW&limit=5", ""),
        ("GET", "/v1/dead?queue=a%2Fb&kind=&error=&limit=5", ""),
        ("POST", "/v1/dead/replay", "{}"),
        ("GET", "/v1/replays/7", ""),
        ("GET", "/v1/queues", ""),
        ("DELETE", "/v1/queues/a%2Fb", ""),
        ("DELETE", "/v1/queues/a%2Fb/jobs?state=running", ""),
        ("GET", "/v1/queues/a%2Fb", ""),
        ("GET", "/q/metrics", ""),
    ] {
        let answer = call(method, path, body).await;
        is_problem(&answer, 503, "starting");
        assert_eq!(answer.1[header::RETRY_AFTER], "1");
    }
}

#[tokio::test]
async fn a_node_that_opens_is_live_but_not_ready() {
    for (path, status, word) in [
        ("/q/health/live", 200, "UP"),
        ("/livez", 200, "UP"),
        ("/q/health/ready", 503, "DOWN"),
        ("/readyz", 503, "DOWN"),
        ("/q/health/started", 503, "DOWN"),
        ("/q/health", 503, "DOWN"),
    ] {
        let (found, headers, body) = call("GET", path, "").await;
        assert_eq!((found.as_u16(), &body["status"]), (status, &Value::from(word)), "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        assert!(body["checks"].as_array().is_some_and(|checks| !checks.is_empty()), "{body}");
    }
    let (_, _, body) = call("GET", "/q/health", "").await;
    let names: Vec<_> = body["checks"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["store", "engine", "scheduler", "disk"]);
    assert_eq!(body["checks"][0]["data"]["phase"], "starting");
    assert_eq!(body["checks"][2]["data"]["enabled"], true);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    is_problem(&call("GET", "/", "").await, 404, "not_found");
    is_problem(&call("GET", "/v1/scalings", "").await, 404, "not_found");
    is_problem(&call("POST", "/v1/queues/a/stop", "").await, 404, "not_found");
    let answer = call("PUT", "/v1/jobs", "").await;
    is_problem(&answer, 405, "method_not_allowed");
    assert_eq!(answer.1[header::ALLOW], "GET,HEAD,POST");
    let answer = call("PATCH", &format!("/v1/jobs/{ID}"), "").await;
    is_problem(&answer, 405, "method_not_allowed");
    assert_eq!(answer.1[header::ALLOW], "GET,HEAD,DELETE");
}

#[tokio::test]
async fn a_bad_call_names_its_field() {
    let other = format!(r#"{{"token":"{}-1"}}"#, ID.replace("FAV", "FAW"));
    let ack = format!("/v1/jobs/{ID}/ack");
    let dead = format!("/v1/dead/{ID}");
    let replay = format!("{dead}/replay");
    for (method, path, body, field) in [
        ("POST", "/v1/jobs", "", "kind"),
        ("POST", "/v1/jobs", "nonsense", "body"),
        ("POST", "/v1/jobs", r#"{"kind":"k","unique":{"ttl_ms":1}}"#, "unique.key"),
        ("POST", "/v1/jobs/batch", r#"{"jobs":[{"kind":"k"},{"knd":"k"}]}"#, "jobs[1].knd"),
        ("POST", "/v1/claim", r#"{"limit":0.5}"#, "limit"),
        ("POST", ack.as_str(), "", "token"),
        ("POST", ack.as_str(), other.as_str(), "token"),
        ("POST", "/v1/jobs/x/ack", "{}", "id"),
        ("POST", replay.as_str(), r#"{"limit":1}"#, "limit"),
        ("GET", "/v1/jobs/%FF", "", "id"),
        ("GET", "/v1/queues/%FF", "", "queue"),
        ("GET", "/v1/dead?limit=many", "", "limit"),
        ("GET", "/v1/dead?id=k", "", "id"),
        ("GET", "/v1/dead?reason=bored", "", "reason"),
        ("PATCH", dead.as_str(), r#"{"state":"ready"}"#, "state"),
        ("POST", "/v1/dead/replay", r#"{"ids":[],"queue":"a"}"#, "ids"),
        ("POST", "/v1/dead/replay", r#"{"reason":"bored"}"#, "reason"),
        ("POST", "/v1/dead/purge", r#"{"rate_per_s":1}"#, "rate_per_s"),
        ("GET", "/v1/replays/first", "", "id"),
    ] {
        let answer = call(method, path, body).await;
        is_problem(&answer, 400, "bad_request");
        assert_eq!(answer.2["field"], field, "{path} {body}: {}", answer.2);
    }
    for (path, keys, body) in [
        ("/v1/jobs", vec!["a b"], r#"{"kind":"k"}"#),
        ("/v1/jobs", vec!["\u{e9}"], r#"{"kind":"k"}"#),
        ("/v1/jobs", vec![""], r#"{"kind":"k"}"#),
        ("/v1/jobs", vec!["a", "a"], r#"{"kind":"k"}"#),
        ("/v1/jobs/batch", vec!["a"], r#"{"jobs":[{"kind":"k"}]}"#),
    ] {
        let mut request = Request::post(path);
        for key in keys {
            request = request.header("idempotency-key", key);
        }
        let answer = send(request.body(Body::from(body)).unwrap()).await;
        is_problem(&answer, 400, "bad_request");
        assert_eq!(answer.2["field"], "Idempotency-Key");
    }
}

#[tokio::test]
async fn bodies_have_a_type_and_a_limit() {
    let typed = |media_type: &str| {
        let request = Request::post("/v1/jobs").header(header::CONTENT_TYPE, media_type);
        send(request.body(Body::from(r#"{"kind":"k"}"#)).unwrap())
    };
    let form = typed("application/x-www-form-urlencoded").await;
    is_problem(&form, 415, "unsupported_media_type");
    assert!(form.2["detail"].as_str().unwrap().contains("curl --json"), "{}", form.2);
    is_problem(&typed("text/plain").await, 415, "unsupported_media_type");
    is_problem(&typed("application/problem+json").await, 503, "starting");
    let untyped = Request::post("/v1/jobs").body(Body::from(r#"{"kind":"k"}"#)).unwrap();
    is_problem(&send(untyped).await, 503, "starting");
    let zipped = Request::post("/v1/jobs").header(header::CONTENT_ENCODING, "gzip");
    let zipped = zipped.body(Body::from("x")).unwrap();
    is_problem(&send(zipped).await, 415, "unsupported_media_type");

    let large = " ".repeat(BODY_BYTES_MAX + 1);
    is_problem(&call("POST", "/v1/jobs", &large).await, 413, "too_large");
    let declared = Request::post("/v1/jobs").header(header::CONTENT_LENGTH, BODY_BYTES_MAX + 1);
    is_problem(&send(declared.body(Body::empty()).unwrap()).await, 413, "too_large");
}

#[tokio::test]
async fn a_panic_is_a_problem_too() {
    async fn defect() -> StatusCode {
        panic!("on purpose")
    }
    let router =
        Router::new().route("/", get(defect)).layer(CatchPanicLayer::custom(error::panicked));
    let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    is_problem(&(parts.status, parts.headers, body), 500, "defect");
}

#[tokio::test]
async fn a_store_that_fails_is_told_to_every_call_from_then_on() {
    let (store, state) = (MemoryStore::new(), starting());
    let config = Config { store: StoreKind::Memory, ..Config::default() };
    let clock = Arc::new(ManualClock::new(Timestamp::from_ms(0)));
    state.opened(Queue::open_with(config, Arc::new(store.clone()), clock).await.unwrap());
    let call = async |method: &str, path: &str, body: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = router(state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
    };
    assert_eq!(call("POST", "/v1/jobs", r#"{"kind":"k"}"#).await.0, 201);
    store.fail_commit(1);
    for (method, path, body) in [
        ("POST", "/v1/jobs", r#"{"kind":"k"}"#),
        ("POST", "/v1/claim", "{}"),
        ("GET", "/v1/queues", ""),
        ("DELETE", "/v1/queues/default/jobs", ""),
    ] {
        let answer = call(method, path, body).await;
        is_problem(&answer, 503, "storage_failed");
        assert!(answer.1.contains_key(header::RETRY_AFTER));
    }
    assert_eq!(call("GET", "/q/health/ready", "").await.0, 503);
    assert_eq!(call("GET", "/q/health/live", "").await.0, 503);
}

/// Every code is told by some test, by its name.
#[test]
fn every_code_is_reached_in_a_test() {
    let tests = concat!(
        include_str!("tests.rs"),
        include_str!("../../tests/errors.rs"),
        include_str!("../../tests/backpressure.rs"),
        include_str!("../../tests/connections.rs"),
        include_str!("../../tests/full_disk/main.rs"),
        include_str!("../../tests/shutdown.rs"),
    );
    for code in error::Code::ALL {
        let name = format!("\"{}\"", code.name);
        assert!(tests.contains(&name), "no test expects {name}");
    }
}
