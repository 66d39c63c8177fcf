//! Clears a queue, and removes one that is empty.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::body::{PathQueue, QueryOf};
use super::error::Problem;
use super::list::{priority, states};
use super::openapi::{BadCall, Conflict, NotFound, NotReady};
use crate::error::Error;
use crate::priority::Priority;
use crate::queue::{Purge, Purged};

/// Purge a queue.
///
/// Removes jobs that were enqueued before: those that wait (scheduled, ready, retrying), unless
/// `state` says which. Many go in several commits: when the node ends in the middle, some are gone
/// and others are not.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/jobs", operation_id = "purge", tag = "queues",
    params(PathQueue, PurgeQuery),
    responses(
        (status = 200, description = "They are gone.", body = PurgeReply),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn purge(
    State(api): State<ApiState>,
    PathQueue(queue): PathQueue,
    QueryOf(query): QueryOf<PurgeQuery>,
) -> Result<Json<PurgeReply>, Problem> {
    // Whoever says `?state=$state` and has no value for it did not mean to clear the queue.
    if query.state.as_ref().is_some_and(String::is_empty) {
        let message = "has no value; name a state, or leave it out for all jobs that wait";
        return Err(Error::invalid("state", message).into());
    }
    let (states, priority) = (states(query.state)?, priority(query.priority)?);
    let purged = api.queue()?.purge(Purge { queue, states, priority }).await?;
    Ok(Json(purged.into()))
}

/// Remove a queue.
///
/// One that is empty, also of dead letters. The next job for its name makes a new queue, which is
/// not paused.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}", operation_id = "remove_queue", tag = "queues",
    params(PathQueue),
    responses(
        (status = 204, description = "It is gone."),
        BadCall, NotFound, Conflict, NotReady,
    ),
)]
pub(super) async fn remove(
    State(api): State<ApiState>,
    PathQueue(name): PathQueue,
) -> Result<StatusCode, Problem> {
    api.queue()?.remove_queue(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PurgeQuery {
    /// In this state only, or in one of several with commas between them. Running jobs are
    /// cancelled.
    #[param(
        pattern = "^((scheduled|ready|running|retrying|dead)(,|$))+$",
        example = "ready,retrying"
    )]
    state: Option<String>,
    /// Of this priority only.
    #[param(value_type = Option<Priority>)]
    priority: Option<String>,
}

/// What a purge did.
#[derive(Serialize, ToSchema)]
pub(super) struct PurgeReply {
    /// Jobs that it removed or cancelled.
    removed: u64,
    /// Of these, running jobs that it cancelled: each is gone when its lease ends.
    cancelled: u64,
}

impl From<Purged> for PurgeReply {
    fn from(Purged { removed, cancelled }: Purged) -> Self {
        PurgeReply { removed, cancelled }
    }
}
