//! Claim: a worker asks for jobs, and may say in the same breath what it has finished.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::ApiState;
use super::body::{JsonBody, objects_at_most};
use super::error::Problem;
use super::job_reply::payload_fields;
use super::openapi::{BadBody, NotReady, QueueFull};
use super::settle::{AckItem, FailItem, OutcomeReply, SETTLE_ITEMS_MAX, finished, outcomes};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::lease::{LEASE_MS_DEFAULT, LeaseToken};
use crate::priority::Priority;
use crate::queue::{Claim, ClaimedJob};

/// Claim jobs.
///
/// Each job comes with a lease: its token is needed to ack, fail, extend or release it before
/// `expires_at`. With nothing to hand out the answer waits up to `wait_ms` for the first job and
/// then has no jobs. Acks and fails that ride along are applied first, in the same commit.
#[utoipa::path(
    post, path = "/v1/claim", operation_id = "claim", tag = "work",
    request_body = Option<ClaimRequest<'_>>,
    responses(
        (status = 200, description = "The jobs, perhaps none.", body = ClaimReply<'_>),
        BadBody, QueueFull, NotReady,
    ),
)]
pub(super) async fn claim(
    State(api): State<ApiState>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (ids, claim) = body.parse::<ClaimRequest<'_>>()?.into_claim()?;
    let claimed = api.queue()?.claim(claim).await?;
    let reply = ClaimReply {
        jobs: claimed.jobs.iter().map(ClaimedReply::from).collect(),
        outcomes: (!ids.is_empty()).then(|| outcomes(&ids, claimed.outcomes)),
    };
    Ok(Json(reply).into_response())
}

/// Which jobs are wanted, and what is finished.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(examples(json!({"queues": ["mails"], "wait_ms": 5000, "worker": "mailer-1"})))]
struct ClaimRequest<'a> {
    /// From these queues only; from all when empty.
    #[schema(max_items = 1000)]
    queues: Vec<String>,
    /// Of these priorities only; of all when empty.
    priorities: Vec<Priority>,
    /// Of these kinds only; of all when empty.
    #[schema(max_items = 1000)]
    kinds: Vec<String>,
    /// How many jobs at most; together they have about 4 MiB of payloads at most.
    #[schema(minimum = 1, maximum = 1000)]
    limit: usize,
    /// How long to wait for the first job, in milliseconds.
    #[schema(maximum = 60_000)]
    wait_ms: u64,
    /// How long the leases are, in milliseconds, 24 hours at most.
    #[schema(minimum = 1, maximum = 86_400_000)]
    lease_ms: u64,
    /// Who claims, for those who look at the jobs: 64 bytes at most.
    #[schema(max_length = 64)]
    worker: Option<String>,
    /// Jobs that are done; together with `fails` 1,000 at most.
    #[serde(borrow, deserialize_with = "objects_at_most::<_, _, SETTLE_ITEMS_MAX>")]
    #[schema(max_items = 1000)]
    acks: Vec<AckItem<'a>>,
    /// Jobs that failed.
    #[serde(deserialize_with = "objects_at_most::<_, _, SETTLE_ITEMS_MAX>")]
    #[schema(max_items = 1000)]
    fails: Vec<FailItem>,
}

impl Default for ClaimRequest<'_> {
    fn default() -> Self {
        ClaimRequest {
            queues: Vec::new(),
            priorities: Vec::new(),
            kinds: Vec::new(),
            limit: 1,
            wait_ms: 0,
            lease_ms: LEASE_MS_DEFAULT,
            worker: None,
            acks: Vec::new(),
            fails: Vec::new(),
        }
    }
}

impl ClaimRequest<'_> {
    fn into_claim(self) -> Result<(Vec<JobId>, Claim)> {
        let (ids, settle) = finished(self.acks, self.fails)?;
        let claim = Claim {
            queues: self.queues,
            priorities: self.priorities,
            kinds: self.kinds,
            limit: self.limit,
            wait_ms: self.wait_ms,
            lease_ms: self.lease_ms,
            worker: self.worker,
            // Who asks over the network outlives this process.
            in_process: false,
            settle,
        };
        Ok((ids, claim))
    }
}

/// What a claim got.
#[derive(Serialize, ToSchema)]
struct ClaimReply<'a> {
    /// The jobs, most urgent first.
    jobs: Vec<ClaimedReply<'a>>,
    /// What became of the acks and then the fails that rode along, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    outcomes: Option<Vec<OutcomeReply>>,
}

/// A claimed job with its lease.
#[derive(Serialize, ToSchema)]
#[schema(as = ClaimedJob)]
struct ClaimedReply<'a> {
    /// The job's id.
    id: JobId,
    /// The queue it is in.
    queue: &'a str,
    /// What is to be done.
    kind: &'a str,
    /// How urgent it is.
    priority: Priority,
    /// What to work on, byte for byte as it was handed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    payload: Option<&'a RawValue>,
    /// What to work on, when it was not handed in as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, content_encoding = "base64")]
    payload_base64: Option<String>,
    /// Names and values beside the payload.
    headers: &'a BTreeMap<String, String>,
    /// The attempt it is at, from 1.
    attempt: u32,
    /// How often it may fail in all.
    max_attempts: u32,
    /// How long this attempt may take, in milliseconds; longer is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timeout_ms: Option<u64>,
    /// The right to finish it.
    lease: LeaseReply,
}

/// The right to finish a job.
#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
struct LeaseReply {
    /// Proves the right.
    token: LeaseToken,
    /// When it ends unless it is extended.
    expires_at: Timestamp,
}

impl<'a> From<&'a ClaimedJob> for ClaimedReply<'a> {
    fn from(job: &'a ClaimedJob) -> Self {
        let (payload, payload_base64) = payload_fields(&job.payload);
        ClaimedReply {
            id: job.id,
            queue: &job.queue,
            kind: &job.kind,
            priority: job.priority,
            payload,
            payload_base64,
            headers: &job.headers,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            timeout_ms: job.timeout_ms,
            lease: LeaseReply { token: job.token, expires_at: job.expires_at },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Payload;
    use crate::queue::Settle;

    const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn read(text: &str) -> Result<(Vec<JobId>, Claim)> {
        JsonBody::from(text).parse::<ClaimRequest<'_>>()?.into_claim()
    }

    #[test]
    fn nothing_need_be_said() {
        let expected = Claim {
            queues: vec![],
            priorities: vec![],
            kinds: vec![],
            limit: 1,
            wait_ms: 0,
            lease_ms: 30_000,
            worker: None,
            in_process: false,
            settle: Settle::default(),
        };
        assert_eq!(read("").unwrap(), (vec![], expected.clone()));
        assert_eq!(read("{}").unwrap(), (vec![], expected));
    }

    #[test]
    fn finished_jobs_ride_along() {
        let (ids, claim) = read(&format!(
            r#"{{"queues":["a"],"priorities":["Critical"],"kinds":["k"],"limit":9,"wait_ms":7,
                 "lease_ms":8,"worker":"w","acks":[{{"id":"{ID}","token":"{ID}-1"}}]}}"#
        ))
        .unwrap();
        assert_eq!(ids, [ID.parse().unwrap()]);
        assert_eq!(claim.priorities, [Priority::Critical]);
        assert_eq!((claim.limit, claim.wait_ms, claim.lease_ms), (9, 7, 8));
        assert_eq!(claim.settle.acks.len(), 1);
        let field = |text: &str| read(text).unwrap_err().field().unwrap().to_owned();
        assert_eq!(field(r#"{"limit":-1}"#), "limit");
        assert_eq!(field(r#"{"priorities":["high","urgent"]}"#), "priorities[1]");
        assert_eq!(field(r#"{"timeout":5}"#), "timeout");
    }

    #[test]
    fn a_claimed_job_carries_its_lease() {
        let job = ClaimedJob {
            id: ID.parse().unwrap(),
            queue: "q".to_owned(),
            kind: "k".to_owned(),
            priority: Priority::Bulk,
            payload: Payload::Json("{\"a\": 1.0}".into()),
            headers: BTreeMap::new(),
            attempt: 1,
            max_attempts: 3,
            timeout_ms: None,
            token: format!("{ID}-4").parse().unwrap(),
            expires_at: Timestamp::from_ms(0),
        };
        let reply = serde_json::to_string(&ClaimedReply::from(&job)).unwrap();
        let expected = [
            &format!(r#"{{"id":"{ID}","queue":"q","kind":"k","priority":"bulk","#),
            r#""payload":{"a": 1.0},"headers":{},"attempt":1,"max_attempts":3,"#,
            &format!(r#""lease":{{"token":"{ID}-4","expires_at":"1970-01-01T00:00:00.000Z"}}}}"#),
        ]
        .concat();
        assert_eq!(reply, expected);
        let job = ClaimedJob { payload: Payload::Binary(vec![0, 255].into()), ..job };
        let reply = serde_json::to_string(&ClaimedReply::from(&job)).unwrap();
        assert!(reply.contains(r#""payload_base64":"AP8=""#), "{reply}");
        assert!(!reply.contains(r#""payload":"#), "{reply}");
    }
}
