//! Goes through the jobs of some queues, priorities and states, skipping what is not asked for.
//!
//! What lists and purges have in common: which lanes to look into, which chunks of a lane, and
//! chunks decoded without pushing those at work out of the cache.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::job::{JobState, QueueId, StateCounts};
use crate::priority::Priority;
use crate::queue::chunk::Chunk;
use crate::queue::state::QueueState;
use crate::store::format::SlotProgress;
use crate::store::key::{ChunkId, LaneId};
use crate::store::{Direction, Entry, Tree};

/// Chunks read at once.
const CHUNKS_READ: usize = 16;
/// Timers or dead letters read at once.
pub(crate) const RECORDS_READ: usize = 64;
/// What one application of a command that goes through many jobs looks at, in jobs: then other
/// commands have their turn.
pub(crate) const LOOKS_AT_ONCE: usize = 1_000;
/// What it costs to read a chunk, in jobs looked at.
pub(crate) const CHUNK_LOOKS: usize = 8;

/// Which jobs to go through.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Only of this queue.
    pub(crate) queue: Option<QueueId>,
    /// Only of this priority.
    pub(crate) priority: Option<Priority>,
    /// Only in these states.
    pub(crate) states: Vec<JobState>,
}

impl Scope {
    pub(crate) fn wants(&self, state: JobState) -> bool {
        self.states.contains(&state)
    }

    pub(crate) fn wants_priority(&self, priority: Priority) -> bool {
        self.priority.is_none_or(|wanted| wanted == priority)
    }

    pub(crate) fn wants_lanes(&self) -> bool {
        self.wants(JobState::Ready) || self.wants(JobState::Running)
    }

    fn wants_in_lane(&self, counts: &StateCounts) -> bool {
        (self.wants(JobState::Ready) && counts.ready > 0)
            || (self.wants(JobState::Running) && counts.running > 0)
    }
}

impl QueueState {
    /// How many jobs of these states the scope holds.
    pub(crate) fn jobs_in(&self, scope: &Scope, states: &[JobState]) -> u64 {
        let queues: &mut dyn Iterator<Item = _> = match scope.queue {
            Some(queue) => &mut self.queues.by_id.get(&queue).into_iter(),
            None => &mut self.queues.by_id.values(),
        };
        let counts = queues.flat_map(|entry| entry.counts.iter());
        let counts = counts.filter(|(priority, _)| scope.wants_priority(*priority));
        counts.flat_map(|(_, counts)| states.iter().map(|state| counts.of(*state))).sum()
    }

    /// How many jobs of the scope wait in lines.
    pub(crate) fn jobs_in_lines(&self, scope: &Scope) -> u64 {
        let entries = self.queues.by_id.iter();
        let entries = entries.filter(|(id, _)| scope.queue.is_none_or(|queue| queue == **id));
        let waiting = entries.flat_map(|(_, entry)| entry.lines.waiting.iter());
        let wanted = waiting.filter(|(priority, _)| scope.wants_priority(*priority));
        wanted.map(|(_, jobs)| jobs).sum()
    }

    /// The first lane from there on, in their order, with a job that the scope wants. Told by the
    /// counters, without reading.
    pub(crate) fn next_lane(&self, scope: &Scope, from: Bound<LaneId>) -> Option<LaneId> {
        let priorities = Priority::ALL.into_iter().filter(|it| scope.wants_priority(*it));
        for priority in priorities {
            let from_queue = match from {
                Bound::Included(lane) | Bound::Excluded(lane) if lane.priority > priority => {
                    continue;
                }
                Bound::Included(lane) if lane.priority == priority => Bound::Included(lane.queue),
                Bound::Excluded(lane) if lane.priority == priority => Bound::Excluded(lane.queue),
                _ => Bound::Unbounded,
            };
            let mut queues = self.queues.by_id.range((from_queue, Bound::Unbounded));
            let found = queues.find(|(queue, entry)| {
                scope.queue.is_none_or(|wanted| wanted == **queue)
                    && scope.wants_in_lane(&entry.counts[priority])
            });
            if let Some((queue, _)) = found {
                return Some(LaneId { priority, queue: *queue });
            }
        }
        None
    }

    /// The first place of the chunk in which this place is, or would be.
    pub(crate) fn chunk_start(&self, lane: LaneId, place: u64) -> Result<u64> {
        let from = ChunkId { lane, first_place: 0 }.key();
        let until = ChunkId { lane, first_place: place }.key();
        let last = self.draft.last(lane.tree(), from, until)?;
        let id = last.and_then(|(key, _)| ChunkId::from_key(lane.priority, &key));
        Ok(id.map_or(place, |id| id.first_place))
    }

    /// The next few chunks of a lane that may have a job in a wanted state; `None` for their
    /// bytes when they were not read on the way. The lane must be sealed.
    pub(crate) fn chunks_from(
        &self,
        lane_id: LaneId,
        from: Bound<u64>,
        scope: &Scope,
    ) -> Result<Vec<(ChunkId, Option<Bytes>)>> {
        if !scope.wants(JobState::Ready) {
            // Leases are in memory: only chunks with one are read.
            let Some(lane) = self.lanes.get(&lane_id) else { return Ok(Vec::new()) };
            let begun = lane.begun.range((from, Bound::Unbounded));
            let running = begun.filter(|(_, begun)| begun.left() > begun.waiting());
            let ids = running
                .map(|(first_place, _)| ChunkId { lane: lane_id, first_place: *first_place });
            return Ok(ids.take(CHUNKS_READ).map(|id| (id, None)).collect());
        }
        let key = |first_place| ChunkId { lane: lane_id, first_place }.key();
        let until = Bound::Included(key(u64::MAX));
        let scan = self.draft.scan(lane_id.tree(), (from.map(key), until), Direction::Ascending);
        let mut chunks = Vec::new();
        for entry in scan.take(CHUNKS_READ) {
            let (key, bytes) = entry?;
            if let Some(id) = ChunkId::from_key(lane_id.priority, &key) {
                chunks.push((id, Some(bytes)));
            }
        }
        Ok(chunks)
    }

    /// A chunk for one look: those at work stay in the cache. `None` when it was damaged and set
    /// aside.
    pub(crate) fn glance(
        &mut self,
        id: ChunkId,
        bytes: Option<Bytes>,
    ) -> Result<Option<Arc<Chunk>>> {
        if let Some(chunk) = self.cache.peek(id) {
            return Ok(Some(chunk));
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => match self.draft.get(id.lane.tree(), &id.key())? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        match Chunk::decode(id, &bytes) {
            Ok(chunk) => Ok(Some(Arc::new(chunk))),
            Err(reason) => {
                self.set_aside(id.lane.tree(), id.key(), &bytes, &reason)?;
                Ok(None)
            }
        }
    }

    /// What became of a slot, as memory has it; `None` when its job is not here any more.
    pub(crate) fn slot_state(&self, id: ChunkId, slot: usize) -> Option<JobState> {
        let begun = self.lanes.get(&id.lane).and_then(|lane| lane.begun.get(&id.first_place));
        match begun.map(|begun| begun.slots.get(slot)) {
            None => Some(JobState::Ready),
            Some(Some(SlotProgress::Waiting | SlotProgress::Returned { .. })) => {
                Some(JobState::Ready)
            }
            Some(Some(SlotProgress::Leased(_) | SlotProgress::LeasedInProcess(_))) => {
                Some(JobState::Running)
            }
            Some(Some(SlotProgress::Gone) | None) => None,
        }
    }

    /// The next few records of a tree.
    pub(crate) fn records_from(
        &self,
        tree: Tree,
        from: Bound<Vec<u8>>,
        until: Bound<Vec<u8>>,
    ) -> Result<Vec<Entry>> {
        if let (Bound::Excluded(from) | Bound::Included(from), Bound::Excluded(until)) =
            (&from, &until)
            && from >= until
        {
            // Beyond the end; it would be no range at all.
            return Ok(Vec::new());
        }
        self.draft.scan(tree, (from, until), Direction::Ascending).take(RECORDS_READ).collect()
    }
}
