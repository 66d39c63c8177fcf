//! Keeps a lease alive, or gives a job back: neither costs an attempt or an interruption.

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobState, Move, limits, validate_range};
use crate::lease::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, LeaseToken};
use crate::queue::settle::Leased;
use crate::queue::state::{Context, QueueState, attention_at};
use crate::store::format::Wait;

/// A lease that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Extended {
    /// When it ends now.
    pub expires_at: Timestamp,
    /// True: somebody cancelled the job; stop working on it.
    pub cancelled: bool,
}

/// A job that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Released {
    /// `ready` or `scheduled`.
    pub state: JobState,
    /// When it may run again.
    pub run_at: Timestamp,
}

/// Checks what an extend asks for.
pub(crate) fn validate_extend(lease_ms: Option<u64>, progress: Option<u8>) -> Result<()> {
    validate_range("lease_ms", lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)?;
    validate_range("progress", progress, 0, 100)
}

/// Checks what a release asks for.
pub(crate) fn validate_release(delay_ms: Option<u64>) -> Result<()> {
    validate_range("delay_ms", delay_ms, 0, limits::DELAY_MS_MAX)
}

impl QueueState {
    /// Lets a lease end `lease_ms` from now, whatever it had left.
    pub(crate) fn extend(
        &mut self,
        token: LeaseToken,
        lease_ms: Option<u64>,
        progress: Option<u8>,
        context: &mut Context<'_>,
    ) -> Result<Extended> {
        let Leased { chunk, slot, lease } = self.leased(token)?;
        let lease_ms = lease_ms.unwrap_or(LEASE_MS_DEFAULT);
        let lane = self.lanes.entry(chunk.id.lane).or_default();
        let begun = lane.begun.get_mut(&chunk.id.first_place);
        let mut expires_at = Timestamp::default();
        if let Some(lease) = begun.and_then(|begun| begun.lease_mut(slot)) {
            self.leases.remove(&(attention_at(lease), chunk.id, slot));
            lease.deadline_ms = context.now.plus_ms(lease_ms).as_ms();
            lease.lease_ms = lease_ms;
            lease.progress = progress.or(lease.progress);
            expires_at = attention_at(lease);
            self.leases.insert((expires_at, chunk.id, slot));
        }
        self.mark_dirty(chunk.id);
        Ok(Extended { expires_at, cancelled: lease.cancelled })
    }

    /// Gives a job back, to be claimed again at once or after a delay.
    pub(crate) fn release(
        &mut self,
        token: LeaseToken,
        delay_ms: Option<u64>,
        context: &mut Context<'_>,
    ) -> Result<Released> {
        let leased = self.leased_to_end(token)?;
        let now = context.now;
        let run_at = now.plus_ms(delay_ms.unwrap_or(0));
        if run_at <= now {
            self.give_back(&leased, leased.lease.interruptions)?;
            return Ok(Released { state: JobState::Ready, run_at });
        }
        let job = leased.job();
        self.count(leased.lane(), Some(JobState::Running), Move::GiveBackLater)?;
        self.vacate(&leased.chunk, leased.slot)?;
        let wait = Wait::After { since_ms: now.as_ms() };
        self.set_timer(leased.lane(), token.job, job, run_at, wait);
        Ok(Released { state: JobState::Scheduled, run_at })
    }

    /// Ends a lease and lets its job wait again where it stood.
    pub(crate) fn give_back(&mut self, leased: &Leased, interruptions: u32) -> Result<()> {
        let id = leased.chunk.id;
        self.count(id.lane, Some(JobState::Running), Move::GiveBack)?;
        self.leases.remove(&(attention_at(&leased.lease), id, leased.slot));
        let lane = self.lanes.entry(id.lane).or_default();
        if let Some(begun) = lane.begun.get_mut(&id.first_place) {
            begun.set_returned(leased.slot, leased.lease.delivery, interruptions);
        }
        lane.reopen(id.first_place);
        if let Some(slot) = leased.chunk.slots.get(leased.slot) {
            self.note_waiting(id.lane, slot.place, slot.ready_at);
        }
        self.mark_dirty(id);
        Ok(())
    }
}
