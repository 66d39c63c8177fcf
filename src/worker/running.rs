//! A worker at work: stopping it, and what it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::worker::slots::Slots;
use crate::worker::time::Time;

/// A worker at work. Dropped, it stops without a grace.
#[must_use = "a worker stops when this is dropped"]
pub struct RunningWorker {
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) time: Time,
    /// When the grace ends, once it is to stop.
    pub(crate) stop: watch::Sender<Option<Timestamp>>,
    pub(crate) ended: watch::Receiver<Option<Ended>>,
    pub(crate) ticks: mpsc::Sender<oneshot::Sender<()>>,
}

/// How a worker ended: what it came to, and the error if one ended it.
pub(crate) type Ended = (Stopped, Option<Error>);

/// What became of the jobs that ran when a worker was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Their handlers ended within the grace, and the queue took what they said.
    pub finished: usize,
    /// They were given back unfinished, at no cost.
    pub given_back: usize,
}

/// What a worker is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStats {
    /// Its name in leases.
    pub name: String,
    /// Jobs it may run at once.
    pub concurrency: usize,
    /// Slots that only critical and high jobs take.
    pub reserved: usize,
    /// Jobs that run.
    pub running: usize,
    /// Attempts that have ended since its start, in whatever way.
    pub ended: u64,
    /// It claims no more jobs: it was told to stop, or the queue is gone.
    pub stopping: bool,
}

/// What a worker shows of itself while it works.
pub(crate) struct Gauges {
    pub(crate) name: String,
    pub(crate) slots: Slots,
    pub(crate) running: AtomicUsize,
    pub(crate) ended: AtomicU64,
    pub(crate) stopping: AtomicBool,
}

impl Gauges {
    pub(crate) fn new(name: String, slots: Slots) -> Self {
        Gauges {
            name,
            slots,
            running: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }
}

impl RunningWorker {
    /// Ends it: no new job is claimed, and every handler's cancellation token fires. Those that
    /// end within the grace are settled as they say; the other jobs are given back at once, which
    /// costs them neither an attempt nor an interruption. Called again with a shorter grace, it
    /// stops earlier.
    pub async fn stop(&self, grace: Duration) -> Stopped {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.time.now().plus_ms(grace_ms);
        self.stop.send_modify(|stop| *stop = Some(stop.map_or(deadline, |at| at.min(deadline))));
        self.wait().await.0
    }

    /// Waits until it has ended: by [`stop`](Self::stop), or because the queue drains, was closed
    /// or failed.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when the queue failed.
    pub async fn ended(&self) -> Result<()> {
        self.wait().await.1.map_or(Ok(()), Err)
    }

    async fn wait(&self) -> Ended {
        let mut ended = self.ended.clone();
        // The sender is gone with the runtime: then nothing runs any more.
        ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()).unwrap_or_default()
    }

    /// What it is doing. Never waits.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let gauges = &self.gauges;
        WorkerStats {
            name: gauges.name.clone(),
            concurrency: gauges.slots.concurrency,
            reserved: gauges.slots.reserved,
            running: gauges.running.load(Ordering::Relaxed),
            ended: gauges.ended.load(Ordering::Relaxed),
            stopping: gauges.stopping.load(Ordering::Relaxed),
        }
    }

    /// Does what is due by the queue's clock: extends leases, and drops handlers that have taken
    /// too long. A worker does so by itself when the time comes; after moving a manual clock, call
    /// this. Returns when the leases are extended.
    pub async fn tick(&self) {
        let (reply, done) = oneshot::channel();
        if self.ticks.send(reply).await.is_ok() {
            // Without an answer it has ended.
            done.await.unwrap_or_default();
        }
    }
}
