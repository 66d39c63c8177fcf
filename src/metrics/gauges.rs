//! The gauges, made anew from each snapshot.

use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, Result};

use super::process;
use super::push::{self, WorkerGauges};
use super::queues::QueueSeries;
use crate::clock::Timestamp;
use crate::queue::{Limited, Limits, QueueView, Snapshot, StateCounts};

/// The gauges of a snapshot.
pub(super) fn families(
    snapshot: &Snapshot,
    store: &str,
    series: &QueueSeries,
    worker: Option<&WorkerGauges>,
) -> Result<Vec<MetricFamily>> {
    let registry = Registry::new();
    let gauges = QueueGauges::new(&registry)?;
    for queue in &snapshot.queues {
        gauges.add(&series.label(&queue.name), queue, snapshot.now);
    }
    set_store(&registry, snapshot)?;
    process::set(&registry)?;
    if let Some(worker) = worker {
        push::set(&registry, worker)?;
    }
    let build_info = IntGaugeVec::new(
        Opts::new("pulk_build_info", "Always 1; the labels say what runs."),
        &["version", "store"],
    )?;
    build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), store]).set(1);
    registry.register(Box::new(build_info))?;
    Ok(registry.gather())
}

fn set_store(registry: &Registry, snapshot: &Snapshot) -> Result<()> {
    let gauge = |name: &str, help: &str, value: u64| {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(signed(value));
        registry.register(Box::new(gauge))
    };
    gauge("pulk_store_disk_bytes", "Bytes that the store takes on the disk.", snapshot.disk_bytes)?;
    gauge("pulk_store_live_bytes", "Bytes of records alive.", snapshot.live_bytes)?;
    gauge("pulk_schedules", "Schedules that make jobs, paused ones included.", snapshot.schedules)?;
    if let Some(disk) = &snapshot.disk {
        let (free, room) = (disk.free_bytes, disk.room_bytes);
        gauge("pulk_disk_free_bytes", "Bytes free on the volume of the store.", free)?;
        let help = "Bytes of new jobs until enqueues are refused; 0 when they are.";
        gauge("pulk_disk_room_bytes", help, room)?;
    }
    let damaged = IntCounter::new(
        "pulk_records_damaged_total",
        "Records set aside because their checksum failed.",
    )?;
    damaged.inc_by(snapshot.damaged_records);
    registry.register(Box::new(damaged))
}

/// The gauges that have a queue as label.
struct QueueGauges {
    depth: IntGaugeVec,
    oldest_age_seconds: GaugeVec,
    running: IntGaugeVec,
    scheduled: IntGaugeVec,
    retrying: IntGaugeVec,
    in_lines: IntGaugeVec,
    dead: IntGaugeVec,
    paused: IntGaugeVec,
    limited: IntGaugeVec,
    concurrency: IntGaugeVec,
    rate: GaugeVec,
}

impl QueueGauges {
    fn new(registry: &Registry) -> Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let oldest_age_seconds = GaugeVec::new(
            Opts::new(
                "pulk_queue_oldest_age_seconds",
                "How long the oldest ready job has been ready; 0 when none is.",
            ),
            &["queue", "priority"],
        )?;
        registry.register(Box::new(oldest_age_seconds.clone()))?;
        let rate = GaugeVec::new(
            Opts::new(
                "pulk_queue_rate_limit_per_second",
                "Jobs that may be started a second, on average; absent without a limit.",
            ),
            &["queue"],
        )?;
        registry.register(Box::new(rate.clone()))?;
        Ok(QueueGauges {
            depth: gauge("pulk_queue_depth", "Jobs ready to be claimed.", &["queue", "priority"])?,
            oldest_age_seconds,
            running: gauge("pulk_jobs_running", "Jobs that a worker has.", &["queue"])?,
            scheduled: gauge("pulk_jobs_scheduled", "Jobs that wait for their time.", &["queue"])?,
            retrying: gauge("pulk_jobs_retrying", "Jobs that wait after a failure.", &["queue"])?,
            in_lines: gauge(
                "pulk_jobs_in_lines",
                "Ready jobs that wait for others with the same key.",
                &["queue"],
            )?,
            dead: gauge("pulk_dlq_depth", "Dead letters.", &["queue"])?,
            paused: gauge("pulk_queue_paused", "1 when claims are stopped.", &["queue"])?,
            limited: gauge(
                "pulk_queue_limited",
                "1 when the limit is reached and claims get nothing.",
                &["queue", "limit"],
            )?,
            concurrency: gauge(
                "pulk_queue_concurrency_limit",
                "Most jobs that may run at once; absent without a limit.",
                &["queue"],
            )?,
            rate,
        })
    }

    /// Adds a queue to its label's gauges: the label may be shared.
    fn add(&self, label: &str, queue: &QueueView, now: Timestamp) {
        for (priority, counts) in queue.counts.iter() {
            let labels = [label, priority.as_str()];
            self.depth.with_label_values(&labels).add(signed(counts.ready));
            let age_ms = queue.oldest_ready_at[priority].map_or(0, |since| now.ms_since(since));
            let oldest = self.oldest_age_seconds.with_label_values(&labels);
            oldest.set(oldest.get().max(age_ms as f64 / 1_000.0));
        }
        let sum = |count: fn(&StateCounts) -> u64| {
            signed(queue.counts.iter().map(|(_, counts)| count(counts)).sum())
        };
        self.running.with_label_values(&[label]).add(sum(|counts| counts.running));
        self.scheduled.with_label_values(&[label]).add(sum(|counts| counts.scheduled));
        self.retrying.with_label_values(&[label]).add(sum(|counts| counts.retrying));
        self.dead.with_label_values(&[label]).add(sum(|counts| counts.dead));
        let in_lines = queue.in_lines.iter().map(|(_, jobs)| jobs).sum();
        self.in_lines.with_label_values(&[label]).add(signed(in_lines));
        self.paused.with_label_values(&[label]).add(i64::from(queue.paused));
        self.add_limits(label, queue);
    }

    /// Limits of queues that share a label add up, as what they let through does.
    fn add_limits(&self, label: &str, queue: &QueueView) {
        let Limits { concurrency, rate, .. } = queue.limits;
        let reached = queue.limited.map(|limited| match limited {
            Limited::Concurrency => "concurrency",
            Limited::Rate { .. } => "rate",
        });
        let set = [("concurrency", concurrency.is_some()), ("rate", rate.is_some())];
        for (limit, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            let is_reached = i64::from(reached == Some(limit));
            self.limited.with_label_values(&[label, limit]).add(is_reached);
        }
        if let Some(most) = concurrency {
            self.concurrency.with_label_values(&[label]).add(i64::from(most));
        }
        if let Some(rate) = rate {
            let per_second = f64::from(rate.jobs) * 1_000.0 / rate.per_ms as f64;
            self.rate.with_label_values(&[label]).add(per_second);
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
