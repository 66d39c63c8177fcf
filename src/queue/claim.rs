//! Hands jobs out: in the order of the [picker](crate::queue::pick), oldest first within a lane.
//!
//! What a claim costs depends on what it takes, not on the backlog: it goes on where the last one
//! stopped, chunk by chunk. A claim for few kinds may meet many chunks of others; it looks at
//! [`LOOKS_MAX`] of them, remembers how far it came, and is applied again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobState, Move, Payload, QueueId, validate_range};
use crate::lease::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, LeaseToken};
use crate::priority::{PerPriority, Priority};
use crate::queue::chunk::Chunk;
use crate::queue::event::Happened;
use crate::queue::pick::{Levels, Turn, Wanted};
use crate::queue::settle::{Settle, SettleOutcome};
use crate::queue::state::{Context, QueueState, attention_at};
use crate::store::format::{LeaseRecord, SlotProgress};
use crate::store::key::LaneId;

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
/// Chunks without a job of the wanted kinds, and heads of lanes that nobody knows yet, that one
/// application of a claim looks at.
pub(crate) const LOOKS_MAX: usize = 64;

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
    wanted: Wanted,
    /// The lanes that may have a job for it, where they are not all there are.
    lanes: Option<Levels>,
    taken: Vec<ClaimedJob>,
    taken_bytes: usize,
    looks_left: usize,
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
        let mut search = Search {
            claim,
            wanted: self.wanted(claim),
            lanes: None,
            taken: Vec::new(),
            taken_bytes: 0,
            looks_left: LOOKS_MAX,
        };
        if self.config.scheduler_enabled
            && self.know_heads(&search.wanted, &mut search.looks_left, context.now)?
        {
            self.serve(&mut search, context.now)?;
        }
        let saw_all = search.looks_left > 0 && !self.is_full();
        Ok(Taken { jobs: search.taken, saw_all })
    }

    /// The lanes that a claim may take from.
    pub(crate) fn wanted(&self, claim: &Claim) -> Wanted {
        let ids = claim.queues.iter().filter_map(|name| self.queues.by_name.get(name.as_str()));
        Wanted {
            queues: (!claim.queues.is_empty()).then(|| ids.copied().collect()),
            priorities: PerPriority::from_fn(|priority| {
                self.config.priorities.contains(&priority)
                    && (claim.priorities.is_empty() || claim.priorities.contains(&priority))
            }),
        }
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

    /// Takes job after job, each from the lane whose turn it is then: a claim for many gets what
    /// as many claims for one would get.
    fn serve(&mut self, search: &mut Search<'_>, now: Timestamp) -> Result<()> {
        if search.wanted.queues.is_some() {
            search.lanes = Some(self.picker.levels_of(&search.wanted));
        }
        while !search.is_satisfied() && search.looks_left > 0 && !self.is_full() {
            let turn = self.picker.next(search.lanes.as_ref(), &search.wanted);
            let Some(turn) = turn else { return Ok(()) };
            let before = search.taken.len();
            let saw_all = self.claim_in_lane(&turn, search, now)?;
            if search.taken.len() > before {
                self.picker.served(&turn);
            }
            let level = self.picker.level(turn.lane);
            if saw_all && level.is_some() && search.lanes.is_none() {
                // Jobs wait there, but none for this claim: it goes on without this lane.
                search.lanes = Some(self.picker.levels_of(&search.wanted));
            }
            if let Some(lanes) = &mut search.lanes {
                lanes.remove(turn.level, turn.lane);
                match level {
                    Some(level) if saw_all => lanes.remove(level, turn.lane),
                    Some(level) => lanes.insert(level, turn.lane),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Takes a job from the lane whose turn it is; all that the claim may have, while the lane
    /// counts as what it does, when no other does. True when no more is there for this claim.
    fn claim_in_lane(
        &mut self,
        turn: &Turn,
        search: &mut Search<'_>,
        now: Timestamp,
    ) -> Result<bool> {
        let lane_id = turn.lane;
        self.seal(lane_id);
        let kinds = &search.claim.kinds;
        let mut from = self.lanes.get(&lane_id).map_or(0, |lane| lane.cursor_for(kinds));
        let end = self.lanes.get(&lane_id).map_or(0, |lane| lane.end);
        if from >= end.max(self.opened_sequence) && !kinds.is_empty() {
            // Nothing came since a claim for these kinds looked at all of it.
            return Ok(true);
        }
        let until = if turn.is_alone { search.claim.limit } else { search.taken.len() + 1 };
        let mut saw_all = false;
        while self.may_go_on(turn, until, search) && !self.is_full() {
            let Some(chunk) = self.next_chunk_with_waiting(lane_id, from)? else {
                // To the end of the lane: later chunks get higher places.
                from = JobId::SEQUENCE_MAX;
                saw_all = true;
                break;
            };
            let before = search.taken.len();
            if self.claim_in_chunk(&chunk, turn, until, search, now)? {
                break;
            }
            from = chunk.id.first_place + 1;
            if search.taken.len() == before {
                search.looks_left -= 1;
                if search.looks_left == 0 {
                    break;
                }
            }
        }
        if !kinds.is_empty() {
            let reached = from.min(self.meta.next_sequence);
            self.lanes.entry(lane_id).or_default().raise_kind_cursors(kinds, reached);
        }
        Ok(saw_all)
    }

    fn may_go_on(&self, turn: &Turn, until: usize, search: &Search<'_>) -> bool {
        search.taken.len() < until
            && !search.is_satisfied()
            && self.picker.level(turn.lane) == Some(turn.level)
    }

    /// Takes wanted jobs from one chunk. True when it stopped before the end of the chunk.
    fn claim_in_chunk(
        &mut self,
        chunk: &Arc<Chunk>,
        turn: &Turn,
        until: usize,
        search: &mut Search<'_>,
        now: Timestamp,
    ) -> Result<bool> {
        let mut from = 0;
        while let Some(number) = self.next_waiting_slot(chunk, from) {
            if !self.may_go_on(turn, until, search) {
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
            if let Some(payload) = self.payload_to_hand_out(chunk, number, now)? {
                self.lease_slot(chunk, number, payload, search, now)?;
            }
            if self.picker.is_unknown(chunk.id.lane) {
                self.know_head(chunk.id.lane)?;
            }
            if !self.is_begun(chunk.id) {
                // That was the last job left in it.
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// What the job of a waiting slot carries. A job that can't be handed out is buried instead:
    /// its moment has passed, or its payload can't be read.
    pub(crate) fn payload_to_hand_out(
        &mut self,
        chunk: &Chunk,
        number: usize,
        now: Timestamp,
    ) -> Result<Option<Payload>> {
        let Some(slot) = chunk.slots.get(number) else { return Ok(None) };
        if self.bury_if_expired(chunk, number, now)? {
            return Ok(None);
        }
        match self.payload(slot.id, &slot.job.payload) {
            Ok(payload) => Ok(Some(payload)),
            // Without its payload a job can't be handed out; among the dead letters an operator
            // sees it.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.bury_unreadable(chunk, number, &error.to_string(), now)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
        lane.note_taken(chunk);
        self.picker.job_left(id.lane, slot.place);
        self.mark_dirty(id);
        // Started in time: it can't expire any more.
        self.forget_expiry(slot.id, &slot.job);
        self.count(id.lane, Some(JobState::Ready), Move::Claim)?;
        self.take_token(id.lane.queue, now);
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
