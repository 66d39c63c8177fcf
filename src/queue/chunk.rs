//! Chunks in memory: decoded, being built, and the few that are worth keeping.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::job::JobId;
use crate::store::VALUE_BYTES_MAX;
use crate::store::codec::{self, DecodeError};
use crate::store::format::{CHUNK_SLOTS_MAX, ChunkRecord, JobRecord, Origin, SlotRecord};
use crate::store::key::{ChunkId, LaneId};

/// A chunk as the commands see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    /// Bytes of its record.
    pub(crate) record_bytes: usize,
    /// In the order of their places.
    pub(crate) slots: Vec<ChunkSlot>,
}

/// A job in a chunk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChunkSlot {
    pub(crate) place: u64,
    pub(crate) id: JobId,
    /// It came from a timer or a dead letter, and the location tree tells of it.
    pub(crate) moved: bool,
    /// Since when it could be claimed.
    pub(crate) ready_at: Timestamp,
    pub(crate) job: JobRecord,
}

impl Chunk {
    pub(crate) fn decode(id: ChunkId, bytes: &[u8]) -> Result<Chunk, DecodeError> {
        let record: ChunkRecord = codec::decode(bytes)?;
        let slots = record.slots.into_iter().map(|slot| {
            let place = id.first_place.saturating_add(slot.place_offset);
            if place > JobId::SEQUENCE_MAX {
                return Err(DecodeError::Damaged("a place is out of range"));
            }
            let (job_id, ready_at) = match slot.origin {
                Origin::Born { offset_ms } => {
                    let born_at = Timestamp::from_ms(record.base_ms.saturating_add(offset_ms));
                    let ChunkId { lane: LaneId { priority, queue }, .. } = id;
                    (JobId::new(born_at, record.shard, queue, priority, place), born_at)
                }
                Origin::Moved { id, ready_at_ms } => {
                    (JobId::from_u128(id), Timestamp::from_ms(ready_at_ms))
                }
            };
            let moved = matches!(slot.origin, Origin::Moved { .. });
            Ok(ChunkSlot { place, id: job_id, moved, ready_at, job: slot.job })
        });
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        if slots.is_empty() || !slots.is_sorted_by(|a, b| a.place < b.place) {
            return Err(DecodeError::Damaged("its places are not in order"));
        }
        Ok(Chunk { id, record_bytes: bytes.len(), slots })
    }

    /// The number of the slot with this place.
    pub(crate) fn slot_at(&self, place: u64) -> Option<usize> {
        self.slots.binary_search_by_key(&place, |slot| slot.place).ok()
    }
}

/// Jobs that will be one chunk when the group is committed.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    slots: Vec<ChunkSlot>,
    room: Room,
}

/// How much of a chunk is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    slots: usize,
    body_bytes: usize,
    shard: Option<u16>,
}

/// A chunk takes no further job that would make its record longer than this. sled keeps 256 pages
/// in memory, each of up to 16 chunks: with 32 KiB, 3,000,000 jobs took 50 MB more and were no
/// faster.
pub(crate) const CHUNK_BYTES_MAX: usize = 16 << 10;
/// More than a chunk's record takes beside its slots: header, shard, base, number of slots.
const CHUNK_OVERHEAD_BYTES: usize = 32;
/// The most a slot takes beside its job: place 9, origin 1, birth 9.
const BORN_SLOT_BYTES: usize = 19;
/// The most a slot takes beside its job: place 9, origin 1, id 17, time 9.
const MOVED_SLOT_BYTES: usize = 36;

impl Room {
    /// Takes the room of one more job, of `job_bytes` encoded; false when there is none.
    pub(crate) fn take(&mut self, slot: &ChunkSlot, job_bytes: usize) -> bool {
        let slot_bytes = if slot.moved { MOVED_SLOT_BYTES } else { BORN_SLOT_BYTES };
        let shard = (!slot.moved).then(|| slot.id.shard());
        let body_bytes = self.body_bytes + slot_bytes + job_bytes;
        let same_shard = shard.is_none() || self.shard.is_none() || shard == self.shard;
        let bytes_max = if self.slots == 0 { VALUE_BYTES_MAX } else { CHUNK_BYTES_MAX };
        if !same_shard || self.slots == CHUNK_SLOTS_MAX || body_bytes > bytes_max {
            return false;
        }
        *self = Room { slots: self.slots + 1, body_bytes, shard: self.shard.or(shard) };
        true
    }
}

impl ChunkBuilder {
    pub(crate) fn new() -> Self {
        let room = Room { slots: 0, body_bytes: CHUNK_OVERHEAD_BYTES, shard: None };
        ChunkBuilder { slots: Vec::new(), room }
    }

    /// How much is used so far.
    pub(crate) fn room(&self) -> Room {
        self.room
    }

    /// Adds a job; gives it back when the chunk has no room for it.
    pub(crate) fn push(&mut self, slot: ChunkSlot, job_bytes: usize) -> Option<ChunkSlot> {
        if !self.room.take(&slot, job_bytes) {
            return Some(slot);
        }
        self.slots.push(slot);
        None
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.room.body_bytes
    }

    /// The chunk and its record; `None` when nothing was pushed.
    pub(crate) fn build(self, lane: LaneId) -> Option<(Chunk, Bytes)> {
        let first_place = self.slots.first()?.place;
        let id = ChunkId { lane, first_place };
        let births = self.slots.iter().filter(|slot| !slot.moved).map(|slot| slot.id.born_at());
        let base = births.min().unwrap_or_default();
        let shard = self.room.shard.unwrap_or_default();
        // The jobs go into the record and come back: they are many, and copying them costs.
        let (mut slots, records): (Vec<_>, Vec<_>) = self
            .slots
            .into_iter()
            .map(|mut slot| {
                let origin = if slot.moved {
                    let ready_at_ms = slot.ready_at.as_ms();
                    Origin::Moved { id: slot.id.as_u128(), ready_at_ms }
                } else {
                    Origin::Born { offset_ms: slot.id.born_at().ms_since(base) }
                };
                let place_offset = slot.place - first_place;
                let job = std::mem::take(&mut slot.job);
                (slot, SlotRecord { place_offset, origin, job })
            })
            .unzip();
        let record = ChunkRecord { shard, base_ms: base.as_ms(), slots: records };
        let bytes = codec::encode(&record);
        for (slot, written) in slots.iter_mut().zip(record.slots) {
            slot.job = written.job;
        }
        Some((Chunk { id, record_bytes: bytes.len(), slots }, bytes))
    }
}

/// The chunks used last, decoded, up to a number of bytes.
#[derive(Debug, Default)]
pub(crate) struct ChunkCache {
    chunks: HashMap<ChunkId, (Arc<Chunk>, u64)>,
    by_use: BTreeMap<u64, ChunkId>,
    uses: u64,
    record_bytes: usize,
}

impl ChunkCache {
    /// Bytes of records whose decoded chunks are kept.
    const RECORD_BYTES_MAX: usize = 8 << 20;

    pub(crate) fn get(&mut self, id: ChunkId) -> Option<Arc<Chunk>> {
        let (chunk, used) = self.chunks.get_mut(&id)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, id);
        Some(chunk.clone())
    }

    /// The chunk, if it is here; it counts as used no more than before.
    pub(crate) fn peek(&self, id: ChunkId) -> Option<Arc<Chunk>> {
        self.chunks.get(&id).map(|(chunk, _)| chunk.clone())
    }

    pub(crate) fn insert(&mut self, chunk: Arc<Chunk>) {
        self.remove(chunk.id);
        self.uses += 1;
        self.record_bytes += chunk.record_bytes;
        self.by_use.insert(self.uses, chunk.id);
        self.chunks.insert(chunk.id, (chunk, self.uses));
        while self.record_bytes > Self::RECORD_BYTES_MAX {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((chunk, _)) = self.chunks.remove(&oldest) {
                self.record_bytes -= chunk.record_bytes;
            }
        }
    }

    pub(crate) fn remove(&mut self, id: ChunkId) {
        if let Some((chunk, used)) = self.chunks.remove(&id) {
            self.by_use.remove(&used);
            self.record_bytes -= chunk.record_bytes;
        }
    }
}
