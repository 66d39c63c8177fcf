//! A lane (one queue at one priority) in memory: the chunks that were begun, and where to go on.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::clock::Timestamp;
use crate::queue::chunk::{CHUNK_BYTES_MAX, Chunk};
use crate::store::format::{CHUNK_SLOTS_MAX, LeaseRecord, SlotProgress};

/// What memory keeps of a lane. Empty for a lane whose jobs nobody has claimed yet.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Chunks of which a job was ever claimed, by first place.
    pub(crate) begun: BTreeMap<u64, Begun>,
    /// Those of them in which a job waits.
    pub(crate) open: BTreeSet<u64>,
    /// Every job that came into the lane since opening has a place before this one.
    pub(crate) end: u64,
    /// Every chunk before this place is begun.
    pub(crate) frontier: u64,
    /// By kind: no chunk before this place has a waiting job of it. Saves claims that want few
    /// kinds from looking at the same backlog of others again.
    pub(crate) kind_cursors: HashMap<String, u64>,
    /// The first waiting job as last looked up.
    pub(crate) head: Option<Head>,
    /// The last chunks of the lane, while they are small, not begun and next to each other.
    small_run: VecDeque<SmallChunk>,
}

/// The first waiting job of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The chunk, and the slot in it.
    pub(crate) first_place: u64,
    pub(crate) slot: usize,
    /// Its place in the lane.
    pub(crate) place: u64,
    pub(crate) ready_at: Timestamp,
}

/// A chunk that is worth merging with its neighbours.
#[derive(Clone, Copy, Debug)]
struct SmallChunk {
    first_place: u64,
    slots: usize,
    record_bytes: usize,
}

/// A chunk larger than this is not worth merging: a quarter of the largest.
const SMALL_CHUNK_BYTES: usize = CHUNK_BYTES_MAX / 4;
/// A chunk of more jobs than this is not worth merging.
const SMALL_CHUNK_SLOTS: usize = CHUNK_SLOTS_MAX / 4;
/// Enough bytes of small chunks to make one large chunk of them.
const MERGE_BYTES: usize = CHUNK_BYTES_MAX / 4 * 3;
/// Most kinds whose cursors are remembered for one lane.
const KIND_CURSORS_MAX: usize = 256;

impl Lane {
    /// Takes note of a chunk added at the end. True when enough small ones lie there to merge.
    pub(crate) fn note_new_chunk(&mut self, chunk: &Chunk) -> bool {
        let (slots, record_bytes) = (chunk.slots.len(), chunk.record_bytes);
        self.end = chunk.slots.last().map_or(self.end, |slot| slot.place + 1);
        if slots > SMALL_CHUNK_SLOTS || record_bytes > SMALL_CHUNK_BYTES {
            self.small_run.clear();
            return false;
        }
        let first_place = chunk.id.first_place;
        self.small_run.push_back(SmallChunk { first_place, slots, record_bytes });
        self.has_enough_to_merge()
    }

    pub(crate) fn has_enough_to_merge(&self) -> bool {
        let bytes: usize = self.small_run.iter().map(|small| small.record_bytes).sum();
        let slots: usize = self.small_run.iter().map(|small| small.slots).sum();
        self.small_run.len() > 1 && (bytes >= MERGE_BYTES || slots >= CHUNK_SLOTS_MAX)
    }

    /// Takes the small chunks that are to become one, oldest first.
    pub(crate) fn take_small_run(&mut self) -> Vec<u64> {
        let (mut bytes, mut slots) = (0, 0);
        let mut taken = Vec::new();
        while let Some(small) = self.small_run.front() {
            bytes += small.record_bytes;
            slots += small.slots;
            if bytes > CHUNK_BYTES_MAX || slots > CHUNK_SLOTS_MAX {
                break;
            }
            taken.push(small.first_place);
            self.small_run.pop_front();
        }
        taken
    }

    /// Begins a chunk: from now on its slots have a progress of their own.
    pub(crate) fn begin(&mut self, chunk: &Chunk) {
        let first_place = chunk.id.first_place;
        if self.frontier == first_place {
            self.frontier += 1;
        }
        // What lies before a begun chunk has no neighbour to merge with but what lies before.
        match self.small_run.iter().position(|small| small.first_place == first_place) {
            Some(0) => drop(self.small_run.pop_front()),
            Some(_) => self.small_run.clear(),
            None => {}
        }
        self.begun.insert(first_place, Begun::new(vec![SlotProgress::Waiting; chunk.slots.len()]));
        self.open.insert(first_place);
    }

    /// Forgets a chunk that is gone.
    pub(crate) fn forget(&mut self, first_place: u64) {
        self.begun.remove(&first_place);
        self.open.remove(&first_place);
        self.head = self.head.filter(|head| head.first_place != first_place);
    }

    /// Forgets a chunk that was removed before anybody had begun it.
    pub(crate) fn forget_new(&mut self, first_place: u64) {
        self.forget(first_place);
        self.small_run.retain(|small| small.first_place != first_place);
    }

    /// Takes note that a job waits again in a begun chunk.
    pub(crate) fn reopen(&mut self, first_place: u64) {
        self.open.insert(first_place);
        self.lower_kind_cursors(first_place);
    }

    /// Takes note that waiting jobs may be found from this place on.
    pub(crate) fn lower_kind_cursors(&mut self, first_place: u64) {
        for cursor in self.kind_cursors.values_mut() {
            *cursor = (*cursor).min(first_place);
        }
    }

    /// Takes note that the first waiting job of the lane is in this chunk.
    pub(crate) fn note_head(&mut self, chunk: &Chunk) {
        let first_place = chunk.id.first_place;
        let number = match self.begun.get_mut(&first_place) {
            Some(begun) => begun.next_waiting(0),
            // In a chunk that nobody has begun, every slot waits.
            None => Some(0),
        };
        let slot = number.and_then(|number| Some((number, chunk.slots.get(number)?)));
        self.head = slot.map(|(number, slot)| Head {
            first_place,
            slot: number,
            place: slot.place,
            ready_at: slot.ready_at,
        });
    }

    /// Takes note that a slot of this chunk does not wait any more.
    pub(crate) fn note_taken(&mut self, chunk: &Chunk) {
        if self.head.is_some_and(|head| head.first_place == chunk.id.first_place) {
            self.note_head(chunk);
        }
    }

    /// The first waiting job, if it is known without reading.
    pub(crate) fn known_head(&self) -> Option<Head> {
        self.head.filter(|head| self.is_head(head.first_place, head.slot))
    }

    /// True when this slot is still the first one waiting, told without reading.
    fn is_head(&self, first_place: u64, slot: usize) -> bool {
        let none_before = self.open.first().is_none_or(|open| *open >= first_place);
        let waits = match self.begun.get(&first_place) {
            Some(begun) => begun.first_waiting == slot && begun.is_waiting(slot),
            None => slot == 0 && self.frontier <= first_place,
        };
        none_before && waits
    }

    /// Where a claim for these kinds begins to look.
    pub(crate) fn cursor_for(&self, kinds: &[String]) -> u64 {
        let cursors = kinds.iter().map(|kind| self.kind_cursors.get(kind).copied().unwrap_or(0));
        cursors.min().unwrap_or(0)
    }

    /// Takes note that no chunk before this place has a waiting job of these kinds.
    pub(crate) fn raise_kind_cursors(&mut self, kinds: &[String], place: u64) {
        for kind in kinds {
            if let Some(cursor) = self.kind_cursors.get_mut(kind) {
                *cursor = place.max(*cursor);
                continue;
            }
            if self.kind_cursors.len() >= KIND_CURSORS_MAX {
                // Forgetting costs a second look, never a job.
                self.kind_cursors.clear();
            }
            self.kind_cursors.insert(kind.clone(), place);
        }
    }
}

/// The progress of a chunk's slots.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) slots: Vec<SlotProgress>,
    left: usize,
    waiting: usize,
    /// No slot before this one waits.
    first_waiting: usize,
}

impl Begun {
    pub(crate) fn new(slots: Vec<SlotProgress>) -> Self {
        let left = slots.iter().filter(|slot| **slot != SlotProgress::Gone).count();
        let waiting = slots.iter().filter(|slot| is_waiting(slot)).count();
        Begun { slots, left, waiting, first_waiting: 0 }
    }

    /// Jobs that are still here.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Jobs that can be claimed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn is_gone(&self, slot: usize) -> bool {
        self.slots.get(slot).is_none_or(|progress| *progress == SlotProgress::Gone)
    }

    fn is_waiting(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(is_waiting)
    }

    pub(crate) fn lease(&self, slot: usize) -> Option<&LeaseRecord> {
        self.slots.get(slot).and_then(SlotProgress::lease)
    }

    pub(crate) fn lease_mut(&mut self, slot: usize) -> Option<&mut LeaseRecord> {
        self.slots.get_mut(slot).and_then(SlotProgress::lease_mut)
    }

    /// The first waiting slot at or after `from`.
    pub(crate) fn next_waiting(&mut self, from: usize) -> Option<usize> {
        let start = from.max(self.first_waiting);
        let found = self.slots.iter().enumerate().skip(start).find(|(_, slot)| is_waiting(slot));
        let found = found.map(|(number, _)| number);
        if start == self.first_waiting {
            self.first_waiting = found.unwrap_or(self.slots.len());
        }
        found
    }

    /// `in_process`: its holder dies with the process.
    pub(crate) fn set_leased(&mut self, slot: usize, lease: LeaseRecord, in_process: bool) {
        let leased = if in_process { SlotProgress::LeasedInProcess } else { SlotProgress::Leased };
        self.set(slot, leased(lease));
    }

    pub(crate) fn set_returned(&mut self, slot: usize, deliveries: u32, interruptions: u32) {
        self.set(slot, SlotProgress::Returned { deliveries, interruptions });
        self.first_waiting = self.first_waiting.min(slot);
    }

    pub(crate) fn set_gone(&mut self, slot: usize) {
        self.set(slot, SlotProgress::Gone);
    }

    fn set(&mut self, slot: usize, progress: SlotProgress) {
        let Some(current) = self.slots.get_mut(slot) else { return };
        self.waiting -= usize::from(is_waiting(current));
        self.waiting += usize::from(is_waiting(&progress));
        self.left -= usize::from(progress == SlotProgress::Gone && *current != SlotProgress::Gone);
        *current = progress;
    }

    /// About how many bytes the record of this progress takes.
    pub(crate) fn record_bytes_estimate(&self) -> usize {
        const LEASE_BYTES: usize = 100;
        self.slots.len() * 4 + (self.left - self.waiting) * LEASE_BYTES
    }
}

fn is_waiting(progress: &SlotProgress) -> bool {
    matches!(progress, SlotProgress::Waiting | SlotProgress::Returned { .. })
}
