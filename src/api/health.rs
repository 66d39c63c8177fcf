//! Health for orchestrators, in the form of MicroProfile Health.
//!
//! Live: the process works and its engine has not failed. Ready: the queue is open, takes calls
//! and is not shutting down. Only the whole picture (`/q/health`) waits for the engine or looks at
//! the disk; probes must answer even when both are busy.
//!
//! A full disk is not DOWN: jobs are refused, and workers must go on, for their acks are what
//! gives space back. The check says so in a member `warning`. Nor is a push target that does not
//! work: its jobs wait, and a node that is not ready could not even take new ones.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{ApiState, Phase};
use crate::error::{Error, Result};
use crate::queue::Snapshot;
use crate::store::DiskSpace;
use crate::worker::push::TargetReport;

/// How long the whole picture waits for the engine's numbers.
const DATA_WAIT: Duration = Duration::from_secs(1);

/// Look at the whole node.
///
/// All checks, with the numbers of the store and the disk.
#[utoipa::path(
    get, path = "/q/health", operation_id = "health", tag = "node",
    responses(
        (status = 200, description = "Up.", body = Health),
        (status = 503, description = "Down: a check says why.", body = Health),
    ),
)]
pub(super) async fn whole(State(api): State<ApiState>) -> Response {
    let snapshot = snapshot(&api).await;
    let store = store(&api, snapshot.as_ref().map_or_else(Map::new, used));
    let disk = disk(snapshot.and_then(|snapshot| snapshot.disk));
    report(vec![store, engine(&api), scheduler(&api), disk])
}

/// Is the node alive?
///
/// Down when its engine has failed: start it again.
#[utoipa::path(
    get, path = "/q/health/live", operation_id = "health_live", tag = "node",
    responses(
        (status = 200, description = "Up.", body = Health),
        (status = 503, description = "Down: a check says why.", body = Health),
    ),
)]
pub(super) async fn live(State(api): State<ApiState>) -> Response {
    report(vec![engine(&api)])
}

/// Does the node take calls?
///
/// Down while it starts and while it stops.
#[utoipa::path(
    get, path = "/q/health/ready", operation_id = "health_ready", tag = "node",
    responses(
        (status = 200, description = "Up.", body = Health),
        (status = 503, description = "Down: a check says why.", body = Health),
    ),
)]
pub(super) async fn ready(State(api): State<ApiState>) -> Response {
    let open = api.phase() == Phase::Serving;
    let store = Check { up: open, ..store(&api, Map::new()) };
    report(vec![store, engine(&api), scheduler(&api)])
}

/// Is the queue open?
///
/// Down until it is, which may take a while with a large store.
#[utoipa::path(
    get, path = "/q/health/started", operation_id = "health_started", tag = "node",
    responses(
        (status = 200, description = "Up.", body = Health),
        (status = 503, description = "Down: a check says why.", body = Health),
    ),
)]
pub(super) async fn started(State(api): State<ApiState>) -> Response {
    report(vec![store(&api, Map::new())])
}

/// One thing looked at.
struct Check {
    name: &'static str,
    up: bool,
    data: Map<String, Value>,
}

/// Health in the form of MicroProfile Health.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Up when all checks are.
    status: Status,
    /// What was looked at.
    checks: Vec<CheckReply>,
}

/// One thing that was looked at.
#[derive(Serialize, ToSchema)]
#[schema(as = Check)]
struct CheckReply {
    /// `store`, `engine`, `scheduler` or `disk`.
    name: &'static str,
    /// Whether it is as it should be.
    status: Status,
    /// What was found, by name.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
}

/// Up or down.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Up,
    Down,
}

fn report(checks: Vec<Check>) -> Response {
    let word = |up: bool| if up { Status::Up } else { Status::Down };
    let up = checks.iter().all(|check| check.up);
    let checks = checks
        .into_iter()
        .map(|check| CheckReply { name: check.name, status: word(check.up), data: check.data })
        .collect();
    let status = if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { status: word(up), checks })).into_response()
}

fn data<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The store is up once it is open; the phase says why the node is not ready.
fn store(api: &ApiState, used: Map<String, Value>) -> Check {
    let phase = match api.phase() {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
    };
    let kind = api.config().store.as_str();
    let mut data = data([("kind", kind.into()), ("phase", phase.into())]);
    data.extend(used);
    Check { name: "store", up: api.queue().is_ok(), data }
}

fn engine(api: &ApiState) -> Check {
    engine_check(api.queue().map_or(Ok(()), crate::Queue::health))
}

/// The engine is up unless it has failed; before it is open there is nothing to fail.
fn engine_check(health: Result<(), Error>) -> Check {
    let failure = health.err().map(|error| ("error".to_owned(), error.to_string().into()));
    Check { name: "engine", up: failure.is_none(), data: failure.into_iter().collect() }
}

fn scheduler(api: &ApiState) -> Check {
    let enabled = api.config().scheduler_enabled;
    let mut data = data([("enabled", enabled.into())]);
    if let Some(worker) = api.worker() {
        let target = |target: &TargetReport| {
            json!({
                "name": target.name,
                "url": target.url,
                "state": target.state.as_str(),
                "in_flight": target.in_flight,
            })
        };
        data.insert("concurrency".to_owned(), worker.concurrency.into());
        data.insert("running".to_owned(), worker.running.into());
        data.insert("targets".to_owned(), worker.targets.iter().map(target).collect());
    }
    Check { name: "scheduler", up: true, data }
}

/// The engine's own numbers, if it tells them in time.
async fn snapshot(api: &ApiState) -> Option<Snapshot> {
    let queue = api.queue().ok()?;
    tokio::time::timeout(DATA_WAIT, queue.snapshot()).await.ok()?.ok()
}

fn used(snapshot: &Snapshot) -> Map<String, Value> {
    data([
        ("disk_bytes", snapshot.disk_bytes.into()),
        ("live_bytes", snapshot.live_bytes.into()),
        ("damaged_records", snapshot.damaged_records.into()),
    ])
}

/// Always up; what there is to worry about is a warning.
fn disk(found: Option<DiskSpace>) -> Check {
    let Some(space) = found else { return Check { name: "disk", up: true, data: Map::new() } };
    let mut data = data([
        ("free_bytes", space.free_bytes.into()),
        ("total_bytes", space.total_bytes.into()),
        ("reserve_bytes", space.reserve_bytes.into()),
        ("room_bytes", space.room_bytes.into()),
    ]);
    if space.room_bytes == 0 {
        let warning = "the disk is full: jobs are refused until there is room; acks go on";
        data.insert("warning".to_owned(), warning.into());
    }
    Check { name: "disk", up: true, data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_full_disk_is_up_with_a_warning() {
        const SPACE: DiskSpace = DiskSpace {
            total_bytes: 10 << 30,
            free_bytes: 3 << 30,
            reserve_bytes: 64 << 20,
            room_bytes: 1 << 30,
        };
        assert!(disk(None).up);
        let check = disk(Some(SPACE));
        assert_eq!(check.data["free_bytes"], SPACE.free_bytes);
        assert!(!check.data.contains_key("warning"));
        let check = disk(Some(DiskSpace { room_bytes: 0, ..SPACE }));
        assert!(check.up);
        assert!(check.data["warning"].as_str().unwrap().contains("jobs are refused"));
    }

    #[test]
    fn a_failed_engine_says_why() {
        assert!(engine_check(Ok(())).up);
        let check = engine_check(Err(Error::new(ErrorKind::Poisoned, "the disk is gone")));
        assert!(!check.up);
        assert_eq!(check.data["error"], "the disk is gone");
        assert_eq!(report(vec![check]).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
