//! A job in the hands of a handler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::job::{JobId, Payload};
use crate::priority::Priority;
use crate::queue::ClaimedJob;
use crate::worker::Outcome;

/// The header that carries a W3C trace context from the enqueue to the handler.
pub const TRACEPARENT: &str = "traceparent";
/// Stands for "nothing was said" where progress is kept.
const NO_PROGRESS: u8 = u8::MAX;

/// A job in the hands of a handler; `T` is what its payload was read as.
#[derive(Clone, Debug)]
pub struct Job<T = Payload> {
    /// The job's id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What it carries.
    pub payload: T,
    /// Names and values beside the payload.
    pub headers: BTreeMap<String, String>,
    /// The attempt this is, from 1. Interruptions don't count.
    pub attempt: u32,
    /// How often it may fail in all.
    pub max_attempts: u32,
    /// When the attempt has taken too long: then it is dropped, and has failed.
    pub deadline: Option<Timestamp>,
    cancellation: CancellationToken,
    progress: Progress,
}

/// How far a job has come, from its handler to whoever extends its lease.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Arc::new(AtomicU8::new(NO_PROGRESS)))
    }
}

impl Progress {
    /// What was said since it was last asked for.
    pub(crate) fn take(&self) -> Option<u8> {
        Some(self.0.swap(NO_PROGRESS, Ordering::Relaxed)).filter(|percent| *percent != NO_PROGRESS)
    }
}

impl Job {
    /// What a worker hands to a handler; `started` is when it was claimed.
    pub(crate) fn new(
        claimed: ClaimedJob,
        started: Timestamp,
        cancellation: CancellationToken,
        progress: Progress,
    ) -> Self {
        Job {
            id: claimed.id,
            queue: claimed.queue,
            kind: claimed.kind,
            priority: claimed.priority,
            payload: claimed.payload,
            headers: claimed.headers,
            attempt: claimed.attempt,
            max_attempts: claimed.max_attempts,
            deadline: claimed.timeout_ms.map(|timeout_ms| started.plus_ms(timeout_ms)),
            cancellation,
            progress,
        }
    }

    /// The job with its payload read as `T`.
    ///
    /// # Errors
    /// What becomes of a job whose payload is something else: it is rejected, since it will be the
    /// same at the next attempt.
    pub fn read<T: DeserializeOwned>(self) -> Result<Job<T>, Outcome> {
        let payload = serde_json::from_slice(self.payload.bytes()).map_err(|reason| {
            let kind = &self.kind;
            Outcome::reject(format!(
                "the payload is not what the handler of kind {kind} takes: {reason}"
            ))
        })?;
        let Job { id, queue, kind, priority, headers, attempt, max_attempts, deadline, .. } = self;
        let (cancellation, progress) = (self.cancellation, self.progress);
        Ok(Job {
            id,
            queue,
            kind,
            priority,
            payload,
            headers,
            attempt,
            max_attempts,
            deadline,
            cancellation,
            progress,
        })
    }
}

impl<T> Job<T> {
    /// Fires when the job was cancelled, when its lease is lost, and when the worker stops: then
    /// the handler should end soon. What it says is still heard, for as long as the worker waits.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Says how far it has come, 0 to 100; more counts as 100. Operators see it with the next
    /// extension of the lease, after a third of its length.
    pub fn set_progress(&self, percent: u8) {
        self.progress.0.store(percent.min(100), Ordering::Relaxed);
    }

    /// The W3C trace context that the producer gave in the header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.get(TRACEPARENT).map(String::as_str)
    }
}
