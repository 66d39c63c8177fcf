//! The queue itself: a deterministic state machine over a store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::dead_letter::DeadReason;
use crate::error::Error;
use crate::job::{JobId, JobState, JobView, Payload};
use crate::lease::LeaseToken;
use crate::priority::{PerPriority, Priority};

/// A worker's question for jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Only from these queues; all when empty.
    pub queues: Vec<String>,
    /// Only of these priorities; all when empty.
    pub priorities: Vec<Priority>,
    /// Only of these kinds; all when empty.
    pub kinds: Vec<String>,
    /// At most so many jobs, 1 to 1,000.
    pub limit: usize,
    /// Wait so long for the first job, in milliseconds, 0 to 60,000.
    pub wait_ms: u64,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: u64,
    /// The worker's name, at most 64 bytes.
    pub worker: Option<String>,
    /// What the worker has finished meanwhile, applied in the same commit before the claim.
    pub settle: Settle,
}

/// What a claim got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimed {
    /// The jobs, most urgent first.
    pub jobs: Vec<ClaimedJob>,
    /// What became of the acks and fails that rode along, in their order.
    pub outcomes: Vec<SettleOutcome>,
}

/// A job in the hands of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedJob {
    /// The job's id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What the handler gets.
    pub payload: Payload,
    /// Names and values beside the payload.
    pub headers: BTreeMap<String, String>,
    /// The attempt this is, from 1.
    pub attempt: u32,
    /// How often it may fail in all.
    pub max_attempts: u32,
    /// How long this attempt may take in all, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Proves the right to finish it.
    pub token: LeaseToken,
    /// When the lease ends unless it is extended.
    pub expires_at: Timestamp,
}

/// A worker's word that a job failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The lease.
    pub token: LeaseToken,
    /// What went wrong; its first kilobyte is kept.
    pub error: String,
    /// False: never try again, whatever attempts are left.
    pub retry: bool,
    /// When to try again, in milliseconds from now, instead of the job's own policy.
    pub retry_in_ms: Option<u64>,
}

/// What became of a failed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It will run again at this time.
    Retrying {
        /// The moment of the next attempt.
        run_at: Timestamp,
    },
    /// It is a dead letter now.
    Dead {
        /// Why.
        reason: DeadReason,
    },
}

/// What a worker has finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settle {
    /// Jobs that are done.
    pub acks: Vec<LeaseToken>,
    /// Jobs that failed.
    pub fails: Vec<Failure>,
}

/// What became of one ack (`Ok(None)`) or one fail (`Ok(Some(_))`).
pub type SettleOutcome = Result<Option<Failed>, Error>;

/// A lease that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extended {
    /// When it ends now.
    pub expires_at: Timestamp,
    /// True: somebody cancelled the job; stop working on it.
    pub cancelled: bool,
}

/// A job that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Released {
    /// `ready` or `scheduled`.
    pub state: JobState,
    /// When it may run again.
    pub run_at: Timestamp,
}

/// Which dead letters to list.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadQuery {
    /// Only of this queue.
    pub queue: Option<String>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Go on after a page: its `next_cursor`.
    pub cursor: Option<String>,
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadPage {
    /// The dead letters.
    pub jobs: Vec<JobView>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

/// How many jobs of one priority are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCounts {
    /// Waiting for their time.
    pub scheduled: u64,
    /// Claimable.
    pub ready: u64,
    /// Leased.
    pub running: u64,
    /// Waiting for their next attempt.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
}

/// A queue as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// True when claims are stopped.
    pub paused: bool,
    /// Jobs by priority and state.
    pub counts: PerPriority<StateCounts>,
    /// Since when the oldest ready job of each priority has been ready.
    pub oldest_ready_at: PerPriority<Option<Timestamp>>,
}

/// What metrics and health show of the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The engine's time.
    pub now: Timestamp,
    /// Every queue.
    pub queues: Vec<QueueView>,
    /// Bytes of records alive.
    pub live_bytes: u64,
    /// Bytes that the store takes on the disk.
    pub disk_bytes: u64,
    /// Records set aside because their checksum failed.
    pub damaged_records: u64,
    /// Claims that wait for a job.
    pub waiting_claims: usize,
}

/// A thing that happened to jobs and is on the disk: what metrics count and logs tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The queue's name.
    pub queue: std::sync::Arc<str>,
    /// The jobs' priority.
    pub priority: Priority,
    /// What happened.
    pub what: Happened,
}

/// What happened to jobs of one queue and priority.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// So many jobs were taken in (ready or scheduled).
    Enqueued {
        /// How many.
        jobs: u64,
    },
    /// A job was handed to a worker.
    Started {
        /// How long it had been ready, in milliseconds.
        wait_ms: u64,
    },
    /// A job was acked.
    Completed {
        /// From claim to ack, in milliseconds.
        duration_ms: u64,
    },
    /// An attempt failed.
    Failed {
        /// The job.
        id: JobId,
        /// What it does.
        kind: String,
        /// Which attempt it was.
        attempt: u32,
        /// What the worker said.
        error: String,
        /// From claim to fail, in milliseconds.
        duration_ms: u64,
    },
    /// After a failure, another attempt was planned.
    Retried {
        /// The job.
        id: JobId,
        /// When it runs again.
        run_at: Timestamp,
    },
    /// A lease ran out.
    Interrupted {
        /// The job.
        id: JobId,
        /// How often that happened to it.
        interruptions: u32,
    },
    /// A job became a dead letter.
    Dead {
        /// The job.
        id: JobId,
        /// Why.
        reason: DeadReason,
    },
    /// A dead letter was put back to work.
    Replayed {
        /// The job.
        id: JobId,
    },
}
