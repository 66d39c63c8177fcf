//! Keeps the leases of running jobs alive, all of them together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::ErrorKind;
use crate::handle::Queue;
use crate::lease::LeaseToken;
use crate::worker::job::Progress;
use crate::worker::time::Time;

/// The leases of the jobs that run. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<LeaseToken, Held>>>,
}

/// A lease that a running job needs.
#[derive(Clone)]
pub(crate) struct Held {
    /// Fired when it is lost, or its job cancelled.
    pub(crate) lost: CancellationToken,
    pub(crate) progress: Progress,
}

impl Leases {
    pub(crate) fn add(&self, token: LeaseToken, held: Held) {
        self.lock().insert(token, held);
    }

    pub(crate) fn remove(&self, token: LeaseToken) {
        self.lock().remove(&token);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseToken, Held>> {
        // Nothing panics while it is held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(LeaseToken, Held)> {
        self.lock().iter().map(|(token, held)| (*token, held.clone())).collect()
    }
}

/// Extends all leases every third of their length.
pub(crate) struct Keeper {
    pub(crate) leases: Leases,
    pub(crate) queue: Queue,
    pub(crate) time: Time,
    pub(crate) lease_ms: u64,
    /// Whoever moved the clock by hand, and waits until what is due by it is done.
    pub(crate) ticks: mpsc::Receiver<oneshot::Sender<()>>,
    /// Fired when the queue is gone: nothing that runs can be told to anybody.
    pub(crate) abandon: CancellationToken,
}

impl Keeper {
    /// Works until it is dropped, or until the queue is gone.
    pub(crate) async fn run(mut self) {
        let third_ms = (self.lease_ms / 3).max(1);
        let mut due = self.time.now().plus_ms(third_ms);
        let mut ticking = true;
        loop {
            let waits = tokio::select! {
                () = self.time.until(due) => None,
                waits = self.ticks.recv(), if ticking => {
                    ticking = waits.is_some();
                    self.time.look_again();
                    waits
                }
            };
            if waits.is_none() || self.time.now() >= due {
                if !self.extend_all().await {
                    self.abandon.cancel();
                    return;
                }
                due = self.time.now().plus_ms(third_ms);
            }
            if let Some(waits) = waits {
                let _ = waits.send(());
            }
        }
    }

    /// Extends all leases at once; they travel to the queue together. False when it is gone.
    async fn extend_all(&self) -> bool {
        let mut extending = JoinSet::new();
        for (token, held) in self.leases.all() {
            let (queue, lease_ms) = (self.queue.clone(), self.lease_ms);
            extending.spawn(async move {
                let progress = held.progress.take();
                (held.lost, queue.extend(token, Some(lease_ms), progress).await)
            });
        }
        let mut there = true;
        while let Some(extended) = extending.join_next().await {
            match extended {
                Ok((lost, Ok(extended))) if extended.cancelled => lost.cancel(),
                Ok((lost, Err(error))) if error.kind() == ErrorKind::LeaseLost => lost.cancel(),
                Ok((_, Err(error))) => {
                    tracing::warn!("a lease could not be extended: {error}");
                    there &= !matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Draining);
                }
                Ok((_, Ok(_))) | Err(_) => {}
            }
        }
        there
    }
}
