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

/// What becomes of a claim after it was applied.
enum Step {
    Wait,
    Again,
    Answer,
    Forget,
}

/// All claims that are not answered yet.
#[derive(Default)]
pub(crate) struct WaitingClaims {
    waiting: VecDeque<ClaimCall>,
    /// Answered after the commit.
    done: Vec<ClaimCall>,
    refused: Vec<ClaimCall>,
    /// The first deadline of those waiting.
    next_deadline: Option<Timestamp>,
    /// One of them must be applied whatever became ready.
    any_fresh: bool,
    draining: bool,
}

impl WaitingClaims {
    pub(crate) fn add(&mut self, mut call: ClaimCall, now: Timestamp) {
        if self.waiting.len() >= WAITING_CLAIMS_MAX {
            self.refused.push(call);
            return;
        }
        call.deadline = now.plus_ms(call.claim.wait_ms);
        self.any_fresh = true;
        self.waiting.push_back(call);
    }

    /// Lets no claim wait any more.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.any_fresh = true;
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.next_deadline
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
        let past_deadline = self.next_deadline.is_some_and(|deadline| deadline <= context.now);
        if became_ready.is_empty() && !past_deadline && !std::mem::take(&mut self.any_fresh) {
            return Ok(false);
        }
        self.any_fresh = false;
        for mut call in std::mem::take(&mut self.waiting) {
            let woken = call.fresh || state.concerns(&call.claim, &became_ready);
            match self.apply_one(&mut call, woken, state, context)? {
                Step::Wait => self.waiting.push_back(call),
                Step::Again => {
                    call.fresh = true;
                    self.any_fresh = true;
                    self.waiting.push_back(call);
                }
                Step::Answer => self.done.push(call),
                Step::Forget => {}
            }
        }
        self.next_deadline = self.waiting.iter().map(|call| call.deadline).min();
        // An ack that rode along may have made room in a queue that an earlier claim waits for.
        let may_be_woken = !self.waiting.is_empty() && !state.became_ready.is_empty();
        Ok(self.any_fresh || may_be_woken)
    }

    fn apply_one(
        &self,
        call: &mut ClaimCall,
        woken: bool,
        state: &mut QueueState,
        context: &mut Context<'_>,
    ) -> Result<Step> {
        if !call.settled {
            let (settle, outcomes) = (&call.claim.settle, &mut call.claimed.outcomes);
            call.settled = state.settle(settle, outcomes, context)?;
            state.admit_freed()?;
        }
        if !call.settled || (state.is_full() && !self.draining) {
            return Ok(Step::Again);
        }
        if call.reply.is_closed() {
            // Nobody waits for it any more: hand it nothing.
            return Ok(Step::Forget);
        }
        if self.draining {
            return Ok(Step::Answer);
        }
        if woken {
            call.fresh = false;
            let taken = state.claim(&call.claim, context)?;
            if taken.jobs.is_empty() && !taken.saw_all {
                return Ok(Step::Again);
            }
            call.claimed.jobs = taken.jobs;
        }
        let due = call.deadline <= context.now;
        Ok(if due || !call.claimed.jobs.is_empty() { Step::Answer } else { Step::Wait })
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
