//! What handlers said, on its way to the queue.

use crate::error::ErrorKind;
use crate::lease::LeaseToken;
use crate::queue::settle::SETTLE_MAX;
use crate::queue::{Ack, Failure, Settle, SettleOutcome};

/// What is still to be told to the queue of a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    Done(Ack),
    Failed(Failure),
}

impl Word {
    /// A failure that is tried again as the job's policy says.
    pub(crate) fn failed(token: LeaseToken, error: String) -> Self {
        Word::Failed(Failure { token, error, retry: true, retry_in_ms: None })
    }

    /// The same, but for what the queue would refuse: that becomes a failure that says so. One
    /// such word would have the others refused that travel with it.
    pub(crate) fn checked(self) -> Self {
        let (token, refused) = match &self {
            Word::Done(ack) => (ack.token, ack.validate()),
            Word::Failed(failure) => (failure.token, failure.validate()),
        };
        match refused {
            Ok(()) => self,
            Err(refused) => {
                let said = match &self {
                    Word::Done(_) => "the job was done".to_owned(),
                    Word::Failed(failure) => failure.error.clone(),
                };
                let error =
                    format!("the queue can't take what the handler said: {refused}; {said}");
                Word::failed(token, error)
            }
        }
    }
}

/// The words that the queue does not know yet, and those it is being told.
#[derive(Debug, Default)]
pub(crate) struct Words {
    waiting: Vec<Word>,
    /// Words that the queue took.
    pub(crate) taken: u64,
}

impl Words {
    pub(crate) fn push(&mut self, word: Word) {
        self.waiting.push(word);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// As many as fit into one call. They are told once: either [`heed`](Self::heed) gets the
    /// answer or [`untold`](Self::untold) gets them back.
    pub(crate) fn take(&mut self) -> Settle {
        let count = self.waiting.len().min(SETTLE_MAX);
        let mut settle = Settle::default();
        for word in self.waiting.drain(..count) {
            match word {
                Word::Done(ack) => settle.acks.push(ack),
                Word::Failed(failure) => settle.fails.push(failure),
            }
        }
        settle
    }

    /// The queue did not take these: they are told again.
    pub(crate) fn untold(&mut self, settle: Settle) {
        self.waiting.extend(settle.acks.into_iter().map(Word::Done));
        self.waiting.extend(settle.fails.into_iter().map(Word::Failed));
    }

    /// Goes through the answers. A lease that is lost is no news: the queue itself ended it, and
    /// counted what is to be counted (it timed out, ran out, or the job was cancelled).
    pub(crate) fn heed(&mut self, told: &Settle, outcomes: &[SettleOutcome]) {
        let acks = told.acks.iter().map(|ack| (ack.token, true));
        let fails = told.fails.iter().map(|failure| (failure.token, false));
        for ((token, done), outcome) in acks.chain(fails).zip(outcomes) {
            match outcome {
                Ok(_) => self.taken += 1,
                Err(error)
                    if [ErrorKind::LeaseLost, ErrorKind::Cancelled].contains(&error.kind()) =>
                {
                    tracing::debug!(%token, "too late: {error}");
                }
                Err(error) if done => {
                    let error = format!("the job was done, and the queue refused it: {error}");
                    self.push(Word::failed(token, error));
                }
                Err(error) => tracing::error!(
                    %token, "the queue refused a failure; the job is tried again when its lease \
                     runs out: {error}"
                ),
            }
        }
    }
}
