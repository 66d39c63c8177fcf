//! The verbs over HTTP: each makes the JSON of its call and reads the reply into the library's
//! own types. Every problem on the way is checked to be one as RFC 9457 has it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pulk::dead_letter::{DeadReason, FailedAttempt};
use pulk::job::{DeadView, Enqueued, RunningView, WaitsFor};
use pulk::queue::{
    Ack, Cancelled, Claim, Claimed, ClaimedJob, Extended, Failed, Failure, Limits, QueueView, Rate,
    Released, Settle, SettleOutcome,
};
use pulk::{
    Error, ErrorKind, JobId, JobState, JobView, LeaseToken, NewJob, Payload, Priority, Result,
    RunAt, Timestamp,
};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::node::{Answer, Http};
use crate::queue_reply::{QueueReply, QueuesReply};
use crate::settle_call::{
    AckCall, OutcomeReply, SettleReply, fail_fields, outcomes_of, settle_lists,
};

// ---- calls ----

pub async fn enqueue(node: &Http, job: &NewJob) -> Result<Enqueued> {
    let body = serde_json::to_vec(&JobCall::new(job)).unwrap();
    let answer = match &job.idempotency_key {
        Some(key) => node.post_with("/v1/jobs", ("idempotency-key", key), body).await,
        None => node.post("/v1/jobs", body).await,
    };
    let is_new = answer.status != 200;
    let reply: EnqueuedReply = read(&answer, if is_new { 201 } else { 200 })?;
    Ok(Enqueued { is_new, ..reply.into() })
}

pub async fn enqueue_many(node: &Http, jobs: &[NewJob]) -> Result<Vec<JobId>> {
    let jobs: Vec<JobCall<'_>> = jobs.iter().map(JobCall::new).collect();
    let body = serde_json::to_vec(&BTreeMap::from([("jobs", jobs)])).unwrap();
    let reply: BatchReply = read(&node.post("/v1/jobs/batch", body).await, 201)?;
    Ok(reply.ids)
}

pub fn claim_body(claim: &Claim) -> String {
    let body = json!({
        "queues": claim.queues,
        "priorities": claim.priorities,
        "kinds": claim.kinds,
        "limit": claim.limit,
        "wait_ms": claim.wait_ms,
        "lease_ms": claim.lease_ms,
        "worker": claim.worker,
    });
    let body = body.to_string();
    if claim.settle.is_empty() {
        return body;
    }
    // As text: a result must go out as it is.
    format!("{},{}", body.trim_end_matches('}'), &to_text(&settle_lists(&claim.settle))[1..])
}

pub async fn claim(node: &Http, claim: &Claim) -> Result<Claimed> {
    let reply: ClaimReply = read(&node.post("/v1/claim", claim_body(claim)).await, 200)?;
    let jobs = reply.jobs.into_iter().map(ClaimedReply::into_job).collect();
    assert_eq!(reply.outcomes.is_some(), !claim.settle.is_empty());
    let outcomes = reply.outcomes.unwrap_or_default();
    Ok(Claimed { jobs, outcomes: outcomes_of(&claim.settle, outcomes) })
}

pub async fn ack(node: &Http, ack: &Ack) -> Result<()> {
    let token = ack.token;
    let answer = node.post(&of(token, "ack"), to_text(&AckCall::new(ack, false))).await;
    match answer.status {
        204 if answer.body.is_empty() => Ok(()),
        _ => Err(problem(&answer)),
    }
}

pub async fn fail(node: &Http, failure: &Failure) -> Result<Failed> {
    let mut body = fail_fields(failure);
    body.as_object_mut().unwrap().remove("id");
    let answer = node.post(&of(failure.token, "fail"), body.to_string()).await;
    Ok(match read(&answer, 200)? {
        FailReply::Retrying { run_at } => Failed::Retrying { run_at },
        FailReply::Dead { reason } => Failed::Dead { reason },
    })
}

pub async fn settle(node: &Http, settle: &Settle) -> Result<Vec<SettleOutcome>> {
    let body = to_text(&settle_lists(settle));
    let reply: SettleReply = read(&node.post("/v1/settle", body).await, 200)?;
    Ok(outcomes_of(settle, reply.outcomes))
}

pub async fn extend(
    node: &Http,
    token: LeaseToken,
    lease_ms: Option<u64>,
    progress: Option<u8>,
) -> Result<Extended> {
    let body = json!({"token": token, "lease_ms": lease_ms, "progress": progress});
    let answer = node.post(&of(token, "extend"), body.to_string()).await;
    let ExtendReply { expires_at, cancelled } = read(&answer, 200)?;
    Ok(Extended { expires_at, cancelled })
}

pub async fn release(node: &Http, token: LeaseToken, delay_ms: Option<u64>) -> Result<Released> {
    let body = json!({"token": token, "delay_ms": delay_ms}).to_string();
    let answer = node.post(&of(token, "release"), body).await;
    let ReleaseReply { state, run_at } = read(&answer, 200)?;
    Ok(Released { state, run_at })
}

pub async fn job(node: &Http, path: &str) -> Result<JobView> {
    read::<JobReply>(&node.get(path).await, 200).map(JobReply::into_view)
}

pub async fn cancel(node: &Http, id: JobId) -> Result<Cancelled> {
    let answer = node.delete(&format!("/v1/jobs/{id}")).await;
    let reply: CancelReply = read(&answer, 200)?;
    assert_eq!(reply.id, id);
    Ok(match reply.state.as_str() {
        "cancelled" => Cancelled::Gone,
        "running" => Cancelled::Running,
        other => panic!("{other} is no answer to a cancel"),
    })
}

pub async fn queues(node: &Http) -> Result<Vec<QueueView>> {
    let list: QueuesReply = read(&node.get("/v1/queues").await, 200)?;
    Ok(list.queues.into_iter().map(QueueReply::into_view).collect())
}

pub async fn queue(node: &Http, name: &str) -> Result<QueueView> {
    let answer = node.get(&format!("/v1/queues/{}", escaped(name))).await;
    read::<QueueReply>(&answer, 200).map(QueueReply::into_view)
}

/// `pause` or `resume`.
pub async fn switch(node: &Http, name: &str, verb: &str) -> Result<QueueView> {
    let path = format!("/v1/queues/{}/{verb}", escaped(name));
    read::<QueueReply>(&node.post(&path, "{}").await, 200).map(QueueReply::into_view)
}

pub async fn set_limits(node: &Http, name: &str, limits: Limits) -> Result<QueueView> {
    let Limits { concurrency, rate, concurrency_per_key } = limits;
    let rate = rate.map(|Rate { jobs, per_ms, burst }| RateCall { jobs, per_ms, burst });
    let call = LimitsCall { concurrency, rate, concurrency_per_key };
    let body = serde_json::to_string(&call).unwrap();
    let path = format!("/v1/queues/{}/limits", escaped(name));
    read::<QueueReply>(&node.put(&path, body).await, 200).map(QueueReply::into_view)
}

fn of(token: LeaseToken, verb: &str) -> String {
    format!("/v1/jobs/{}/{verb}", token.job())
}

pub fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

// ---- what goes out ----

#[derive(Serialize)]
struct LimitsCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_per_key: Option<u32>,
}

#[derive(Serialize)]
struct RateCall {
    jobs: u32,
    per_ms: u64,
    burst: u32,
}

#[derive(Serialize)]
struct JobCall<'a> {
    queue: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    max_attempts: Option<u32>,
    max_interruptions: Option<u32>,
    retry: Option<pulk::retry::RetryPolicy>,
    timeout_ms: Option<u64>,
    expires_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<Value>,
    concurrency_key: Option<&'a str>,
    ordering_key: Option<&'a str>,
    headers: &'a BTreeMap<String, String>,
}

impl<'a> JobCall<'a> {
    fn new(job: &'a NewJob) -> Self {
        let (payload, payload_base64) = match &job.payload {
            Payload::Json(text) => (Some(serde_json::from_slice(text).unwrap()), None),
            Payload::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
        };
        let (delay_ms, run_at) = match job.run_at {
            RunAt::Now => (None, None),
            RunAt::DelayMs(delay_ms) => (Some(delay_ms), None),
            RunAt::At(moment) => (None, Some(moment)),
        };
        JobCall {
            queue: &job.queue,
            kind: &job.kind,
            payload,
            payload_base64,
            priority: job.priority,
            delay_ms,
            run_at,
            max_attempts: job.max_attempts,
            max_interruptions: job.max_interruptions,
            retry: job.retry,
            timeout_ms: job.timeout_ms,
            expires_in_ms: job.expires_in_ms,
            unique: job.unique.as_ref().map(|unique| {
                let pulk::job::Unique { key, ttl_ms, on_conflict } = unique;
                json!({"key": key, "ttl_ms": ttl_ms, "on_conflict": on_conflict})
            }),
            concurrency_key: job.concurrency_key.as_deref(),
            ordering_key: job.ordering_key.as_deref(),
            headers: &job.headers,
        }
    }
}

fn to_text(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap()
}

// ---- what comes back ----

pub fn read<T: DeserializeOwned>(answer: &Answer, status: u16) -> Result<T> {
    if answer.status != status {
        return Err(problem(answer));
    }
    assert_eq!(answer.headers["content-type"], "application/json");
    Ok(serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
}

pub fn problem(answer: &Answer) -> Error {
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem.status, answer.status);
    let kind = kind_of(&problem.code);
    let error = match (kind, problem.field) {
        (ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Conflict, Some(field)) => {
            Error::new(kind, problem.detail).at_field(field)
        }
        (_, None) => Error::new(kind, problem.detail),
        (_, Some(field)) => panic!("{kind:?} names the field {field}"),
    };
    match problem.id {
        Some(id) => error.about_job(id),
        None => error,
    }
}

pub fn kind_of(code: &str) -> ErrorKind {
    match code {
        "bad_request" => ErrorKind::Invalid,
        "not_found" => ErrorKind::NotFound,
        "conflict" => ErrorKind::Conflict,
        "lease_lost" => ErrorKind::LeaseLost,
        "cancelled" => ErrorKind::Cancelled,
        "too_large" => ErrorKind::TooLarge,
        "queue_full" => ErrorKind::Full,
        "too_many_queues" => ErrorKind::TooManyQueues,
        "disk_full" => ErrorKind::DiskFull,
        "draining" => ErrorKind::Draining,
        "storage_failed" => ErrorKind::Poisoned,
        other => panic!("the code {other} is not one that a promise expects"),
    }
}

#[derive(Deserialize)]
struct Problem {
    status: u16,
    code: String,
    detail: String,
    field: Option<String>,
    id: Option<JobId>,
}

#[derive(Deserialize)]
pub struct EnqueuedReply {
    id: JobId,
    state: JobState,
    queue: String,
    priority: Priority,
    run_at: Timestamp,
    replaced: Option<JobId>,
}

impl From<EnqueuedReply> for Enqueued {
    fn from(reply: EnqueuedReply) -> Self {
        let EnqueuedReply { id, state, queue, priority, run_at, replaced } = reply;
        Enqueued { id, state, queue, priority, run_at, replaced, is_new: false }
    }
}

#[derive(Deserialize)]
struct BatchReply {
    ids: Vec<JobId>,
}

#[derive(Deserialize)]
struct ClaimReply {
    jobs: Vec<ClaimedReply>,
    outcomes: Option<Vec<OutcomeReply>>,
}

#[derive(Deserialize)]
struct LeaseReply {
    token: LeaseToken,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct ClaimedReply {
    id: JobId,
    queue: String,
    kind: String,
    priority: Priority,
    #[serde(default, deserialize_with = "even_null")]
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
    headers: BTreeMap<String, String>,
    attempt: u32,
    max_attempts: u32,
    timeout_ms: Option<u64>,
    lease: LeaseReply,
}

impl ClaimedReply {
    fn into_job(self) -> ClaimedJob {
        ClaimedJob {
            id: self.id,
            queue: self.queue,
            kind: self.kind,
            priority: self.priority,
            payload: payload(self.payload, self.payload_base64),
            headers: self.headers,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            timeout_ms: self.timeout_ms,
            token: self.lease.token,
            expires_at: self.lease.expires_at,
        }
    }
}

fn payload(json: Option<Box<RawValue>>, base64: Option<String>) -> Payload {
    match (json, base64) {
        (Some(json), None) => Payload::Json(json.get().to_owned().into()),
        (None, Some(base64)) => Payload::Binary(BASE64_STANDARD.decode(base64).unwrap().into()),
        both => panic!("one payload, not {both:?}"),
    }
}

/// `null` is a payload, not the lack of one.
fn even_null<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(json).map(Some)
}

#[derive(Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum FailReply {
    Retrying { run_at: Timestamp },
    Dead { reason: DeadReason },
}

#[derive(Deserialize)]
struct ExtendReply {
    expires_at: Timestamp,
    cancelled: bool,
}

#[derive(Deserialize)]
struct ReleaseReply {
    state: JobState,
    run_at: Timestamp,
}

#[derive(Deserialize)]
struct CancelReply {
    id: JobId,
    state: String,
}

#[derive(Deserialize)]
pub struct JobReply {
    id: JobId,
    state: JobState,
    queue: String,
    kind: String,
    priority: Priority,
    #[serde(default, deserialize_with = "even_null")]
    payload: Option<Box<RawValue>>,
    payload_base64: Option<String>,
    headers: BTreeMap<String, String>,
    attempt: u32,
    max_attempts: u32,
    interruptions: u32,
    max_interruptions: u32,
    timeout_ms: Option<u64>,
    enqueued_at: Timestamp,
    run_at: Timestamp,
    unique_key: Option<String>,
    concurrency_key: Option<String>,
    ordering_key: Option<String>,
    waits_for: Option<BTreeMap<String, String>>,
    worker: Option<String>,
    started_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    progress: Option<u8>,
    cancelled: Option<bool>,
    reason: Option<DeadReason>,
    died_at: Option<Timestamp>,
    errors: Vec<ErrorReply>,
}

#[derive(Deserialize)]
struct ErrorReply {
    attempt: u32,
    failed_at: Timestamp,
    error: String,
}

fn waits_for(mut told: BTreeMap<String, String>) -> WaitsFor {
    match told.pop_first().unwrap() {
        (name, key) if name == "ordering_key" => WaitsFor::OrderingKey(key),
        (name, key) if name == "concurrency_key" => WaitsFor::ConcurrencyKey(key),
        other => panic!("{other:?}"),
    }
}

impl JobReply {
    pub fn into_view(self) -> JobView {
        let (worker, progress) = (self.worker, self.progress);
        let cancelled = self.cancelled.unwrap_or(false);
        let running = self.started_at.zip(self.expires_at).map(|(started_at, expires_at)| {
            RunningView { worker, started_at, expires_at, progress, cancelled }
        });
        let dead = self.reason.zip(self.died_at);
        let errors = self.errors.into_iter().map(|one| {
            let ErrorReply { attempt, failed_at, error } = one;
            FailedAttempt { attempt, failed_at, error }
        });
        JobView {
            id: self.id,
            state: self.state,
            queue: self.queue,
            kind: self.kind,
            priority: self.priority,
            payload: payload(self.payload, self.payload_base64),
            headers: self.headers,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            interruptions: self.interruptions,
            max_interruptions: self.max_interruptions,
            timeout_ms: self.timeout_ms,
            enqueued_at: self.enqueued_at,
            run_at: self.run_at,
            expires_at: self.expires_at.filter(|_| running.is_none()),
            unique_key: self.unique_key,
            concurrency_key: self.concurrency_key,
            ordering_key: self.ordering_key,
            waits_for: self.waits_for.map(waits_for),
            running,
            dead: dead.map(|(reason, died_at)| DeadView { reason, died_at }),
            errors: errors.collect(),
        }
    }
}
