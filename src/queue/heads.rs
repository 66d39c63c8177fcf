//! Finds the first waiting job of a lane, and the chunks with waiting jobs behind it.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::queue::chunk::Chunk;
use crate::queue::lane::Head;
use crate::queue::pick::Wanted;
use crate::queue::state::QueueState;
use crate::store::Direction;
use crate::store::key::{ChunkId, LaneId};

impl QueueState {
    /// The job that a claim would get first in this lane. Read once per job that comes to the
    /// head, however often it is asked.
    pub(crate) fn head(&mut self, lane_id: LaneId) -> Result<Option<Head>> {
        if self.queues.ready_jobs(lane_id) == 0 {
            return Ok(None);
        }
        self.seal(lane_id);
        if let Some(head) = self.lanes.get(&lane_id).and_then(|lane| lane.known_head()) {
            return Ok(Some(head));
        }
        self.next_chunk_with_waiting(lane_id, 0)?;
        Ok(self.lanes.get(&lane_id).and_then(|lane| lane.head))
    }

    /// Tells the picker which job of a lane is the first.
    pub(crate) fn know_head(&mut self, lane_id: LaneId) -> Result<()> {
        let head = self.head(lane_id)?;
        self.picker.set_head(lane_id, head);
        Ok(())
    }

    /// Lets it be known what the wanted lanes count as, with at most so many looks. False: there
    /// are more to look at.
    pub(crate) fn know_heads(
        &mut self,
        wanted: &Wanted,
        looks_left: &mut usize,
        now: Timestamp,
    ) -> Result<bool> {
        self.picker.set_now(now);
        let lanes = self.picker.unknown_lanes(wanted, *looks_left);
        *looks_left -= lanes.len();
        for lane in lanes {
            self.know_head(lane)?;
        }
        Ok(*looks_left > 0)
    }

    /// The first chunk at or after a place in which a job waits, begun or not.
    pub(crate) fn next_chunk_with_waiting(
        &mut self,
        lane_id: LaneId,
        from: u64,
    ) -> Result<Option<Arc<Chunk>>> {
        if let Some(chunk) = self.chunk_of_known_head(lane_id, from) {
            return Ok(Some(chunk));
        }
        loop {
            let lane = self.lanes.entry(lane_id).or_default();
            let open = lane.open.range(from..).next().copied();
            let found = match open.filter(|open| *open < lane.frontier) {
                Some(open) => self.chunk_or_forget(ChunkId { lane: lane_id, first_place: open })?,
                None => match self.next_new_chunk(lane_id, from, open.unwrap_or(u64::MAX))? {
                    Some((id, bytes)) => self.decode_chunk(id, &bytes)?,
                    None => match open {
                        Some(open) => {
                            self.chunk_or_forget(ChunkId { lane: lane_id, first_place: open })?
                        }
                        None => return Ok(None),
                    },
                },
            };
            // A damaged chunk was set aside on the way: look again.
            let Some(chunk) = found else { continue };
            if from == 0
                && let Some(lane) = self.lanes.get_mut(&lane_id)
            {
                lane.note_head(&chunk);
            }
            return Ok(Some(chunk));
        }
    }

    /// The chunk of the first waiting job, when both are at hand.
    fn chunk_of_known_head(&mut self, lane_id: LaneId, from: u64) -> Option<Arc<Chunk>> {
        let head = self.lanes.get(&lane_id)?.known_head()?;
        let id = ChunkId { lane: lane_id, first_place: head.first_place };
        (from <= head.first_place).then(|| self.cache.get(id)).flatten()
    }

    /// The first chunk at or after `from` and before `until` that nobody has begun.
    fn next_new_chunk(
        &mut self,
        lane_id: LaneId,
        from: u64,
        until: u64,
    ) -> Result<Option<(ChunkId, Bytes)>> {
        let lane = self.lanes.entry(lane_id).or_default();
        let mut contiguous = from <= lane.frontier;
        let start = ChunkId { lane: lane_id, first_place: from.max(lane.frontier) };
        let end = ChunkId { lane: lane_id, first_place: until };
        let range = (Bound::Included(start.key()), Bound::Excluded(end.key()));
        for entry in self.draft.scan(lane_id.tree(), range, Direction::Ascending) {
            let (key, bytes) = entry?;
            let Some(id) = ChunkId::from_key(lane_id.priority, &key) else { continue };
            if !lane.begun.contains_key(&id.first_place) {
                return Ok(Some((id, bytes)));
            }
            contiguous &= lane.frontier <= id.first_place;
            if contiguous {
                lane.frontier = id.first_place + 1;
            }
        }
        Ok(None)
    }

    /// A begun chunk; when its record is gone or damaged, memory forgets it too.
    fn chunk_or_forget(&mut self, id: ChunkId) -> Result<Option<Arc<Chunk>>> {
        let found = self.chunk(id)?;
        if found.is_none()
            && let Some(lane) = self.lanes.get_mut(&id.lane)
        {
            lane.forget(id.first_place);
        }
        Ok(found)
    }
}
