//! A job as JSON, the same in every answer.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, FailedAttempt};
use crate::job::{Found, JobId, JobResult, JobState, JobView, Payload, WaitsFor};
use crate::priority::Priority;

/// A payload as it goes out: JSON text byte for byte, anything else as base64.
///
/// A program that embeds the queue may have called bytes JSON that are none; they go out as
/// base64 too, because they would break the answer.
pub(super) fn payload_fields(payload: &Payload) -> (Option<&RawValue>, Option<String>) {
    let json = match payload {
        Payload::Json(text) => serde_json::from_slice::<&RawValue>(text).ok(),
        Payload::Binary(_) => None,
    };
    let base64 = json.is_none().then(|| BASE64_STANDARD.encode(payload.bytes()));
    (json, base64)
}

/// A job as a reader sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobReply<'a> {
    /// The job's id.
    id: JobId,
    /// Where it is in its life.
    state: JobState,
    /// The queue it is in.
    queue: &'a str,
    /// What is to be done.
    kind: &'a str,
    /// How urgent it is.
    priority: Priority,
    /// What the worker gets, byte for byte as it was handed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    payload: Option<&'a RawValue>,
    /// What the worker gets, when it was not handed in as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, content_encoding = "base64")]
    payload_base64: Option<String>,
    /// Names and values beside the payload.
    headers: &'a BTreeMap<String, String>,
    /// The attempt it is at, from 1. A failure counts it up, an interruption does not.
    attempt: u32,
    /// How often it may fail in all.
    max_attempts: u32,
    /// How often its lease ran out.
    interruptions: u32,
    /// How often its lease may run out.
    max_interruptions: u32,
    /// How long one attempt may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timeout_ms: Option<u64>,
    /// When it was enqueued.
    enqueued_at: Timestamp,
    /// When it may run (scheduled, retrying), or since when it could.
    run_at: Timestamp,
    /// Its unique key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unique_key: Option<&'a str>,
    /// Its concurrency key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    concurrency_key: Option<&'a str>,
    /// Its ordering key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ordering_key: Option<&'a str>,
    /// Of a ready job that can't be claimed yet: the key for which it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    waits_for: Option<&'a WaitsFor>,
    /// While it runs: the name that its worker gave, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    worker: Option<&'a str>,
    /// While it runs: when it was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    started_at: Option<Timestamp>,
    /// While it runs: when its lease ends unless it is extended. While it waits for its first
    /// start: when it is dead without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Timestamp>,
    /// While it runs: how far it is in percent, as last told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100)]
    progress: Option<u8>,
    /// While it runs: true when it was cancelled, and is gone when its lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cancelled: Option<bool>,
    /// Of a dead letter: why it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<DeadReason>,
    /// Of a dead letter: when it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    died_at: Option<Timestamp>,
    /// Its last 8 failures, oldest first.
    errors: &'a [FailedAttempt],
}

impl<'a> From<&'a JobView> for JobReply<'a> {
    fn from(job: &'a JobView) -> Self {
        let (payload, payload_base64) = payload_fields(&job.payload);
        let running = job.running.as_ref();
        JobReply {
            id: job.id,
            state: job.state,
            queue: &job.queue,
            kind: &job.kind,
            priority: job.priority,
            payload,
            payload_base64,
            headers: &job.headers,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            interruptions: job.interruptions,
            max_interruptions: job.max_interruptions,
            timeout_ms: job.timeout_ms,
            enqueued_at: job.enqueued_at,
            run_at: job.run_at,
            unique_key: job.unique_key.as_deref(),
            concurrency_key: job.concurrency_key.as_deref(),
            ordering_key: job.ordering_key.as_deref(),
            waits_for: job.waits_for.as_ref(),
            worker: running.and_then(|running| running.worker.as_deref()),
            started_at: running.map(|running| running.started_at),
            expires_at: running.map(|running| running.expires_at).or(job.expires_at),
            progress: running.and_then(|running| running.progress),
            cancelled: running.and_then(|running| running.cancelled.then_some(true)),
            reason: job.dead.map(|dead| dead.reason),
            died_at: job.dead.map(|dead| dead.died_at),
            errors: &job.errors,
        }
    }
}

/// A job, or the result of one that is done.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Found)]
pub(super) enum FoundReply<'a> {
    Job(Box<JobReply<'a>>),
    Done(ResultReply<'a>),
}

/// A job that is done, with its result.
#[derive(Serialize, ToSchema)]
#[schema(as = JobResult)]
pub(super) struct ResultReply<'a> {
    /// The job's id.
    id: JobId,
    /// That it is done.
    state: Done,
    /// The queue it was in.
    queue: &'a str,
    /// What was done.
    kind: &'a str,
    /// How urgent it was.
    priority: Priority,
    /// The attempt that succeeded, from 1.
    attempt: u32,
    /// When it was enqueued.
    enqueued_at: Timestamp,
    /// When it was acked.
    finished_at: Timestamp,
    /// Until when the result is kept.
    expires_at: Timestamp,
    /// What its worker gave back, byte for byte.
    #[schema(value_type = Value)]
    result: &'a RawValue,
}

/// The state of a job that is no more.
#[derive(Serialize, ToSchema)]
enum Done {
    #[serde(rename = "done")]
    Done,
}

impl<'a> From<&'a Found> for FoundReply<'a> {
    fn from(found: &'a Found) -> Self {
        match found {
            Found::Job(job) => FoundReply::Job(Box::new(JobReply::from(&**job))),
            Found::Done(result) => FoundReply::Done(ResultReply::from(result)),
        }
    }
}

impl<'a> From<&'a JobResult> for ResultReply<'a> {
    fn from(done: &'a JobResult) -> Self {
        ResultReply {
            id: done.id,
            state: Done::Done,
            queue: &done.queue,
            kind: &done.kind,
            priority: done.priority,
            attempt: done.attempt,
            enqueued_at: done.enqueued_at,
            finished_at: done.finished_at,
            expires_at: done.expires_at,
            // It was checked to be JSON before it was kept.
            result: serde_json::from_slice(&done.result).unwrap_or(RawValue::NULL),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dead(payload: Payload) -> JobView {
        JobView {
            id: JobId::from_u128(7),
            state: JobState::Dead,
            queue: "mails".to_owned(),
            kind: "mail".to_owned(),
            priority: Priority::Low,
            payload,
            headers: BTreeMap::new(),
            attempt: 3,
            max_attempts: 3,
            interruptions: 0,
            max_interruptions: 5,
            timeout_ms: None,
            enqueued_at: Timestamp::from_ms(1),
            run_at: Timestamp::from_ms(2),
            expires_at: None,
            unique_key: None,
            concurrency_key: None,
            ordering_key: None,
            waits_for: None,
            running: None,
            dead: Some(crate::job::DeadView {
                reason: DeadReason::Exhausted,
                died_at: Timestamp::from_ms(3),
            }),
            errors: vec![],
        }
    }

    fn reply(payload: Payload) -> String {
        serde_json::to_string(&JobReply::from(&dead(payload))).unwrap()
    }

    #[test]
    fn a_dead_letter_says_why_and_has_no_holder() {
        let reply = reply(Payload::Json("{ \"n\": 1.50e+1 }".into()));
        let start = concat!(
            r#"{"id":"00000000000000000000000007","state":"dead","queue":"mails","kind":"mail","#,
            r#""priority":"low","payload":{ "n": 1.50e+1 },"headers":{},"attempt":3,"#,
        );
        assert!(reply.starts_with(start), "{reply}");
        assert!(
            reply.ends_with(
                r#""reason":"exhausted","died_at":"1970-01-01T00:00:00.003Z","errors":[]}"#
            ),
            "{reply}"
        );
        assert!(!reply.contains("worker"), "{reply}");
    }

    #[test]
    fn a_result_goes_out_as_it_came() {
        let done = JobResult {
            id: JobId::from_u128(7),
            queue: "mails".to_owned(),
            kind: "mail".to_owned(),
            priority: Priority::Low,
            attempt: 2,
            enqueued_at: Timestamp::from_ms(1),
            finished_at: Timestamp::from_ms(2),
            expires_at: Timestamp::from_ms(3),
            result: "{ \"n\": 1.50e+1 }".into(),
        };
        let reply = serde_json::to_string(&ResultReply::from(&done)).unwrap();
        let expected = concat!(
            r#"{"id":"00000000000000000000000007","state":"done","queue":"mails","kind":"mail","#,
            r#""priority":"low","attempt":2,"enqueued_at":"1970-01-01T00:00:00.001Z","#,
            r#""finished_at":"1970-01-01T00:00:00.002Z","#,
            r#""expires_at":"1970-01-01T00:00:00.003Z","result":{ "n": 1.50e+1 }}"#,
        );
        assert_eq!(reply, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_leave_the_answer_whole(bytes: Vec<u8>) {
            for payload in [Payload::Binary(bytes.clone().into()), Payload::Json(bytes.into())] {
                let reply = reply(payload);
                let read = serde_json::from_str::<serde_json::Value>(&reply);
                prop_assert!(read.is_ok(), "{}", reply);
            }
        }
    }
}
