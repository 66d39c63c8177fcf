//! What the log tells of events: the ones a person looks for when a job went wrong, and at level
//! debug every job that comes, starts and ends.

use tracing::{Level, debug, info, warn};

use crate::priority::Priority;
use crate::queue::{Event, Happened, Limits, ReplayState};

/// The target of these lines in the log's filter: `PULK_LOG=info,pulk::jobs=debug`.
const TARGET: &str = "pulk::jobs";

/// True when the log asks for each job that is enqueued, started or completed.
#[must_use]
pub fn wants_details() -> bool {
    tracing::enabled!(target: TARGET, Level::DEBUG)
}

/// Writes the log lines of an event, if it has any. Payloads and headers are never told.
pub fn log_event(event: &Event) {
    let (queue, priority) = (&*event.queue, event.priority.map(Priority::as_str));
    match &event.what {
        Happened::Enqueued { details, .. } => {
            for job in details {
                let (id, kind) = (job.id, &job.kind);
                debug!(target: TARGET, queue, priority, kind, %id, "Job enqueued");
            }
        }
        Happened::Started { detail, wait_ms } => {
            if let Some(job) = detail {
                let (id, kind, attempt) = (job.id, &job.kind, job.attempt);
                debug!(target: TARGET, queue, priority, kind, %id, attempt, wait_ms, "Job started");
            }
        }
        Happened::Completed { detail, duration_ms: ms } => {
            if let Some(job) = detail {
                let (id, kind, attempt, duration_ms) = (job.id, &job.kind, job.attempt, ms);
                debug!(
                    target: TARGET, queue, priority, kind, %id, attempt, duration_ms,
                    "Job completed"
                );
            }
        }
        // That it is dead, and why, is told beside this.
        Happened::Expired { .. } => {}
        Happened::Failed { id, kind, attempt, error, duration_ms } => warn!(
            target: TARGET, queue, priority, kind, %id, attempt, error, duration_ms,
            "Job failed"
        ),
        Happened::Retried { id, run_at } => {
            info!(target: TARGET, queue, priority, %id, %run_at, "Job retried");
        }
        Happened::Interrupted { id, interruptions } => {
            warn!(target: TARGET, queue, priority, %id, interruptions, "Job interrupted");
        }
        Happened::Dead { id, kind, reason } => {
            warn!(target: TARGET, queue, priority, kind, %id, %reason, "Job dead");
        }
        Happened::Cancelled { id } => info!(target: TARGET, queue, priority, %id, "Job cancelled"),
        Happened::Replayed { id } => info!(target: TARGET, queue, priority, %id, "Job replayed"),
        Happened::Purged { jobs } => {
            info!(target: TARGET, queue, priority, jobs, "Jobs purged");
        }
        Happened::Paused => info!(target: TARGET, queue, "Queue paused"),
        Happened::Resumed => info!(target: TARGET, queue, "Queue resumed"),
        Happened::Limited { limits } => log_limits(queue, limits),
        Happened::QueueRemoved => info!(target: TARGET, queue, "Queue removed"),
        Happened::Edited { id } => {
            info!(target: TARGET, queue, priority, %id, "Dead letter edited");
        }
        Happened::DeadRemoved { jobs, why } => {
            let why = why.as_str();
            info!(target: TARGET, queue, priority, jobs, why, "Dead letters removed");
        }
        Happened::ReplayStarted { id, matched, rate_per_s } => {
            info!(target: TARGET, queue, replay = id, matched, rate_per_s, "Replay started");
        }
        Happened::ReplayEnded { id, state: ReplayState::Stopped, counts } => warn!(
            target: TARGET, queue, replay = id, replayed = counts.replayed,
            skipped = counts.skipped, died_again = counts.died_again, "Replay stopped itself"
        ),
        Happened::ReplayEnded { id, state, counts } => info!(
            target: TARGET, queue, replay = id, state = state.as_str(),
            replayed = counts.replayed, skipped = counts.skipped,
            died_again = counts.died_again, "Replay ended"
        ),
        of_schedule => log_schedule(queue, of_schedule),
    }
}

fn log_schedule(queue: &str, what: &Happened) {
    match what {
        Happened::ScheduleFired { schedule, slot, late_ms, id } => {
            let schedule = &**schedule;
            info!(target: TARGET, queue, schedule, %slot, late_ms, %id, "Schedule fired");
        }
        Happened::ScheduleSkipped { schedule, slot, slots, why } => {
            let (schedule, why) = (&**schedule, why.as_str());
            warn!(target: TARGET, queue, schedule, %slot, slots, why, "Schedule skipped");
        }
        Happened::SchedulePut { schedule } => {
            info!(target: TARGET, queue, schedule = &**schedule, "Schedule put");
        }
        Happened::SchedulePaused { schedule } => {
            info!(target: TARGET, queue, schedule = &**schedule, "Schedule paused");
        }
        Happened::ScheduleResumed { schedule } => {
            info!(target: TARGET, queue, schedule = &**schedule, "Schedule resumed");
        }
        Happened::ScheduleRemoved { schedule } => {
            info!(target: TARGET, queue, schedule = &**schedule, "Schedule removed");
        }
        _ => {}
    }
}

fn log_limits(queue: &str, limits: &Limits) {
    if limits.is_empty() {
        info!(target: TARGET, queue, "Queue not limited any more");
        return;
    }
    let (concurrency, rate) = (limits.concurrency, limits.rate);
    let (jobs, per_ms) = (rate.map(|rate| rate.jobs), rate.map(|rate| rate.per_ms));
    let burst = rate.map(|rate| rate.burst);
    let per_key = limits.concurrency_per_key;
    info!(
        target: TARGET, queue, concurrency, concurrency_per_key = per_key, jobs, per_ms, burst,
        "Queue limited"
    );
}
