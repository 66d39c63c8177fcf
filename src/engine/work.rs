//! A command on its way through the engine: applied in a group, answered after its commit.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::{Error, ErrorKind, Result};
use crate::lease::LeaseToken;
use crate::queue::state::{Context, QueueState};

/// Whether a command is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Answer it after the commit.
    Done,
    /// The group is full: apply the rest of it in the next one.
    Again,
}

/// A command that the engine can apply and answer without knowing which it is.
pub(crate) trait Work: Send {
    /// About how many bytes it brings with it.
    fn weight_bytes(&self) -> usize;

    /// Applies it. An `Err` is a failure of the store and ends the engine; a refusal is an answer.
    fn apply(&mut self, state: &mut QueueState, context: &mut Context<'_>) -> Result<Applied>;

    /// Sends the answer: what came of it, or the failure of its group.
    fn answer(self: Box<Self>, failure: Option<&Error>);
}

/// A command as a function, with the place where its caller waits.
pub(crate) struct Call<T, F> {
    run: F,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
    weight_bytes: usize,
    /// The caller's share of the memory for commands under way; given back with the answer.
    _permit: OwnedSemaphorePermit,
}

impl<T, F> Call<T, F>
where
    F: FnMut(&mut QueueState, &mut Context<'_>) -> Result<Option<T>>,
{
    /// `run` gives `None` when it must be applied again in the next group.
    pub(crate) fn new(
        run: F,
        weight_bytes: usize,
        reply: oneshot::Sender<Result<T>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Call { run, outcome: None, reply, weight_bytes, _permit: permit }
    }
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnMut(&mut QueueState, &mut Context<'_>) -> Result<Option<T>> + Send,
{
    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    fn apply(&mut self, state: &mut QueueState, context: &mut Context<'_>) -> Result<Applied> {
        match (self.run)(state, context) {
            Ok(None) => return Ok(Applied::Again),
            Ok(Some(outcome)) => self.outcome = Some(Ok(outcome)),
            Err(error) if error.kind() == ErrorKind::Poisoned => return Err(error),
            Err(error) => self.outcome = Some(Err(error)),
        }
        Ok(Applied::Done)
    }

    fn answer(self: Box<Self>, failure: Option<&Error>) {
        let answer = match (failure, self.outcome) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(Error::new(ErrorKind::Poisoned, "the command was not applied")),
        };
        // Nobody waits any more: what was done is done, and durable.
        drop(self.reply.send(answer));
    }
}

/// Gives back a job that was claimed for somebody who has gone away.
pub(crate) struct GiveBack {
    pub(crate) token: LeaseToken,
}

impl Work for GiveBack {
    fn weight_bytes(&self) -> usize {
        0
    }

    fn apply(&mut self, state: &mut QueueState, context: &mut Context<'_>) -> Result<Applied> {
        match state.release(self.token, None, context) {
            Err(error) if error.kind() == ErrorKind::Poisoned => Err(error),
            // A lease that has ended meanwhile needs no giving back.
            _ => Ok(Applied::Done),
        }
    }

    fn answer(self: Box<Self>, _failure: Option<&Error>) {}
}
