//! A job as producers and readers see it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, FailedAttempt};
use crate::job::{JobId, JobState, Payload};
use crate::priority::Priority;

/// What the producer gets back: the job is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Enqueued {
    /// The job's id.
    pub id: JobId,
    /// `ready`, or `scheduled` when it is to run later; any other state for a job that was there
    /// before.
    pub state: JobState,
    /// The queue it is in.
    pub queue: String,
    /// Its priority.
    pub priority: Priority,
    /// When it may run.
    pub run_at: Timestamp,
    /// The job that it replaced as the holder of its unique key, which was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub replaced: Option<JobId>,
    /// False: this call took nothing in. The job held the unique key already, or a call with the
    /// same idempotency key came before.
    #[serde(skip)]
    pub is_new: bool,
}

/// A job as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// Where it is in its life.
    pub state: JobState,
    /// The queue it is in.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What the handler gets; JSON `null` when it was damaged on the disk.
    pub payload: Payload,
    /// Names and values beside the payload.
    pub headers: BTreeMap<String, String>,
    /// The attempt it is at, from 1. Goes up after a failure, never after an interruption.
    pub attempt: u32,
    /// How often it may fail in all.
    pub max_attempts: u32,
    /// How often it was interrupted: its lease ran out, or its worker went away.
    pub interruptions: u32,
    /// How often it may be interrupted.
    pub max_interruptions: u32,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it may run (scheduled, retrying) or since when it could (ready, running).
    pub run_at: Timestamp,
    /// When it becomes a dead letter unless a worker starts it.
    pub expires_at: Option<Timestamp>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Its concurrency key.
    pub concurrency_key: Option<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// What it waits for, though it is ready.
    pub waits_for: Option<WaitsFor>,
    /// Who has it, while it runs.
    pub running: Option<RunningView>,
    /// Why and when it died, if it did.
    pub dead: Option<DeadView>,
    /// The last failures, oldest first.
    pub errors: Vec<FailedAttempt>,
}

/// What a ready job waits for: others with the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(example = json!({"ordering_key": "account-7"}))]
pub enum WaitsFor {
    /// Jobs that came before it have this ordering key, too.
    OrderingKey(String),
    /// As many jobs as may have this concurrency key, and run or are about to.
    ConcurrencyKey(String),
}

/// Who holds a running job. The token is not shown: it is for the holder alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningView {
    /// The worker's name, if it gave one.
    pub worker: Option<String>,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When the lease runs out unless it is extended.
    pub expires_at: Timestamp,
    /// How far it is, 0 to 100, as last told.
    pub progress: Option<u8>,
    /// It was cancelled: it is gone when its lease ends, in whatever way.
    pub cancelled: bool,
}

/// Why and when a job died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeadView {
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub died_at: Timestamp,
}

/// What an id stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A job that lives, or is dead.
    Job(Box<JobView>),
    /// A job that is done, and the result that its worker gave.
    Done(JobResult),
}

/// The result of a job that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobResult {
    /// The job's id.
    pub id: JobId,
    /// The queue it was in.
    pub queue: String,
    /// What was done.
    pub kind: String,
    /// How urgent it was.
    pub priority: Priority,
    /// The attempt that succeeded, from 1.
    pub attempt: u32,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it was acked.
    pub finished_at: Timestamp,
    /// Until when the result is kept.
    pub expires_at: Timestamp,
    /// The text of one JSON value, byte for byte as the worker gave it.
    pub result: Bytes,
}
