//! What a node counts and measures, told as Prometheus text.
//!
//! Counters and histograms grow as things happen. Gauges are never kept: each scrape makes them
//! from one [`Snapshot`], so they can't drift from the queue, and a queue that is gone is gone.

mod gauges;
mod log;
mod process;
mod push;
mod queues;
mod schedules;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::error::{Error, ErrorKind, Result};
use crate::queue::{Event, Snapshot};

pub use log::{log_event, wants_details};
use push::PushSeries;
pub use push::WorkerGauges;
use queues::QueueSeries;
use schedules::ScheduleSeries;

/// Bounds of a commit's duration, in seconds: from memory to a struggling network disk.
const COMMIT_SECONDS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Bounds of the number of commands in a commit.
const COMMIT_COMMANDS: [f64; 11] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Bounds of a request's duration, in seconds: up to the longest wait of a claim.
const HTTP_SECONDS: [f64; 13] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0];

/// The counters and histograms of one node.
pub struct Metrics {
    store: String,
    registry: Registry,
    queues: QueueSeries,
    schedules: ScheduleSeries,
    commit_seconds: Histogram,
    commit_commands: Histogram,
    http_seconds: HistogramVec,
    rejected: IntCounterVec,
    push: PushSeries,
}

impl Metrics {
    /// Metrics in a registry of their own; `store` is the storage engine's name. So many queues
    /// have series of their own; those after them share one label.
    ///
    /// # Errors
    /// None that a caller could cause: only when two metrics here had one name.
    pub fn new(store: &str, queues_max: usize) -> Result<Metrics> {
        let registry = Registry::new();
        let queues = QueueSeries::new(&registry, queues_max)?;
        let schedules = ScheduleSeries::new(&registry)?;
        let commit_seconds = registered(
            &registry,
            Histogram::with_opts(
                HistogramOpts::new(
                    "pulk_commit_seconds",
                    "Time that one commit took until its data was on the disk.",
                )
                .buckets(COMMIT_SECONDS.to_vec()),
            ),
        )?;
        let commit_commands = registered(
            &registry,
            Histogram::with_opts(
                HistogramOpts::new("pulk_commit_commands", "Commands that shared one commit.")
                    .buckets(COMMIT_COMMANDS.to_vec()),
            ),
        )?;
        let http_seconds = registered(
            &registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "pulk_http_request_duration_seconds",
                    "Time from a request's head to its answer, a claim's wait included.",
                )
                .buckets(HTTP_SECONDS.to_vec()),
                &["route", "method", "status"],
            ),
        )?;
        let rejected = registered(
            &registry,
            IntCounterVec::new(
                Opts::new(
                    "pulk_enqueue_rejected_total",
                    "Calls to enqueue that were refused, by the code of the answer.",
                ),
                &["reason"],
            ),
        )?;
        let push = PushSeries::new(&registry)?;
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .map_err(wrong)?;
        Ok(Metrics {
            store: store.to_owned(),
            registry,
            queues,
            schedules,
            commit_seconds,
            commit_commands,
            http_seconds,
            rejected,
            push,
        })
    }

    /// Counts something that happened and is on the disk.
    pub fn observe(&self, event: &Event) {
        self.queues.observe(event);
        self.schedules.observe(&event.what);
    }

    /// Counts one commit: how long it took and how many commands shared it.
    pub fn committed(&self, seconds: f64, commands: usize) {
        self.commit_seconds.observe(seconds);
        self.commit_commands.observe(commands as f64);
    }

    /// Counts one HTTP request. `route` is the pattern that matched, never the path itself.
    pub fn http_request(&self, route: &str, method: &str, status: &str, seconds: f64) {
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
            _ => "other",
        };
        self.http_seconds.with_label_values(&[route, method, status]).observe(seconds);
    }

    /// Counts one refused enqueue; `reason` is the stable code of the answer.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Counts one request to a push target, which took so long.
    pub fn pushed(&self, target: &str, outcome: &str, seconds: f64) {
        self.push.pushed(target, outcome, seconds);
    }

    /// Everything as Prometheus text, with the gauges of this snapshot.
    ///
    /// # Errors
    /// None that a caller could cause: only when a metric has no text form.
    pub fn encode(&self, snapshot: &Snapshot) -> Result<String> {
        self.encode_with_worker(snapshot, None)
    }

    /// The same with the gauges of the node's own worker, if it has one.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_worker(
        &self,
        snapshot: &Snapshot,
        worker: Option<&WorkerGauges>,
    ) -> Result<String> {
        let gauges = gauges::families(snapshot, &self.store, &self.queues, worker);
        let gauges = gauges.map_err(wrong)?;
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        encoder.encode(&gauges, &mut text).map_err(wrong)?;
        encoder.encode(&self.registry.gather(), &mut text).map_err(wrong)?;
        String::from_utf8(text).map_err(|reason| broken(&reason.to_string()))
    }
}

/// Puts a new metric in the registry.
fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> Result<M> {
    let metric = metric.map_err(wrong)?;
    registry.register(Box::new(metric.clone())).map_err(wrong)?;
    Ok(metric)
}

fn wrong(reason: prometheus::Error) -> Error {
    broken(&reason.to_string())
}

fn broken(reason: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("the metrics can't be told: {reason}"))
}

#[cfg(test)]
mod tests;
