//! A page of jobs.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::body::QueryOf;
use super::error::Problem;
use super::job_reply::JobReply;
use super::openapi::{BadCall, NotReady};
use crate::error::Result;
use crate::job::JobState;
use crate::priority::Priority;
use crate::queue::JobQuery;

/// A page of a call that names no limit.
const PAGE_JOBS_DEFAULT: usize = 100;

/// List jobs.
///
/// Ready and running jobs first, by priority and queue in the order of claims; then those that
/// wait for a moment, by that moment; then dead letters, by queue and death. A page may have fewer
/// than `limit`, or none; it is the last when it has no `next_cursor`. A job that does not move
/// while the pages are read is on exactly one of them.
#[utoipa::path(
    get, path = "/v1/jobs", operation_id = "jobs", tag = "jobs",
    params(ListQuery),
    responses((status = 200, description = "A page.", body = JobsReply<'_>), BadCall, NotReady),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Response, Problem> {
    let page = api.queue()?.jobs(query.into_query()?).await?;
    let jobs = page.jobs.iter().map(JobReply::from).collect();
    Ok(Json(JobsReply { jobs, next_cursor: page.next_cursor }).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this queue only; of all when it has no value.
    queue: Option<String>,
    /// In this state only, or in one of several with commas between them.
    #[param(
        pattern = "^((scheduled|ready|running|retrying|dead)(,|$))*$",
        example = "ready,running"
    )]
    state: Option<String>,
    /// Of this priority only.
    #[param(value_type = Option<Priority>)]
    priority: Option<String>,
    /// Of this kind only.
    kind: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListQuery {
    /// `?queue=` without a value is no filter; `?priority=` is an error.
    fn into_query(self) -> Result<JobQuery> {
        Ok(JobQuery {
            queue: given(self.queue),
            states: states(self.state)?,
            priority: priority(self.priority)?,
            kind: given(self.kind),
            limit: self.limit.unwrap_or(PAGE_JOBS_DEFAULT),
            cursor: given(self.cursor),
        })
    }
}

/// `?queue=` says nothing.
pub(super) fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// The states of `ready,running`; none for no value.
pub(super) fn states(value: Option<String>) -> Result<Vec<JobState>> {
    let value = given(value).unwrap_or_default();
    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(str::parse).collect()
}

pub(super) fn priority(value: Option<String>) -> Result<Option<Priority>> {
    value.map(|value| value.parse()).transpose()
}

/// A page of jobs.
#[derive(Serialize, ToSchema)]
struct JobsReply<'a> {
    /// The jobs.
    jobs: Vec<JobReply<'a>>,
    /// Where the next page begins; not there on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_one_or_several() {
        let read = |text: &str| states(Some(text.to_owned()));
        assert_eq!(states(None).unwrap(), []);
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read("dead").unwrap(), [JobState::Dead]);
        assert_eq!(read("Ready, running,").unwrap(), [JobState::Ready, JobState::Running]);
        let refused = read("ready,done").unwrap_err();
        assert_eq!(refused.field(), Some("state"));
        assert!(refused.to_string().contains("\"done\""), "{refused}");
        assert_eq!(priority(Some("BULK".to_owned())).unwrap(), Some(Priority::Bulk));
        for odd in ["x", ""] {
            assert_eq!(priority(Some(odd.to_owned())).unwrap_err().field(), Some("priority"));
        }
    }
}
