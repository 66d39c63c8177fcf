//! Schedules: jobs made again and again.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::body::{JsonBody, Object, QueryOf, path_part};
use super::error::Problem;
use super::job_reply::payload_fields;
use super::jobs::{JobRequest, RetryRequest, UniqueRequest};
use super::list::given;
use super::openapi::{BadBody, BadCall, Conflict, DiskFull, NoRoom, NotFound, NotReady};
use super::queues::Nothing;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{CatchUp, Enqueued, JobId, NewJob, NewSchedule, OnConflict};
use crate::priority::Priority;
use crate::queue::{ScheduleQuery, ScheduleView};
use crate::retry::RetryPolicy;

/// So many of the moments to come are told.
const NEXT_RUNS: usize = 10;
/// A page of a call that names no limit.
const PAGE_DEFAULT: usize = 100;

/// Make or replace a schedule.
///
/// Its job is enqueued at each moment that `cron` names. When one is replaced whose `cron` and
/// `time_zone` are the same, moments go on as they were; otherwise it counts from now.
#[utoipa::path(
    put, path = "/v1/schedules/{name}", operation_id = "put_schedule", tag = "schedules",
    params(PathSchedule), request_body = ScheduleRequest<'_>,
    responses(
        (status = 201, description = "It is made.", body = ScheduleReply<'_>),
        (status = 200, description = "It replaced the one of its name.", body = ScheduleReply<'_>),
        BadBody, Conflict, DiskFull, NotReady,
    ),
)]
pub(super) async fn put(
    State(api): State<ApiState>,
    PathSchedule(name): PathSchedule,
    body: JsonBody,
) -> Result<Response, Problem> {
    let schedule = body.parse::<ScheduleRequest<'_>>()?.into_schedule(&api.config().retry)?;
    let put = api.queue()?.put_schedule(&name, schedule).await?;
    let status = if put.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ScheduleReply::from(&put.schedule))).into_response())
}

/// List the schedules.
///
/// By name.
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "schedules", tag = "schedules",
    params(SchedulesQuery),
    responses(
        (status = 200, description = "A page.", body = SchedulesReply<'_>),
        BadCall, NotReady,
    ),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    QueryOf(query): QueryOf<SchedulesQuery>,
) -> Result<Response, Problem> {
    let SchedulesQuery { limit, cursor } = query;
    let query = ScheduleQuery { limit: limit.unwrap_or(PAGE_DEFAULT), cursor: given(cursor) };
    let page = api.queue()?.schedules(query).await?;
    let schedules = page.schedules.iter().map(ScheduleReply::from).collect();
    Ok(Json(SchedulesReply { schedules, next_cursor: page.next_cursor }).into_response())
}

/// Look at a schedule.
///
/// With the next moments at which it makes a job.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", operation_id = "schedule", tag = "schedules",
    params(PathSchedule),
    responses(
        (status = 200, description = "The schedule.", body = ScheduleReply<'_>),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathSchedule(name): PathSchedule,
) -> Result<Response, Problem> {
    let schedule = api.queue()?.schedule(&name).await?;
    Ok(Json(ScheduleReply::from(&schedule)).into_response())
}

/// Remove a schedule.
///
/// The jobs that it made stay.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", operation_id = "remove_schedule", tag = "schedules",
    params(PathSchedule),
    responses((status = 204, description = "It is gone."), BadCall, NotFound, NotReady),
)]
pub(super) async fn remove(
    State(api): State<ApiState>,
    PathSchedule(name): PathSchedule,
) -> Result<StatusCode, Problem> {
    api.queue()?.remove_schedule(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a schedule.
///
/// Its moments pass by, over restarts too, until it is resumed.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/pause", operation_id = "pause_schedule", tag = "schedules",
    params(PathSchedule), request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The schedule, paused.", body = ScheduleReply<'_>),
        BadBody, NotFound, NotReady,
    ),
)]
pub(super) async fn pause(
    State(api): State<ApiState>,
    PathSchedule(name): PathSchedule,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Nothing {} = body.parse()?;
    let schedule = api.queue()?.pause_schedule(&name).await?;
    Ok(Json(ScheduleReply::from(&schedule)).into_response())
}

/// Resume a schedule.
///
/// It makes jobs again, from now on; what passed by meanwhile is not made up for.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/resume", operation_id = "resume_schedule",
    tag = "schedules", params(PathSchedule), request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The schedule, resumed.", body = ScheduleReply<'_>),
        BadBody, NotFound, NotReady,
    ),
)]
pub(super) async fn resume(
    State(api): State<ApiState>,
    PathSchedule(name): PathSchedule,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Nothing {} = body.parse()?;
    let schedule = api.queue()?.resume_schedule(&name).await?;
    Ok(Json(ScheduleReply::from(&schedule)).into_response())
}

/// Run a schedule now.
///
/// Enqueues its job, paused or not. Its moments are not touched by that.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/run", operation_id = "run_schedule", tag = "schedules",
    params(PathSchedule), request_body = Option<Nothing>,
    responses(
        (status = 201, description = "The job is on the disk.", body = Enqueued),
        (status = 200, description = "A job held the unique key already: this one.",
            body = Enqueued),
        BadBody, NotFound, Conflict, NoRoom, NotReady,
    ),
)]
pub(super) async fn run(
    State(api): State<ApiState>,
    PathSchedule(name): PathSchedule,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Nothing {} = body.parse()?;
    let enqueued = api.queue()?.run_schedule(&name).await?;
    let status = if enqueued.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(enqueued)).into_response())
}

/// The name of a schedule: 1 to 128 ASCII letters, digits and `. _ - : /`, a `/` written `%2F`.
#[derive(IntoParams)]
#[into_params(names("name"), parameter_in = Path)]
pub(super) struct PathSchedule(String);

impl<S: Send + Sync> FromRequestParts<S> for PathSchedule {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(PathSchedule(path_part("name", parts, state).await?))
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SchedulesQuery {
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A schedule.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "cron": "30 2 * * MON-FRI", "time_zone": "Europe/Berlin",
    "job": {"queue": "reports", "kind": "report.nightly", "unique": {"key": "report.nightly"}}
})))]
struct ScheduleRequest<'a> {
    /// Minute, hour, day of the month, month, day of the week; with a sixth field in front, the
    /// second. Or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schema(min_length = 1, max_length = 256)]
    cron: String,
    /// The IANA name of the time zone in which `cron` is meant; `UTC` when left out.
    #[schema(min_length = 1)]
    time_zone: Option<String>,
    /// The job to enqueue.
    #[serde(borrow)]
    #[schema(value_type = ScheduleJobRequest)]
    job: Object<ScheduleJobRequest<'a>>,
    /// What becomes of moments that were missed by more than a minute; `one` when left out.
    #[serde(default)]
    catch_up: CatchUp,
    /// It makes no jobs until it is resumed.
    #[serde(default)]
    paused: bool,
}

/// The job of a schedule: as for an enqueue, but that the schedule says when it runs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleJobRequest<'a> {
    /// The queue, `default` when left out; never `.` or `..`.
    #[schema(pattern = "^[A-Za-z0-9._:/-]+$", min_length = 1, max_length = 128)]
    queue: Option<String>,
    /// What is to be done, for the worker to know; never `.` or `..`.
    #[schema(pattern = "^[A-Za-z0-9._:/-]+$", min_length = 1, max_length = 128)]
    kind: String,
    /// What the worker gets: any JSON of at most 16 KiB, kept byte for byte; null when left out.
    #[serde(borrow)]
    #[schema(value_type = Value, required = false)]
    payload: Option<&'a RawValue>,
    /// Any bytes instead of `payload`, as standard base64 with padding.
    #[schema(content_encoding = "base64")]
    payload_base64: Option<String>,
    /// `default` when left out.
    priority: Option<Priority>,
    /// How often it may fail in all; the configured number of its priority when left out.
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    /// How often it may be interrupted; the configured number when left out.
    #[schema(maximum = 1000)]
    max_interruptions: Option<u32>,
    /// How long to wait between attempts.
    #[schema(value_type = Option<RetryRequest>)]
    retry: Option<Object<RetryRequest>>,
    /// How long one attempt may take, in milliseconds, 7 days at most; longer is a failure.
    #[schema(minimum = 1, maximum = 604_800_000)]
    timeout_ms: Option<u64>,
    /// A job that no worker has started so many milliseconds after it was made is dead, reason
    /// `expired`; 10 years at most.
    #[schema(minimum = 1, maximum = 316_224_000_000_u64)]
    expires_in_ms: Option<u64>,
    /// A key that one job of the queue holds at a time: while one does, moments are skipped, or
    /// it is replaced, as `on_conflict` says.
    #[schema(value_type = Option<UniqueRequest>)]
    unique: Option<Object<UniqueRequest>>,
    /// Names and values for the worker beside the payload: at most 30, together 4 KiB with
    /// `pulk-schedule` and `pulk-scheduled-at`, which the schedule adds.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl ScheduleRequest<'_> {
    fn into_schedule(self, configured: &RetryPolicy) -> Result<NewSchedule> {
        let Object(job) = self.job;
        let job = JobRequest {
            queue: job.queue,
            kind: job.kind,
            payload: job.payload,
            payload_base64: job.payload_base64,
            priority: job.priority,
            delay_ms: None,
            run_at: None,
            max_attempts: job.max_attempts,
            max_interruptions: job.max_interruptions,
            retry: job.retry,
            timeout_ms: job.timeout_ms,
            expires_in_ms: job.expires_in_ms,
            unique: job.unique,
            concurrency_key: None,
            ordering_key: None,
            headers: job.headers,
        };
        Ok(NewSchedule {
            cron: self.cron,
            time_zone: self.time_zone.unwrap_or_else(|| NewSchedule::DEFAULT_TIME_ZONE.to_owned()),
            job: job.into_job(configured).map_err(|error| error.inside("job"))?,
            catch_up: self.catch_up,
            paused: self.paused,
        })
    }
}

/// A page of schedules.
#[derive(Serialize, ToSchema)]
#[schema(as = Schedules)]
struct SchedulesReply<'a> {
    /// The schedules by name.
    schedules: Vec<ScheduleReply<'a>>,
    /// Where the next page begins; not there on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// A schedule as a reader sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Schedule)]
struct ScheduleReply<'a> {
    /// Its name.
    name: &'a str,
    /// When it makes jobs.
    cron: &'a str,
    /// The time zone in which that is meant.
    time_zone: &'a str,
    /// The job that it makes.
    job: ScheduleJobReply<'a>,
    /// What becomes of moments that were missed by more than a minute.
    catch_up: CatchUp,
    /// True when it makes no jobs.
    paused: bool,
    /// The next ten moments, RFC 3339 with the offset of its time zone; none while it is paused.
    #[schema(value_type = Vec<String>, format = DateTime, max_items = 10)]
    next_runs: Vec<String>,
    /// The last moment that made a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_run: Option<LastRunReply>,
    /// Moments that made no job: they were missed, or another job held the unique key.
    skipped: u64,
}

/// The last moment for which a schedule made a job.
#[derive(Serialize, ToSchema)]
#[schema(as = LastRun)]
struct LastRunReply {
    /// The moment.
    slot: Timestamp,
    /// The job's id; it may be done and gone.
    job: JobId,
}

/// The job of a schedule as a reader sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = ScheduleJob)]
struct ScheduleJobReply<'a> {
    /// The queue it goes to.
    queue: &'a str,
    /// What is to be done.
    kind: &'a str,
    /// What the worker gets, byte for byte as it was handed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    payload: Option<&'a RawValue>,
    /// What the worker gets, when it was not handed in as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, content_encoding = "base64")]
    payload_base64: Option<String>,
    /// How urgent it is.
    priority: Priority,
    /// How often it may fail in all, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_attempts: Option<u32>,
    /// How often it may be interrupted, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_interruptions: Option<u32>,
    /// How long to wait between attempts, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry: Option<RetryReply>,
    /// How long one attempt may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timeout_ms: Option<u64>,
    /// It is dead when no worker has started it so many milliseconds after it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_in_ms: Option<u64>,
    /// The key that one job of the queue holds at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unique: Option<UniqueReply<'a>>,
    /// Names and values beside the payload, without those that the schedule adds.
    headers: &'a BTreeMap<String, String>,
}

/// How long a job waits between attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = Retry)]
struct RetryReply {
    /// The delay before the second attempt, in milliseconds; it doubles with every further one.
    base_ms: u64,
    /// The longest delay, in milliseconds.
    max_ms: u64,
    /// The share of a delay that chance may take off.
    jitter: f64,
}

/// A key that one job of a queue holds at a time.
#[derive(Serialize, ToSchema)]
#[schema(as = Unique)]
struct UniqueReply<'a> {
    /// The key.
    key: &'a str,
    /// After so many milliseconds it is free, whatever the job does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ttl_ms: Option<u64>,
    /// What happens when another job holds it.
    on_conflict: OnConflict,
}

impl<'a> From<&'a ScheduleView> for ScheduleReply<'a> {
    fn from(schedule: &'a ScheduleView) -> Self {
        let next_runs = schedule.next_runs(NEXT_RUNS).iter().map(ToString::to_string).collect();
        let last_run =
            schedule.last_run.map(|last| LastRunReply { slot: last.slot, job: last.job });
        ScheduleReply {
            name: &schedule.name,
            cron: &schedule.cron,
            time_zone: &schedule.time_zone,
            job: ScheduleJobReply::from(&schedule.job),
            catch_up: schedule.catch_up,
            paused: schedule.paused,
            next_runs,
            last_run,
            skipped: schedule.skipped,
        }
    }
}

impl<'a> From<&'a NewJob> for ScheduleJobReply<'a> {
    fn from(job: &'a NewJob) -> Self {
        let (payload, payload_base64) = payload_fields(&job.payload);
        ScheduleJobReply {
            queue: &job.queue,
            kind: &job.kind,
            payload,
            payload_base64,
            priority: job.priority,
            max_attempts: job.max_attempts,
            max_interruptions: job.max_interruptions,
            retry: job.retry.map(|RetryPolicy { base_ms, max_ms, jitter }| RetryReply {
                base_ms,
                max_ms,
                jitter,
            }),
            timeout_ms: job.timeout_ms,
            expires_in_ms: job.expires_in_ms,
            unique: job.unique.as_ref().map(|unique| UniqueReply {
                key: &unique.key,
                ttl_ms: unique.ttl_ms,
                on_conflict: unique.on_conflict,
            }),
            headers: &job.headers,
        }
    }
}
