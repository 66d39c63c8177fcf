//! The part of a page that lies in lines.

use std::ops::Bound;

use super::position::Position;
use super::{Listing, PAYLOAD_PART_LOOKS};
use crate::error::Result;
use crate::job::{JobState, QueueId};
use crate::queue::state::QueueState;
use crate::queue::walk::Scope;
use crate::store::Tree;
use crate::store::key::{self, LinePlace};

impl QueueState {
    pub(super) fn list_lines(&mut self, scope: &Scope, listing: &mut Listing) -> Result<()> {
        let (first, until) = match scope.queue {
            Some(queue) => (key::queue(queue), Bound::Excluded(key::queue(QueueId(queue.0 + 1)))),
            None => (Vec::new(), Bound::Unbounded),
        };
        let mut from = match &listing.at {
            // The counters know without reading.
            _ if listing.rests()
                || !scope.wants(JobState::Ready)
                || self.jobs_in_lines(scope) == 0 =>
            {
                return Ok(());
            }
            Some(Position::Timer(..) | Position::Dead(..)) => return Ok(()),
            Some(Position::Line(place)) => Bound::Excluded(place.key().max(first)),
            Some(Position::Lane(..)) | None => Bound::Included(first),
        };
        loop {
            let entries = self.records_from(Tree::Lines, from, until.clone())?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            for (entry, bytes) in entries {
                let Some(place) = LinePlace::from_key(&entry) else { continue };
                if let Some(waiter) = self.read_waiter(&place, &bytes)?
                    && scope.wants_priority(waiter.lane.priority)
                    && listing.wants_kind(&waiter.job)
                {
                    if !listing.has_room() {
                        return Ok(());
                    }
                    listing.look(usize::from(waiter.job.payload.parts()) * PAYLOAD_PART_LOOKS);
                    let view = self.waiter_view(&place, &waiter)?;
                    listing.add(view);
                }
                listing.at = Some(Position::Line(place));
                listing.look(1);
                if listing.rests() {
                    return Ok(());
                }
            }
        }
    }
}
