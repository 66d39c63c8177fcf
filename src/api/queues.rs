//! Queues and what is in them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiState;
use super::body::{JsonBody, PathQueue, QueryOf};
use super::error::Problem;
use super::explain::{ExplainQuery, NextReply};
use super::limits::{LimitedReply, LimitsReply};
use super::openapi::{BadBody, BadCall, NotFound, NotReady};
use crate::clock::Timestamp;
use crate::priority::Priority;
use crate::queue::{QueueView, Rates, StateCounts};

/// List the queues.
///
/// All of them, with what is in them. With `explain=next` also which job is next, and why: the one
/// that a claim for one job of any queue, priority and kind would get now.
#[utoipa::path(
    get, path = "/v1/queues", operation_id = "queues", tag = "queues",
    params(ExplainQuery),
    responses(
        (status = 200, description = "The queues.", body = QueuesReply<'_>), BadCall, NotReady,
    ),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    QueryOf(query): QueryOf<ExplainQuery>,
) -> Result<Response, Problem> {
    let (queues, next) = match query.wants_next()? {
        true => api.queue()?.explain_next().await.map(|(queues, next)| (queues, Some(next)))?,
        false => (api.queue()?.queues().await?, None),
    };
    let now = api.now();
    let queues = queues.iter().map(|queue| QueueReply::new(queue, now)).collect();
    Ok(Json(QueuesReply { queues, next: next.as_ref().map(NextReply::new) }).into_response())
}

/// Look at a queue.
///
/// 404 when no job was ever put into a queue of this name, and none was made by its limits.
#[utoipa::path(
    get, path = "/v1/queues/{queue}", operation_id = "queue", tag = "queues",
    params(PathQueue),
    responses(
        (status = 200, description = "The queue.", body = QueueReply<'_>),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathQueue(name): PathQueue,
) -> Result<Response, Problem> {
    let queue = api.queue()?.queue(&name).await?;
    Ok(Json(QueueReply::new(&queue, api.now())).into_response())
}

/// Pause a queue.
///
/// Its jobs are not handed out any more, until it is resumed; everything else goes on. It stays
/// paused over restarts.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/pause", operation_id = "pause", tag = "queues",
    params(PathQueue), request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The queue, paused.", body = QueueReply<'_>),
        BadBody, NotFound, NotReady,
    ),
)]
pub(super) async fn pause(
    State(api): State<ApiState>,
    PathQueue(name): PathQueue,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Nothing {} = body.parse()?;
    let queue = api.queue()?.pause(&name).await?;
    Ok(Json(QueueReply::new(&queue, api.now())).into_response())
}

/// Resume a queue.
///
/// Its jobs are handed out again.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/resume", operation_id = "resume", tag = "queues",
    params(PathQueue), request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The queue, resumed.", body = QueueReply<'_>),
        BadBody, NotFound, NotReady,
    ),
)]
pub(super) async fn resume(
    State(api): State<ApiState>,
    PathQueue(name): PathQueue,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Nothing {} = body.parse()?;
    let queue = api.queue()?.resume(&name).await?;
    Ok(Json(QueueReply::new(&queue, api.now())).into_response())
}

/// A body that says nothing: `{}`, or none at all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({})))]
pub(super) struct Nothing {}

/// All queues.
#[derive(Serialize, ToSchema)]
struct QueuesReply<'a> {
    /// The queues by name.
    queues: Vec<QueueReply<'a>>,
    /// Which job is next, and why; there with `explain=next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<NextReply<'a>>,
}

/// A queue and what is in it.
#[derive(Serialize, ToSchema)]
#[schema(as = Queue)]
pub(super) struct QueueReply<'a> {
    /// Its name.
    name: &'a str,
    /// True when claims get nothing from it.
    paused: bool,
    /// How many of its jobs may run at once, and be started in a time, when that is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limits: Option<LimitsReply>,
    /// Which of these is reached, so that claims get nothing from it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limited: Option<LimitedReply>,
    /// How long its oldest ready job has been ready, in milliseconds; null when none is.
    #[schema(required)]
    oldest_age_ms: Option<u64>,
    /// Its jobs by state, all priorities together.
    counts: StateCounts,
    /// What happened a second in the last minute.
    rates: Rates,
    /// The same for each priority.
    priorities: BTreeMap<Priority, PriorityReply>,
}

/// What is in a queue at one priority.
#[derive(Serialize, ToSchema)]
#[schema(as = QueuePriority)]
struct PriorityReply {
    /// How long the oldest ready job has been ready, in milliseconds; null when none is.
    #[schema(required)]
    oldest_age_ms: Option<u64>,
    /// Its jobs by state.
    counts: StateCounts,
    /// What happened a second in the last minute.
    rates: Rates,
}

impl<'a> QueueReply<'a> {
    pub(super) fn new(queue: &'a QueueView, now: Timestamp) -> Self {
        let age_ms = |since: Option<Timestamp>| since.map(|since| now.ms_since(since));
        let oldest = queue.oldest_ready_at.iter().filter_map(|(_, since)| *since).min();
        let priorities = queue.counts.iter().map(|(priority, counts)| {
            let oldest_age_ms = age_ms(queue.oldest_ready_at[priority]);
            let rates = queue.rates[priority];
            (priority, PriorityReply { oldest_age_ms, counts: *counts, rates })
        });
        QueueReply {
            name: &queue.name,
            paused: queue.paused,
            limits: (!queue.limits.is_empty()).then(|| queue.limits.into()),
            limited: queue.limited.map(LimitedReply::from),
            oldest_age_ms: age_ms(oldest),
            counts: queue.counts.iter().fold(StateCounts::default(), |sum, (_, one)| StateCounts {
                scheduled: sum.scheduled + one.scheduled,
                ready: sum.ready + one.ready,
                running: sum.running + one.running,
                retrying: sum.retrying + one.retrying,
                dead: sum.dead + one.dead,
            }),
            rates: queue.rates.iter().fold(Rates::default(), |sum, (_, one)| sum.plus(*one)),
            priorities: priorities.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::priority::PerPriority;
    use crate::queue::{Limited, Limits};

    #[test]
    fn a_queue_is_told_whole_and_by_priority() {
        let mut counts = PerPriority::<StateCounts>::default();
        counts[Priority::Critical].ready = 1;
        counts[Priority::Bulk] =
            StateCounts { scheduled: 1, ready: 2, running: 3, retrying: 4, dead: 5 };
        let mut oldest_ready_at = PerPriority::default();
        oldest_ready_at[Priority::Critical] = Some(Timestamp::from_ms(90));
        oldest_ready_at[Priority::Bulk] = Some(Timestamp::from_ms(60));
        let mut rates = PerPriority::<Rates>::default();
        rates[Priority::Critical].started_per_s = 1.5;
        rates[Priority::Bulk].started_per_s = 2.0;
        let name = "a/b".to_owned();
        let limits = Limits { concurrency: Some(3), ..Limits::default() };
        let limited = Some(Limited::Concurrency);
        let (paused, in_lines) = (false, PerPriority::default());
        let queue =
            QueueView { name, paused, limits, limited, counts, in_lines, oldest_ready_at, rates };
        let reply = QueueReply::new(&queue, Timestamp::from_ms(100));
        let reply = serde_json::to_value(&reply).unwrap();
        assert_eq!(reply["limits"], serde_json::json!({"concurrency": 3}));
        assert_eq!(reply["limited"]["by"], "concurrency_reached");
        assert_eq!(reply["counts"]["ready"], 3);
        assert_eq!(reply["counts"]["dead"], 5);
        assert_eq!(reply["rates"]["started_per_s"], 3.5);
        assert_eq!(reply["priorities"]["bulk"]["rates"]["started_per_s"], 2.0);
        assert_eq!(reply["oldest_age_ms"], 40);
        assert_eq!(reply["priorities"]["critical"]["oldest_age_ms"], 10);
        assert_eq!(reply["priorities"]["high"]["oldest_age_ms"], serde_json::Value::Null);
        assert_eq!(reply["priorities"]["bulk"]["counts"]["retrying"], 4);
    }
}
