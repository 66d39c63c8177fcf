//! A job that is done, as HTTP tells it.

use pulk::job::{Found, JobResult};
use pulk::{JobId, Priority, Result, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http_door as http;
use crate::node::Http;

/// What an id stands for: a job, or a result.
pub async fn find(node: &Http, id: JobId) -> Result<Found> {
    let path = format!("/v1/jobs/{id}");
    let answer = node.get(&path).await;
    if answer.status == 200 && answer.json()["state"] == "done" {
        return http::read::<ResultReply>(&answer, 200).map(|reply| Found::Done(reply.into()));
    }
    http::job(node, &path).await.map(|job| Found::Job(Box::new(job)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultReply {
    id: JobId,
    #[serde(rename = "state")]
    _state: String,
    queue: String,
    kind: String,
    priority: Priority,
    attempt: u32,
    enqueued_at: Timestamp,
    finished_at: Timestamp,
    expires_at: Timestamp,
    result: Box<RawValue>,
}

impl From<ResultReply> for JobResult {
    fn from(reply: ResultReply) -> Self {
        JobResult {
            id: reply.id,
            queue: reply.queue,
            kind: reply.kind,
            priority: reply.priority,
            attempt: reply.attempt,
            enqueued_at: reply.enqueued_at,
            finished_at: reply.finished_at,
            expires_at: reply.expires_at,
            result: reply.result.get().to_owned().into(),
        }
    }
}
