//! Ends a job that nobody wants any more, wherever it is.
//!
//! One that waits, or is dead, is gone at once. One that runs belongs to its holder: its lease is
//! marked, the holder learns it at its next word, and the job is gone when the lease ends.

use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobState, Move};
use crate::lease::LeaseToken;
use crate::queue::event::Happened;
use crate::queue::inspect::no_such_job;
use crate::queue::locate::Place;
use crate::queue::settle::Leased;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::format::{JobRecord, SlotProgress};
use crate::store::key::{self, ChunkId, LaneId};

/// What became of a job that was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is gone.
    Gone,
    /// It runs: its holder is told, and it is gone when its lease ends.
    Running,
}

/// A job taken from where it was: not counted, not forgotten yet.
pub(crate) struct TakenOut {
    pub(crate) lane: LaneId,
    pub(crate) from: JobState,
    pub(crate) job: JobRecord,
    /// It has a location entry.
    pub(crate) moved: bool,
}

impl QueueState {
    /// Cancels a job in whatever state it is.
    pub(crate) fn cancel(&mut self, id: JobId) -> Result<Cancelled> {
        let Some(place) = self.locate(id)? else { return Err(no_such_job(id)) };
        if let &Place::Slot(chunk_id, slot) = &place
            && self.lease(chunk_id, slot).is_some()
        {
            self.mark_cancelled(chunk_id, slot);
            return Ok(Cancelled::Running);
        }
        let Some(lane) = self.take_away(id, place)? else { return Err(no_such_job(id)) };
        self.tell(lane, Happened::Cancelled { id });
        Ok(Cancelled::Gone)
    }

    /// Removes a job that does not run, with all that belongs to it. Gives the lane it belonged
    /// to; `None` when a damaged record was there.
    pub(crate) fn take_away(&mut self, id: JobId, place: Place) -> Result<Option<LaneId>> {
        let Some(taken) = self.take_out(id, place)? else { return Ok(None) };
        self.forget_job(id, taken.moved, &taken.job)?;
        self.count(taken.lane, Some(taken.from), Move::Cancel)?;
        Ok(Some(taken.lane))
    }

    /// Marks a running job; true when it was not marked before.
    pub(crate) fn mark_cancelled(&mut self, id: ChunkId, slot: usize) -> bool {
        let lane = self.lanes.get_mut(&id.lane);
        let begun = lane.and_then(|lane| lane.begun.get_mut(&id.first_place));
        let lease = begun.and_then(|begun| begun.lease_mut(slot));
        let Some(lease) = lease.filter(|lease| !lease.cancelled) else { return false };
        lease.cancelled = true;
        self.mark_dirty(id);
        true
    }

    /// The slot that this token holds, for a word that ends the lease. When the job was cancelled
    /// meanwhile, it is gone with this word.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost), [`Cancelled`](ErrorKind::Cancelled).
    pub(crate) fn leased_to_end(&mut self, token: LeaseToken) -> Result<Leased> {
        let leased = self.leased(token)?;
        if !leased.lease.cancelled {
            return Ok(leased);
        }
        self.end_cancelled(&leased)?;
        Err(Error::new(
            ErrorKind::Cancelled,
            format!("job {} was cancelled while it ran; it is gone now", token.job),
        ))
    }

    /// Ends the lease of a cancelled job, and with it the job.
    pub(crate) fn end_cancelled(&mut self, leased: &Leased) -> Result<()> {
        let lane = leased.lane();
        let Some(slot) = leased.chunk.slots.get(leased.slot) else { return Ok(()) };
        self.count(lane, Some(JobState::Running), Move::Cancel)?;
        self.vacate(&leased.chunk, leased.slot)?;
        self.give_up_turn(lane.queue, &slot.job)?;
        self.forget_job(slot.id, slot.moved, &slot.job)?;
        self.tell(lane, Happened::Cancelled { id: slot.id });
        Ok(())
    }

    /// Takes a job that does not run from where it is; `None` when a damaged record was there.
    pub(crate) fn take_out(&mut self, id: JobId, place: Place) -> Result<Option<TakenOut>> {
        match place {
            Place::Slot(chunk_id, slot) => self.take_from_slot(chunk_id, slot),
            Place::Timer(due) => {
                let key = key::timer(due, id);
                let Some(bytes) = self.draft.get(Tree::Timers, &key)? else { return Ok(None) };
                let Some((lane, record)) = self.timer_record(&key, id, &bytes)? else {
                    return Ok(None);
                };
                self.draft.remove_live(Tree::Timers, key, bytes.len());
                let (from, job) = (record.wait.state(), record.job);
                if job.deliveries > 0 {
                    self.give_up_turn(lane.queue, &job)?;
                }
                Ok(Some(TakenOut { lane, from, job, moved: true }))
            }
            Place::Line(place) => self.take_from_line(&place),
            Place::Dead(died_at) => {
                let key = key::dead(id.queue(), died_at, id);
                let Some(bytes) = self.draft.get(Tree::Dead, &key)? else { return Ok(None) };
                let Some((lane, record)) = self.dead_record(&key, id, &bytes)? else {
                    return Ok(None);
                };
                self.draft.remove_live(Tree::Dead, key, bytes.len());
                Ok(Some(TakenOut { lane, from: JobState::Dead, job: record.job, moved: true }))
            }
        }
    }

    fn take_from_slot(&mut self, id: ChunkId, number: usize) -> Result<Option<TakenOut>> {
        let Some(chunk) = self.chunk(id)? else { return Ok(None) };
        let Some(slot) = chunk.slots.get(number) else { return Ok(None) };
        let lane = self.lanes.entry(id.lane).or_default();
        if !lane.begun.contains_key(&id.first_place) {
            lane.begin(&chunk);
        }
        let mut job = slot.job.clone();
        let begun = lane.begun.get(&id.first_place);
        if let Some(SlotProgress::Returned { deliveries, interruptions }) =
            begun.and_then(|begun| begun.slots.get(number))
        {
            (job.deliveries, job.interruptions) = (*deliveries, *interruptions);
        }
        self.vacate(&chunk, number)?;
        self.give_up_turn(id.lane.queue, &job)?;
        Ok(Some(TakenOut { lane: id.lane, from: JobState::Ready, job, moved: slot.moved }))
    }
}
