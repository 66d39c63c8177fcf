//! Dead letters: list, look at one, change it, put it back to work, remove it or many.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::body::{JsonBody, Object, PathId, QueryOf, at_most};
use super::error::Problem;
use super::job_reply::JobReply;
use super::jobs::{RetryRequest, payload};
use super::list::given;
use super::openapi::{BadBody, BadCall, Conflict, DiskFull, NotFound, NotReady};
use super::queues::Nothing;
use crate::dead_letter::DeadReason;
use crate::error::{Error, Result};
use crate::job::{Enqueued, JobId};
use crate::priority::Priority;
use crate::queue::{
    DEAD_IDS_MAX, DeadChoice, DeadEdit, DeadFilter, DeadPurged, DeadQuery, PurgeDead,
};
use crate::retry::RetryPolicy;

/// A page of a call that names no limit.
const PAGE_JOBS_DEFAULT: usize = 100;

/// List dead letters.
///
/// By queue, in each by the time they died. A page may have fewer than `limit`, or none, though
/// others follow: looking for few among many ends after a while. It is the last when it has no
/// `next_cursor`.
#[utoipa::path(
    get, path = "/v1/dead", operation_id = "dead_letters", tag = "dead",
    params(ListQuery),
    responses((status = 200, description = "A page.", body = DeadReply<'_>), BadCall, NotReady),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Response, Problem> {
    let query = query.try_into()?;
    let page = api.queue()?.dead_letters(query).await?;
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

/// Change a dead letter.
///
/// What is not named stays as it is. It stays dead, at its place among the others.
#[utoipa::path(
    patch, path = "/v1/dead/{id}", operation_id = "edit_dead_letter", tag = "dead",
    params(PathId), request_body = EditRequest<'_>,
    responses(
        (status = 200, description = "The dead letter as it is now.", body = JobReply<'_>),
        BadBody, NotFound, Conflict, DiskFull, NotReady,
    ),
)]
pub(super) async fn edit(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Response, Problem> {
    let edit = body.parse::<EditRequest<'_>>()?.into_edit(&api.config().retry)?;
    let job = api.queue()?.edit_dead_letter(id, edit).await?;
    Ok(Json(JobReply::from(&job)).into_response())
}

/// Delete a dead letter.
///
/// It is gone for good.
#[utoipa::path(
    delete, path = "/v1/dead/{id}", operation_id = "delete_dead_letter", tag = "dead",
    params(PathId),
    responses(
        (status = 204, description = "It is gone."),
        BadCall, NotFound, Conflict, NotReady,
    ),
)]
pub(super) async fn delete(
    State(api): State<ApiState>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    api.queue()?.delete_dead_letter(id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Put a dead letter back to work.
///
/// It becomes ready at the end of its queue, with all its attempts before it. Nothing but `{}`, or
/// nothing at all, is taken as the body.
#[utoipa::path(
    post, path = "/v1/dead/{id}/replay", operation_id = "replay", tag = "dead",
    params(PathId), request_body = Option<Nothing>,
    responses(
        (status = 200, description = "It is ready again.", body = Enqueued),
        BadBody, NotFound, Conflict, DiskFull, NotReady,
    ),
)]
pub(super) async fn replay(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Nothing {} = body.parse()?;
    Ok(Json(api.queue()?.replay(id).await?).into_response())
}

/// Purge dead letters.
///
/// Removes all that are meant and are dead now, for good; `{}` means all there are. It goes on to
/// its end even if the connection breaks.
#[utoipa::path(
    post, path = "/v1/dead/purge", operation_id = "purge_dead_letters", tag = "dead",
    request_body = PurgeRequest,
    responses(
        (status = 200, description = "They are gone.", body = DeadPurged),
        BadBody, NotReady,
    ),
)]
pub(super) async fn purge(
    State(api): State<ApiState>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let PurgeRequest { ids, queue, kind, reason, error, dry_run } = body.parse_said()?;
    let choice = choice(ids, DeadFilter { queue, kind, reason, error })?;
    let purged = api.queue()?.purge_dead_letters(PurgeDead { choice, dry_run }).await?;
    Ok(Json(purged).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this queue only; of all when it has no value.
    queue: Option<String>,
    /// Of this kind only.
    kind: Option<String>,
    /// Those that died of this.
    #[param(value_type = Option<DeadReason>)]
    reason: Option<String>,
    /// Those whose last error has this in its text.
    error: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Where to go on: `next_cursor` of the page before.
    cursor: Option<String>,
}

impl TryFrom<ListQuery> for DeadQuery {
    type Error = Error;

    /// `?queue=` without a value is no filter; `?reason=` is an error.
    fn try_from(query: ListQuery) -> Result<Self> {
        let reason = query.reason.map(|text| {
            let mut reasons = DeadReason::ALL.into_iter();
            reasons.find(|reason| reason.as_str().eq_ignore_ascii_case(&text)).ok_or_else(|| {
                let reasons = DeadReason::ALL.map(DeadReason::as_str).join(", ");
                Error::invalid("reason", format!("{text:?} is not a reason; use one of {reasons}"))
            })
        });
        Ok(DeadQuery {
            filter: DeadFilter {
                queue: given(query.queue),
                kind: given(query.kind),
                reason: reason.transpose()?,
                error: given(query.error),
            },
            limit: query.limit.unwrap_or(PAGE_JOBS_DEFAULT),
            cursor: given(query.cursor),
        })
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

/// What to change in a dead letter; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"payload": {"to": "ann@example.com"}, "max_attempts": 5})))]
struct EditRequest<'a> {
    /// What is to be done; never `.` or `..`.
    #[schema(pattern = "^[A-Za-z0-9._:/-]+$", min_length = 1, max_length = 128)]
    kind: Option<String>,
    /// What the worker gets: any JSON of at most 1 MiB, kept byte for byte.
    #[serde(borrow, default, deserialize_with = "json_even_null")]
    #[schema(value_type = Value, required = false)]
    payload: Option<&'a RawValue>,
    /// Any bytes instead of `payload`, as standard base64 with padding.
    #[schema(content_encoding = "base64")]
    payload_base64: Option<String>,
    /// How urgent it is.
    priority: Option<Priority>,
    /// All names and values for the worker beside the payload: at most 32, together 4 KiB.
    headers: Option<BTreeMap<String, String>>,
    /// How often it may fail in all.
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    /// How often it may be interrupted.
    #[schema(maximum = 1000)]
    max_interruptions: Option<u32>,
    /// How long to wait between attempts; null for the configured policy.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<RetryRequest>)]
    retry: Option<Option<Object<RetryRequest>>>,
    /// How long one attempt may take, in milliseconds, 7 days at most; null for as long as it
    /// likes.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 604_800_000)]
    timeout_ms: Option<Option<u64>>,
}

impl EditRequest<'_> {
    fn into_edit(self, configured: &RetryPolicy) -> Result<DeadEdit> {
        let has_payload = self.payload.is_some() || self.payload_base64.is_some();
        let payload = payload(self.payload, self.payload_base64)?;
        Ok(DeadEdit {
            kind: self.kind,
            payload: has_payload.then_some(payload),
            priority: self.priority,
            headers: self.headers,
            max_attempts: self.max_attempts,
            max_interruptions: self.max_interruptions,
            retry: self.retry.map(|retry| retry.map(|Object(retry)| retry.over(configured))),
            timeout_ms: self.timeout_ms,
        })
    }
}

/// `null` is a value here, not the lack of one.
fn even_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn json_even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    even_null(deserializer)
}

/// Which dead letters to remove: by `ids`, or by the other members; all when nothing is named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"queue": "mails", "reason": "rejected", "dry_run": true})))]
struct PurgeRequest {
    /// These. Those that are not dead letters are passed over. Not together with a filter.
    #[serde(default, deserialize_with = "ids_at_most")]
    #[schema(value_type = Option<Vec<JobId>>, min_items = 1, max_items = 1000)]
    ids: Option<Vec<JobId>>,
    /// Of this queue only.
    #[schema(min_length = 1, max_length = 128)]
    queue: Option<String>,
    /// Of this kind only.
    #[schema(min_length = 1, max_length = 128)]
    kind: Option<String>,
    /// Those that died of this.
    reason: Option<DeadReason>,
    /// Those whose last error has this in its text.
    #[schema(min_length = 1, max_length = 1024)]
    error: Option<String>,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
}

/// A list of ids that is not too long.
pub(super) fn ids_at_most<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<JobId>>, D::Error> {
    at_most::<_, _, DEAD_IDS_MAX>(deserializer).map(Some)
}

/// The dead letters that a call names.
pub(super) fn choice(ids: Option<Vec<JobId>>, filter: DeadFilter) -> Result<DeadChoice> {
    match ids {
        None => Ok(DeadChoice::Filter(filter)),
        Some(ids) if filter == DeadFilter::default() => Ok(DeadChoice::Ids(ids)),
        Some(_) => Err(Error::invalid("ids", "give ids or a filter, not both")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Payload;

    fn read(text: &str) -> Result<DeadEdit> {
        JsonBody::from(text).parse::<EditRequest<'_>>()?.into_edit(&RetryPolicy::default())
    }

    #[test]
    fn an_edit_tells_null_from_nothing() {
        assert_eq!(read("{}").unwrap(), DeadEdit::default());
        let edit = read(r#"{"payload":null,"retry":null,"timeout_ms":null}"#).unwrap();
        let payload = Some(Payload::Json("null".into()));
        let expected =
            DeadEdit { payload, retry: Some(None), timeout_ms: Some(None), ..DeadEdit::default() };
        assert_eq!(edit, expected);
        let edit = read(
            r#"{"kind":"k","payload_base64":"AP8=","priority":"LOW","headers":{"a":"b"},
                "max_attempts":2,"max_interruptions":3,"retry":{"max_ms":50},"timeout_ms":7}"#,
        );
        let expected = DeadEdit {
            kind: Some("k".to_owned()),
            payload: Some(Payload::Binary(vec![0, 255].into())),
            priority: Some(Priority::Low),
            headers: Some([("a".to_owned(), "b".to_owned())].into()),
            max_attempts: Some(2),
            max_interruptions: Some(3),
            retry: Some(Some(RetryPolicy { base_ms: 50, max_ms: 50, jitter: 0.5 })),
            timeout_ms: Some(Some(7)),
        };
        assert_eq!(edit.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |text: &str| read(text).unwrap_err().field().unwrap().to_owned();
        assert_eq!(refused(r#"{"queue":"other"}"#), "queue");
        assert_eq!(refused(r#"{"payload":1,"payload_base64":"AA=="}"#), "payload_base64");
        assert_eq!(refused(r#"{"retry":{"factor":2}}"#), "retry.factor");
        let id = JobId::from_u128(7);
        let both = DeadFilter { queue: Some("a".to_owned()), ..DeadFilter::default() };
        assert_eq!(choice(Some(vec![id]), both).unwrap_err().field(), Some("ids"));
        let ids = choice(Some(vec![id]), DeadFilter::default()).unwrap();
        assert_eq!(ids, DeadChoice::Ids(vec![id]));
        let purge = JsonBody::from(r#"{"ids":[]}"#);
        let purge = purge.parse::<PurgeRequest>().unwrap();
        assert_eq!(purge.ids, Some(vec![]), "an empty list is not the lack of one");
    }
}
