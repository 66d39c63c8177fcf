//! Decides whether a ready job may go to its lane, or must wait for others with the same key.
//!
//! Every job that becomes ready comes here: a new one, one whose moment came, one put back to
//! work. It passes the gate of its ordering key, then that of its concurrency key. At each it
//! takes a place, or waits in the key's line (see [`line`](crate::queue::line)). So lanes hold
//! only jobs that may run, and a claim never meets one that may not.
//!
//! A turn (the place of an ordering key) is kept until the job is done, dead or gone: while it is
//! retried, too. A place of a concurrency key is that of the slot in the lane, waiting or leased:
//! a job that leaves for a timer gives it up, and comes here again.
//!
//! A place that came free is noted, and given to the first in line before the claims of the group
//! are applied, and at its end (see [`admit`](crate::queue::admit)). Until then nobody overtakes:
//! where one waits, all who come join the line.
//!
//! # Invariants
//! - G1 What `places` says of a key equals a full count: its jobs in lanes; for an ordering key
//!   also those in timers that were started once, and those in the line of their other key.
//! - G2 Nobody waits for a key that has a place, but until the end of the group, and while the
//!   lines of its queue are [looked through](crate::queue::admit).

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, QueueId};
use crate::queue::chunk::ChunkSlot;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{JobRecord, LocationRecord, PlacesRecord};
use crate::store::key::{self, KeyKind, LaneId, SharedKey};

/// Places of one concurrency key where no limit says otherwise.
pub(crate) const PLACES_DEFAULT: u32 = 1;

/// A job that is ready.
pub(crate) struct Arrival {
    pub(crate) id: JobId,
    pub(crate) job: JobRecord,
    pub(crate) ready_at: Timestamp,
    /// It is new: its place in the lane is its own sequence.
    pub(crate) is_new: bool,
    /// It has had its turn, and has it still.
    pub(crate) has_turn: bool,
}

/// What the gates have to do later.
#[derive(Default)]
pub(crate) struct Gates {
    /// Keys of which a place came free in this group, and for which somebody waits.
    pub(crate) freed: BTreeSet<SharedKey>,
    /// Queues whose lines are looked through.
    pub(crate) walks: BTreeSet<QueueId>,
    /// Queues of which it must be written how many wait in lines.
    pub(crate) dirty: BTreeSet<QueueId>,
}

impl QueueState {
    /// Lets a ready job, which was counted, into its lane or into a line.
    pub(crate) fn let_in(&mut self, lane: LaneId, arrival: Arrival) -> Result<()> {
        for kind in KeyKind::ALL {
            let Some(key) = arrival.job.shared_key(lane.queue, kind) else { continue };
            let has_place = kind == KeyKind::Ordering && arrival.has_turn;
            if !has_place && !self.take_place(&key)? {
                return self.join_line(lane, arrival, key);
            }
        }
        self.put_in_lane(lane, arrival)
    }

    /// Puts a job that passed all gates at the end of its lane.
    pub(crate) fn put_in_lane(&mut self, lane: LaneId, arrival: Arrival) -> Result<()> {
        let Arrival { id, job, ready_at, is_new, .. } = arrival;
        let place = if is_new { id.sequence() } else { self.next_sequence()? };
        if !is_new {
            let location = LocationRecord::Ready { priority: lane.priority.number(), place };
            self.draft.put(Tree::Location, key::job(id), codec::encode(&location));
        }
        self.add_to_lane(lane, ChunkSlot { place, id, moved: !is_new, ready_at, job });
        Ok(())
    }

    /// Takes a place of a key; false when there is none, or somebody waits for it already.
    fn take_place(&mut self, key: &SharedKey) -> Result<bool> {
        let mut places = self.places(key)?.unwrap_or_default();
        // What a damaged record said is not known until all is counted anew.
        if self.needs_recount || places.waiting() > 0 || places.taken >= self.places_of(key) {
            return Ok(false);
        }
        places.taken += 1;
        self.write_places(key, &places);
        Ok(true)
    }

    /// How many places there are of a key.
    pub(crate) fn places_of(&self, key: &SharedKey) -> u32 {
        let entry = self.queues.by_id.get(&key.queue);
        let per_key = entry.and_then(|entry| entry.limits().concurrency_per_key);
        match key.kind {
            KeyKind::Ordering => 1,
            KeyKind::Concurrency => per_key.unwrap_or(PLACES_DEFAULT),
        }
    }

    // ---- leaving ----

    /// A job left its lane: another one with its concurrency key may come.
    pub(crate) fn leave_lane(&mut self, queue: QueueId, job: &JobRecord) -> Result<()> {
        job.shared_key(queue, KeyKind::Concurrency).map_or(Ok(()), |key| self.free_place(key))
    }

    /// A job that had its turn is done, dead or gone: the next one with its ordering key may come.
    pub(crate) fn give_up_turn(&mut self, queue: QueueId, job: &JobRecord) -> Result<()> {
        job.shared_key(queue, KeyKind::Ordering).map_or(Ok(()), |key| self.free_place(key))
    }

    fn free_place(&mut self, key: SharedKey) -> Result<()> {
        let Some(mut places) = self.places(&key)? else { return Ok(()) };
        places.taken = places.taken.saturating_sub(1);
        self.write_places(&key, &places);
        if places.waiting() > 0 {
            self.gates.freed.insert(key);
        }
        Ok(())
    }

    // ---- the record ----

    /// How many jobs of a key there are; `None` when there is none, or nobody knows.
    pub(crate) fn places(&mut self, key: &SharedKey) -> Result<Option<PlacesRecord>> {
        let entry = key.key();
        let Some(bytes) = self.draft.get(Tree::Places, &entry)? else { return Ok(None) };
        match codec::decode(&bytes) {
            Ok(places) => Ok(Some(places)),
            Err(reason) => {
                self.set_aside(Tree::Places, entry, &bytes, &reason)?;
                Ok(None)
            }
        }
    }

    pub(crate) fn write_places(&mut self, key: &SharedKey, places: &PlacesRecord) {
        match places.taken == 0 && places.waiting() == 0 {
            true => self.draft.remove(Tree::Places, key.key()),
            false => self.draft.put(Tree::Places, key.key(), codec::encode(places)),
        }
    }
}

#[cfg(test)]
mod tests;
