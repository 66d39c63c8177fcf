//! Ends leases by the word of their holders: acks and fails, and what becomes of a failed job.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, ERRORS_KEPT_MAX, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobState, Move, validate_range};
use crate::lease::LeaseToken;
use crate::queue::chunk::Chunk;
use crate::queue::event::Happened;
use crate::queue::locate::Place;
use crate::queue::result::Ack;
use crate::queue::state::{Context, QueueState};
use crate::retry::RetryPolicy;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{
    DeadRecord, ErrorRecord, JobRecord, LeaseRecord, LocationRecord, SlotProgress, Wait,
};
use crate::store::key::{self, LaneId};

/// Most acks and fails in one call.
pub const SETTLE_MAX: usize = 1_000;

/// A worker's word that a job failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The lease.
    pub token: LeaseToken,
    /// What went wrong; its first kilobyte is kept.
    pub error: String,
    /// False: never try again, whatever attempts are left.
    pub retry: bool,
    /// When to try again, in milliseconds from now, instead of the job's own policy.
    pub retry_in_ms: Option<u64>,
}

/// What became of a failed job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It will run again at this time.
    Retrying {
        /// The moment of the next attempt.
        run_at: Timestamp,
    },
    /// It is a dead letter now.
    Dead {
        /// Why.
        reason: DeadReason,
    },
}

/// What a worker has finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settle {
    /// Jobs that are done.
    pub acks: Vec<Ack>,
    /// Jobs that failed.
    pub fails: Vec<Failure>,
}

/// What became of one ack (`Ok(None)`) or one fail (`Ok(Some(_))`).
pub type SettleOutcome = Result<Option<Failed>, Error>;

impl Settle {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) or [`TooLarge`](ErrorKind::TooLarge), naming the field.
    pub fn validate(&self) -> Result<()> {
        let settled = self.acks.len() + self.fails.len();
        if settled > SETTLE_MAX {
            return Err(Error::invalid(
                "acks",
                format!("{settled} acks and fails are too many for one call; at most {SETTLE_MAX}"),
            ));
        }
        for (number, ack) in self.acks.iter().enumerate() {
            ack.validate().map_err(|error| error.inside(&format!("acks[{number}]")))?;
        }
        for (number, failure) in self.fails.iter().enumerate() {
            failure.validate().map_err(|error| error.inside(&format!("fails[{number}]")))?;
        }
        Ok(())
    }

    /// True when there is nothing to settle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.fails.is_empty()
    }

    /// Bytes that it brings with it.
    pub(crate) fn weight_bytes(&self) -> usize {
        let results = self.acks.iter().filter_map(|ack| ack.result.as_ref());
        let errors = self.fails.iter().map(|failure| failure.error.len());
        results.map(Bytes::len).sum::<usize>() + errors.sum::<usize>()
    }
}

impl Failure {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        validate_range("retry_in_ms", self.retry_in_ms, 0, RetryPolicy::DELAY_MS_MAX)
    }
}

/// A leased slot, with all that is needed to end its lease.
pub(crate) struct Leased {
    pub(crate) chunk: std::sync::Arc<Chunk>,
    pub(crate) slot: usize,
    pub(crate) lease: LeaseRecord,
}

impl Leased {
    pub(crate) fn lane(&self) -> LaneId {
        self.chunk.id.lane
    }

    /// The job as it leaves its slot, with what the lease counted.
    pub(crate) fn job(&self) -> JobRecord {
        let mut job = self.chunk.slots.get(self.slot).map(|slot| slot.job.clone());
        let job = job.get_or_insert_default();
        job.deliveries = self.lease.delivery;
        job.interruptions = self.lease.interruptions;
        job.drop_expiry();
        std::mem::take(job)
    }
}

impl QueueState {
    /// Acks, then fails, from number `outcomes.len()` on, until the group is full. True when all
    /// are done; otherwise apply it again in the next group.
    pub(crate) fn settle(
        &mut self,
        settle: &Settle,
        outcomes: &mut Vec<SettleOutcome>,
        context: &mut Context<'_>,
    ) -> Result<bool> {
        let acked = outcomes.len().min(settle.acks.len());
        for ack in settle.acks.iter().skip(acked) {
            if self.is_full() {
                return Ok(false);
            }
            outcomes.push(told_apart(self.ack(ack.clone(), context).map(|()| None))?);
        }
        let failed = outcomes.len() - settle.acks.len();
        for failure in settle.fails.iter().skip(failed) {
            if self.is_full() {
                return Ok(false);
            }
            outcomes.push(told_apart(self.fail(failure, context).map(Some))?);
        }
        Ok(true)
    }

    /// The job is done. What its worker gave back is kept for a while.
    pub(crate) fn ack(&mut self, ack: impl Into<Ack>, context: &mut Context<'_>) -> Result<()> {
        let ack: Ack = ack.into();
        let leased = self.leased_to_end(ack.token)?;
        let lane = leased.lane();
        self.count(lane, Some(JobState::Running), Move::Ack)?;
        self.vacate(&leased.chunk, leased.slot)?;
        if let Some(slot) = leased.chunk.slots.get(leased.slot) {
            self.give_up_turn(lane.queue, &slot.job)?;
            self.forget_job(slot.id, slot.moved, &slot.job)?;
        }
        if let Some(result) = &ack.result {
            self.keep_result(ack.token.job, &leased, result, context.now)?;
        }
        let duration_ms = context.now.as_ms().saturating_sub(leased.lease.started_ms);
        let slot = leased.chunk.slots.get(leased.slot);
        let detail = slot.and_then(|slot| self.detail(slot.id, &slot.job));
        self.tell(lane, Happened::Completed { duration_ms, detail });
        Ok(())
    }

    /// The job failed: it is tried again later, or it is dead.
    pub(crate) fn fail(&mut self, failure: &Failure, context: &mut Context<'_>) -> Result<Failed> {
        let leased = self.leased_to_end(failure.token)?;
        self.fail_leased(&leased, failure, context)
    }

    pub(crate) fn fail_leased(
        &mut self,
        leased: &Leased,
        failure: &Failure,
        context: &mut Context<'_>,
    ) -> Result<Failed> {
        let (id, lane, now) = (failure.token.job, leased.lane(), context.now);
        let mut job = leased.job();
        remember_error(&mut job, &failure.error, now);
        job.failures += 1;
        self.tell(
            lane,
            Happened::Failed {
                id,
                kind: job.kind.clone(),
                attempt: job.failures,
                error: shorten(&failure.error).to_owned(),
                duration_ms: now.as_ms().saturating_sub(leased.lease.started_ms),
            },
        );
        let spent = job.failures >= job.max_attempts;
        if spent || !failure.retry {
            let reason = if failure.retry { DeadReason::Exhausted } else { DeadReason::Rejected };
            self.bury(leased, id, job, reason, now)?;
            return Ok(Failed::Dead { reason });
        }
        let policy = job.retry.unwrap_or(self.config.retry);
        let delay_ms = match failure.retry_in_ms {
            Some(retry_in_ms) => retry_in_ms,
            None => policy.delay_ms(job.failures, context.random),
        };
        let run_at = now.plus_ms(delay_ms);
        self.count(lane, Some(JobState::Running), Move::Retry)?;
        self.vacate(&leased.chunk, leased.slot)?;
        self.set_timer(lane, id, job, run_at, Wait::Retry { since_ms: now.as_ms() });
        self.tell(lane, Happened::Retried { id, run_at });
        Ok(Failed::Retrying { run_at })
    }

    /// Makes a running job a dead letter.
    pub(crate) fn bury(
        &mut self,
        leased: &Leased,
        id: JobId,
        job: JobRecord,
        reason: DeadReason,
        now: Timestamp,
    ) -> Result<()> {
        self.count(leased.lane(), Some(JobState::Running), Move::Bury)?;
        self.vacate(&leased.chunk, leased.slot)?;
        self.give_up_turn(leased.lane().queue, &job)?;
        self.put_dead(leased.lane(), id, job, reason, now)
    }

    /// Makes a waiting job a dead letter, because what it carries can't be read any more.
    pub(crate) fn bury_unreadable(
        &mut self,
        chunk: &Chunk,
        number: usize,
        error: &str,
        now: Timestamp,
    ) -> Result<()> {
        let Some(slot) = chunk.slots.get(number) else { return Ok(()) };
        let lane = chunk.id.lane;
        let mut job = slot.job.clone();
        let entry = self.lanes.entry(lane).or_default();
        if !entry.begun.contains_key(&chunk.id.first_place) {
            entry.begin(chunk);
        }
        if let Some(begun) = entry.begun.get(&chunk.id.first_place)
            && let Some(SlotProgress::Returned { deliveries, interruptions }) =
                begun.slots.get(number)
        {
            (job.deliveries, job.interruptions) = (*deliveries, *interruptions);
        }
        remember_error(&mut job, error, now);
        self.count(lane, Some(JobState::Ready), Move::Bury)?;
        self.vacate(chunk, number)?;
        self.give_up_turn(lane.queue, &job)?;
        self.put_dead(lane, slot.id, job, DeadReason::Damaged, now)
    }

    /// Files a job that left its slot or timer as a dead letter. Its unique key is free now.
    pub(crate) fn put_dead(
        &mut self,
        lane: LaneId,
        id: JobId,
        mut job: JobRecord,
        reason: DeadReason,
        now: Timestamp,
    ) -> Result<()> {
        self.release_unique_key(id, &job)?;
        self.forget_expiry(id, &job);
        job.drop_expiry();
        let kind = job.kind.clone();
        self.note_death(&job, now);
        let sequence = self.meta.next_sequence;
        let record = DeadRecord { priority: lane.priority.number(), reason, sequence, job };
        self.draft.put_live(Tree::Dead, key::dead(lane.queue, now, id), codec::encode(&record));
        let location = LocationRecord::Dead { died_at_ms: now.as_ms() };
        self.draft.put(Tree::Location, key::job(id), codec::encode(&location));
        self.tell(lane, Happened::Dead { id, kind, reason });
        self.hold_number_of_dead(lane.queue)
    }

    /// The slot that this token holds.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) when it holds none (any more).
    pub(crate) fn leased(&mut self, token: LeaseToken) -> Result<Leased> {
        if let Some(Place::Slot(chunk_id, slot)) = self.locate(token.job)?
            && let Some(lease) = self.lease(chunk_id, slot).cloned()
            && lease.delivery == token.delivery
            && let Some(chunk) = self.chunk(chunk_id)?
        {
            return Ok(Leased { chunk, slot, lease });
        }
        Err(Error::new(
            ErrorKind::LeaseLost,
            format!(
                "the lease {token} has ended: job {} is done, was given back, or was handed to \
                 another worker; nothing was changed",
                token.job
            ),
        ))
    }
}

fn remember_error(job: &mut JobRecord, error: &str, now: Timestamp) {
    if job.errors.len() >= ERRORS_KEPT_MAX {
        job.errors.remove(0);
    }
    job.errors.push(ErrorRecord {
        attempt: job.failures + 1,
        failed_at_ms: now.as_ms(),
        error: shorten(error).to_owned(),
    });
}

/// A refusal is an outcome of its own; a failing store is the end of the whole call.
fn told_apart(outcome: SettleOutcome) -> Result<SettleOutcome> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Poisoned => Err(error),
        outcome => Ok(outcome),
    }
}
