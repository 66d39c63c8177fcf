//! What happened: told to metrics and logs, once it is on the disk.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, Removal};
use crate::job::JobId;
use crate::priority::Priority;
use crate::queue::limits::Limits;
use crate::queue::replays::{ReplayCounts, ReplayState};
use crate::queue::schedules::Skipping;

/// A thing that happened to jobs and is on the disk: what metrics count and logs tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The queue's name.
    pub queue: Arc<str>,
    /// The jobs' priority; `None` for what happened to the queue as a whole.
    pub priority: Option<Priority>,
    /// What happened.
    pub what: Happened,
}

/// Which job it was. Told only when the log asks for each job: the hot path pays for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDetail {
    /// The job.
    pub id: JobId,
    /// What it does.
    pub kind: String,
    /// The attempt that begins or ended.
    pub attempt: u32,
}

/// What happened to jobs of one queue and priority.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// So many jobs were taken in (ready or scheduled).
    Enqueued {
        /// How many.
        jobs: u64,
        /// Which, if the log asks for each.
        details: Vec<JobDetail>,
    },
    /// A job was handed to a worker.
    Started {
        /// How long it had been ready, in milliseconds.
        wait_ms: u64,
        /// Which, if the log asks for each.
        detail: Option<Box<JobDetail>>,
    },
    /// A job was acked.
    Completed {
        /// From claim to ack, in milliseconds.
        duration_ms: u64,
        /// Which, if the log asks for each.
        detail: Option<Box<JobDetail>>,
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
        /// What it does.
        kind: String,
        /// Why.
        reason: DeadReason,
    },
    /// No worker started a job in time; that it is dead now is told beside this.
    Expired {
        /// The job.
        id: JobId,
    },
    /// A job was cancelled or replaced, and is gone.
    Cancelled {
        /// The job.
        id: JobId,
    },
    /// So many jobs were purged, and are gone.
    Purged {
        /// How many.
        jobs: u64,
    },
    /// A dead letter was put back to work.
    Replayed {
        /// The job.
        id: JobId,
    },
    /// Claims of the queue were stopped.
    Paused,
    /// Claims of the queue go on.
    Resumed,
    /// The limits of the queue were changed.
    Limited {
        /// What they are now.
        limits: Limits,
    },
    /// The queue was empty, and is gone.
    QueueRemoved,
    /// A dead letter was changed.
    Edited {
        /// The job.
        id: JobId,
    },
    /// Dead letters were removed.
    DeadRemoved {
        /// How many.
        jobs: u64,
        /// Why.
        why: Removal,
    },
    /// A background replay began. The event's queue is the one it is about, or `(all)`.
    ReplayStarted {
        /// Its number.
        id: u64,
        /// Dead letters that it is about.
        matched: u64,
        /// How many it puts back a second.
        rate_per_s: f64,
    },
    /// A background replay ended.
    ReplayEnded {
        /// Its number.
        id: u64,
        /// How.
        state: ReplayState,
        /// What it did.
        counts: ReplayCounts,
    },
    /// A schedule made a job. The event's queue is that of its jobs, as for all of schedules.
    ScheduleFired {
        /// Its name.
        schedule: Arc<str>,
        /// The moment that it was for.
        slot: Timestamp,
        /// How long after that it came, in milliseconds.
        late_ms: u64,
        /// The job.
        id: JobId,
    },
    /// A schedule passed over moments without making a job.
    ScheduleSkipped {
        /// Its name.
        schedule: Arc<str>,
        /// The last of them.
        slot: Timestamp,
        /// How many.
        slots: u64,
        /// Why.
        why: Skipping,
    },
    /// A schedule was made or replaced.
    SchedulePut {
        /// Its name.
        schedule: Arc<str>,
    },
    /// A schedule makes no more jobs until it is resumed.
    SchedulePaused {
        /// Its name.
        schedule: Arc<str>,
    },
    /// A schedule makes jobs again.
    ScheduleResumed {
        /// Its name.
        schedule: Arc<str>,
    },
    /// A schedule is gone.
    ScheduleRemoved {
        /// Its name.
        schedule: Arc<str>,
    },
}
