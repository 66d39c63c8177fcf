//! Sets records aside whose checksum fails, and goes on with what is whole.
//!
//! A damaged record is moved to the `damaged` tree as it was found, counted and logged. What
//! memory had of it is forgotten, and before the next group the counters are made anew from what
//! is left: that reads the whole store once, which a disk that returns wrong bytes is worth.

use bytes::Bytes;

use crate::error::Result;
use crate::job::QueueId;
use crate::queue::census::Census;
use crate::queue::state::QueueState;
use crate::store::codec::DecodeError;
use crate::store::key::{self, ChunkId};
use crate::store::{Tree, VALUE_BYTES_MAX};

impl QueueState {
    /// Moves a record that can't be read to the damaged tree.
    pub(crate) fn set_aside(
        &mut self,
        tree: Tree,
        key: Vec<u8>,
        bytes: &[u8],
        reason: &DecodeError,
    ) -> Result<()> {
        let name = tree.name();
        let shown_key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::error!(
            tree = name,
            key = shown_key,
            "a record can't be read and was set aside in the damaged tree: {reason}; restore the \
             volume from a copy if its jobs are needed"
        );
        let kept = bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes);
        self.draft.put(Tree::Damaged, key::damaged(tree, &key), Bytes::copy_from_slice(kept));
        if let Tree::Ready(priority) = tree
            && let Some(id) = ChunkId::from_key(priority, &key)
        {
            self.forget_chunk(id);
        }
        match tree {
            Tree::Ready(_) | Tree::Timers | Tree::Dead | Tree::Payload => {
                self.draft.remove_live(tree, key, bytes.len());
            }
            _ => self.draft.remove(tree, key),
        }
        self.meta.damaged_records += 1;
        self.needs_recount = true;
        Ok(())
    }

    fn forget_chunk(&mut self, id: ChunkId) {
        self.cache.remove(id);
        if let Some(lane) = self.lanes.get_mut(&id.lane) {
            lane.forget(id.first_place);
        }
        self.leases.retain(|(_, chunk, _)| *chunk != id);
        self.draft.remove(Tree::Progress, id.progress_key());
    }

    /// Makes the counters anew from a full count. Called with nothing pending.
    pub(crate) fn recount(&mut self) -> Result<()> {
        let census = Census::take(self.draft.store())?;
        self.draft.set_live_bytes(census.live_bytes);
        let ids: Vec<QueueId> = self.queues.by_id.keys().copied().collect();
        for id in ids {
            let counts = census.counts.get(&id).copied().unwrap_or_default();
            if let Some(entry) = self.queues.by_id.get_mut(&id) {
                entry.counts = counts;
            }
            self.mark_queue_dirty(id);
            self.note_ready(id);
        }
        for job in census.dangling_locations {
            self.draft.remove(Tree::Location, key::job(job));
        }
        self.needs_recount = false;
        Ok(())
    }

    /// Enters a queue among those with ready jobs, by its counters.
    pub(crate) fn note_ready(&mut self, id: QueueId) {
        let Some(entry) = self.queues.by_id.get(&id) else { return };
        for (priority, counts) in entry.counts.iter() {
            if counts.ready > 0 {
                self.ready[priority].insert(id);
                self.became_ready = true;
            } else {
                self.ready[priority].remove(&id);
            }
        }
    }
}
