//! Tells which job the next claim gets, and why.
//!
//! It must be true, so it does what that claim would do before it hands the job out: a job whose
//! moment has passed, or whose payload can't be read, is buried on the way. It takes nothing else.

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::priority::Priority;
use crate::queue::claim::{Claim, LOOKS_MAX};
use crate::queue::limits::Limited;
use crate::queue::pick::{Turn, Wanted};
use crate::queue::state::QueueState;
use crate::store::key::LaneId;

/// Most candidates that are told.
pub const CANDIDATES_MAX: usize = 100;

/// What the next claim gets that asks for one job of any queue, priority and kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// The job; `None` when none is to be had.
    pub job: Option<NextJob>,
    /// Why it is this one, or why it is none: a sentence or two.
    pub why: String,
    /// The lanes with ready jobs in the order in which they are served, then those that are
    /// skipped; at most 100.
    pub candidates: Vec<Candidate>,
}

/// The job that is next.
#[derive(Clone, Debug, PartialEq)]
pub struct NextJob {
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// How urgent it is by itself.
    pub priority: Priority,
    /// What it counts as, having waited so long.
    pub counts_as: Priority,
    /// How long it has been ready, in milliseconds.
    pub waited_ms: u64,
}

/// A queue at one priority in which jobs are ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The queue.
    pub queue: String,
    /// The priority of its jobs.
    pub priority: Priority,
    /// What the first of them counts as.
    pub counts_as: Priority,
    /// How many jobs are ready.
    pub ready: u64,
    /// How long the first of them has been ready, in milliseconds.
    pub waited_ms: u64,
    /// Why it is not served; `None` when it is.
    pub skipped: Option<Skipped>,
    /// When that is over, where it is known: for a rate.
    pub until: Option<Timestamp>,
}

/// Why ready jobs are not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// Their queue is paused.
    Paused,
    /// This node does not hand out their priority.
    Filtered,
    /// This node hands out nothing.
    SchedulerDisabled,
    /// As many jobs of their queue were started as may be; `until` says how long that is so.
    RateLimited,
    /// As many jobs of their queue run as may.
    ConcurrencyReached,
}

impl QueueState {
    /// What the next claim gets. `None`: apply it again.
    pub(crate) fn explain_next(&mut self, now: Timestamp) -> Result<Option<Next>> {
        let wanted = self.wanted(&Claim::default());
        let mut looks_left = LOOKS_MAX;
        if !self.know_heads(&wanted, &mut looks_left, now)? {
            return Ok(None);
        }
        let mut next = None;
        if self.config.scheduler_enabled {
            loop {
                if self.is_full() {
                    return Ok(None);
                }
                let Some(turn) = self.picker.next(None, &wanted) else { break };
                next = self.job_of(&turn, now)?.map(|job| (turn, job));
                if next.is_some() {
                    break;
                }
            }
        }
        let candidates = self.candidates(&wanted, now)?;
        let why = match &next {
            Some((turn, job)) => self.why(turn, job, &wanted),
            None => self.why_none(&candidates),
        };
        Ok(Some(Next { job: next.map(|(_, job)| job), why, candidates }))
    }

    /// The first job of a lane; `None` when it was buried, and it may be another lane's turn.
    fn job_of(&mut self, turn: &Turn, now: Timestamp) -> Result<Option<NextJob>> {
        let head = self.head(turn.lane)?;
        let chunk = match head {
            Some(head) => self.next_chunk_with_waiting(turn.lane, head.first_place)?,
            None => None,
        };
        let (Some(head), Some(chunk)) = (head, chunk) else {
            // The counters are wrong: nothing waits here.
            self.picker.leave(turn.lane);
            return Ok(None);
        };
        let can_be_had = self.payload_to_hand_out(&chunk, head.slot, now)?.is_some();
        if self.picker.is_unknown(turn.lane) {
            self.know_head(turn.lane)?;
        }
        let Some(slot) = chunk.slots.get(head.slot).filter(|_| can_be_had) else { return Ok(None) };
        Ok(Some(NextJob {
            id: slot.id,
            queue: self.queue_name(turn.lane.queue).to_string(),
            kind: slot.job.kind.clone(),
            priority: turn.lane.priority,
            counts_as: turn.level,
            waited_ms: now.ms_since(slot.ready_at),
        }))
    }

    fn candidates(&mut self, wanted: &Wanted, now: Timestamp) -> Result<Vec<Candidate>> {
        let disabled = (!self.config.scheduler_enabled).then_some(Skipped::SchedulerDisabled);
        let served = Priority::ALL.into_iter().flat_map(|level| self.picker.in_turn(level, wanted));
        let mut lanes: Vec<_> = served.map(|lane| (lane, disabled)).take(CANDIDATES_MAX).collect();
        for priority in Priority::ALL {
            let queues = self.queues.by_id.iter();
            let queues = queues.filter(|(_, queue)| queue.counts[priority].ready > 0);
            let skipped = queues.filter_map(|(id, queue)| {
                let why = match queue.limited() {
                    _ if queue.paused => Skipped::Paused,
                    _ if !wanted.priorities[priority] => Skipped::Filtered,
                    Some(Limited::Concurrency) => Skipped::ConcurrencyReached,
                    Some(Limited::Rate { .. }) => Skipped::RateLimited,
                    None => return None,
                };
                Some((LaneId { priority, queue: *id }, disabled.or(Some(why))))
            });
            lanes.extend(skipped.take(CANDIDATES_MAX - lanes.len()));
        }
        let mut candidates = Vec::with_capacity(lanes.len());
        for (lane, skipped) in lanes {
            let Some(head) = self.head(lane)? else { continue };
            candidates.push(Candidate {
                queue: self.queue_name(lane.queue).to_string(),
                priority: lane.priority,
                counts_as: self.picker.standing(lane.priority, head.ready_at, now).level,
                ready: self.queues.ready_jobs(lane),
                waited_ms: now.ms_since(head.ready_at),
                skipped,
                until: self.until(lane, skipped),
            });
        }
        Ok(candidates)
    }

    fn until(&self, lane: LaneId, skipped: Option<Skipped>) -> Option<Timestamp> {
        match self.queues.by_id.get(&lane.queue)?.limited()? {
            Limited::Rate { until } => (skipped? == Skipped::RateLimited).then_some(until),
            Limited::Concurrency => None,
        }
    }

    // ---- in words ----

    fn why(&self, turn: &Turn, job: &NextJob, wanted: &Wanted) -> String {
        let NextJob { priority, counts_as, waited_ms, .. } = job;
        let mut why = match priority == counts_as {
            true => format!("No ready job counts as more urgent than {counts_as}."),
            false => format!(
                "This {priority} job has been ready for {waited_ms} ms and counts as {counts_as} \
                 by now; no ready job counts as more urgent."
            ),
        };
        let others = self.picker.in_turn(turn.level, wanted).len() - 1;
        if others > 0 {
            let last = self.picker.last_served(turn.level);
            let behind = last.map_or_else(String::new, |last| {
                format!(" behind {}/{}", self.queue_name(last.queue), last.priority)
            });
            let lanes = if others == 1 { "1 other does" } else { &format!("{others} others do") };
            why.push_str(&format!(
                " Of the queues with jobs that count as {counts_as} ({lanes}), it is this one's \
                 turn{behind}."
            ));
        }
        why
    }

    fn why_none(&self, candidates: &[Candidate]) -> String {
        let all = |why| candidates.iter().all(|candidate| candidate.skipped == Some(why));
        let limits = [Some(Skipped::RateLimited), Some(Skipped::ConcurrencyReached)];
        let all_limited = candidates.iter().all(|candidate| limits.contains(&candidate.skipped));
        let why = match candidates {
            [] if self.queues.by_id.values().any(|queue| queue.lines.waiting() > 0) => {
                "Every ready job waits for another one with the same key."
            }
            [] => "No job is ready.",
            _ if all(Skipped::SchedulerDisabled) => {
                "Jobs are ready, but this node hands none out: scheduler_enabled is false."
            }
            _ if all(Skipped::Paused) => "Every queue with ready jobs is paused.",
            _ if all_limited => "Every queue with ready jobs is at its limit.",
            _ if all(Skipped::Filtered) => {
                "Jobs are ready, but of no priority that this node hands out (priorities)."
            }
            _ => {
                "Every queue with ready jobs is paused or at its limit, or they are of no priority \
                 that this node hands out (priorities)."
            }
        };
        why.to_owned()
    }
}
