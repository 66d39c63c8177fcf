//! What of a queue may run at a time, and be started in a time.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::body::{JsonBody, PathQueue};
use super::error::Problem;
use super::openapi::{BadBody, NewQueue, NotReady};
use super::queues::QueueReply;
use crate::clock::Timestamp;
use crate::queue::{Limited, Limits, Rate};

/// Limit a queue.
///
/// How many of its jobs may run at once, and how many may be started in a time. What is left out
/// is not limited, but for `concurrency_per_key`; `{}` removes all. What runs already goes on. A
/// queue of this name is made if there is none. Limits survive restarts, and a restart gives no
/// second burst.
#[utoipa::path(
    put, path = "/v1/queues/{queue}/limits", operation_id = "set_limits", tag = "queues",
    params(PathQueue), request_body = Option<LimitsRequest>,
    responses(
        (status = 200, description = "The queue, limited.", body = QueueReply<'_>),
        BadBody, NewQueue, NotReady,
    ),
)]
pub(super) async fn set(
    State(api): State<ApiState>,
    PathQueue(name): PathQueue,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request: LimitsRequest = body.parse()?;
    let queue = api.queue()?.set_limits(&name, request.into()).await?;
    Ok(Json(QueueReply::new(&queue, api.now())).into_response())
}

/// What limits a queue from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"concurrency": 4, "rate": {"jobs": 100, "per_ms": 60_000, "burst": 10}})))]
pub(super) struct LimitsRequest {
    /// At most so many of its jobs run at once; without it any number.
    #[schema(minimum = 1, maximum = 1_000_000)]
    concurrency: Option<u32>,
    /// How many may be started in a time; without it any number.
    rate: Option<RateRequest>,
    /// At most so many of its jobs with the same `concurrency_key` run at once; one when left out.
    #[schema(minimum = 1, maximum = 10_000)]
    concurrency_per_key: Option<u32>,
}

/// How many jobs may be started in a time.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"jobs": 100, "per_ms": 60_000})))]
struct RateRequest {
    /// So many jobs,
    #[schema(minimum = 1, maximum = 10_000)]
    jobs: u32,
    /// in so many milliseconds, on average. A day at most.
    #[schema(minimum = 1, maximum = 86_400_000)]
    per_ms: u64,
    /// So many at once after a time in which fewer were started; as `jobs` when left out.
    #[schema(minimum = 1, maximum = 10_000)]
    burst: Option<u32>,
}

impl From<LimitsRequest> for Limits {
    fn from(request: LimitsRequest) -> Self {
        let LimitsRequest { concurrency, rate, concurrency_per_key } = request;
        let rate = rate.map(|RateRequest { jobs, per_ms, burst }| Rate {
            jobs,
            per_ms,
            burst: burst.unwrap_or(jobs),
        });
        Limits { concurrency, rate, concurrency_per_key }
    }
}

/// What limits a queue.
#[derive(Serialize, ToSchema)]
#[schema(as = QueueLimits)]
pub(super) struct LimitsReply {
    /// At most so many of its jobs run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    concurrency: Option<u32>,
    /// How many may be started in a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate: Option<RateReply>,
    /// At most so many of its jobs with the same `concurrency_key` run at once; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    concurrency_per_key: Option<u32>,
}

/// How many jobs may be started in a time.
#[derive(Serialize, ToSchema)]
#[schema(as = QueueRate)]
struct RateReply {
    /// So many jobs,
    jobs: u32,
    /// in so many milliseconds, on average.
    per_ms: u64,
    /// So many at once after a time in which fewer were started.
    burst: u32,
}

/// Which limit of a queue is reached.
#[derive(Serialize, ToSchema)]
#[schema(as = QueueLimited)]
pub(super) struct LimitedReply {
    /// `concurrency_reached` or `rate_limited`.
    by: &'static str,
    /// When the next job may be started; only for a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until: Option<Timestamp>,
}

impl From<Limits> for LimitsReply {
    fn from(Limits { concurrency, rate, concurrency_per_key }: Limits) -> Self {
        let rate = rate.map(|Rate { jobs, per_ms, burst }| RateReply { jobs, per_ms, burst });
        LimitsReply { concurrency, rate, concurrency_per_key }
    }
}

impl From<Limited> for LimitedReply {
    fn from(limited: Limited) -> Self {
        let until = match limited {
            Limited::Concurrency => None,
            Limited::Rate { until } => Some(until),
        };
        LimitedReply { by: limited.as_str(), until }
    }
}
