//! A job as JSON, the same in every answer.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, FailedAttempt};
use crate::job::{JobId, JobState, JobView, Payload};
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
#[derive(Serialize)]
pub(super) struct JobReply<'a> {
    id: JobId,
    state: JobState,
    queue: &'a str,
    kind: &'a str,
    priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    headers: &'a BTreeMap<String, String>,
    attempt: u32,
    max_attempts: u32,
    interruptions: u32,
    max_interruptions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    enqueued_at: Timestamp,
    run_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<u8>,
    /// True while the job runs although it was cancelled; not there otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<DeadReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    died_at: Option<Timestamp>,
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
            worker: running.and_then(|running| running.worker.as_deref()),
            started_at: running.map(|running| running.started_at),
            expires_at: running.map(|running| running.expires_at),
            progress: running.and_then(|running| running.progress),
            cancelled: running.and_then(|running| running.cancelled.then_some(true)),
            reason: job.dead.map(|dead| dead.reason),
            died_at: job.dead.map(|dead| dead.died_at),
            errors: &job.errors,
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
