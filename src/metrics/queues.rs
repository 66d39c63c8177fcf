//! The counters and histograms of each queue and priority.
//!
//! [`QueueSeries::observe`] runs on the queue's writer thread for every job, so the series of a
//! queue and priority are looked up by their labels once and kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::registered;
use crate::dead_letter::{DeadReason, Removal};
use crate::error::Result;
use crate::priority::{PerPriority, Priority};
use crate::queue::{Event, Happened};

/// The label of queues beyond the most that have series of their own: those that a directory
/// brought along from a larger `max_queues`. No queue can have this name.
pub(super) const OTHER: &str = "(other)";

/// Bounds of a job's duration and wait, in seconds: from a quick handler to an hour.
const JOB_SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// The series of all queues.
pub(super) struct QueueSeries {
    vectors: Vectors,
    known: Mutex<Known>,
    queues_max: usize,
}

/// The series in use, by the label of their queue.
type Known = HashMap<Arc<str>, PerPriority<Option<Series>>>;

impl QueueSeries {
    pub(super) fn new(registry: &Registry, queues_max: usize) -> Result<Self> {
        Ok(QueueSeries { vectors: Vectors::new(registry)?, known: Mutex::default(), queues_max })
    }

    pub(super) fn observe(&self, event: &Event) {
        let mut known = self.known();
        let Some(priority) = event.priority else {
            if event.what == Happened::QueueRemoved && known.remove(&event.queue).is_some() {
                self.vectors.forget(&event.queue);
            }
            return;
        };
        if let Some(series) = known.get(&event.queue).and_then(|one| one[priority].as_ref()) {
            return series.count(&event.what);
        }
        let queue = self.labelled(&mut known, &event.queue);
        let series = self.vectors.series(&queue, priority);
        series.count(&event.what);
        known.entry(queue).or_default()[priority] = Some(series);
    }

    /// The label of a queue: its name, or [`OTHER`] when there are too many.
    pub(super) fn label(&self, queue: &str) -> Arc<str> {
        self.labelled(&mut self.known(), queue)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn labelled(&self, known: &mut Known, queue: &str) -> Arc<str> {
        if let Some((label, _)) = known.get_key_value(queue) {
            return Arc::clone(label);
        }
        let own = known.len() < self.queues_max;
        let label: Arc<str> = if own { queue.into() } else { OTHER.into() };
        known.entry(Arc::clone(&label)).or_default();
        label
    }
}

/// The series of one queue and priority.
#[derive(Clone)]
struct Series {
    enqueued: IntCounter,
    started: IntCounter,
    completed: IntCounter,
    failed: IntCounter,
    retried: IntCounter,
    interrupted: IntCounter,
    exhausted: IntCounter,
    rejected: IntCounter,
    crashed: IntCounter,
    damaged: IntCounter,
    dead_expired: IntCounter,
    expired: IntCounter,
    cancelled: IntCounter,
    deleted: IntCounter,
    purged: IntCounter,
    aged: IntCounter,
    too_many: IntCounter,
    duration_seconds: Histogram,
    wait_seconds: Histogram,
}

impl Series {
    fn count(&self, what: &Happened) {
        match what {
            Happened::Enqueued { jobs, .. } => self.enqueued.inc_by(*jobs),
            Happened::Started { wait_ms, .. } => {
                self.started.inc();
                self.wait_seconds.observe(seconds(*wait_ms));
            }
            Happened::Completed { duration_ms, .. } => {
                self.completed.inc();
                self.duration_seconds.observe(seconds(*duration_ms));
            }
            Happened::Failed { duration_ms, .. } => {
                self.failed.inc();
                self.duration_seconds.observe(seconds(*duration_ms));
            }
            Happened::Retried { .. } => self.retried.inc(),
            Happened::Interrupted { .. } => self.interrupted.inc(),
            Happened::Dead { reason: DeadReason::Exhausted, .. } => self.exhausted.inc(),
            Happened::Dead { reason: DeadReason::Rejected, .. } => self.rejected.inc(),
            Happened::Dead { reason: DeadReason::Crashed, .. } => self.crashed.inc(),
            Happened::Dead { reason: DeadReason::Damaged, .. } => self.damaged.inc(),
            Happened::Dead { reason: DeadReason::Expired, .. } => self.dead_expired.inc(),
            Happened::Expired { .. } => self.expired.inc(),
            Happened::Cancelled { .. } => self.cancelled.inc(),
            Happened::Purged { jobs } => self.cancelled.inc_by(*jobs),
            Happened::DeadRemoved { jobs, why } => match why {
                Removal::Deleted => self.deleted.inc_by(*jobs),
                Removal::Purged => self.purged.inc_by(*jobs),
                Removal::Age => self.aged.inc_by(*jobs),
                Removal::Number => self.too_many.inc_by(*jobs),
            },
            Happened::Replayed { .. }
            | Happened::Paused
            | Happened::Resumed
            | Happened::Limited { .. }
            | Happened::QueueRemoved
            | Happened::Edited { .. }
            | Happened::ReplayStarted { .. }
            | Happened::ReplayEnded { .. }
            | Happened::ScheduleFired { .. }
            | Happened::ScheduleSkipped { .. }
            | Happened::SchedulePut { .. }
            | Happened::SchedulePaused { .. }
            | Happened::ScheduleResumed { .. }
            | Happened::ScheduleRemoved { .. } => {}
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// The metrics whose labels are filled in by [`Vectors::series`].
struct Vectors {
    enqueued: IntCounterVec,
    started: IntCounterVec,
    completed: IntCounterVec,
    failed: IntCounterVec,
    retried: IntCounterVec,
    interrupted: IntCounterVec,
    cancelled: IntCounterVec,
    expired: IntCounterVec,
    dead: IntCounterVec,
    dead_removed: IntCounterVec,
    duration_seconds: HistogramVec,
    wait_seconds: HistogramVec,
}

impl Vectors {
    fn new(registry: &Registry) -> Result<Self> {
        const LABELS: [&str; 2] = ["queue", "priority"];
        let counter = |name: &str, help: &str| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), &LABELS))
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(JOB_SECONDS.to_vec());
            registered(registry, HistogramVec::new(options, &LABELS))
        };
        let dead = Opts::new("pulk_jobs_dead_total", "Jobs that became dead letters, by reason.");
        let dead_removed = Opts::new(
            "pulk_dlq_removed_total",
            "Dead letters removed: deleted, purged, over the age or the number kept.",
        );
        Ok(Vectors {
            enqueued: counter("pulk_jobs_enqueued_total", "Jobs taken in.")?,
            started: counter("pulk_jobs_started_total", "Jobs handed to a worker.")?,
            completed: counter("pulk_jobs_completed_total", "Jobs acked by their worker.")?,
            failed: counter("pulk_jobs_failed_total", "Attempts that failed.")?,
            retried: counter("pulk_jobs_retried_total", "Failures that get another attempt.")?,
            interrupted: counter("pulk_jobs_interrupted_total", "Leases that ran out.")?,
            cancelled: counter("pulk_jobs_cancelled_total", "Jobs cancelled, replaced or purged.")?,
            expired: counter("pulk_jobs_expired_total", "Jobs that no worker started in time.")?,
            dead: registered(registry, IntCounterVec::new(dead, &["queue", "priority", "reason"]))?,
            dead_removed: registered(
                registry,
                IntCounterVec::new(dead_removed, &["queue", "reason"]),
            )?,
            duration_seconds: histogram(
                "pulk_job_duration_seconds",
                "Time from a claim to its ack or fail.",
            )?,
            wait_seconds: histogram(
                "pulk_job_wait_seconds",
                "Time that a job was ready before it was claimed.",
            )?,
        })
    }

    /// Drops the series of a queue that is gone. Those that were never made are no error.
    fn forget(&self, queue: &str) {
        let counters = [
            &self.enqueued,
            &self.started,
            &self.completed,
            &self.failed,
            &self.retried,
            &self.interrupted,
            &self.cancelled,
            &self.expired,
            &self.expired,
        ];
        for why in Removal::ALL {
            let _ = self.dead_removed.remove_label_values(&[queue, why.as_str()]);
        }
        for priority in Priority::ALL.map(Priority::as_str) {
            for counter in counters {
                let _ = counter.remove_label_values(&[queue, priority]);
            }
            for histogram in [&self.duration_seconds, &self.wait_seconds] {
                let _ = histogram.remove_label_values(&[queue, priority]);
            }
            for reason in DeadReason::ALL.map(DeadReason::as_str) {
                let _ = self.dead.remove_label_values(&[queue, priority, reason]);
            }
        }
    }

    fn series(&self, queue: &str, priority: Priority) -> Series {
        let labels = [queue, priority.as_str()];
        let dead = |reason: DeadReason| {
            self.dead.with_label_values(&[queue, priority.as_str(), reason.as_str()])
        };
        let removed = |why: Removal| self.dead_removed.with_label_values(&[queue, why.as_str()]);
        Series {
            enqueued: self.enqueued.with_label_values(&labels),
            started: self.started.with_label_values(&labels),
            completed: self.completed.with_label_values(&labels),
            failed: self.failed.with_label_values(&labels),
            retried: self.retried.with_label_values(&labels),
            interrupted: self.interrupted.with_label_values(&labels),
            cancelled: self.cancelled.with_label_values(&labels),
            expired: self.expired.with_label_values(&labels),
            exhausted: dead(DeadReason::Exhausted),
            rejected: dead(DeadReason::Rejected),
            crashed: dead(DeadReason::Crashed),
            damaged: dead(DeadReason::Damaged),
            dead_expired: dead(DeadReason::Expired),
            deleted: removed(Removal::Deleted),
            purged: removed(Removal::Purged),
            aged: removed(Removal::Age),
            too_many: removed(Removal::Number),
            duration_seconds: self.duration_seconds.with_label_values(&labels),
            wait_seconds: self.wait_seconds.with_label_values(&labels),
        }
    }
}
