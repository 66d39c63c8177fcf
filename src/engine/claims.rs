//! Claims in the engine: applied in the order they came, kept while they wait for a job.

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::LeaseToken;
use crate::queue::state::{Context, QueueState};
use crate::queue::{Claim, Claimed};

/// Most claims that may wait at once; more are refused, not queued.
pub(crate) const WAITING_CLAIMS_MAX: usize = 10_000;

/// A claim with the place where its caller waits.
pub(crate) struct ClaimCall {
    claim: Claim,
    reply: oneshot::Sender<Result<Claimed>>,
    claimed: Claimed,
    deadline: Timestamp,
    /// What rode along was applied, to the last.
    settled: bool,
    /// It came in this group, or did not see all there is: apply it whatever became ready.
    fresh: bool,
    _permit: OwnedSemaphorePermit,
}

impl ClaimCall {
    pub(crate) fn new(
        claim: Claim,
        reply: oneshot::Sender<Result<Claimed>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        ClaimCall {
            settled: claim.settle.is_empty(),
            claim,
            reply,
            claimed: Claimed::default(),
            deadline: Timestamp::default(),
            fresh: true,
            _permit: permit,
        }
    }

    pub(crate) fn fail(self, error: &Error) {
        drop(self.reply.send(Err(error.clone())));
    }
}

/// All claims that are not answered yet.
#[derive(Default)]
pub(crate) struct WaitingClaims {
    waiting: VecDeque<ClaimCall>,
    /// Answered after the commit.
    done: Vec<ClaimCall>,
    refused: Vec<ClaimCall>,
    draining: bool,
}

impl WaitingClaims {
    pub(crate) fn add(&mut self, mut call: ClaimCall, now: Timestamp) {
        if self.waiting.len() >= WAITING_CLAIMS_MAX {
            self.refused.push(call);
            return;
        }
        call.deadline = now.plus_ms(call.claim.wait_ms);
        self.waiting.push_back(call);
    }

    /// Lets no claim wait any more.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        for call in &mut self.waiting {
            call.fresh = true;
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|call| call.deadline).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Applies those that may get something, first come first served. True when one of them must
    /// be applied again at once.
    pub(crate) fn apply(
        &mut self,
        state: &mut QueueState,
        context: &mut Context<'_>,
    ) -> Result<bool> {
        let became_ready = std::mem::take(&mut state.became_ready);
        let mut again = false;
        for mut call in std::mem::take(&mut self.waiting) {
            if call.reply.is_closed() && call.settled {
                // Nobody waits for it any more: hand it nothing.
                continue;
            }
            if !call.settled {
                let (settle, outcomes) = (&call.claim.settle, &mut call.claimed.outcomes);
                call.settled = state.settle(settle, outcomes, context)?;
            }
            let due = call.deadline <= context.now || self.draining;
            if !call.settled || state.is_full() {
                call.fresh = true;
                again = true;
                self.waiting.push_back(call);
                continue;
            }
            if call.fresh || became_ready {
                let taken =
                    if self.draining { None } else { Some(state.claim(&call.claim, context)?) };
                call.fresh = taken.as_ref().is_some_and(|taken| !taken.saw_all);
                call.claimed.jobs = taken.map(|taken| taken.jobs).unwrap_or_default();
            }
            if !call.claimed.jobs.is_empty() || (due && !call.fresh) {
                self.done.push(call);
            } else {
                again |= call.fresh;
                self.waiting.push_back(call);
            }
        }
        Ok(again)
    }

    /// Answers those that got something or have waited long enough. Gives the leases of those
    /// whose caller has gone away.
    pub(crate) fn answer(&mut self) -> Vec<LeaseToken> {
        let mut orphans = Vec::new();
        for call in self.done.drain(..) {
            if let Err(Ok(unheard)) = call.reply.send(Ok(call.claimed)) {
                orphans.extend(unheard.jobs.into_iter().map(|job| job.token));
            }
        }
        for call in self.refused.drain(..) {
            call.fail(&Error::new(
                ErrorKind::Full,
                format!("{WAITING_CLAIMS_MAX} claims wait already; try again later"),
            ));
        }
        orphans
    }

    pub(crate) fn fail(&mut self, error: &Error) {
        let calls = self.waiting.drain(..).chain(self.done.drain(..)).chain(self.refused.drain(..));
        calls.for_each(|call| call.fail(error));
    }
}
