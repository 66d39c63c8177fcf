//! What the clients saw: every job, and how long calls took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Counted by all clients, as the node answered them.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) enqueued: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) released: AtomicU64,
    /// Taken by a worker that said no more.
    pub(crate) abandoned: AtomicU64,
    /// Acks and fails that came too late.
    pub(crate) refused: AtomicU64,
    /// Stragglers: delayed beyond the end, dead, and the bytes of their payloads.
    pub(crate) later: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) straggler_bytes: AtomicU64,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    enqueue: Vec<f64>,
    claim: Vec<f64>,
}

/// How long calls took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Latency {
    pub(crate) calls: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// All numbers at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[allow(dead_code, reason = "shown by Debug")]
pub(crate) struct Totals {
    pub(crate) enqueued: u64,
    pub(crate) acked: u64,
    pub(crate) dead: u64,
    pub(crate) later: u64,
    pub(crate) retried: u64,
    pub(crate) released: u64,
    pub(crate) abandoned: u64,
    pub(crate) refused: u64,
    pub(crate) straggler_bytes: u64,
}

impl Tally {
    pub(crate) fn enqueue_took(&self, due: Instant) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).enqueue.push(ms(due.elapsed()));
    }

    pub(crate) fn claim_took(&self, due: Instant) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).claim.push(ms(due.elapsed()));
    }

    /// The latencies of enqueues and claims since the last time.
    pub(crate) fn take(&self) -> (Latency, Latency) {
        let times = std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
        (Latency::of(times.enqueue), Latency::of(times.claim))
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            enqueued: self.enqueued.load(Relaxed),
            acked: self.acked.load(Relaxed),
            dead: self.dead.load(Relaxed),
            later: self.later.load(Relaxed),
            retried: self.retried.load(Relaxed),
            released: self.released.load(Relaxed),
            abandoned: self.abandoned.load(Relaxed),
            refused: self.refused.load(Relaxed),
            straggler_bytes: self.straggler_bytes.load(Relaxed),
        }
    }

    /// Jobs that need no more work.
    pub(crate) fn finished(&self) -> u64 {
        let totals = self.totals();
        totals.acked + totals.dead + totals.later
    }

    /// Jobs that do.
    pub(crate) fn unfinished(&self) -> u64 {
        // Counted one after the other, so it may be a few off.
        self.enqueued.load(Relaxed).saturating_sub(self.finished())
    }
}

impl Latency {
    pub(crate) fn of(mut times_ms: Vec<f64>) -> Latency {
        times_ms.sort_by(f64::total_cmp);
        let calls = times_ms.len();
        let at = |share: f64| {
            let place = (calls as f64 * share).ceil() as usize;
            times_ms.get(place.saturating_sub(1)).copied().unwrap_or_default()
        };
        Latency { calls, p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1.0) }
    }
}

pub(crate) fn ms(time: Duration) -> f64 {
    // Microseconds are exact enough, and short in a file.
    time.as_micros() as f64 / 1e3
}
