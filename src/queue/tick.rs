//! What time does: leases run out, timers come due, what has its time is over, and a clock that
//! steps back is caught up with.
//!
//! Applied before the commands of every group, in portions that fit into one.

use std::ops::Bound;

use crate::clock::Timestamp;
use crate::dead_letter::DeadReason;
use crate::error::Result;
use crate::job::{JobId, JobState, Move};
use crate::lease::LeaseToken;
use crate::priority::Priority;
use crate::queue::event::Happened;
use crate::queue::gate::Arrival;
use crate::queue::settle::{Failure, Leased};
use crate::queue::state::{Context, QueueState, attention_at};
use crate::store::codec;
use crate::store::format::{LeaseRecord, TimerRecord, Wait};
use crate::store::key::{self, ChunkId, LaneId};
use crate::store::{Direction, Entry, Tree};

/// Most leases, and most timers, that one tick handles: keeps a group's latency bounded.
const TICK_JOBS_MAX: usize = 1_000;
/// Timers read at once.
const TIMERS_READ: usize = 64;

impl QueueState {
    /// Applies what is due. True when more is due at once than one group should hold.
    pub(crate) fn tick(&mut self, context: &mut Context<'_>) -> Result<bool> {
        if self.needs_recount {
            self.recount()?;
        }
        if context.now < self.last_now {
            self.clock_stepped_back(context.now);
        }
        self.last_now = context.now;
        let more_refiling = self.refile_timers(context.now)?;
        let more_to_refile = self.refile_endings_and_keys(context.now)?;
        let more_leases = self.end_leases(context)?;
        let more_timers = self.fire_timers(context.now)?;
        let more_slots = self.fire_schedules(context)?;
        self.let_tokens_in(context.now);
        let more_admissions = self.admit_in_portions()?;
        let more_replays = self.move_replays_on(context)?;
        let more_sweeping = self.sweep_dead(context.now)?;
        let more_endings = self.end_what_is_over(context.now)?;
        let more_ends = more_leases || more_timers || more_slots || more_endings || more_admissions;
        Ok(more_refiling || more_to_refile || more_ends || more_replays || more_sweeping)
    }

    /// The next moment at which [`tick`](Self::tick) has something to do.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let first_lease = self.leases.first().map(|(moment, _, _)| *moment);
        let dead_letters = self.replays.next_due().into_iter().chain(self.retention.next_sweep);
        let first = first_lease.into_iter().chain(self.first_timer).chain(self.first_ending);
        let first = first.chain(dead_letters).chain(self.next_token());
        first.chain(self.next_slot_due()).chain(self.next_admission()).min()
    }

    // ---- leases ----

    fn end_leases(&mut self, context: &mut Context<'_>) -> Result<bool> {
        for _ in 0..TICK_JOBS_MAX {
            let Some((moment, chunk_id, slot)) = self.leases.first().copied() else {
                return Ok(false);
            };
            if moment > context.now {
                return Ok(false);
            }
            if self.is_full() {
                return Ok(true);
            }
            let lease = self.lease(chunk_id, slot).cloned();
            match (self.chunk(chunk_id)?, lease) {
                (Some(chunk), Some(lease)) => {
                    self.end_lease(&Leased { chunk, slot, lease }, context)?;
                }
                // Its chunk was damaged and set aside: there is no job left to give back.
                _ => drop(self.leases.pop_first()),
            }
        }
        Ok(true)
    }

    /// Ends one lease that ran out: too long is a failure, no word from the worker is not.
    fn end_lease(&mut self, leased: &Leased, context: &mut Context<'_>) -> Result<()> {
        let Some(slot) = leased.chunk.slots.get(leased.slot) else { return Ok(()) };
        let (id, lane, now) = (slot.id, leased.lane(), context.now);
        if leased.lease.cancelled {
            return self.end_cancelled(leased);
        }
        if leased.lease.timeout_at_ms.is_some_and(|timeout_at_ms| timeout_at_ms <= now.as_ms()) {
            let timeout_ms = slot.job.timeout_ms.unwrap_or_default();
            let failure = Failure {
                token: LeaseToken { job: id, delivery: leased.lease.delivery },
                error: format!("timed out: the attempt took longer than {timeout_ms} ms"),
                retry: true,
                retry_in_ms: None,
            };
            self.fail_leased(leased, &failure, context)?;
            return Ok(());
        }
        let interruptions = leased.lease.interruptions + 1;
        self.tell(lane, Happened::Interrupted { id, interruptions });
        if interruptions > slot.job.max_interruptions {
            let mut job = leased.job();
            job.interruptions = interruptions;
            return self.bury(leased, id, job, DeadReason::Crashed, now);
        }
        self.give_back(leased, interruptions)
    }

    // ---- timers ----

    /// Moves due jobs to the ends of their lanes, in the order in which they came due.
    fn fire_timers(&mut self, now: Timestamp) -> Result<bool> {
        let mut fired = 0;
        let mut behind: Option<Vec<u8>> = None;
        while let Some(first) = self.first_timer.filter(|first| *first <= now) {
            if self.is_full() || fired >= TICK_JOBS_MAX {
                return Ok(true);
            }
            // Before the first there is only what was fired lately, which a store may have to step
            // over until it is rid of it. What is fired now is there until the group is committed.
            let first = || Bound::Included(key::moment(first));
            let due = self.timers_from(behind.clone().map_or_else(first, Bound::Excluded))?;
            if due.is_empty() {
                self.first_timer = None;
            }
            for (key, bytes) in due {
                behind = Some(key.clone());
                let Some((moment, id)) = key::timer_from(&key) else { continue };
                self.first_timer = Some(moment);
                if moment > now {
                    return Ok(false);
                }
                fired += 1;
                self.fire_timer(key, id, &bytes, now)?;
                if self.is_full() {
                    break;
                }
            }
        }
        Ok(false)
    }

    fn fire_timer(&mut self, key: Vec<u8>, id: JobId, bytes: &[u8], now: Timestamp) -> Result<()> {
        let Some((lane, record)) = self.timer_record(&key, id, bytes)? else { return Ok(()) };
        self.draft.remove_live(Tree::Timers, key, bytes.len());
        self.count(lane, Some(record.wait.state()), Move::Due)?;
        // What was started once has its turn, and comes back to it.
        let has_turn = record.job.deliveries > 0;
        let arrival = Arrival { id, job: record.job, ready_at: now, is_new: false, has_turn };
        self.let_in(lane, arrival)
    }

    /// The next timers from there on.
    fn timers_from(&self, from: Bound<Vec<u8>>) -> Result<Vec<Entry>> {
        let range = (from, Bound::Unbounded);
        self.draft.scan(Tree::Timers, range, Direction::Ascending).take(TIMERS_READ).collect()
    }

    /// A timer's record and the lane its job belongs to; `None` when it was damaged.
    pub(crate) fn timer_record(
        &mut self,
        key: &[u8],
        id: JobId,
        bytes: &[u8],
    ) -> Result<Option<(LaneId, TimerRecord)>> {
        match codec::decode::<TimerRecord>(bytes) {
            Ok(record) => {
                let priority = Priority::from_number(record.priority).unwrap_or_default();
                Ok(Some((LaneId { priority, queue: id.queue() }, record)))
            }
            Err(reason) => {
                self.set_aside(Tree::Timers, key.to_vec(), bytes, &reason)?;
                Ok(None)
            }
        }
    }

    // ---- a clock that steps back (I8) ----

    /// Brings leases back within their length, and begins to re-file the timers.
    pub(crate) fn clock_stepped_back(&mut self, now: Timestamp) {
        let mut leases = std::mem::take(&mut self.leases).into_iter().collect::<Vec<_>>();
        for (attention, ChunkId { lane, first_place }, slot) in &mut leases {
            let begun = self.lanes.get_mut(lane).and_then(|lane| lane.begun.get_mut(first_place));
            if let Some(lease) = begun.and_then(|begun| begun.lease_mut(*slot)) {
                pull_back(lease, now);
                *attention = attention_at(lease);
            }
        }
        self.leases.extend(leases);
        self.replays.clock_stepped_back(now);
        self.note_step_back_for_schedules();
        self.limiting.clock_stepped_back();
        self.refile_from = Some(Bound::Unbounded);
        self.refile_endings_from = Some(Bound::Unbounded);
        self.refile_keys_from = Some(Bound::Unbounded);
    }

    /// Goes through the timers, a portion at a time, and brings those that count from a moment
    /// which is now in the future back to what they were told to wait.
    fn refile_timers(&mut self, now: Timestamp) -> Result<bool> {
        let Some(from) = self.refile_from.take() else { return Ok(false) };
        let timers = self.timers_from(from)?;
        let read_all = timers.len() < TIMERS_READ;
        let last = timers.last().map(|(key, _)| key.clone());
        for (key, bytes) in timers {
            let Some((due, id)) = key::timer_from(&key) else { continue };
            let Some((lane, record)) = self.timer_record(&key, id, &bytes)? else { continue };
            let Some(since) = record.wait.since().filter(|since| *since > now) else { continue };
            let wait = match record.wait {
                Wait::Retry { .. } => Wait::Retry { since_ms: now.as_ms() },
                _ => Wait::After { since_ms: now.as_ms() },
            };
            self.draft.remove_live(Tree::Timers, key, bytes.len());
            self.set_timer(lane, id, record.job, now.plus_ms(due.ms_since(since)), wait);
        }
        if read_all {
            return Ok(false);
        }
        self.refile_from = last.map(Bound::Excluded);
        Ok(true)
    }
}

/// Brings a lease back within its length, counted from `now`.
pub(crate) fn pull_back(lease: &mut LeaseRecord, now: Timestamp) {
    lease.deadline_ms = lease.deadline_ms.min(now.plus_ms(lease.lease_ms).as_ms());
    let ahead_ms = lease.started_ms.saturating_sub(now.as_ms());
    lease.started_ms -= ahead_ms;
    lease.timeout_at_ms = lease.timeout_at_ms.map(|moment_ms| moment_ms.saturating_sub(ahead_ms));
}

impl Wait {
    /// The state of a job that waits like this.
    pub(crate) fn state(self) -> JobState {
        match self {
            Wait::At | Wait::After { .. } => JobState::Scheduled,
            Wait::Retry { .. } => JobState::Retrying,
        }
    }

    /// The moment from which it counts, if it counts from one.
    fn since(self) -> Option<Timestamp> {
        match self {
            Wait::At => None,
            Wait::After { since_ms } | Wait::Retry { since_ms } => {
                Some(Timestamp::from_ms(since_ms))
            }
        }
    }
}

#[cfg(test)]
mod tests;
