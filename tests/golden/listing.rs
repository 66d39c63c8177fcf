//! What the API says of everything in a queue.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use pulk::api::{ApiState, router};
use pulk::clock::ManualClock;
use pulk::{Config, JobId, Queue};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A longer text is told by its length and checksum.
const TEXT_BYTES_MAX: usize = 400;

/// Queues, jobs, results and replays, as a GET of each answers.
pub async fn list(queue: &Queue, clock: &ManualClock, with_results: &[JobId]) -> Value {
    let state = ApiState::starting(Config::default(), Arc::new(clock.clone()));
    state.opened(queue.clone());
    let get = |path: String| {
        let state = state.clone();
        async move {
            let request = Request::get(&path).body(Body::empty()).unwrap();
            let response = router(state).oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), 200, "{path}");
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            shortened(serde_json::from_slice(&body).unwrap())
        }
    };
    let mut jobs = Vec::new();
    let mut path = Some("/v1/jobs?limit=1000".to_owned());
    while let Some(next) = path {
        let page = get(next).await;
        for job in page["jobs"].as_array().unwrap() {
            jobs.push(get(format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await);
        }
        let cursor = page["next_cursor"].as_str();
        path = cursor.map(|cursor| format!("/v1/jobs?limit=1000&cursor={cursor}"));
    }
    let mut results = Vec::new();
    for id in with_results {
        results.push(get(format!("/v1/jobs/{id}")).await);
    }
    let mut queues = get("/v1/queues".to_owned()).await["queues"].take();
    queues.as_array_mut().unwrap().iter_mut().for_each(forget_rates);
    let replays = get("/v1/replays".to_owned()).await["replays"].take();
    json!({"queues": queues, "jobs": jobs, "results": results, "replays": replays})
}

/// Rates are of the last minute, and not on the disk.
fn forget_rates(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("rates");
            fields.values_mut().for_each(forget_rates);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_rates),
        _ => {}
    }
}

/// The same with long texts cut to what tells them apart.
pub fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            json!({"bytes": text.len(), "crc32": crc32fast::hash(text.as_bytes())})
        }
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, shortened(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(shortened).collect(),
        other => other,
    }
}

/// A job as it stays, however long its directory lay there; one that ran may have timed out.
pub fn without_what_time_changes(mut job: Value, was_running: bool) -> Value {
    let fields = job.as_object_mut().unwrap();
    let stay = |name: &str| {
        [
            "id",
            "queue",
            "kind",
            "priority",
            "payload",
            "payload_base64",
            "headers",
            "max_attempts",
            "max_interruptions",
            "timeout_ms",
            "enqueued_at",
            "unique_key",
            "errors",
        ]
        .contains(&name)
    };
    fields.retain(|name, _| stay(name) && !(was_running && name == "errors"));
    job
}
