//! Merges small chunks that lie next to each other, in the background of other work.
//!
//! Jobs enqueued one by one make chunks of one job each. When enough of them lie at the end of a
//! lane and nobody has begun them, one commit writes them as one chunk, under the key of the
//! first: every place stays where the rule "the last chunk at or before it" finds it.

use crate::error::Result;
use crate::queue::chunk::{Chunk, ChunkBuilder};
use crate::queue::state::QueueState;
use crate::store::codec;
use crate::store::key::{ChunkId, LaneId};

impl QueueState {
    /// Merges one run of small chunks, if there is one. True when there may be more to merge.
    pub(crate) fn merge_small_chunks(&mut self) -> Result<bool> {
        if self.is_full() {
            return Ok(!self.mergeable.is_empty());
        }
        if let Some(lane) = self.mergeable.pop_first() {
            self.merge_in_lane(lane)?;
            if self.lanes.get(&lane).is_some_and(|lane| lane.has_enough_to_merge()) {
                self.mergeable.insert(lane);
            }
        }
        Ok(!self.mergeable.is_empty())
    }

    fn merge_in_lane(&mut self, lane_id: LaneId) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return Ok(()) };
        if !lane.has_enough_to_merge() {
            return Ok(());
        }
        let mut small = Vec::new();
        for first_place in lane.take_small_run() {
            let id = ChunkId { lane: lane_id, first_place };
            // One that was damaged is set aside by reading it; the others still fit together.
            small.extend(self.chunk(id)?);
        }
        let mut builder = ChunkBuilder::new();
        let mut merged = Vec::new();
        for chunk in small {
            let sizes: Vec<usize> =
                chunk.slots.iter().map(|slot| codec::body_bytes(&slot.job)).collect();
            if !fits(&builder, &chunk, &sizes) {
                break;
            }
            for (slot, job_bytes) in chunk.slots.iter().zip(sizes) {
                let left_over = builder.push(slot.clone(), job_bytes);
                debug_assert!(left_over.is_none(), "there was room for the whole chunk");
            }
            merged.push((chunk.id, chunk.record_bytes));
        }
        if merged.len() < 2 {
            return Ok(());
        }
        for (id, record_bytes) in merged {
            self.cache.remove(id);
            self.draft.remove_live(lane_id.tree(), id.key(), record_bytes);
        }
        if let Some((chunk, bytes)) = builder.build(lane_id) {
            self.draft.put_live(lane_id.tree(), chunk.id.key(), bytes);
            if let Some(lane) = self.lanes.get_mut(&lane_id) {
                lane.lower_kind_cursors(chunk.id.first_place);
                lane.head = None;
            }
        }
        Ok(())
    }
}

/// True when all slots of a chunk can be added: a chunk is merged whole or not at all.
fn fits(builder: &ChunkBuilder, chunk: &Chunk, sizes: &[usize]) -> bool {
    let mut trial = builder.room();
    chunk.slots.iter().zip(sizes).all(|(slot, job_bytes)| trial.take(slot, *job_bytes))
}
