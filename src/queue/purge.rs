//! Removes many jobs of a queue at once, in portions that leave room for other commands.
//!
//! Only jobs that were enqueued before the purge began go: their sequence tells. What waits for a
//! moment is looked at first, so that a job that comes due meanwhile is met in its lane; then
//! lines, so that what goes from a lane lets in nobody who goes next. When a pass found something,
//! another one looks whether a job moved behind its back.
//!
//! # Failure handling
//! Each portion is a commit of whole jobs. A crash in the middle leaves the rest as it was.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::dead_letter::Removal;
use crate::error::Result;
use crate::job::{JobId, JobState, Move, QueueId};
use crate::priority::Priority;
use crate::queue::chunk::{Chunk, ChunkSlot};
use crate::queue::event::Happened;
use crate::queue::inspect::no_such_queue;
use crate::queue::locate::Place;
use crate::queue::state::QueueState;
use crate::queue::walk::{CHUNK_LOOKS, LOOKS_AT_ONCE, Scope};
use crate::store::Tree;
use crate::store::key::{self, LaneId, LinePlace};

/// A chunk whose jobs have more payload parts than this is not removed in one go.
const PARTS_AT_ONCE: usize = 64;

/// Which jobs of a queue to remove.
#[derive(Clone, Debug, PartialEq)]
pub struct Purge {
    /// The queue.
    pub queue: String,
    /// In these states; scheduled, ready and retrying when empty. Running jobs are cancelled.
    pub states: Vec<JobState>,
    /// Only of this priority.
    pub priority: Option<Priority>,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Jobs that it removed, and those it cancelled.
    pub removed: u64,
    /// Of these, running jobs that it cancelled: each is gone when its lease ends.
    pub cancelled: u64,
}

/// A purge at work.
pub(crate) struct Purging {
    purge: Purge,
    begun: Option<Begun>,
    purged: Purged,
    /// By lane and whether they were dead, what this application removed: told when it is
    /// committed.
    removed_now: BTreeMap<(LaneId, bool), u64>,
    looks_now: usize,
    looks_at_once: usize,
}

/// What was settled when a purge was first applied, and how far it is.
#[derive(Clone)]
struct Begun {
    scope: Scope,
    queue: QueueId,
    /// Jobs from this sequence on came later, and stay.
    horizon: u64,
    step: Step,
    /// What the purge had done when this pass began.
    before: Purged,
}

/// Where a pass goes on.
#[derive(Clone)]
enum Step {
    Timers(Bound<Vec<u8>>),
    Lines(Bound<Vec<u8>>),
    /// From this lane on; in it, from this place on.
    Lanes(Bound<LaneId>, u64),
    Dead(Bound<Vec<u8>>),
    Done,
}

impl Purging {
    pub(crate) fn new(purge: Purge) -> Purging {
        Purging {
            purge,
            begun: None,
            purged: Purged::default(),
            removed_now: BTreeMap::new(),
            looks_now: 0,
            looks_at_once: LOOKS_AT_ONCE,
        }
    }

    /// The same in other portions.
    #[cfg(test)]
    pub(crate) fn looks_at_once(self, looks_at_once: usize) -> Purging {
        Purging { looks_at_once, ..self }
    }

    fn look(&mut self, jobs: usize) {
        self.looks_now = self.looks_now.saturating_sub(jobs);
    }

    fn removed(&mut self, lane: LaneId, were_dead: bool, jobs: u64) {
        *self.removed_now.entry((lane, were_dead)).or_default() += jobs;
        self.purged.removed += jobs;
    }
}

impl QueueState {
    /// Removes what the purge names; `None` when it must be applied again.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such queue.
    pub(crate) fn purge(&mut self, purging: &mut Purging) -> Result<Option<Purged>> {
        let mut begun = match purging.begun.take() {
            Some(begun) => begun,
            None => self.begin_purge(&purging.purge)?,
        };
        purging.looks_now = purging.looks_at_once;
        while !matches!(begun.step, Step::Done) && purging.looks_now > 0 && !self.is_full() {
            begun.step = match begun.step.clone() {
                Step::Timers(from) => self.purge_timers(from, &begun, purging)?,
                Step::Lines(from) => self.purge_lines(from, &begun, purging)?,
                Step::Lanes(from, place) => self.purge_lanes(from, place, &begun, purging)?,
                Step::Dead(from) => self.purge_letters(from, &begun, purging)?,
                Step::Done => Step::Done,
            };
            if matches!(begun.step, Step::Done)
                && purging.purged != begun.before
                && self.jobs_in(&begun.scope, &begun.scope.states) > 0
            {
                // What is left came later, unless it moved behind this pass.
                begun.before = purging.purged;
                begun.step = Step::Timers(Bound::Unbounded);
            }
        }
        for ((lane, were_dead), jobs) in std::mem::take(&mut purging.removed_now) {
            // Whichever way dead letters are purged, they are counted alike.
            let why = Removal::Purged;
            let dead = Happened::DeadRemoved { jobs, why };
            self.tell(lane, if were_dead { dead } else { Happened::Purged { jobs } });
        }
        if matches!(begun.step, Step::Done) {
            return Ok(Some(purging.purged));
        }
        purging.begun = Some(begun);
        Ok(None)
    }

    fn begin_purge(&self, purge: &Purge) -> Result<Begun> {
        let Some(queue) = self.queues.by_name.get(purge.queue.as_str()).copied() else {
            return Err(no_such_queue(&purge.queue));
        };
        let states = match purge.states.as_slice() {
            [] => vec![JobState::Scheduled, JobState::Ready, JobState::Retrying],
            states => states.to_vec(),
        };
        Ok(Begun {
            scope: Scope { queue: Some(queue), priority: purge.priority, states },
            queue,
            horizon: self.meta.next_sequence,
            step: Step::Timers(Bound::Unbounded),
            before: Purged::default(),
        })
    }

    // ---- timers and dead letters ----

    fn purge_timers(
        &mut self,
        from: Bound<Vec<u8>>,
        begun: &Begun,
        purging: &mut Purging,
    ) -> Result<Step> {
        let scope = &begun.scope;
        let waiting = [JobState::Scheduled, JobState::Retrying];
        let wanted: Vec<_> = waiting.into_iter().filter(|state| scope.wants(*state)).collect();
        if self.jobs_in(scope, &wanted) == 0 {
            return Ok(Step::Lines(Bound::Unbounded));
        }
        let mut reached = from.clone();
        let timers = self.records_from(Tree::Timers, from, Bound::Unbounded)?;
        if timers.is_empty() {
            return Ok(Step::Lines(Bound::Unbounded));
        }
        for (key, bytes) in timers {
            if purging.looks_now == 0 || self.is_full() {
                break;
            }
            purging.look(1);
            reached = Bound::Excluded(key.clone());
            let Some((due, id)) = key::timer_from(&key) else { continue };
            if id.queue() == begun.queue
                && id.sequence() < begun.horizon
                && let Some((lane, record)) = self.timer_record(&key, id, &bytes)?
                && scope.wants(record.wait.state())
                && scope.wants_priority(lane.priority)
            {
                self.purge_one(id, Place::Timer(due), purging)?;
            }
        }
        Ok(Step::Timers(reached))
    }

    fn purge_lines(
        &mut self,
        from: Bound<Vec<u8>>,
        begun: &Begun,
        purging: &mut Purging,
    ) -> Result<Step> {
        let scope = &begun.scope;
        if !scope.wants(JobState::Ready) || self.jobs_in_lines(scope) == 0 {
            return Ok(Step::Lanes(Bound::Unbounded, 0));
        }
        let (from, until) = of_queue(begun.queue, from);
        let mut reached = from.clone();
        let waiters = self.records_from(Tree::Lines, from, until)?;
        if waiters.is_empty() {
            return Ok(Step::Lanes(Bound::Unbounded, 0));
        }
        for (entry, bytes) in waiters {
            if purging.looks_now == 0 || self.is_full() {
                break;
            }
            purging.look(1);
            reached = Bound::Excluded(entry.clone());
            let Some(place) = LinePlace::from_key(&entry) else { continue };
            if let Some(waiter) = self.read_waiter(&place, &bytes)?
                && waiter.id.sequence() < begun.horizon
                && scope.wants_priority(waiter.lane.priority)
            {
                self.purge_one(waiter.id, Place::Line(place), purging)?;
            }
        }
        Ok(Step::Lines(reached))
    }

    fn purge_letters(
        &mut self,
        from: Bound<Vec<u8>>,
        begun: &Begun,
        purging: &mut Purging,
    ) -> Result<Step> {
        if self.jobs_in(&begun.scope, &[JobState::Dead]) == 0 || !begun.scope.wants(JobState::Dead)
        {
            return Ok(Step::Done);
        }
        let (from, until) = of_queue(begun.queue, from);
        let mut reached = from.clone();
        let letters = self.records_from(Tree::Dead, from, until)?;
        if letters.is_empty() {
            return Ok(Step::Done);
        }
        for (key, bytes) in letters {
            if purging.looks_now == 0 || self.is_full() {
                break;
            }
            purging.look(1);
            reached = Bound::Excluded(key.clone());
            let Some((_, died_at, id)) = key::dead_from(&key) else { continue };
            if id.sequence() < begun.horizon
                && let Some((lane, _)) = self.dead_record(&key, id, &bytes)?
                && begun.scope.wants_priority(lane.priority)
            {
                self.purge_one(id, Place::Dead(died_at), purging)?;
            }
        }
        Ok(Step::Dead(reached))
    }

    fn purge_one(&mut self, id: JobId, place: Place, purging: &mut Purging) -> Result<()> {
        let was_dead = matches!(place, Place::Dead(_));
        if let Some(lane) = self.take_away(id, place)? {
            purging.removed(lane, was_dead, 1);
        }
        Ok(())
    }

    // ---- lanes ----

    /// Goes on in the first lane from there on, at this place when it is the lane named.
    fn purge_lanes(
        &mut self,
        from: Bound<LaneId>,
        place: u64,
        begun: &Begun,
        purging: &mut Purging,
    ) -> Result<Step> {
        let Some(lane) = self.next_lane(&begun.scope, from) else {
            return Ok(Step::Dead(Bound::Unbounded));
        };
        let place = if from == Bound::Included(lane) { place } else { 0 };
        self.seal(lane);
        let mut chunks_from = Bound::Included(self.chunk_start(lane, place)?);
        loop {
            let chunks = self.chunks_from(lane, chunks_from, &begun.scope)?;
            let Some((last, _)) = chunks.last() else {
                return Ok(Step::Lanes(Bound::Excluded(lane), 0));
            };
            chunks_from = Bound::Excluded(last.first_place);
            for (id, bytes) in chunks {
                let Some(chunk) = self.glance(id, bytes)? else { continue };
                let seen = chunk.slots.partition_point(|slot| slot.place < place);
                if seen == chunk.slots.len() {
                    continue;
                }
                let reached = self.purge_chunk(&chunk, seen, begun, purging)?;
                if purging.looks_now == 0 || self.is_full() {
                    return Ok(Step::Lanes(Bound::Included(lane), reached + 1));
                }
            }
        }
    }

    /// Removes jobs of one chunk, from slot `seen` on. Gives the place of the last one looked at.
    fn purge_chunk(
        &mut self,
        chunk: &Arc<Chunk>,
        seen: usize,
        begun: &Begun,
        purging: &mut Purging,
    ) -> Result<u64> {
        purging.look(CHUNK_LOOKS);
        if begun.scope.wants(JobState::Ready) && self.may_go_whole(chunk, begun.horizon) {
            let jobs = chunk.slots.len();
            self.remove_whole(chunk)?;
            purging.look(jobs);
            purging.removed(chunk.id.lane, false, jobs as u64);
            return Ok(chunk.slots.last().map_or(chunk.id.first_place, |slot| slot.place));
        }
        let mut reached = chunk.id.first_place;
        for (number, slot) in chunk.slots.iter().enumerate().skip(seen) {
            let state = self.slot_state(chunk.id, number);
            let state = state.filter(|state| begun.scope.wants(*state));
            match state.filter(|_| slot.id.sequence() < begun.horizon) {
                Some(JobState::Running) => {
                    let newly = u64::from(self.mark_cancelled(chunk.id, number));
                    purging.purged.removed += newly;
                    purging.purged.cancelled += newly;
                }
                Some(_) => {
                    self.purge_one(slot.id, Place::Slot(chunk.id, number), purging)?;
                }
                None => {}
            }
            reached = slot.place;
            purging.look(1);
            if purging.looks_now == 0 || self.is_full() {
                break;
            }
        }
        Ok(reached)
    }

    /// True when all jobs of a chunk wait, came before the horizon, and can go in one commit.
    fn may_go_whole(&self, chunk: &Chunk, horizon: u64) -> bool {
        let id = chunk.id;
        let begun =
            self.lanes.get(&id.lane).is_some_and(|lane| lane.begun.contains_key(&id.first_place));
        let parts: usize =
            chunk.slots.iter().map(|slot| usize::from(slot.job.payload.parts())).sum();
        // A job with a key lets others in when it goes, one by one.
        let may_go = |slot: &ChunkSlot| slot.id.sequence() < horizon && !slot.job.has_shared_key();
        !begun && parts <= PARTS_AT_ONCE && chunk.slots.iter().all(may_go)
    }

    /// Removes a chunk that nobody has begun, and all jobs in it.
    fn remove_whole(&mut self, chunk: &Chunk) -> Result<()> {
        let id = chunk.id;
        for slot in &chunk.slots {
            self.forget_job(slot.id, slot.moved, &slot.job)?;
            self.picker.job_left(id.lane, slot.place);
            self.count(id.lane, Some(JobState::Ready), Move::Cancel)?;
        }
        if let Some(lane) = self.lanes.get_mut(&id.lane) {
            lane.forget_new(id.first_place);
        }
        self.cache.remove(id);
        self.draft.remove_live(id.lane.tree(), id.key(), chunk.record_bytes);
        Ok(())
    }
}

/// The entries of a queue that are left, in a tree whose keys begin with it.
fn of_queue(queue: QueueId, from: Bound<Vec<u8>>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let first = match from {
        Bound::Unbounded => Bound::Included(key::queue(queue)),
        from => from,
    };
    (first, Bound::Excluded(key::queue(QueueId(queue.0 + 1))))
}

#[cfg(test)]
mod tests;
