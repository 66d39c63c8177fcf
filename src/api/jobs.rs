//! Enqueue one or many, and look one up.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::ApiState;
use super::batch::{Batch, BatchBody, BatchRequest};
use super::body::{JsonBody, Object, PathId};
use super::error::Problem;
use super::job_reply::FoundReply;
use super::openapi::{BadBody, BadCall, Conflict, NoRoom, NotFound, NotReady};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{
    Enqueued, JobId, NewJob, OnConflict, Payload, RunAt, Unique, validate_idempotency_key,
};
use crate::priority::Priority;
use crate::queue::Cancelled;
use crate::retry::RetryPolicy;

/// The header that makes a repeated call get the answer of the first.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Enqueue a job.
///
/// 201: the job is on the disk. Its queue is made by its first job.
#[utoipa::path(
    post, path = "/v1/jobs", operation_id = "enqueue", tag = "jobs",
    params((
        "Idempotency-Key" = inline(Option<String>), Header,
        description = "Names this call, in visible ASCII. Who makes it again within 24 hours gets \
            the first answer with 200, and no second job.",
        min_length = 1, max_length = 256, pattern = "^[!-~]+$",
    )),
    request_body = JobRequest<'_>,
    responses(
        (status = 201, description = "The job is on the disk.", body = Enqueued),
        (status = 200, body = Enqueued, description = "Nothing was taken in: the job holds the \
            unique key already, or this is the answer to the first call with this \
            `Idempotency-Key`."),
        BadBody, Conflict, NoRoom, NotReady,
    ),
)]
pub(super) async fn enqueue(
    State(api): State<ApiState>,
    headers: HeaderMap,
    body: Result<JsonBody, Problem>,
) -> Result<Response, Problem> {
    let enqueued = async {
        let idempotency_key = idempotency_key(&headers)?;
        let body = body?;
        let job = body.parse::<JobRequest<'_>>()?.into_job(&api.config().retry)?;
        Ok::<Enqueued, Problem>(api.queue()?.enqueue(NewJob { idempotency_key, ..job }).await?)
    };
    let enqueued = enqueued.await.inspect_err(|problem| count_rejected(&api, problem))?;
    let status = if enqueued.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(enqueued)).into_response())
}

/// Enqueue many jobs.
///
/// Up to 10,000 jobs of together 4 MiB in one commit: all of them or none. They may also come as
/// `application/x-ndjson`, a JSON object on a line for each job; empty lines are passed over. Where
/// a job's unique key is held by another one, and that is to be returned, stands the other's id.
#[utoipa::path(
    post, path = "/v1/jobs/batch", operation_id = "enqueue_many", tag = "jobs",
    request_body(content(
        (BatchRequest<'_> = "application/json"),
        (String = "application/x-ndjson", example = "{\"kind\":\"a\"}\n{\"kind\":\"b\"}\n"),
    )),
    responses(
        (status = 201, description = "All jobs are on the disk.", body = BatchReply),
        BadBody, Conflict, NoRoom, NotReady,
    ),
)]
pub(super) async fn enqueue_many(
    State(api): State<ApiState>,
    headers: HeaderMap,
    body: Result<BatchBody, Problem>,
) -> Result<Response, Problem> {
    let enqueued = async {
        if headers.contains_key(IDEMPOTENCY_KEY) {
            let message = "names one call with one job; in a batch give each job a unique key";
            return Err(Error::invalid(IDEMPOTENCY_KEY, message).into());
        }
        let Batch { jobs, places } = body?.read(&api.config().retry)?;
        let enqueued = api.queue()?.enqueue_many(jobs).await;
        Ok::<Vec<Enqueued>, Problem>(enqueued.map_err(|error| places.placed(error))?)
    };
    let enqueued = enqueued.await.inspect_err(|problem| count_rejected(&api, problem))?;
    let ids = enqueued.into_iter().map(|enqueued| enqueued.id).collect();
    Ok((StatusCode::CREATED, Json(BatchReply { ids })).into_response())
}

/// Look at a job.
///
/// A job that is done is gone: 404, or for a while the result that its worker gave back.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "job", tag = "jobs",
    params(PathId),
    responses(
        (status = 200, description = "The job, or its result.", body = FoundReply<'_>),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let found = api.queue()?.find(id).await?;
    Ok(Json(FoundReply::from(&found)).into_response())
}

/// Cancel a job.
///
/// One that waits or is dead is gone with the answer. One that runs is left to its worker, who is
/// told at the next extend, or by `cancelled` at its ack, fail or release; it is gone when its
/// lease ends, in whatever way.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", operation_id = "cancel", tag = "jobs",
    params(PathId),
    responses(
        (status = 200, description = "It is gone, or will be.", body = CancelReply),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn cancel(
    State(api): State<ApiState>,
    PathId(id): PathId,
) -> Result<Json<CancelReply>, Problem> {
    let state = api.queue()?.cancel(id).await?.into();
    Ok(Json(CancelReply { id, state }))
}

/// The header that names a call.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(key) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Error::invalid(IDEMPOTENCY_KEY, "is there twice; a call has one"));
    }
    let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
    validate_idempotency_key(IDEMPOTENCY_KEY, &key)?;
    Ok(Some(key))
}

fn count_rejected(api: &ApiState, problem: &Problem) {
    if let Some(metrics) = api.metrics() {
        metrics.rejected(problem.code());
    }
}

/// A job to enqueue.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "queue": "mails", "kind": "mail.welcome", "payload": {"to": "ann@example.org"},
    "priority": "high", "delay_ms": 5000, "max_attempts": 5, "headers": {"trace": "4bf92f35"}
})))]
pub(super) struct JobRequest<'a> {
    /// The queue, `default` when left out; never `.` or `..`.
    #[schema(pattern = "^[A-Za-z0-9._:/-]+$", min_length = 1, max_length = 128)]
    pub(super) queue: Option<String>,
    /// What is to be done, for the worker to know; never `.` or `..`.
    #[schema(pattern = "^[A-Za-z0-9._:/-]+$", min_length = 1, max_length = 128)]
    pub(super) kind: String,
    /// What the worker gets: any JSON of at most 1 MiB, kept byte for byte; null when left out.
    #[serde(borrow)]
    #[schema(value_type = Value, required = false)]
    pub(super) payload: Option<&'a RawValue>,
    /// Any bytes instead of `payload`, as standard base64 with padding.
    #[schema(content_encoding = "base64")]
    pub(super) payload_base64: Option<String>,
    /// `default` when left out.
    pub(super) priority: Option<Priority>,
    /// Run it no earlier than so many milliseconds from now; 10 years at most.
    #[schema(maximum = 316_224_000_000_u64)]
    pub(super) delay_ms: Option<u64>,
    /// Run it no earlier than at this moment, instead of `delay_ms`; at once when it is past.
    pub(super) run_at: Option<Timestamp>,
    /// How often it may fail in all; the configured number of its priority when left out.
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) max_attempts: Option<u32>,
    /// How often it may be interrupted; the configured number when left out.
    #[schema(maximum = 1000)]
    pub(super) max_interruptions: Option<u32>,
    /// How long to wait between attempts.
    #[schema(value_type = Option<RetryRequest>)]
    pub(super) retry: Option<Object<RetryRequest>>,
    /// How long one attempt may take, in milliseconds, 7 days at most; longer is a failure.
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub(super) timeout_ms: Option<u64>,
    /// A job that no worker has started so many milliseconds from now is dead, reason `expired`.
    /// More than the delay; 10 years at most.
    #[schema(minimum = 1, maximum = 316_224_000_000_u64)]
    pub(super) expires_in_ms: Option<u64>,
    /// A key that one job of the queue holds at a time.
    #[schema(value_type = Option<UniqueRequest>)]
    pub(super) unique: Option<Object<UniqueRequest>>,
    /// Jobs of the queue with the same key run one at a time, or as many as the queue's limit
    /// `concurrency_per_key` says. Visible text of at most 256 bytes.
    #[schema(min_length = 1, max_length = 256)]
    pub(super) concurrency_key: Option<String>,
    /// Jobs of the queue with the same key run one after the other, in the order in which they
    /// were enqueued (one for later: in which they came due). The next one starts when the one
    /// before is done, dead or cancelled. Visible text of at most 256 bytes.
    #[schema(min_length = 1, max_length = 256)]
    pub(super) ordering_key: Option<String>,
    /// Names and values for the worker beside the payload: at most 32, together 4 KiB.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// How long to wait between attempts; the configured value for what is left out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryRequest {
    /// The delay before the second attempt, in milliseconds, at most `max_ms`; it doubles with
    /// every further one.
    #[schema(maximum = 2_592_000_000_u64)]
    base_ms: Option<u64>,
    /// The longest delay, in milliseconds, 30 days at most.
    #[schema(maximum = 2_592_000_000_u64)]
    max_ms: Option<u64>,
    /// The share of a delay that chance may take off.
    #[schema(minimum = 0, maximum = 1)]
    jitter: Option<f64>,
}

/// What became of a job that was cancelled.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelReply {
    /// The job's id.
    id: JobId,
    /// `cancelled`: it is gone. `running`: it is gone when its lease ends.
    state: CancelledState,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CancelledState {
    Cancelled,
    Running,
}

impl From<Cancelled> for CancelledState {
    fn from(cancelled: Cancelled) -> Self {
        match cancelled {
            Cancelled::Gone => CancelledState::Cancelled,
            Cancelled::Running => CancelledState::Running,
        }
    }
}

/// A key that one job of the queue holds at a time, until it is done, cancelled or dead.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UniqueRequest {
    /// Visible text of at most 256 bytes.
    #[schema(min_length = 1, max_length = 256)]
    key: String,
    /// Free it after so many milliseconds, whatever the job does; 10 years at most.
    #[schema(minimum = 1, maximum = 316_224_000_000_u64)]
    ttl_ms: Option<u64>,
    /// What happens when another job holds it.
    #[serde(default)]
    on_conflict: OnConflict,
}

/// The jobs of a batch.
#[derive(Serialize, ToSchema)]
struct BatchReply {
    /// Their ids, in the order of the request.
    ids: Vec<JobId>,
}

impl JobRequest<'_> {
    pub(super) fn into_job(self, configured: &RetryPolicy) -> Result<NewJob> {
        Ok(NewJob {
            queue: self.queue.unwrap_or_else(|| NewJob::DEFAULT_QUEUE.to_owned()),
            kind: self.kind,
            payload: payload(self.payload, self.payload_base64)?,
            priority: self.priority.unwrap_or_default(),
            run_at: run_at(self.delay_ms, self.run_at)?,
            max_attempts: self.max_attempts,
            max_interruptions: self.max_interruptions,
            retry: self.retry.map(|Object(retry)| retry.over(configured)),
            timeout_ms: self.timeout_ms,
            headers: self.headers,
            unique: self.unique.map(|Object(unique)| unique.into_unique()),
            concurrency_key: self.concurrency_key,
            ordering_key: self.ordering_key,
            expires_in_ms: self.expires_in_ms,
            idempotency_key: None,
        })
    }
}

impl UniqueRequest {
    fn into_unique(self) -> Unique {
        Unique { key: self.key, ttl_ms: self.ttl_ms, on_conflict: self.on_conflict }
    }
}

impl RetryRequest {
    /// What the job does not say is as configured; a base never more than the job's own maximum.
    pub(super) fn over(self, configured: &RetryPolicy) -> RetryPolicy {
        let max_ms = self.max_ms.unwrap_or(configured.max_ms);
        RetryPolicy {
            base_ms: self.base_ms.unwrap_or(configured.base_ms.min(max_ms)),
            max_ms,
            jitter: self.jitter.unwrap_or(configured.jitter),
        }
    }
}

/// The payload's own copy: a job must not keep the whole body in memory.
pub(super) fn payload(json: Option<&RawValue>, base64: Option<String>) -> Result<Payload> {
    match (json, base64) {
        (Some(_), Some(_)) => {
            Err(Error::invalid("payload_base64", "give payload or payload_base64, not both"))
        }
        (Some(json), None) => Ok(Payload::Json(Bytes::copy_from_slice(json.get().as_bytes()))),
        (None, Some(base64)) => BASE64_STANDARD
            .decode(base64)
            .map(|bytes| Payload::Binary(bytes.into()))
            .map_err(|reason| {
                let message = format!("is not standard base64 with padding: {reason}");
                Error::invalid("payload_base64", message)
            }),
        (None, None) => Ok(Payload::default()),
    }
}

fn run_at(delay_ms: Option<u64>, run_at: Option<Timestamp>) -> Result<RunAt> {
    match (delay_ms, run_at) {
        (Some(_), Some(_)) => Err(Error::invalid("delay_ms", "give delay_ms or run_at, not both")),
        (Some(delay_ms), None) => Ok(RunAt::DelayMs(delay_ms)),
        (None, Some(moment)) => Ok(RunAt::At(moment)),
        (None, None) => Ok(RunAt::Now),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::job_reply::payload_fields;
    use super::*;

    fn read(text: &str) -> Result<NewJob> {
        let body = JsonBody::from(text);
        body.parse::<JobRequest<'_>>()?.into_job(&RetryPolicy::default())
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        read(text).unwrap_err().field().unwrap().to_owned()
    }

    #[test]
    fn a_kind_is_enough() {
        assert_eq!(read(r#"{"kind":"mail"}"#).unwrap(), NewJob::new("mail"));
    }

    #[test]
    fn every_field_is_read() {
        let job = read(
            r#"{"queue":"a/b","kind":"mail","payload":[1],"priority":"HIGH","delay_ms":5,
                "max_attempts":9,"max_interruptions":2,"retry":{"max_ms":50},"timeout_ms":70,
                "headers":{"x":"y"},"expires_in_ms":6,
                "concurrency_key":"c","ordering_key":"o",
                "unique":{"key":"a","ttl_ms":7,"on_conflict":"replace"}}"#,
        );
        let expected = NewJob {
            queue: "a/b".to_owned(),
            kind: "mail".to_owned(),
            payload: Payload::Json("[1]".into()),
            priority: Priority::High,
            run_at: RunAt::DelayMs(5),
            max_attempts: Some(9),
            max_interruptions: Some(2),
            retry: Some(RetryPolicy { base_ms: 50, max_ms: 50, jitter: 0.5 }),
            timeout_ms: Some(70),
            headers: [("x".to_owned(), "y".to_owned())].into(),
            unique: Some(Unique::new("a").ttl_ms(7).on_conflict(OnConflict::Replace)),
            expires_in_ms: Some(6),
            concurrency_key: Some("c".to_owned()),
            ordering_key: Some("o".to_owned()),
            idempotency_key: None,
        };
        assert_eq!(job.unwrap(), expected);
        let job =
            read(r#"{"kind":"k","run_at":"2026-11-23T09:15:30+01:00","payload_base64":"AP8="}"#);
        let job = job.unwrap();
        assert_eq!(job.run_at, RunAt::At("2026-11-23T08:15:30Z".parse().unwrap()));
        assert_eq!(job.payload, Payload::Binary(vec![0, 255].into()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(refused(r#"{"kind":"k","unique":"a"}"#), "unique");
        assert_eq!(refused(r#"{"kind":"k","unique":{}}"#), "unique.key");
        assert_eq!(refused(r#"{"kind":"k","unique":{"key":"a","ttl":5}}"#), "unique.ttl");
        let odd = r#"{"kind":"k","unique":{"key":"a","on_conflict":"merge"}}"#;
        assert_eq!(refused(odd), "unique.on_conflict");
        assert_eq!(refused(r#"{"kind":"k","expires_in_ms":"5"}"#), "expires_in_ms");
        assert_eq!(refused(r#"{"kind":"k","priority":"urgent"}"#), "priority");
        assert_eq!(refused(r#"{"kind":"k","max_attempts":-1}"#), "max_attempts");
        assert_eq!(refused(r#"{"kind":"k","max_attempts":1e3}"#), "max_attempts");
        assert_eq!(refused(r#"{"kind":"k","retry":{"jitter":"x"}}"#), "retry.jitter");
        assert_eq!(refused(r#"{"kind":"k","retry":{"factor":2}}"#), "retry.factor");
        assert_eq!(refused(r#"{"kind":"k","retry":[1,2,0.5]}"#), "retry");
        assert_eq!(refused(r#"{"kind":"k","unique":["key"]}"#), "unique");
        assert_eq!(refused(r#"{"kind":"k","run_at":"tomorrow"}"#), "run_at");
        assert_eq!(
            refused(r#"{"kind":"k","delay_ms":1,"run_at":"2026-01-01T00:00:00Z"}"#),
            "delay_ms"
        );
        assert_eq!(refused(r#"{"kind":"k","payload_base64":"AA"}"#), "payload_base64");
        assert_eq!(
            refused(r#"{"kind":"k","payload":1,"payload_base64":"AA=="}"#),
            "payload_base64"
        );
        assert_eq!(refused(r#"{"kind":"k","headers":{"a":1}}"#), "headers.a");
    }

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        for text in [
            r#"{ "b" : 1 , "a":2, "b":3.50e+02 }"#,
            "[1,\n\t2.0, -0, 123456789012345678901234567890]",
            r#""\u00e9 \ud800 é""#,
            "false",
            &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            let job = read(&format!(r#"{{"kind":"k","payload": {text} }}"#)).unwrap();
            assert_eq!(job.payload, Payload::Json(text.to_owned().into()));
            assert_eq!(payload_fields(&job.payload).0.unwrap().get(), text);
        }
    }

    proptest! {
        #[test]
        fn any_json_goes_there_and_back(
            texts in proptest::collection::vec((".*", any::<f64>(), any::<i64>()), 0..4),
            spaces in "[ \n\t]{0,3}",
        ) {
            let items: Vec<String> = texts
                .iter()
                .map(|(text, float, integer)| {
                    let text = serde_json::to_string(text).unwrap();
                    let float = serde_json::to_string(float).unwrap();
                    format!("{{{text}{spaces}:{spaces}[{float},{spaces}{integer}]}}")
                })
                .collect();
            let text = format!("[{}]", items.join(&format!("{spaces},")));
            let job = read(&format!(r#"{{"payload":{spaces}{text}{spaces},"kind":"k"}}"#)).unwrap();
            prop_assert_eq!(payload_fields(&job.payload).0.unwrap().get(), text.as_str());
            prop_assert_eq!(job.payload, Payload::Json(text.into()));
        }

        #[test]
        fn any_bytes_are_a_job_or_an_error_with_a_field(text in ".{0,60}") {
            if let Err(error) = read(&text) {
                prop_assert!(error.field().is_some());
            }
        }
    }
}
