//! Dead letters: list, look at one, replay one.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::body::{JsonBody, PathId, QueryOf};
use super::error::Problem;
use super::job_reply::JobReply;
use super::openapi::{BadBody, BadCall, Conflict, NotFound, NotReady};
use crate::job::Enqueued;
use crate::queue::DeadQuery;

/// A page of a call that names no limit.
const PAGE_JOBS_DEFAULT: usize = 100;

/// List dead letters.
///
/// By queue, in each by the time they died. A page may have fewer than `limit`; it is the last
/// when it has no `next_cursor`.
#[utoipa::path(
    get, path = "/v1/dead", operation_id = "dead_letters", tag = "dead",
    params(ListQuery),
    responses((status = 200, description = "A page.", body = DeadReply<'_>), BadCall, NotReady),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Response, Problem> {
    let page = api.queue()?.dead_letters(query.into()).await?;
    let jobs = page.jobs.iter().map(JobReply::from).collect();
    Ok(Json(DeadReply { jobs, next_cursor: page.next_cursor }).into_response())
}

/// Look at a dead letter.
///
/// With why it died and its last errors.
#[utoipa::path(
    get, path = "/v1/dead/{id}", operation_id = "dead_letter", tag = "dead",
    params(PathId),
    responses(
        (status = 200, description = "The dead letter.", body = JobReply<'_>),
        BadCall, NotFound, Conflict, NotReady,
    ),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let job = api.queue()?.dead_letter(id).await?;
    Ok(Json(JobReply::from(&job)).into_response())
}

/// Put a dead letter back to work.
///
/// It becomes ready at the end of its queue, with all its attempts before it. Nothing but `{}`, or
/// nothing at all, is taken as the body.
#[utoipa::path(
    post, path = "/v1/dead/{id}/replay", operation_id = "replay", tag = "dead",
    params(PathId), request_body = Option<ReplayRequest>,
    responses(
        (status = 200, description = "It is ready again.", body = Enqueued),
        BadBody, NotFound, Conflict, NotReady,
    ),
)]
pub(super) async fn replay(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ReplayRequest {} = body.parse()?;
    Ok(Json(api.queue()?.replay(id).await?).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this queue only; of all when it has no value.
    queue: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
}

impl From<ListQuery> for DeadQuery {
    /// `?queue=` without a value is no filter.
    fn from(query: ListQuery) -> Self {
        DeadQuery {
            queue: query.queue.filter(|queue| !queue.is_empty()),
            limit: query.limit.unwrap_or(PAGE_JOBS_DEFAULT),
            cursor: query.cursor.filter(|cursor| !cursor.is_empty()),
        }
    }
}

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
struct DeadReply<'a> {
    /// The dead letters.
    jobs: Vec<JobReply<'a>>,
    /// Where the next page begins; not there on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// Nothing is to be said.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({})))]
struct ReplayRequest {}
