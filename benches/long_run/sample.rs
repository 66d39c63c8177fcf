//! What is looked at every few seconds, and written as a line of JSON.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::noise::Noise;
use crate::process::{Connection, Server};
use crate::tally::{Latency, Tally, Totals};

/// One look. Rates and latencies are those since the look before.
#[derive(Deserialize, Serialize)]
pub(crate) struct Sample {
    /// Seconds since the load began, and since 1970.
    pub(crate) at_s: f64,
    pub(crate) unix_s: f64,
    /// Jobs a second: the peak of the closed loop, what is offered, what came in, what was done.
    pub(crate) peak_per_s: f64,
    pub(crate) offered_per_s: f64,
    pub(crate) enqueued_per_s: f64,
    pub(crate) done_per_s: f64,
    pub(crate) enqueue: Latency,
    pub(crate) claim: Latency,
    /// The disk by itself: 256 bytes and an fdatasync, beside the data directory.
    pub(crate) fdatasync: Latency,
    /// Memory of the node: resident, and of that not backed by a file.
    pub(crate) resident_mb: f64,
    pub(crate) anonymous_mb: f64,
    /// The data directory without the reserve: allocated blocks, and lengths of files.
    pub(crate) disk_mb: f64,
    pub(crate) disk_length_mb: f64,
    /// Bytes of all records alive, as the store counts them.
    pub(crate) live_mb: f64,
    /// Delayed beyond the end or dead: how many, and their payloads.
    pub(crate) stragglers: u64,
    pub(crate) stragglers_mb: f64,
    pub(crate) counts: Counts,
    pub(crate) interrupted: u64,
    /// Processors that the node used.
    pub(crate) node_processors: f64,
    /// Copies of the database that ended since the look before.
    pub(crate) compactions: u64,
}

/// Jobs by state, as the node counts them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counts {
    pub(crate) waiting: u64,
    pub(crate) running: u64,
    pub(crate) delayed: u64,
    pub(crate) retrying: u64,
    pub(crate) dead: u64,
}

/// The node that is looked at.
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) data_dir: PathBuf,
    pub(crate) compactions: Arc<AtomicU64>,
}

pub(crate) struct Sampler {
    node: Node,
    tally: Arc<Tally>,
    noise: Noise,
    offered_per_s: f64,
    peak_per_s: f64,
    started: Instant,
    before: Before,
}

struct Before {
    at: Instant,
    totals: Totals,
    cpu_seconds: f64,
    compactions: u64,
}

impl Sampler {
    pub(crate) fn new(
        node: Node,
        tally: Arc<Tally>,
        noise: Noise,
        offered_per_s: f64,
        peak_per_s: f64,
    ) -> Sampler {
        let before = Before {
            at: Instant::now(),
            totals: tally.totals(),
            cpu_seconds: node.server.cpu_seconds(),
            compactions: node.compactions.load(Relaxed),
        };
        Sampler { node, tally, noise, offered_per_s, peak_per_s, started: before.at, before }
    }

    pub(crate) async fn sample(&mut self) -> Sample {
        let now = Before {
            at: Instant::now(),
            totals: self.tally.totals(),
            cpu_seconds: self.node.server.cpu_seconds(),
            compactions: self.node.compactions.load(Relaxed),
        };
        let (enqueue, claim) = self.tally.take();
        let before = std::mem::replace(&mut self.before, now);
        let now = &self.before;
        let seconds = (now.at - before.at).as_secs_f64();
        let metrics = metrics(&mut Connection::open(&self.node.server.address).await).await;
        let (blocks, lengths) = disk_mb(&self.node.data_dir);
        let done = |totals: &Totals| totals.acked + totals.dead + totals.later;
        Sample {
            at_s: (now.at - self.started).as_secs_f64(),
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as f64 / 1e3,
            peak_per_s: self.peak_per_s,
            offered_per_s: self.offered_per_s,
            enqueued_per_s: (now.totals.enqueued - before.totals.enqueued) as f64 / seconds,
            done_per_s: (done(&now.totals) - done(&before.totals)) as f64 / seconds,
            enqueue,
            claim,
            fdatasync: self.noise.take(),
            resident_mb: self.node.server.resident_mb(),
            anonymous_mb: self.node.server.status_mb("RssAnon"),
            disk_mb: blocks,
            disk_length_mb: lengths,
            live_mb: sum(&metrics, "pulk_store_live_bytes") / 1e6,
            stragglers: now.totals.later + now.totals.dead,
            stragglers_mb: now.totals.straggler_bytes as f64 / 1e6,
            counts: Counts::of(&metrics),
            interrupted: sum(&metrics, "pulk_jobs_interrupted_total") as u64,
            node_processors: (now.cpu_seconds - before.cpu_seconds) / seconds,
            compactions: now.compactions - before.compactions,
        }
    }
}

impl Counts {
    fn of(metrics: &str) -> Counts {
        let count = |name| sum(metrics, name) as u64;
        Counts {
            waiting: count("pulk_queue_depth"),
            running: count("pulk_jobs_running"),
            delayed: count("pulk_jobs_scheduled"),
            retrying: count("pulk_jobs_retrying"),
            dead: count("pulk_dlq_depth"),
        }
    }
}

/// Jobs by state, now.
pub(crate) async fn counts(connection: &mut Connection) -> Counts {
    Counts::of(&metrics(connection).await)
}

async fn metrics(connection: &mut Connection) -> String {
    String::from_utf8(connection.get("/q/metrics").await.to_vec()).unwrap()
}

/// A metric, summed over its labels.
fn sum(metrics: &str, name: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next().unwrap())
    });
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// Allocated blocks and lengths, without what is kept free for a full disk.
fn disk_mb(directory: &Path) -> (f64, f64) {
    let (mut blocks, mut lengths) = (0.0, 0.0);
    // A file may go while we look: a compaction has ended.
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let inside = disk_mb(&entry.path());
            (blocks, lengths) = (blocks + inside.0, lengths + inside.1);
        } else if entry.file_name() != "reserve" {
            blocks += metadata.blocks() as f64 * 512.0 / 1e6;
            lengths += metadata.len() as f64 / 1e6;
        }
    }
    (blocks, lengths)
}

/// Keeps the node's log, and counts the compactions that it tells of.
pub(crate) fn watch(mut log: File, compactions: Arc<AtomicU64>) -> impl FnMut(&str) + Send {
    move |line| {
        writeln!(log, "{line}").unwrap();
        compactions.fetch_add(u64::from(line.contains("compacted the database")), Relaxed);
    }
}

/// The samples of a file; one that is still written may end within a line.
pub(crate) fn read(file: &Path) -> Vec<Sample> {
    let text = std::fs::read_to_string(file).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let samples: Vec<Sample> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!samples.is_empty(), "{} has no sample", file.display());
    samples
}
