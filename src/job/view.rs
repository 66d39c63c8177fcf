//! A job as producers and readers see it.

use std::collections::BTreeMap;

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
    /// `ready`, or `scheduled` when it is to run later.
    pub state: JobState,
    /// The queue it is in.
    pub queue: String,
    /// Its priority.
    pub priority: Priority,
    /// When it may run.
    pub run_at: Timestamp,
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
    /// Who has it, while it runs.
    pub running: Option<RunningView>,
    /// Why and when it died, if it did.
    pub dead: Option<DeadView>,
    /// The last failures, oldest first.
    pub errors: Vec<FailedAttempt>,
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
