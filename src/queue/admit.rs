//! Gives places that came free to those who wait for them.
//!
//! What came free in a group is given before the claims of the group, and at its end: so in the
//! commit of the ack, cancel or whatever else it came from. A group that has no room for it leaves
//! it to a walk through all lines of the queue, as does a raise of `concurrency_per_key`, and a
//! recount after damage. A walk goes on with each group, a portion at a time; how far it is, is
//! written, so that a crash takes nothing of it.

use std::ops::Bound;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::QueueId;
use crate::queue::gate::Arrival;
use crate::queue::state::{GROUP_BYTES_FULL, GROUP_LIVE_WRITES_FULL, QueueState};
use crate::queue::walk::LOOKS_AT_ONCE;
use crate::store::format::PlacesRecord;
use crate::store::key::{KeyKind, LinePlace, SharedKey};
use crate::store::{Direction, Tree};

/// So far beyond a full group places are given at its end: each of them came free by a command
/// of the group, and makes it about as long again.
const BYTES_BEYOND_FULL: usize = 1 << 20;
const LIVE_WRITES_BEYOND_FULL: usize = 2 * GROUP_LIVE_WRITES_FULL;

/// How much more a group may hold.
#[derive(Clone, Copy)]
enum Until {
    Full,
    BeyondFull,
}

impl QueueState {
    /// Gives the places that came free in this group.
    pub(crate) fn admit_freed(&mut self) -> Result<()> {
        while let Some(of) = self.gates.freed.pop_first() {
            if !self.admit(&of, Until::BeyondFull)? {
                self.walk_lines_anew(of.queue);
            }
        }
        Ok(())
    }

    /// Goes on with the walks. True when one is not at its end.
    pub(crate) fn admit_in_portions(&mut self) -> Result<bool> {
        let mut looks_left = LOOKS_AT_ONCE;
        while looks_left > 0
            && !self.is_full()
            && let Some(queue) = self.gates.walks.first().copied()
        {
            self.walk_lines(queue, &mut looks_left)?;
        }
        Ok(!self.gates.walks.is_empty())
    }

    /// When to go on with the walks: at once.
    pub(crate) fn next_admission(&self) -> Option<Timestamp> {
        (!self.gates.walks.is_empty()).then_some(self.last_now)
    }

    /// Looks through all lines of a queue for those whose keys have a place.
    pub(crate) fn walk_lines_anew(&mut self, queue: QueueId) {
        let Some(entry) = self.queues.by_id.get_mut(&queue) else { return };
        if entry.lines.waiting() > 0 {
            entry.lines.admit_from = Some(Vec::new());
            self.gates.walks.insert(queue);
            self.gates.dirty.insert(queue);
        }
    }

    fn walk_lines(&mut self, queue: QueueId, looks_left: &mut usize) -> Result<()> {
        let entry = self.queues.by_id.get(&queue);
        let from = entry.and_then(|entry| entry.lines.admit_from.clone()).unwrap_or_default();
        let first = SharedKey::first_of(queue);
        let until = Bound::Excluded(SharedKey::first_of(QueueId(queue.0 + 1)));
        let records = self.records_from(Tree::Places, Bound::Included(from.max(first)), until)?;
        let mut reached = None;
        for (entry, _) in records {
            reached = Some(entry.clone());
            if *looks_left == 0 {
                break;
            }
            *looks_left -= 1;
            if let Some(of) = SharedKey::from_key(&entry)
                && !self.admit(&of, Until::Full)?
            {
                *looks_left = 0;
                break;
            }
            reached = Some([&entry[..], &[0]].concat());
        }
        if reached.is_none() {
            self.gates.walks.remove(&queue);
        }
        if let Some(entry) = self.queues.by_id.get_mut(&queue) {
            entry.lines.admit_from = reached;
            self.gates.dirty.insert(queue);
        }
        Ok(())
    }

    /// Gives all free places of a key; false when the group has no room for the next.
    fn admit(&mut self, of: &SharedKey, until: Until) -> Result<bool> {
        loop {
            let Some(places) = self.places(of)? else { return Ok(true) };
            let is_free = places.waiting() > 0 && places.taken < self.places_of(of);
            // After damage all is counted first, and looked through then.
            if !is_free || self.needs_recount {
                return Ok(true);
            }
            if !self.has_room(until) {
                return Ok(false);
            }
            self.admit_first(of, places)?;
        }
    }

    fn has_room(&self, until: Until) -> bool {
        match until {
            Until::Full => !self.is_full(),
            Until::BeyondFull => {
                self.pending_bytes() < GROUP_BYTES_FULL + BYTES_BEYOND_FULL
                    && self.draft.live_writes() < GROUP_LIVE_WRITES_FULL + LIVE_WRITES_BEYOND_FULL
            }
        }
    }

    /// Lets the first in line go on.
    fn admit_first(&mut self, of: &SharedKey, mut places: PlacesRecord) -> Result<()> {
        let Some((place, bytes)) = self.first_in_line(of, &places)? else {
            // The counters are wrong.
            self.needs_recount = true;
            return Ok(());
        };
        let Some(waiter) = self.read_waiter(&place, &bytes)? else { return Ok(()) };
        places.taken += 1;
        places.first[place.urgency] = place.order + 1;
        self.write_places(of, &places);
        self.leave_line(&place, &waiter)?;
        let lane = waiter.lane;
        self.became_ready.insert(lane);
        let (id, job, ready_at) = (waiter.id, waiter.job, waiter.ready_at);
        let arrival = Arrival { id, job, ready_at, is_new: false, has_turn: true };
        match of.kind {
            KeyKind::Ordering => self.let_in(lane, arrival),
            KeyKind::Concurrency => self.put_in_lane(lane, arrival),
        }
    }

    /// The entry of the first in a line: the most urgent, and of these the first that came.
    fn first_in_line(
        &self,
        of: &SharedKey,
        places: &PlacesRecord,
    ) -> Result<Option<(LinePlace, bytes::Bytes)>> {
        for (urgency, _) in places.waiting.iter().filter(|(_, waiting)| **waiting > 0) {
            let place = |order| LinePlace { of: of.clone(), urgency, order }.key();
            let range =
                (Bound::Included(place(places.first[urgency])), Bound::Included(place(u64::MAX)));
            let first = self.draft.scan(Tree::Lines, range, Direction::Ascending).next();
            if let Some((entry, bytes)) = first.transpose()? {
                return Ok(LinePlace::from_key(&entry).map(|place| (place, bytes)));
            }
        }
        Ok(None)
    }
}
