//! What the log tells of events: the ones a person looks for when a job went wrong.

use tracing::{info, warn};

use crate::queue::{Event, Happened};

/// Writes the log line of an event, if it has one. Payloads and headers are never told.
pub fn log_event(event: &Event) {
    let (queue, priority) = (&*event.queue, event.priority.as_str());
    match &event.what {
        Happened::Enqueued { .. } | Happened::Started { .. } | Happened::Completed { .. } => {}
        Happened::Failed { id, kind, attempt, error, duration_ms } => {
            warn!(queue, priority, kind, %id, attempt, error, duration_ms, "Job failed");
        }
        Happened::Retried { id, run_at } => {
            info!(queue, priority, %id, %run_at, "Job retried");
        }
        Happened::Interrupted { id, interruptions } => {
            warn!(queue, priority, %id, interruptions, "Job interrupted");
        }
        Happened::Dead { id, reason } => {
            warn!(queue, priority, %id, %reason, "Job dead");
        }
        Happened::Cancelled { id } => {
            info!(queue, priority, %id, "Job cancelled");
        }
        Happened::Replayed { id } => {
            info!(queue, priority, %id, "Job replayed");
        }
    }
}
