//! What a node's own worker counts: requests to push targets, and its slots.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::registered;
use crate::error::Result;

/// Bounds of a request's duration, in seconds: from a quick handler to a long job.
const PUSH_SECONDS: [f64; 13] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];

/// What a node's worker is doing when metrics are scraped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerGauges {
    /// Jobs that run.
    pub running: usize,
    /// How many may.
    pub concurrency: usize,
    /// The push targets' names, and whether each is left alone.
    pub targets: Vec<(String, bool)>,
}

pub(super) struct PushSeries {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl PushSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self> {
        let requests = registered(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "pulk_push_requests_total",
                    "Jobs sent to a push target, by what came of it.",
                ),
                &["target", "outcome"],
            ),
        )?;
        let seconds = registered(
            registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "pulk_push_duration_seconds",
                    "Time from a push to the end of its answer.",
                )
                .buckets(PUSH_SECONDS.to_vec()),
                &["target"],
            ),
        )?;
        Ok(PushSeries { requests, seconds })
    }

    pub(super) fn pushed(&self, target: &str, outcome: &str, seconds: f64) {
        self.requests.with_label_values(&[target, outcome]).inc();
        self.seconds.with_label_values(&[target]).observe(seconds);
    }
}

/// Adds the gauges of this moment.
pub(super) fn set(registry: &Registry, worker: &WorkerGauges) -> prometheus::Result<()> {
    let slots = IntGaugeVec::new(
        Opts::new("pulk_worker_slots", "Jobs that the node's own worker runs, and could run more."),
        &["state"],
    )?;
    let free = worker.concurrency.saturating_sub(worker.running);
    for (state, count) in [("running", worker.running), ("free", free)] {
        slots.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register(Box::new(slots))?;
    let open = IntGaugeVec::new(
        Opts::new("pulk_push_breaker_open", "1 when the target does not work and gets no jobs."),
        &["target"],
    )?;
    for (name, is_open) in &worker.targets {
        open.with_label_values(&[name.as_str()]).set(i64::from(*is_open));
    }
    registry.register(Box::new(open))
}
