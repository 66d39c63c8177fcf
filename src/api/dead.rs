//! Dead letters: list, look at one, replay one.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::ApiState;
use super::body::{JsonBody, PathId, QueryOf};
use super::error::Problem;
use super::job_reply::JobReply;
use crate::queue::DeadQuery;

/// A page of a call that names no limit.
const PAGE_JOBS_DEFAULT: usize = 100;

/// `GET /v1/dead?queue=&limit=&cursor=`
pub(super) async fn list(
    State(api): State<ApiState>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Response, Problem> {
    let page = api.queue()?.dead_letters(query.into()).await?;
    let jobs = page.jobs.iter().map(JobReply::from).collect();
    Ok(Json(ListReply { jobs, next_cursor: page.next_cursor }).into_response())
}

/// `GET /v1/dead/{id}`
pub(super) async fn show(
    State(api): State<ApiState>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let job = api.queue()?.dead_letter(id).await?;
    Ok(Json(JobReply::from(&job)).into_response())
}

/// `POST /v1/dead/{id}/replay`
pub(super) async fn replay(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ReplayRequest {} = body.parse()?;
    Ok(Json(api.queue()?.replay(id).await?).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    queue: Option<String>,
    limit: Option<usize>,
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

#[derive(Serialize)]
struct ListReply<'a> {
    jobs: Vec<JobReply<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {}
