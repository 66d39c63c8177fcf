//! The state machine: what it keeps in memory, how a job is found, how a group becomes writes.
//!
//! # Invariants
//! - I1 A job is in exactly one place: a ready slot that is not gone, a line, a timer, or dead.
//! - I2 The counters equal a full count.
//! - I3 A leased slot has one live token; an ended lease has none.
//! - I4 `progress` exists only for chunks that exist; chunks whose slots are all gone do not.
//! - I5 Every index entry points at what is there, and what must have one has one: `location`,
//!   `unique`, `expiry`. No unique key outlives its job or its time.
//! - I6 Sequences never repeat, over any crash.
//! - I7 An acknowledged command is reflected after any crash; an unacknowledged one wholly or not.
//! - I8 Time going backwards loses nothing and hangs nothing.
//! - I9 No value is above 32 KiB; no blob file exists.
//! - I10 Nobody waits for a key that has a place (G2 of [`gate`](crate::queue::gate)).
//!
//! Memory holds the queues, the chunks that were begun and the leases in them: what it costs
//! depends on the work in progress, never on the backlog.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::job::StateCounts;
use crate::job::{JobId, JobState, Move, QueueId};
use crate::priority::PerPriority;
use crate::queue::chunk::{Chunk, ChunkBuilder, ChunkCache, ChunkSlot};
use crate::queue::draft::Draft;
use crate::queue::event::{Event, Happened, JobDetail};
use crate::queue::gate::Gates;
use crate::queue::lane::Lane;
use crate::queue::limits::{Limiter, Limiting};
use crate::queue::line::QueueLines;
use crate::queue::pick::Picker;
use crate::queue::rates::LastMinute;
use crate::queue::replays::Replays;
use crate::queue::retention::Retention;
use crate::queue::schedules::Schedules;
use crate::store::codec;
use crate::store::format::{JobRecord, LeaseRecord, MetaRecord, ProgressRecord, QueueRecord};
use crate::store::key::{self, ChunkId, LaneId};
use crate::store::{Tree, WriteSet};

/// A group takes no further command once it would write this many bytes. A command that alone
/// writes more gets a group of its own, which stays below
/// [`COMMIT_BYTES_MAX`](crate::store::COMMIT_BYTES_MAX).
pub(crate) const GROUP_BYTES_FULL: usize = 2 << 20;
/// A group takes no further command once it would write or remove this many records that carry
/// jobs: what the store appends for each can be much more than its bytes (rule 4 of the store).
pub(crate) const GROUP_LIVE_WRITES_FULL: usize = 300;

/// What a command is applied with: the only time and the only chance it knows.
pub(crate) struct Context<'a> {
    pub(crate) now: Timestamp,
    pub(crate) random: &'a mut dyn Rng,
}

/// The queue as a deterministic state machine over a store.
pub(crate) struct QueueState {
    pub(crate) config: Config,
    pub(crate) draft: Draft,
    pub(crate) meta: MetaRecord,
    pub(crate) queues: Queues,
    pub(crate) lanes: BTreeMap<LaneId, Lane>,
    /// Which lane is served next.
    pub(crate) picker: Picker,
    /// Leases by the moment they need attention.
    pub(crate) leases: BTreeSet<(Timestamp, ChunkId, usize)>,
    /// The first timer, if there is one.
    pub(crate) first_timer: Option<Timestamp>,
    pub(crate) replays: Replays,
    pub(crate) retention: Retention,
    pub(crate) schedules: Schedules,
    pub(crate) limiting: Limiting,
    pub(crate) gates: Gates,
    /// The first entry of what ends at a moment, if there is one.
    pub(crate) first_ending: Option<Timestamp>,
    /// Bytes that the disk takes before the reserve is touched; `None` where there is no disk.
    pub(crate) disk_room_bytes: Option<u64>,
    /// Where to go on re-filing timers after the clock stepped back.
    pub(crate) refile_from: Option<Bound<Vec<u8>>>,
    /// The same for what ends at a moment, and for unique keys.
    pub(crate) refile_endings_from: Option<Bound<Vec<u8>>>,
    pub(crate) refile_keys_from: Option<Bound<Vec<u8>>>,
    /// The last time a command was applied with.
    pub(crate) last_now: Timestamp,
    /// When this state was opened: rates begin there.
    pub(crate) opened_at: Timestamp,
    /// The next sequence when this state was opened: every place of then is before it.
    pub(crate) opened_sequence: u64,
    /// Bytes of records removed in the last minute.
    pub(crate) freed_bytes: LastMinute<1>,
    /// The log asks for each job that is enqueued, started or completed.
    pub(crate) tells_details: bool,
    pub(crate) cache: ChunkCache,
    /// Lanes with enough small chunks to merge.
    pub(crate) mergeable: BTreeSet<LaneId>,
    building: BTreeMap<LaneId, ChunkBuilder>,
    dirty_chunks: BTreeSet<ChunkId>,
    dirty_chunk_bytes: usize,
    dirty_queues: BTreeSet<QueueId>,
    events: Vec<Event>,
    /// Set when a record was set aside: the counters must be made anew from what is left.
    pub(crate) needs_recount: bool,
    /// The lanes in which a job became ready since they were last asked for.
    pub(crate) became_ready: BTreeSet<LaneId>,
}

/// All queues, by number and by name.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) by_id: BTreeMap<QueueId, QueueEntry>,
    pub(crate) by_name: HashMap<Arc<str>, QueueId>,
}

/// A queue in memory.
pub(crate) struct QueueEntry {
    pub(crate) name: Arc<str>,
    pub(crate) paused: bool,
    /// What limits it, if something does.
    pub(crate) limiter: Option<Box<Limiter>>,
    pub(crate) counts: PerPriority<StateCounts>,
    pub(crate) lines: QueueLines,
    /// What happened in the last minute; see [`QueueState::rates`].
    pub(crate) happened: PerPriority<LastMinute<4>>,
}

impl QueueState {
    pub(crate) fn new(config: Config, draft: Draft, meta: MetaRecord) -> Self {
        QueueState {
            picker: Picker::new(config.ageing_ms),
            config,
            draft,
            queues: Queues::default(),
            lanes: BTreeMap::new(),
            leases: BTreeSet::new(),
            first_timer: None,
            replays: Replays::default(),
            retention: Retention::default(),
            schedules: Schedules::default(),
            limiting: Limiting::default(),
            gates: Gates::default(),
            first_ending: None,
            disk_room_bytes: None,
            refile_from: None,
            refile_endings_from: None,
            refile_keys_from: None,
            last_now: Timestamp::default(),
            opened_at: Timestamp::default(),
            opened_sequence: meta.next_sequence,
            freed_bytes: LastMinute::default(),
            tells_details: false,
            cache: ChunkCache::default(),
            mergeable: BTreeSet::new(),
            building: BTreeMap::new(),
            dirty_chunks: BTreeSet::new(),
            dirty_chunk_bytes: 0,
            dirty_queues: BTreeSet::new(),
            events: Vec::new(),
            meta,
            needs_recount: false,
            became_ready: BTreeSet::new(),
        }
    }

    // ---- the group ----

    /// True when the group should be committed before anything is added to it.
    pub(crate) fn is_full(&self) -> bool {
        self.pending_bytes() >= GROUP_BYTES_FULL
            || self.draft.live_writes() >= GROUP_LIVE_WRITES_FULL
    }

    /// About how many bytes the group would write.
    pub(crate) fn pending_bytes(&self) -> usize {
        let building: usize = self.building.values().map(ChunkBuilder::body_bytes).sum();
        self.draft.bytes() + self.dirty_chunk_bytes + building
    }

    /// Tells how many bytes of jobs there is room for. Before each group.
    pub(crate) fn set_disk_room(&mut self, bytes: Option<u64>) {
        self.disk_room_bytes = bytes;
    }

    /// The writes of the group, all of them; the next command begins a new group.
    pub(crate) fn finish_group(&mut self, now: Timestamp) -> WriteSet {
        if self.admit_freed().is_err() {
            // The store can't be read: it is poisoned, and takes no commit either.
            self.gates.freed.clear();
        }
        self.seal_all();
        for id in std::mem::take(&mut self.dirty_chunks) {
            // A chunk that was removed after it got dirty has nothing left to write.
            let begun = self.lanes.get(&id.lane).and_then(|lane| lane.begun.get(&id.first_place));
            if let Some(begun) = begun {
                let record = ProgressRecord { slots: begun.slots.clone() };
                self.draft.put(Tree::Progress, id.progress_key(), codec::encode(&record));
            }
        }
        self.dirty_chunk_bytes = 0;
        self.write_replays();
        self.write_limits();
        self.write_lines();
        self.tell_what_made_room();
        for id in std::mem::take(&mut self.dirty_queues) {
            if let Some(entry) = self.queues.by_id.get(&id) {
                let record = QueueRecord {
                    name: entry.name.to_string(),
                    paused: entry.paused,
                    counts: entry.counts,
                };
                self.draft.put(Tree::Queues, key::queue(id), codec::encode(&record));
            }
        }
        if !self.draft.is_empty() {
            // Until all is re-filed, an opening must see that the clock stepped back.
            let before_ms = if self.is_refiling() { self.meta.last_commit_ms } else { 0 };
            self.meta.last_commit_ms = now.as_ms().max(before_ms);
            self.draft.put(Tree::Meta, key::META.to_vec(), codec::encode(&self.meta));
            self.freed_bytes.add(now, 0, self.draft.freed_bytes());
            let live_bytes = self.draft.live_bytes().to_be_bytes();
            let live_bytes = Bytes::copy_from_slice(&live_bytes);
            self.draft.put(Tree::Meta, key::LIVE_BYTES.to_vec(), live_bytes);
        }
        self.draft.take()
    }

    /// True while not everything was brought back after the clock stepped back.
    fn is_refiling(&self) -> bool {
        self.refile_from.is_some()
            || self.refile_endings_from.is_some()
            || self.refile_keys_from.is_some()
    }

    /// What happened since the last call; to be told only once the group is durable.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn tell(&mut self, lane: LaneId, what: Happened) {
        self.rate(lane, &what);
        let queue = self.queue_name(lane.queue);
        self.events.push(Event { queue, priority: Some(lane.priority), what });
    }

    /// Tells what happened to a queue as a whole.
    pub(crate) fn tell_of_queue(&mut self, queue: QueueId, what: Happened) {
        let queue = self.queue_name(queue);
        self.events.push(Event { queue, priority: None, what });
    }

    /// Tells what a background replay or a schedule did; its queue is the one it is about, if any.
    pub(crate) fn tell_apart(&mut self, queue: Arc<str>, what: Happened) {
        self.events.push(Event { queue, priority: None, what });
    }

    /// Which job an event is about, if the log wants to know.
    pub(crate) fn detail(&self, id: JobId, job: &JobRecord) -> Option<Box<JobDetail>> {
        let detail = || JobDetail { id, kind: job.kind.clone(), attempt: job.failures + 1 };
        self.tells_details.then(|| Box::new(detail()))
    }

    /// Remembers that the progress of a chunk must be written with the group.
    pub(crate) fn mark_dirty(&mut self, id: ChunkId) {
        if self.dirty_chunks.insert(id) {
            let begun = self.lanes.get(&id.lane).and_then(|lane| lane.begun.get(&id.first_place));
            self.dirty_chunk_bytes += begun.map_or(0, |begun| begun.record_bytes_estimate());
        }
    }

    pub(crate) fn mark_queue_dirty(&mut self, id: QueueId) {
        self.dirty_queues.insert(id);
    }

    // ---- queues and counters ----

    pub(crate) fn queue_name(&self, id: QueueId) -> Arc<str> {
        match self.queues.by_id.get(&id) {
            Some(entry) => entry.name.clone(),
            None => Arc::from(format!("queue-{}", id.0)),
        }
    }

    /// The queue of this name, made now if it is new.
    pub(crate) fn queue_or_new(&mut self, name: &str) -> Result<QueueId> {
        if let Some(id) = self.queues.by_name.get(name) {
            return Ok(*id);
        }
        if self.meta.next_queue > QueueId::MAX {
            let most = QueueId::MAX;
            return Err(Error::new(
                ErrorKind::Full,
                format!("queue {name:?} would be one too many; use one of the {most} there are"),
            ));
        }
        let id = QueueId(self.meta.next_queue);
        self.meta.next_queue += 1;
        self.queues.insert(id, name.into(), false, PerPriority::default());
        self.dirty_queues.insert(id);
        Ok(id)
    }

    /// Counts a move of one job, and refuses one that is not legal.
    pub(crate) fn count(&mut self, lane: LaneId, from: Option<JobState>, by: Move) -> Result<()> {
        let to = JobState::after(from, by)?;
        self.dirty_queues.insert(lane.queue);
        let Some(entry) = self.queues.by_id.get_mut(&lane.queue) else { return Ok(()) };
        let was_open = entry.is_open();
        let counts = &mut entry.counts[lane.priority];
        if let Some(from) = from {
            let count = counts.of_mut(from);
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *counts.of_mut(to) += 1;
        }
        let has_jobs = counts.ready > entry.lines.waiting[lane.priority];
        let is_open = entry.is_open();
        if is_open != was_open {
            // One more or one less runs, and that is what its limit is about.
            self.note_ready(lane.queue);
        } else if has_jobs && is_open {
            self.picker.enter(lane);
            if to == Some(JobState::Ready) {
                self.became_ready.insert(lane);
            }
        } else {
            self.picker.leave(lane);
        }
        Ok(())
    }

    // ---- jobs into lanes ----

    pub(crate) fn next_sequence(&mut self) -> Result<u64> {
        let sequence = self.meta.next_sequence;
        if sequence > JobId::SEQUENCE_MAX {
            return Err(Error::new(
                ErrorKind::Full,
                "all job numbers are used up; start a new data directory",
            ));
        }
        self.meta.next_sequence += 1;
        Ok(sequence)
    }

    /// Adds a job to the chunk that the group builds for its lane.
    pub(crate) fn add_to_lane(&mut self, lane: LaneId, slot: ChunkSlot) {
        self.note_waiting(lane, slot.place, slot.ready_at);
        let job_bytes = codec::body_bytes(&slot.job);
        let builder = self.building.entry(lane).or_insert_with(ChunkBuilder::new);
        if let Some(slot) = builder.push(slot, job_bytes) {
            self.seal(lane);
            let mut builder = ChunkBuilder::new();
            let left_over = builder.push(slot, job_bytes);
            assert!(left_over.is_none(), "I9: a job of {job_bytes} bytes has no room in a chunk");
            self.building.insert(lane, builder);
        }
    }

    /// Takes note that a job, which was counted, waits at this place.
    pub(crate) fn note_waiting(&mut self, lane: LaneId, place: u64, ready_at: Timestamp) {
        let is_only_one = self.queues.ready_jobs(lane) == 1;
        self.picker.job_came(lane, place, ready_at, is_only_one);
    }

    /// Makes what the group built for a lane a chunk like any other.
    pub(crate) fn seal(&mut self, lane: LaneId) {
        let Some((chunk, bytes)) = self.building.remove(&lane).and_then(|b| b.build(lane)) else {
            return;
        };
        let entry = self.lanes.entry(lane).or_default();
        if entry.note_new_chunk(&chunk) {
            self.mergeable.insert(lane);
        }
        self.draft.put_live(lane.tree(), chunk.id.key(), bytes);
        // Near the head it will be claimed soon; deep in a backlog it would only push others out.
        if self.queues.ready_jobs(lane) <= 2 * chunk.slots.len() as u64 {
            self.cache.insert(Arc::new(chunk));
        }
    }

    fn seal_all(&mut self) {
        while let Some(lane) = self.building.keys().next().copied() {
            self.seal(lane);
        }
    }

    // ---- jobs out of slots ----

    /// Empties a leased slot: its job is done or goes elsewhere. The last one takes the chunk.
    pub(crate) fn vacate(&mut self, chunk: &Chunk, slot: usize) -> Result<()> {
        self.empty(chunk, slot);
        let left = chunk.slots.get(slot);
        left.map_or(Ok(()), |slot| self.leave_lane(chunk.id.lane.queue, &slot.job))
    }

    fn empty(&mut self, chunk: &Chunk, slot: usize) {
        let id = chunk.id;
        let Some(lane) = self.lanes.get_mut(&id.lane) else { return };
        let Some(begun) = lane.begun.get_mut(&id.first_place) else { return };
        if let Some(lease) = begun.lease(slot) {
            self.leases.remove(&(attention_at(lease), id, slot));
        }
        begun.set_gone(slot);
        let left = begun.left();
        if begun.waiting() == 0 {
            lane.open.remove(&id.first_place);
        }
        lane.note_taken(chunk);
        if let Some(slot) = chunk.slots.get(slot) {
            self.picker.job_left(id.lane, slot.place);
        }
        if left > 0 {
            self.mark_dirty(id);
            return;
        }
        lane.forget(id.first_place);
        self.cache.remove(id);
        self.dirty_chunks.remove(&id);
        self.draft.remove(Tree::Progress, id.progress_key());
        self.draft.remove_live(id.lane.tree(), id.key(), chunk.record_bytes);
    }

    /// Removes what a job that is gone leaves outside its slot, timer or dead letter.
    pub(crate) fn forget_job(&mut self, id: JobId, moved: bool, job: &JobRecord) -> Result<()> {
        if moved {
            self.draft.remove(Tree::Location, key::job(id));
        }
        self.forget_payload(id, &job.payload)?;
        self.release_unique_key(id, job)?;
        self.forget_expiry(id, job);
        Ok(())
    }
}

impl Queues {
    pub(crate) fn insert(
        &mut self,
        id: QueueId,
        name: Arc<str>,
        paused: bool,
        counts: PerPriority<StateCounts>,
    ) {
        self.by_name.insert(name.clone(), id);
        let happened = PerPriority::default();
        let (limiter, lines) = (None, QueueLines::default());
        self.by_id.insert(id, QueueEntry { name, paused, limiter, counts, lines, happened });
    }

    /// Jobs that can be claimed; those in lines are ready, too, but not in the lane.
    pub(crate) fn ready_jobs(&self, lane: LaneId) -> u64 {
        let Some(entry) = self.by_id.get(&lane.queue) else { return 0 };
        let in_lines = entry.lines.waiting[lane.priority];
        entry.counts[lane.priority].ready.saturating_sub(in_lines)
    }
}

/// When a lease must be looked at: at its deadline, or when its attempt has taken too long.
pub(crate) fn attention_at(lease: &LeaseRecord) -> Timestamp {
    let timeout_at_ms = lease.timeout_at_ms.unwrap_or(u64::MAX);
    Timestamp::from_ms(lease.deadline_ms.min(timeout_at_ms))
}
