//! Hands jobs out: the most urgent first, fair between queues, oldest first within one.
//!
//! What a claim costs depends on what it takes, not on the backlog: it goes on where the last one
//! stopped, chunk by chunk. A claim for few kinds may meet many chunks of others; it looks at
//! [`CHUNKS_LOOKED_AT_MAX`] of them, remembers how far it came, and is applied again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobState, Move, Payload, QueueId, validate_range};
use crate::lease::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, LeaseToken};
use crate::priority::Priority;
use crate::queue::chunk::Chunk;
use crate::queue::event::Happened;
use crate::queue::settle::{Settle, SettleOutcome};
use crate::queue::state::{Context, QueueState, attention_at};
use crate::store::Direction;
use crate::store::format::{LeaseRecord, SlotProgress};
use crate::store::key::{ChunkId, LaneId};

/// Most jobs one claim hands out.
pub const CLAIM_JOBS_MAX: usize = 1_000;
/// Most queues, priorities or kinds one claim may name.
pub const CLAIM_NAMES_MAX: usize = 1_000;
/// Longest a claim may wait, in milliseconds.
pub const CLAIM_WAIT_MS_MAX: u64 = 60_000;
/// Longest name of a worker, in bytes.
pub const WORKER_BYTES_MAX: usize = 64;
/// A claim's jobs together carry no more than this, so that its reply stays small. One job is
/// always handed out, however large.
pub const CLAIM_BYTES_MAX: usize = 4 << 20;
/// Chunks without a job of the wanted kinds that one application of a claim looks at.
const CHUNKS_LOOKED_AT_MAX: usize = 64;

/// A worker's question for jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Only from these queues; all when empty.
    pub queues: Vec<String>,
    /// Only of these priorities; all when empty.
    pub priorities: Vec<Priority>,
    /// Only of these kinds; all when empty.
    pub kinds: Vec<String>,
    /// At most so many jobs, 1 to 1,000.
    pub limit: usize,
    /// Wait so long for the first job, in milliseconds, 0 to 60,000.
    pub wait_ms: u64,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: u64,
    /// The worker's name, at most 64 bytes.
    pub worker: Option<String>,
    /// The claimer dies with this process: when the queue is opened again its leases end at once,
    /// and an interruption is counted. Never set for a worker that is reached over the network.
    pub in_process: bool,
    /// What the worker has finished meanwhile, applied in the same commit before the claim.
    pub settle: Settle,
}

/// What a claim got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimed {
    /// The jobs, most urgent first.
    pub jobs: Vec<ClaimedJob>,
    /// What became of the acks and fails that rode along, in their order.
    pub outcomes: Vec<SettleOutcome>,
}

/// A job in the hands of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedJob {
    /// The job's id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What the handler gets.
    pub payload: Payload,
    /// Names and values beside the payload.
    pub headers: BTreeMap<String, String>,
    /// The attempt this is, from 1.
    pub attempt: u32,
    /// How often it may fail in all.
    pub max_attempts: u32,
    /// How long this attempt may take in all, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Proves the right to finish it.
    pub token: LeaseToken,
    /// When the lease ends unless it is extended.
    pub expires_at: Timestamp,
}

impl Default for Claim {
    /// One job of any queue, priority and kind, without waiting, leased for 30 s.
    fn default() -> Self {
        Claim {
            queues: Vec::new(),
            priorities: Vec::new(),
            kinds: Vec::new(),
            limit: 1,
            wait_ms: 0,
            lease_ms: LEASE_MS_DEFAULT,
            worker: None,
            in_process: false,
            settle: Settle::default(),
        }
    }
}

impl Claim {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the first field that can't be taken.
    pub fn validate(&self) -> Result<()> {
        validate_range("limit", Some(self.limit), 1, CLAIM_JOBS_MAX)?;
        validate_range("wait_ms", Some(self.wait_ms), 0, CLAIM_WAIT_MS_MAX)?;
        validate_range("lease_ms", Some(self.lease_ms), LEASE_MS_MIN, LEASE_MS_MAX)?;
        let worker_bytes = self.worker.as_ref().map_or(0, String::len);
        if worker_bytes > WORKER_BYTES_MAX {
            return Err(Error::invalid(
                "worker",
                format!("{worker_bytes} bytes are too many; at most {WORKER_BYTES_MAX}"),
            ));
        }
        for (field, names) in [("queues", &self.queues), ("kinds", &self.kinds)] {
            if names.len() > CLAIM_NAMES_MAX {
                return Err(Error::invalid(
                    field,
                    format!("{} are too many; at most {CLAIM_NAMES_MAX}", names.len()),
                ));
            }
        }
        self.settle.validate()
    }
}

/// What a claim got this time, and whether it saw all there is.
pub(crate) struct Taken {
    pub(crate) jobs: Vec<ClaimedJob>,
    /// False: it stopped looking before the end; apply it again before letting it wait.
    pub(crate) saw_all: bool,
}

/// A claim at work.
struct Search<'a> {
    claim: &'a Claim,
    taken: Vec<ClaimedJob>,
    taken_bytes: usize,
    chunks_left: usize,
}

impl Search<'_> {
    fn is_satisfied(&self) -> bool {
        self.taken.len() >= self.claim.limit || self.taken_bytes >= CLAIM_BYTES_MAX
    }

    fn wants(&self, kind: &str) -> bool {
        self.claim.kinds.is_empty() || self.claim.kinds.iter().any(|wanted| wanted == kind)
    }
}

impl QueueState {
    /// Hands out what can be handed out now. What rides along was settled before.
    pub(crate) fn claim(&mut self, claim: &Claim, context: &mut Context<'_>) -> Result<Taken> {
        let mut search =
            Search { claim, taken: Vec::new(), taken_bytes: 0, chunks_left: CHUNKS_LOOKED_AT_MAX };
        if self.config.scheduler_enabled {
            for priority in Priority::ALL {
                if search.chunks_left == 0 {
                    // Less urgent jobs wait until it is known that no more urgent one is wanted.
                    break;
                }
                let here = self.config.priorities.contains(&priority);
                let wanted = claim.priorities.is_empty() || claim.priorities.contains(&priority);
                if here && wanted {
                    self.claim_at_priority(priority, &mut search, context.now)?;
                }
            }
        }
        let saw_all = search.chunks_left > 0 && !self.is_full();
        Ok(Taken { jobs: search.taken, saw_all })
    }

    /// True when a claim may take jobs from one of these lanes. Tells without looking at jobs, so
    /// that a job of one queue does not wake the workers of a thousand others.
    pub(crate) fn concerns(&self, claim: &Claim, lanes: &BTreeSet<LaneId>) -> bool {
        let any = |queue: Option<&QueueId>| {
            let wanted = |lane: &&LaneId| queue.is_none_or(|queue| lane.queue == *queue);
            let mut wanted = lanes.iter().filter(wanted);
            wanted.any(|lane| {
                claim.priorities.is_empty() || claim.priorities.contains(&lane.priority)
            })
        };
        if claim.queues.is_empty() {
            return any(None);
        }
        let ids = claim.queues.iter().filter_map(|name| self.queues.by_name.get(name.as_str()));
        ids.into_iter().any(|id| any(Some(id)))
    }

    /// Takes from the queues of a priority in turn, an even share of what is left from each.
    fn claim_at_priority(
        &mut self,
        priority: Priority,
        search: &mut Search<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let mut queues = self.queues_in_turn(priority, search.claim);
        while !queues.is_empty() && !search.is_satisfied() {
            let mut still_full = Vec::new();
            for (number, queue) in queues.iter().enumerate() {
                let left = search.claim.limit.saturating_sub(search.taken.len());
                let share = left.div_ceil(queues.len() - number);
                let before = search.taken.len();
                self.claim_in_lane(LaneId { priority, queue: *queue }, share, search, now)?;
                let got = search.taken.len() - before;
                if got > 0 {
                    self.last_served[priority] = Some(*queue);
                }
                if got == share && got > 0 {
                    still_full.push(*queue);
                }
                if search.is_satisfied() || search.chunks_left == 0 || self.is_full() {
                    return Ok(());
                }
            }
            queues = still_full;
        }
        Ok(())
    }

    /// The queues with ready jobs that the claim wants, none of them paused, beginning after the
    /// one served last.
    fn queues_in_turn(&self, priority: Priority, claim: &Claim) -> Vec<QueueId> {
        let ready = &self.ready[priority];
        let after = self.last_served[priority].map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.last_served[priority].map_or(Bound::Excluded(QueueId(0)), Bound::Included);
        let in_turn = ready
            .range((after, Bound::Unbounded))
            .chain(ready.range((Bound::Unbounded, until)))
            .copied();
        if claim.queues.is_empty() {
            // Each queue gives at least one job, so no more of them can be needed.
            let most = if claim.kinds.is_empty() { claim.limit } else { usize::MAX };
            return in_turn.take(most).collect();
        }
        // By the names asked for, not by all queues that have jobs: those may be many more.
        let named = claim.queues.iter().filter_map(|name| self.queues.by_name.get(name.as_str()));
        let named: BTreeSet<QueueId> = named.copied().filter(|id| ready.contains(id)).collect();
        named
            .range((after, Bound::Unbounded))
            .chain(named.range((Bound::Unbounded, until)))
            .copied()
            .collect()
    }

    fn claim_in_lane(
        &mut self,
        lane_id: LaneId,
        share: usize,
        search: &mut Search<'_>,
        now: Timestamp,
    ) -> Result<()> {
        self.seal(lane_id);
        let kinds = &search.claim.kinds;
        let mut from = self.lanes.get(&lane_id).map_or(0, |lane| lane.cursor_for(kinds));
        let end = self.lanes.get(&lane_id).map_or(0, |lane| lane.end);
        if from >= end.max(self.opened_sequence) && !kinds.is_empty() {
            // Nothing came since a claim for these kinds looked at all of it.
            return Ok(());
        }
        let until = search.taken.len() + share;
        while search.taken.len() < until && !search.is_satisfied() && !self.is_full() {
            let Some(chunk) = self.next_chunk_with_waiting(lane_id, from)? else {
                // To the end of the lane: later chunks get higher places.
                from = JobId::SEQUENCE_MAX;
                break;
            };
            let before = search.taken.len();
            if self.claim_in_chunk(&chunk, until, search, now)? {
                break;
            }
            from = chunk.id.first_place + 1;
            if search.taken.len() == before {
                search.chunks_left -= 1;
                if search.chunks_left == 0 {
                    break;
                }
            }
        }
        if !kinds.is_empty() {
            let reached = from.min(self.meta.next_sequence);
            self.lanes.entry(lane_id).or_default().raise_kind_cursors(kinds, reached);
        }
        Ok(())
    }

    /// The first chunk at or after a place in which a job waits, begun or not.
    pub(crate) fn next_chunk_with_waiting(
        &mut self,
        lane_id: LaneId,
        from: u64,
    ) -> Result<Option<Arc<Chunk>>> {
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
            if found.is_some() {
                return Ok(found);
            }
        }
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
                if contiguous {
                    // What was removed before it need not be passed over again.
                    lane.frontier = id.first_place;
                }
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

    /// Takes wanted jobs from one chunk. True when it stopped before the end of the chunk.
    fn claim_in_chunk(
        &mut self,
        chunk: &Arc<Chunk>,
        until: usize,
        search: &mut Search<'_>,
        now: Timestamp,
    ) -> Result<bool> {
        let mut from = 0;
        while let Some(number) = self.next_waiting_slot(chunk, from) {
            if search.taken.len() >= until || search.is_satisfied() {
                return Ok(true);
            }
            from = number + 1;
            let Some(slot) = chunk.slots.get(number) else { continue };
            if !search.wants(&slot.job.kind) {
                continue;
            }
            let lane = self.lanes.entry(chunk.id.lane).or_default();
            if !lane.begun.contains_key(&chunk.id.first_place) {
                lane.begin(chunk);
            }
            if !self.bury_if_expired(chunk, number, now)? {
                match self.payload(slot.id, &slot.job.payload) {
                    Ok(payload) => self.lease_slot(chunk, number, payload, search, now)?,
                    // Without its payload a job can't be handed out; among the dead letters an
                    // operator sees it.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        self.bury_unreadable(chunk, number, &error.to_string(), now)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            if !self.is_begun(chunk.id) {
                // That was the last job left in it.
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn next_waiting_slot(&mut self, chunk: &Chunk, from: usize) -> Option<usize> {
        let lane = self.lanes.get_mut(&chunk.id.lane)?;
        match lane.begun.get_mut(&chunk.id.first_place) {
            Some(begun) => begun.next_waiting(from),
            // In a chunk that nobody has begun, every slot waits.
            None => (from < chunk.slots.len()).then_some(from),
        }
    }

    /// Leases one waiting slot.
    fn lease_slot(
        &mut self,
        chunk: &Chunk,
        number: usize,
        payload: Payload,
        search: &mut Search<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let id = chunk.id;
        let Some(slot) = chunk.slots.get(number) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(&id.lane) else { return Ok(()) };
        let Some(begun) = lane.begun.get_mut(&id.first_place) else { return Ok(()) };
        let (deliveries, interruptions) = match begun.slots.get(number) {
            Some(SlotProgress::Returned { deliveries, interruptions }) => {
                (*deliveries, *interruptions)
            }
            _ => (slot.job.deliveries, slot.job.interruptions),
        };
        let lease_ms = search.claim.lease_ms;
        let lease = LeaseRecord {
            delivery: deliveries.saturating_add(1),
            interruptions,
            started_ms: now.as_ms(),
            deadline_ms: now.plus_ms(lease_ms).as_ms(),
            lease_ms,
            timeout_at_ms: slot.job.timeout_ms.map(|timeout_ms| now.plus_ms(timeout_ms).as_ms()),
            worker: search.claim.worker.clone(),
            progress: None,
            cancelled: false,
        };
        let token = LeaseToken { job: slot.id, delivery: lease.delivery };
        let attention_at = attention_at(&lease);
        let fresh = self.leases.insert((attention_at, id, number));
        assert!(fresh, "I3: slot {number} of {id:?} is leased already");
        begun.set_leased(number, lease, search.claim.in_process);
        if begun.waiting() == 0 {
            lane.open.remove(&id.first_place);
        }
        self.mark_dirty(id);
        // Started in time: it can't expire any more.
        self.forget_expiry(slot.id, &slot.job);
        self.count(id.lane, Some(JobState::Ready), Move::Claim)?;
        let (wait_ms, detail) = (now.ms_since(slot.ready_at), self.detail(slot.id, &slot.job));
        self.tell(id.lane, Happened::Started { wait_ms, detail });
        search.taken_bytes += payload.bytes().len();
        search.taken.push(ClaimedJob {
            id: slot.id,
            queue: self.queue_name(id.lane.queue).to_string(),
            kind: slot.job.kind.clone(),
            priority: id.lane.priority,
            payload,
            headers: slot.job.headers.iter().cloned().collect(),
            attempt: slot.job.failures + 1,
            max_attempts: slot.job.max_attempts,
            timeout_ms: slot.job.timeout_ms,
            token,
            expires_at: attention_at,
        });
        Ok(())
    }
}
