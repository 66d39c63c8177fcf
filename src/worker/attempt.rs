//! One attempt at a job: runs its handler to the end, or to where it is given up.
//!
//! A failure is logged by the queue, once it is on the disk; here only what the queue can't know.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::error::ErrorKind;
use crate::handle::Queue;
use crate::lease::LeaseToken;
use crate::queue::{Ack, Failure};
use crate::worker::handler::Running;
use crate::worker::outcome::Outcome;
use crate::worker::time::Time;
use crate::worker::words::Word;

/// How long a handler whose job was cancelled, or whose lease is lost, may take to end.
const CANCELLED_GRACE_MS: u64 = 5_000;

/// A job that runs.
pub(crate) struct Attempt {
    pub(crate) token: LeaseToken,
    /// When it has taken too long, and how long that is.
    pub(crate) deadline: Option<(Timestamp, u64)>,
    /// What the handler sees.
    pub(crate) cancellation: CancellationToken,
    /// Its lease is lost, or it was cancelled.
    pub(crate) lost: CancellationToken,
    /// The worker waits for no handler any more.
    pub(crate) abandon: CancellationToken,
    pub(crate) queue: Queue,
    pub(crate) time: Time,
}

/// What became of an attempt.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    /// The queue is to be told.
    Said(Word),
    /// It was put off, and the queue knows.
    Snoozed,
    /// It was given back unfinished, and the queue knows.
    GivenBack,
    /// The queue had taken it away before.
    Lost,
}

/// How a handler came to its end.
enum End {
    Returned(Outcome),
    Panicked(String),
    TimedOut(u64),
    GivenUp,
}

impl Attempt {
    /// Runs the handler; `begun` is its future, or why there is none.
    pub(crate) async fn run(self, begun: Result<Running, String>) -> Ended {
        let end = match begun {
            Ok(running) => self.wait_for(running).await,
            Err(panic) => End::Panicked(panic),
        };
        match end {
            End::Returned(outcome) => self.settle(outcome).await,
            End::Panicked(message) => {
                tracing::error!("the handler panicked: {message}");
                self.failed(format!("the handler panicked: {message}"))
            }
            End::TimedOut(timeout_ms) => {
                tracing::debug!(timeout_ms, "the attempt timed out");
                // As the queue says it, should it be the first.
                self.failed(format!("timed out: the attempt took longer than {timeout_ms} ms"))
            }
            End::GivenUp => {
                tracing::info!("the handler was told to end and did not: it was dropped");
                self.release(None, Ended::GivenBack).await
            }
        }
    }

    async fn wait_for(&self, mut running: Running) -> End {
        let handler = poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(outcome)) => Poll::Ready(End::Returned(outcome)),
                Err(panic) => Poll::Ready(End::Panicked(panic_text(&*panic))),
            }
        });
        let end = tokio::select! {
            biased;
            end = handler => end,
            () = self.abandon.cancelled() => End::GivenUp,
            timeout_ms = self.wait_for_deadline() => End::TimedOut(timeout_ms),
            () = self.wait_for_loss() => End::GivenUp,
        };
        // What the handler held may panic too when it goes.
        match catch_unwind(AssertUnwindSafe(|| drop(running))) {
            Ok(()) => end,
            Err(panic) => End::Panicked(panic_text(&*panic)),
        }
    }

    async fn wait_for_deadline(&self) -> u64 {
        match self.deadline {
            Some((deadline, timeout_ms)) => {
                self.time.until(deadline).await;
                timeout_ms
            }
            None => std::future::pending().await,
        }
    }

    async fn wait_for_loss(&self) {
        self.lost.cancelled().await;
        self.cancellation.cancel();
        self.time.until(self.time.now().plus_ms(CANCELLED_GRACE_MS)).await;
    }

    /// Turns what the handler said into what the queue is told.
    async fn settle(&self, outcome: Outcome) -> Ended {
        let token = self.token;
        let word = match outcome {
            Outcome::Done => Word::Done(Ack { token, result: None }),
            Outcome::DoneWith(result) => Word::Done(Ack { token, result: Some(result) }),
            Outcome::Fail { error, retry_in_ms } => {
                tracing::debug!("the attempt failed: {error}");
                Word::Failed(Failure { token, error, retry: true, retry_in_ms })
            }
            Outcome::Reject { error } => {
                tracing::debug!("the job was rejected: {error}");
                Word::Failed(Failure { token, error, retry: false, retry_in_ms: None })
            }
            Outcome::Snooze { delay_ms } => {
                return self.release(Some(delay_ms), Ended::Snoozed).await;
            }
        };
        Ended::Said(word.checked())
    }

    fn failed(&self, error: String) -> Ended {
        Ended::Said(Word::failed(self.token, error))
    }

    async fn release(&self, delay_ms: Option<u64>, ended: Ended) -> Ended {
        match self.queue.release(self.token, delay_ms).await {
            Ok(_) => ended,
            Err(error) if error.kind() == ErrorKind::Invalid => {
                self.failed(format!("the queue can't take what the handler said: {error}"))
            }
            Err(error) => {
                tracing::debug!("too late: {error}");
                Ended::Lost
            }
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it did not say why".to_owned())
}
