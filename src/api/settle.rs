//! What a worker says about jobs it holds: ack, fail, extend, release, and many at once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::ApiState;
use super::body::{JsonBody, PathId, objects_at_most};
use super::error::{Problem, code};
use super::openapi::{BadBody, LeaseLost, LeaseOver, NotReady};
use crate::clock::Timestamp;
use crate::dead_letter::DeadReason;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::lease::LeaseToken;
use crate::queue::{Ack, Extended, Failed, Failure, Released, Settle, SettleOutcome};

/// The most acks, and the most fails, of one call.
pub(super) const SETTLE_ITEMS_MAX: usize = 1_000;

/// Say that a job is done.
///
/// 204: it is gone, and will not be handed out again.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/ack", operation_id = "ack", tag = "work",
    params(PathId), request_body = AckRequest<'_>,
    responses(
        (status = 204, description = "The job is done and gone."),
        BadBody, LeaseOver, NotReady,
    ),
)]
pub(super) async fn ack(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<StatusCode, Problem> {
    let AckRequest { token, result } = body.parse()?;
    let token = checked(id, token)?;
    match result {
        Some(result) => api.queue()?.ack_with_result(token, owned(result)).await?,
        None => api.queue()?.ack(token).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Say that a job failed.
///
/// It is tried again after a delay, or is a dead letter when it has no attempts left.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/fail", operation_id = "fail", tag = "work",
    params(PathId), request_body = FailRequest,
    responses(
        (status = 200, description = "What became of it.", body = FailReply),
        BadBody, LeaseOver, NotReady,
    ),
)]
pub(super) async fn fail(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Json<FailReply>, Problem> {
    let FailRequest { token, error, retry, retry_in_ms } = body.parse()?;
    let token = checked(id, token)?;
    let failed = api.queue()?.fail(Failure { token, error, retry, retry_in_ms }).await?;
    Ok(Json(failed.into()))
}

/// Keep a lease alive.
///
/// The lease ends `lease_ms` from now. Tells how far the job is, if you like.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/extend", operation_id = "extend", tag = "work",
    params(PathId), request_body = ExtendRequest,
    responses(
        (status = 200, description = "The lease goes on.", body = Extended),
        BadBody, LeaseLost, NotReady,
    ),
)]
pub(super) async fn extend(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ExtendRequest { token, lease_ms, progress } = body.parse()?;
    let token = checked(id, token)?;
    Ok(Json(api.queue()?.extend(token, lease_ms, progress).await?).into_response())
}

/// Give a job back.
///
/// Somebody else may have it. Costs neither an attempt nor an interruption.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/release", operation_id = "release", tag = "work",
    params(PathId), request_body = ReleaseRequest,
    responses(
        (status = 200, description = "It waits again.", body = Released),
        BadBody, LeaseOver, NotReady,
    ),
)]
pub(super) async fn release(
    State(api): State<ApiState>,
    PathId(id): PathId,
    body: JsonBody,
) -> Result<Response, Problem> {
    let ReleaseRequest { token, delay_ms } = body.parse()?;
    let token = checked(id, token)?;
    Ok(Json(api.queue()?.release(token, delay_ms).await?).into_response())
}

/// Say what became of many jobs.
///
/// Each ack and fail is on its own: one that is refused does not stop the others.
#[utoipa::path(
    post, path = "/v1/settle", operation_id = "settle", tag = "work",
    request_body = Option<SettleRequest<'_>>,
    responses(
        (status = 200, description = "One outcome for each, in order.", body = SettleReply),
        BadBody, NotReady,
    ),
)]
pub(super) async fn settle(
    State(api): State<ApiState>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let SettleRequest { acks, fails } = body.parse()?;
    let (ids, settle) = finished(acks, fails)?;
    let outcomes = outcomes(&ids, api.queue()?.settle(settle).await?);
    Ok(Json(SettleReply { outcomes }).into_response())
}

/// A job is done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"token": "01M839HZ1R0000005000000001-1"})))]
struct AckRequest<'a> {
    /// The lease, as the claim told it.
    token: LeaseToken,
    /// What came of it: any JSON of at most 16 KiB, kept for an hour unless the node is told
    /// otherwise, byte for byte.
    #[serde(borrow, default, deserialize_with = "even_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    result: Option<&'a RawValue>,
}

/// A job failed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "token": "01M839HZ1R0000005000000001-1", "error": "no route to host"
})))]
struct FailRequest {
    /// The lease, as the claim told it.
    token: LeaseToken,
    /// What went wrong; its first kilobyte is kept.
    error: String,
    /// False: never try it again, whatever attempts are left.
    #[serde(default = "yes")]
    #[schema(default = true)]
    retry: bool,
    /// Try again after so many milliseconds, instead of as the job says; 30 days at most.
    #[schema(maximum = 2_592_000_000_u64)]
    retry_in_ms: Option<u64>,
}

/// What became of a job that failed.
#[derive(Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum FailReply {
    /// It will be tried again.
    Retrying {
        /// When.
        run_at: Timestamp,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
    },
}

/// A lease shall go on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "token": "01M839HZ1R0000005000000001-1", "lease_ms": 60000, "progress": 40
})))]
struct ExtendRequest {
    /// The lease, as the claim told it.
    token: LeaseToken,
    /// How long it is from now, in milliseconds; 30 seconds when left out, 24 hours at most.
    #[schema(minimum = 1, maximum = 86_400_000)]
    lease_ms: Option<u64>,
    /// How far the job is, in percent.
    #[schema(maximum = 100)]
    progress: Option<u8>,
}

/// A job is given back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"token": "01M839HZ1R0000005000000001-1"})))]
struct ReleaseRequest {
    /// The lease, as the claim told it.
    token: LeaseToken,
    /// Run it no earlier than so many milliseconds from now, 10 years at most; at once when left
    /// out.
    #[schema(maximum = 316_224_000_000_u64)]
    delay_ms: Option<u64>,
}

/// What became of many jobs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "acks": [{"id": "01M839HZ1R0000005000000001", "token": "01M839HZ1R0000005000000001-1"}],
    "fails": []
})))]
struct SettleRequest<'a> {
    /// Jobs that are done; together with `fails` 1,000 at most.
    #[serde(borrow, default, deserialize_with = "objects_at_most::<_, _, SETTLE_ITEMS_MAX>")]
    #[schema(max_items = 1000)]
    acks: Vec<AckItem<'a>>,
    /// Jobs that failed.
    #[serde(default, deserialize_with = "objects_at_most::<_, _, SETTLE_ITEMS_MAX>")]
    #[schema(max_items = 1000)]
    fails: Vec<FailItem>,
}

/// One ack among many.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AckItem<'a> {
    /// The job.
    id: JobId,
    /// The lease, as the claim told it.
    token: LeaseToken,
    /// What came of it: any JSON of at most 16 KiB, kept for an hour unless the node is told
    /// otherwise, byte for byte.
    #[serde(borrow, default, deserialize_with = "even_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    result: Option<&'a RawValue>,
}

/// One fail among many.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailItem {
    /// The job.
    id: JobId,
    /// The lease, as the claim told it.
    token: LeaseToken,
    /// What went wrong; its first kilobyte is kept.
    error: String,
    /// False: never try it again, whatever attempts are left.
    #[serde(default = "yes")]
    #[schema(default = true)]
    retry: bool,
    /// Try again after so many milliseconds, instead of as the job says; 30 days at most.
    #[schema(maximum = 2_592_000_000_u64)]
    retry_in_ms: Option<u64>,
}

/// What became of many jobs.
#[derive(Serialize, ToSchema)]
struct SettleReply {
    /// One for each ack and then each fail, in their order.
    outcomes: Vec<OutcomeReply>,
}

/// What became of one ack or fail among many: `acked`, `retrying`, `dead` or `error`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OutcomeOfJob)]
pub(super) struct OutcomeReply {
    /// The job.
    id: JobId,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What became of one job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "lowercase")]
enum Outcome {
    /// It is done and gone.
    Acked,
    /// It failed, and will be tried again.
    Retrying {
        /// When.
        run_at: Timestamp,
    },
    /// It failed, and is a dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
    },
    /// Nothing was changed.
    Error {
        /// What happened, for programs.
        #[schema(schema_with = super::openapi::code_schema)]
        code: &'static str,
        /// What happened, for people.
        detail: String,
    },
}

fn yes() -> bool {
    true
}

/// `null` is a result too, not the lack of one.
fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(
    json: D,
) -> std::result::Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// A result's own copy: it must not keep the whole body in memory.
fn owned(result: &RawValue) -> Bytes {
    Bytes::copy_from_slice(result.get().as_bytes())
}

/// The token, if it is for this job.
fn checked(id: JobId, token: LeaseToken) -> Result<LeaseToken> {
    if token.job() == id {
        return Ok(token);
    }
    let message = format!("is for the job {}, not for {id}; use each job's own token", token.job());
    Err(Error::invalid("token", message))
}

/// The ids of all items in the order of their outcomes, and what the queue shall do.
pub(super) fn finished(
    acks: Vec<AckItem<'_>>,
    fails: Vec<FailItem>,
) -> Result<(Vec<JobId>, Settle)> {
    let ids = acks.iter().map(|ack| ack.id).chain(fails.iter().map(|fail| fail.id)).collect();
    let acks = acks.into_iter().enumerate().map(|(place, ack)| {
        checked(ack.id, ack.token)
            .map(|token| Ack { token, result: ack.result.map(owned) })
            .map_err(|error| error.inside(&format!("acks[{place}]")))
    });
    let fails = fails.into_iter().enumerate().map(|(place, fail)| {
        let FailItem { id, token, error, retry, retry_in_ms } = fail;
        checked(id, token)
            .map(|token| Failure { token, error, retry, retry_in_ms })
            .map_err(|error| error.inside(&format!("fails[{place}]")))
    });
    Ok((ids, Settle { acks: acks.collect::<Result<_>>()?, fails: fails.collect::<Result<_>>()? }))
}

/// Each outcome with the id that it is about.
pub(super) fn outcomes(ids: &[JobId], outcomes: Vec<SettleOutcome>) -> Vec<OutcomeReply> {
    let told = |outcome| match outcome {
        Ok(None) => Outcome::Acked,
        Ok(Some(Failed::Retrying { run_at })) => Outcome::Retrying { run_at },
        Ok(Some(Failed::Dead { reason })) => Outcome::Dead { reason },
        Err(error) => Outcome::Error { code: code(&error), detail: error.to_string() },
    };
    let pairs = ids.iter().zip(outcomes);
    pairs.map(|(id, outcome)| OutcomeReply { id: *id, outcome: told(outcome) }).collect()
}

impl From<Failed> for FailReply {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Retrying { run_at } => FailReply::Retrying { run_at },
            Failed::Dead { reason } => FailReply::Dead { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const A: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    const B: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAW";

    fn read(text: &str) -> Result<(Vec<JobId>, Settle)> {
        let body = JsonBody::from(text);
        let request: SettleRequest<'_> = body.parse()?;
        finished(request.acks, request.fails)
    }

    #[test]
    fn acks_come_before_fails() {
        let (ids, settle) = read(&format!(
            r#"{{"fails":[{{"id":"{A}","token":"{A}-1","error":"no"}}],
                 "acks":[{{"id":"{B}","token":"{B}-2"}}]}}"#
        ))
        .unwrap();
        assert_eq!(ids, [B.parse().unwrap(), A.parse::<JobId>().unwrap()]);
        let token: LeaseToken = format!("{B}-2").parse().unwrap();
        assert_eq!(settle.acks, [Ack::from(token)]);
        let [fail] = settle.fails.as_slice() else { panic!("{settle:?}") };
        assert!(fail.retry && fail.retry_in_ms.is_none());
    }

    #[test]
    fn a_result_is_read_byte_for_byte() {
        let read =
            |result: &str| read(&format!(r#"{{"acks":[{{"id":"{A}","token":"{A}-1"{result}}}]}}"#));
        let result = |text: &str| read(text).unwrap().1.acks.remove(0).result;
        assert_eq!(result(""), None);
        assert_eq!(result(r#","result": {"a" : 1.50e+1} "#), Some(r#"{"a" : 1.50e+1}"#.into()));
        assert_eq!(result(r#","result":null"#), Some("null".into()));
    }

    #[test]
    fn a_bad_token_is_named_with_its_place() {
        let good = format!(r#"{{"id":"{A}","token":"{A}-1"}}"#);
        let field = |text: &str| read(text).unwrap_err().field().unwrap().to_owned();
        let malformed = format!(r#"{{"acks":[{good},{good},{{"id":"{A}","token":"x"}}]}}"#);
        assert_eq!(field(&malformed), "acks[2].token");
        let swapped = format!(r#"{{"acks":[{good},{{"id":"{A}","token":"{B}-1"}}]}}"#);
        assert_eq!(field(&swapped), "acks[1].token");
        let swapped = format!(r#"{{"fails":[{{"id":"{A}","token":"{B}-1","error":"no"}}]}}"#);
        assert_eq!(field(&swapped), "fails[0].token");
        let result = format!(r#"{{"acks":[{{"id":"{A}","token":"{A}-1","results":1}}]}}"#);
        assert_eq!(field(&result), "acks[0].results");
        let silent = format!(r#"{{"fails":[{{"id":"{A}","token":"{A}-1"}}]}}"#);
        assert_eq!(field(&silent), "fails[0].error");
        let many = vec![good; SETTLE_ITEMS_MAX + 1].join(",");
        assert_eq!(field(&format!(r#"{{"acks":[{many}]}}"#)), "acks");
    }

    #[test]
    fn each_outcome_says_what_became_of_its_job() {
        let id: JobId = A.parse().unwrap();
        let run_at = Timestamp::from_ms(0);
        let told = outcomes(
            &[id; 4],
            vec![
                Ok(None),
                Ok(Some(Failed::Retrying { run_at })),
                Ok(Some(Failed::Dead { reason: DeadReason::Rejected })),
                Err(Error::new(ErrorKind::LeaseLost, "the lease has ended")),
            ],
        );
        let told: Vec<String> =
            told.iter().map(|one| serde_json::to_string(one).unwrap()).collect();
        let expected = [
            r#""outcome":"acked""#,
            r#""outcome":"retrying","run_at":"1970-01-01T00:00:00.000Z""#,
            r#""outcome":"dead","reason":"rejected""#,
            r#""outcome":"error","code":"lease_lost","detail":"the lease has ended""#,
        ]
        .map(|rest| format!(r#"{{"id":"{A}",{rest}}}"#));
        assert_eq!(told, expected);
        let reply: FailReply = Failed::Retrying { run_at }.into();
        let reply = serde_json::to_string(&reply).unwrap();
        assert_eq!(reply, r#"{"state":"retrying","run_at":"1970-01-01T00:00:00.000Z"}"#);
    }
}
