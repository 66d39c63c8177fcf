//! What schedules did. There are at most as many of them as a node keeps, so each has series of
//! its own; they go with it.

use std::sync::Arc;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

use super::registered;
use crate::error::Result;
use crate::queue::{Happened, Skipping};

/// Bounds of how late a job was made, in seconds: from at once to a day's catching up.
const LATE_SECONDS: [f64; 11] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0, 600.0, 3_600.0, 86_400.0];

pub(super) struct ScheduleSeries {
    runs: IntCounterVec,
    skipped: IntCounterVec,
    late_seconds: Histogram,
}

impl ScheduleSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let runs = Opts::new("pulk_schedule_runs_total", "Jobs made by a schedule at its moments.");
        let skipped = Opts::new(
            "pulk_schedule_skipped_total",
            "Moments of a schedule that made no job: missed, or its unique key was held.",
        );
        let late_seconds = HistogramOpts::new(
            "pulk_schedule_late_seconds",
            "Time from the moment of a schedule to its job.",
        );
        Ok(ScheduleSeries {
            runs: registered(registry, IntCounterVec::new(runs, &["schedule"]))?,
            skipped: registered(registry, IntCounterVec::new(skipped, &["schedule", "reason"]))?,
            late_seconds: registered(
                registry,
                Histogram::with_opts(late_seconds.buckets(LATE_SECONDS.to_vec())),
            )?,
        })
    }

    pub(super) fn observe(&self, what: &Happened) {
        match what {
            Happened::ScheduleFired { schedule, late_ms, .. } => {
                self.runs.with_label_values(&[&**schedule]).inc();
                self.late_seconds.observe(*late_ms as f64 / 1_000.0);
            }
            Happened::ScheduleSkipped { schedule, slots, why, .. } => {
                self.skipped.with_label_values(&[&**schedule, why.as_str()]).inc_by(*slots);
            }
            Happened::SchedulePut { schedule } => self.begin(schedule),
            Happened::ScheduleRemoved { schedule } => self.forget(schedule),
            _ => {}
        }
    }

    /// From the start on a series is there, at 0: what it grows by is seen.
    fn begin(&self, schedule: &Arc<str>) {
        let _ = self.runs.with_label_values(&[&**schedule]);
        for why in Skipping::ALL {
            let _ = self.skipped.with_label_values(&[&**schedule, why.as_str()]);
        }
    }

    fn forget(&self, schedule: &Arc<str>) {
        let _ = self.runs.remove_label_values(&[&**schedule]);
        for why in Skipping::ALL {
            let _ = self.skipped.remove_label_values(&[&**schedule, why.as_str()]);
        }
    }
}
