//! What an answer may be.

use axum::body::Bytes;
use axum::http::response::Parts;
use axum::http::{Method, header};
use serde_json::Value;

/// Every code of the manual with its status.
const CODES: [(&str, u16); 17] = [
    ("bad_request", 400),
    ("not_found", 404),
    ("method_not_allowed", 405),
    ("timeout", 408),
    ("conflict", 409),
    ("lease_lost", 409),
    ("cancelled", 409),
    ("too_large", 413),
    ("unsupported_media_type", 415),
    ("queue_full", 429),
    ("too_many_queues", 429),
    ("disk_full", 507),
    ("defect", 500),
    ("starting", 503),
    ("draining", 503),
    ("too_many_connections", 503),
    ("storage_failed", 503),
];

/// What was asked.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
}

/// Checks an answer, and gives what it says, `null` if that is no JSON.
pub(super) fn check(asked: &Asked, parts: &Parts, body: &Bytes, is_draining: bool) -> Value {
    let status = parts.status.as_u16();
    let what = || format!("{} {}: {status} {parts:?} {body:?}", asked.method, asked.path);
    assert!((200..300).contains(&status) || (400..600).contains(&status), "{}", what());
    let is_bodiless = asked.method == Method::HEAD;
    let media_type = parts.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap());
    if is_health(&asked.path) && [200, 503].contains(&status) {
        assert!(status == 200 || is_draining, "{}", what());
        return Value::Null;
    }
    if status >= 400 {
        assert_eq!(media_type, Some("application/problem+json"), "{}", what());
        if !is_bodiless {
            let checked = check_problem(parts, body, is_draining);
            checked.unwrap_or_else(|why| panic!("{why}: {}", what()));
        }
        return Value::Null;
    }
    match media_type {
        Some("application/json") if !is_bodiless => {
            serde_json::from_slice(body).unwrap_or_else(|why| panic!("{why}: {}", what()))
        }
        Some("application/x-ndjson") => {
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let line = |line| serde_json::from_slice(line).unwrap_or_else(|_| panic!("{}", what()));
            Value::Array(lines.map(line).collect())
        }
        Some(text) => {
            assert!(text.starts_with("text/plain") || is_bodiless, "{}", what());
            Value::Null
        }
        None => {
            assert!(body.is_empty(), "{}", what());
            Value::Null
        }
    }
}

fn is_health(path: &str) -> bool {
    path.starts_with("/q/health") || path == "/livez" || path == "/readyz"
}

fn check_problem(parts: &Parts, body: &Bytes, is_draining: bool) -> Result<(), String> {
    let status = parts.status.as_u16();
    let problem: Value = serde_json::from_slice(body).map_err(|why| why.to_string())?;
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let code = text("code");
    let said = problem["status"].as_u64();
    if said != Some(u64::from(status)) || !CODES.contains(&(code, status)) {
        return Err("no such code with this status".to_owned());
    }
    if text("type") != "about:blank" || text("title").is_empty() || text("detail").is_empty() {
        return Err("a member is missing".to_owned());
    }
    let known = ["type", "title", "status", "code", "detail", "field", "id"];
    if !problem.as_object().is_some_and(|all| all.keys().all(|key| known.contains(&&**key))) {
        return Err("a member that the manual does not have".to_owned());
    }
    if code == "bad_request" && text("field").is_empty() {
        return Err("it does not name what is wrong".to_owned());
    }
    // No fault was injected, the disk is memory, and nothing waits for time.
    let is_possible = match code {
        "defect" | "storage_failed" | "starting" | "timeout" => false,
        "too_many_connections" | "disk_full" => false,
        "draining" => is_draining,
        _ => true,
    };
    if !is_possible {
        return Err("nothing happened to this node that could cause it".to_owned());
    }
    let asks_to_wait = parts.headers.contains_key(header::RETRY_AFTER);
    if asks_to_wait != [429, 503, 507].contains(&status) {
        return Err("Retry-After".to_owned());
    }
    Ok(())
}
