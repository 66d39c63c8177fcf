//! Finds a job by its id: no index is needed for jobs that stay where they were born.
//!
//! The id names the lane and the place a job was born with; the chunk of a place is the last one
//! at or before it. Only a job that left its chunk has an entry in the location tree, which is
//! looked at before a chunk is read for it.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::priority::Priority;
use crate::queue::chunk::Chunk;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{LeaseRecord, LocationRecord};
use crate::store::key::{self, ChunkId, LaneId, LinePlace, SharedKey};

/// Where a job was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Slot(ChunkId, usize),
    Line(LinePlace),
    Timer(Timestamp),
    Dead(Timestamp),
}

impl QueueState {
    /// The chunk with this id; `None` when there is none, or when it was damaged and set aside.
    pub(crate) fn chunk(&mut self, id: ChunkId) -> Result<Option<Arc<Chunk>>> {
        if let Some(chunk) = self.cache.get(id) {
            return Ok(Some(chunk));
        }
        match self.draft.get(id.lane.tree(), &id.key())? {
            Some(bytes) => self.decode_chunk(id, &bytes),
            None => Ok(None),
        }
    }

    /// Decodes a chunk and keeps it at hand.
    pub(crate) fn decode_chunk(&mut self, id: ChunkId, bytes: &[u8]) -> Result<Option<Arc<Chunk>>> {
        if let Some(chunk) = self.cache.get(id) {
            return Ok(Some(chunk));
        }
        match Chunk::decode(id, bytes) {
            Ok(chunk) => {
                let chunk = Arc::new(chunk);
                self.cache.insert(chunk.clone());
                Ok(Some(chunk))
            }
            Err(reason) => {
                self.set_aside(id.lane.tree(), id.key(), bytes, &reason)?;
                Ok(None)
            }
        }
    }

    /// Where a job is; `None` when it is done or never was.
    pub(crate) fn locate(&mut self, id: JobId) -> Result<Option<Place>> {
        let Some(priority) = id.birth_priority() else { return Ok(None) };
        let birth_lane = LaneId { priority, queue: id.queue() };
        if let Some(place) = self.slot_in_begun_chunk(birth_lane, id.sequence(), id) {
            return Ok(Some(place));
        }
        match self.location(id)? {
            Some(LocationRecord::Ready { priority, place }) => {
                let Some(priority) = Priority::from_number(priority) else {
                    return Ok(None);
                };
                self.slot_in_lane(LaneId { priority, queue: id.queue() }, place, id)
            }
            Some(LocationRecord::Timer { due_ms }) => {
                Ok(Some(Place::Timer(Timestamp::from_ms(due_ms))))
            }
            Some(LocationRecord::Dead { died_at_ms }) => {
                Ok(Some(Place::Dead(Timestamp::from_ms(died_at_ms))))
            }
            Some(LocationRecord::Line { kind, text, urgency, order }) => {
                let of = SharedKey { queue: id.queue(), kind, text };
                let urgency = Priority::from_number(urgency);
                Ok(urgency.map(|urgency| Place::Line(LinePlace { of, urgency, order })))
            }
            None => self.slot_in_lane(birth_lane, id.sequence(), id),
        }
    }

    fn location(&mut self, id: JobId) -> Result<Option<LocationRecord>> {
        let key = key::job(id);
        let Some(bytes) = self.draft.get(Tree::Location, &key)? else { return Ok(None) };
        match codec::decode(&bytes) {
            Ok(location) => Ok(Some(location)),
            Err(reason) => {
                self.set_aside(Tree::Location, key, &bytes, &reason)?;
                Ok(None)
            }
        }
    }

    /// The short way, without reading: most jobs looked for are running, in a chunk at hand.
    fn slot_in_begun_chunk(&mut self, lane: LaneId, place: u64, id: JobId) -> Option<Place> {
        let (first_place, _) = self.lanes.get(&lane)?.begun.range(..=place).next_back()?;
        let chunk_id = ChunkId { lane, first_place: *first_place };
        let chunk = self.cache.get(chunk_id)?;
        self.slot_in_chunk(&chunk, place, id)
    }

    fn slot_in_lane(&mut self, lane: LaneId, place: u64, id: JobId) -> Result<Option<Place>> {
        self.seal(lane);
        let from = ChunkId { lane, first_place: 0 }.key();
        let until = ChunkId { lane, first_place: place }.key();
        let Some((chunk_key, bytes)) = self.draft.last(lane.tree(), from, until)? else {
            return Ok(None);
        };
        let Some(chunk_id) = ChunkId::from_key(lane.priority, &chunk_key) else { return Ok(None) };
        let Some(chunk) = self.decode_chunk(chunk_id, &bytes)? else { return Ok(None) };
        Ok(self.slot_in_chunk(&chunk, place, id))
    }

    fn slot_in_chunk(&self, chunk: &Chunk, place: u64, id: JobId) -> Option<Place> {
        let number = chunk.slot_at(place)?;
        let slot = chunk.slots.get(number)?;
        let lane = self.lanes.get(&chunk.id.lane);
        let begun = lane.and_then(|lane| lane.begun.get(&chunk.id.first_place));
        let gone = begun.is_some_and(|begun| begun.is_gone(number));
        (slot.id == id && !gone).then_some(Place::Slot(chunk.id, number))
    }

    /// True when the chunk is there and a job of it was ever taken.
    pub(crate) fn is_begun(&self, id: ChunkId) -> bool {
        self.lanes.get(&id.lane).is_some_and(|lane| lane.begun.contains_key(&id.first_place))
    }

    /// The lease of a slot, if it is leased.
    pub(crate) fn lease(&self, id: ChunkId, slot: usize) -> Option<&LeaseRecord> {
        self.lanes.get(&id.lane)?.begun.get(&id.first_place)?.lease(slot)
    }
}
