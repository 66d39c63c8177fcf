//! Replays in the background: dead letters put back to work at a steady rate.
//!
//! Each has a number and a record, which holds how far it is and is written with every letter it
//! moves, so a restart goes on where it was. [`tick`](QueueState::tick) moves them on. A job that
//! one of them put back carries its number; when it dies again, the replay counts it, and stops
//! when too many do.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::queue::dead_walk::{DeadFilter, DeadWalk, PORTION, Step};
use crate::queue::event::Happened;
use crate::queue::pace::Pace;
use crate::queue::replay::ReplayMany;
use crate::queue::state::{Context, QueueState};
use crate::store::codec;
use crate::store::format::{JobRecord, ReplayEnd, ReplayRecord};
use crate::store::key;
use crate::store::{Direction, Tree};

/// The slowest replay: one in a thousand seconds.
pub const RATE_PER_S_MIN: f64 = 0.001;
/// The fastest.
pub const RATE_PER_S_MAX: f64 = 10_000.0;
/// Most that run at once.
pub const REPLAYS_RUNNING_MAX: usize = 16;
/// So many are kept, those that run and the last that ended.
pub const REPLAYS_KEPT_MAX: usize = 100;
/// How long a replay waits when the disk is full.
const DISK_FULL_WAIT_MS: u64 = 1_000;
/// The queue in the events of a replay that is not about one queue. No queue can have this name.
const ALL_QUEUES: &str = "(all)";

/// Whether a replay still runs, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It has looked at all its letters, or reached its limit. Its jobs may still run.
    Done,
    /// It ended itself: too many of its jobs died again.
    Stopped,
    /// Somebody ended it.
    Cancelled,
}

impl ReplayState {
    /// The lower-case name used in JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ReplayState::Running => "running",
            ReplayState::Done => "done",
            ReplayState::Stopped => "stopped",
            ReplayState::Cancelled => "cancelled",
        }
    }
}

/// A background replay as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayView {
    /// Its number.
    pub id: u64,
    /// Whether it runs.
    pub state: ReplayState,
    /// Which dead letters; lets all through when they were named by their ids.
    pub filter: DeadFilter,
    /// At most so many are replayed.
    pub limit: Option<u64>,
    /// So many a second.
    pub rate_per_s: f64,
    /// The share of jobs that may die again before it stops.
    pub max_error_share: Option<f64>,
    /// What it has done so far.
    pub counts: ReplayCounts,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What a replay of many has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Dead letters that were meant when it began, up to its limit.
    pub matched: u64,
    /// Those put back to work.
    pub replayed: u64,
    /// Those left dead because something stood in their way, a unique key in use for one.
    pub skipped: u64,
    /// Jobs it put back that have died again; counted on after its end.
    pub died_again: u64,
}

/// All replays that are kept.
#[derive(Default)]
pub(crate) struct Replays {
    all: BTreeMap<u64, Replay>,
    /// Changed in the group at work.
    dirty: BTreeSet<u64>,
    last: u64,
    /// The one that was moved on last: the next one goes first.
    last_served: u64,
}

struct Replay {
    /// As of its last write, but for the counters and the end, which are always right.
    record: ReplayRecord,
    walk: DeadWalk,
    pace: Pace,
}

impl Replay {
    fn from_record(record: ReplayRecord, now: Timestamp) -> Self {
        let filter = DeadFilter {
            queue: record.queue.clone(),
            kind: record.kind.clone(),
            reason: record.reason,
            error: record.error.clone(),
        };
        let ids = record.ids.as_ref().map(|ids| ids.iter().copied().map(JobId::from_u128));
        let mut walk = DeadWalk::by(filter);
        walk.ids = ids.map(Iterator::collect);
        walk.after = record.after.as_ref().map(|after| after.to_vec());
        walk.died_by = Some(record.died_by);
        let due = Timestamp::from_ms(record.next_ms);
        let pace = Pace::resume(record.rate_per_s, due, now);
        Replay { record, walk, pace }
    }

    fn is_running(&self) -> bool {
        self.record.end.is_none()
    }

    /// The record as it is to be written.
    fn record(&mut self) -> &ReplayRecord {
        let ids = self.walk.ids.as_ref().map(|ids| ids.iter().map(|id| id.as_u128()).collect());
        self.record.ids = ids.filter(|_: &Vec<u128>| self.record.end.is_none());
        self.record.after = self.walk.after.clone().map(Into::into);
        self.record.next_ms = self.pace.due().as_ms();
        &self.record
    }

    fn limit_reached(&self) -> bool {
        self.record.limit.is_some_and(|limit| self.record.replayed >= limit)
    }

    fn failed_too_often(&self) -> bool {
        let most = self.record.max_error_share.map(|share| share * self.record.replayed as f64);
        most.is_some_and(|most| self.record.died_again as f64 > most)
    }

    fn view(&self, id: u64) -> ReplayView {
        let record = &self.record;
        let (state, ended_ms) = match record.end {
            None => (ReplayState::Running, None),
            Some(ReplayEnd::Done { ended_ms }) => (ReplayState::Done, Some(ended_ms)),
            Some(ReplayEnd::Stopped { ended_ms }) => (ReplayState::Stopped, Some(ended_ms)),
            Some(ReplayEnd::Cancelled { ended_ms }) => (ReplayState::Cancelled, Some(ended_ms)),
        };
        ReplayView {
            id,
            state,
            filter: self.walk.filter.clone(),
            limit: record.limit,
            rate_per_s: record.rate_per_s,
            max_error_share: record.max_error_share,
            counts: ReplayCounts {
                matched: record.matched,
                replayed: record.replayed,
                skipped: record.skipped,
                died_again: record.died_again,
            },
            started_at: Timestamp::from_ms(record.started_ms),
            ended_at: ended_ms.map(Timestamp::from_ms),
        }
    }
}

impl Replays {
    fn running(&self) -> impl Iterator<Item = (u64, &Replay)> {
        self.all.iter().filter(|(_, replay)| replay.is_running()).map(|(id, replay)| (*id, replay))
    }

    /// When the next letter is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.running().map(|(_, replay)| replay.pace.due()).min()
    }

    pub(crate) fn clock_stepped_back(&mut self, now: Timestamp) {
        self.all.values_mut().for_each(|replay| replay.pace.clock_stepped_back(now));
    }
}

impl QueueState {
    // ---- for callers ----

    /// All replays that are kept, the last one first.
    pub(crate) fn replays(&self) -> Vec<ReplayView> {
        self.replays.all.iter().rev().map(|(id, replay)| replay.view(*id)).collect()
    }

    /// The replay with this number.
    pub(crate) fn replay_status(&self, id: u64) -> Result<ReplayView> {
        let replay = self.replays.all.get(&id).ok_or_else(|| no_such_replay(id))?;
        Ok(replay.view(id))
    }

    /// Ends a replay that runs; one that has ended stays as it is.
    pub(crate) fn cancel_replay(&mut self, id: u64, now: Timestamp) -> Result<ReplayView> {
        if self.replay_status(id)?.state == ReplayState::Running {
            self.end_replay(id, ReplayEnd::Cancelled { ended_ms: now.as_ms() });
        }
        self.replay_status(id)
    }

    /// Refuses when as many run as may.
    pub(crate) fn check_room_for_replay(&self) -> Result<()> {
        if self.replays.running().count() < REPLAYS_RUNNING_MAX {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "{REPLAYS_RUNNING_MAX} replays run already; wait until one ends, or stop one by \
                 DELETE /v1/replays/{{id}}"
            ),
        ))
    }

    /// Begins a replay of the letters on this walk.
    pub(crate) fn begin_replay(
        &mut self,
        request: &ReplayMany,
        walk: DeadWalk,
        rate_per_s: f64,
        matched: u64,
        context: &Context<'_>,
    ) -> Result<ReplayView> {
        self.check_room_for_replay()?;
        let filter = walk.filter.clone();
        let record = ReplayRecord {
            queue: filter.queue,
            kind: filter.kind,
            reason: filter.reason,
            error: filter.error,
            ids: None,
            limit: request.limit,
            rate_per_s,
            max_error_share: request.max_error_share,
            matched,
            replayed: 0,
            skipped: 0,
            died_again: 0,
            started_ms: context.now.as_ms(),
            died_by: walk.died_by.unwrap_or_default(),
            next_ms: 0,
            after: None,
            end: None,
        };
        let id = self.replays.last + 1;
        self.replays.last = id;
        let pace = Pace::begin(rate_per_s, context.now);
        self.replays.all.insert(id, Replay { record, walk, pace });
        self.replays.dirty.insert(id);
        self.tell_of(id, Happened::ReplayStarted { id, matched, rate_per_s });
        if matched == 0 {
            self.end_replay(id, ReplayEnd::Done { ended_ms: context.now.as_ms() });
        }
        self.forget_old_replays();
        self.replay_status(id)
    }

    fn forget_old_replays(&mut self) {
        while self.replays.all.len() > REPLAYS_KEPT_MAX {
            let mut ended = self.replays.all.iter().filter(|(_, replay)| !replay.is_running());
            let Some(oldest) = ended.next().map(|(id, _)| *id) else { return };
            self.replays.all.remove(&oldest);
            self.replays.dirty.remove(&oldest);
            self.draft.remove(Tree::Replays, key::replay(oldest));
        }
    }

    fn end_replay(&mut self, id: u64, end: ReplayEnd) {
        let Some(replay) = self.replays.all.get_mut(&id) else { return };
        replay.record.end = Some(end);
        let view = replay.view(id);
        self.replays.dirty.insert(id);
        self.tell_of(id, Happened::ReplayEnded { id, state: view.state, counts: view.counts });
    }

    fn tell_of(&mut self, id: u64, what: Happened) {
        let queue = self.replays.all.get(&id).and_then(|replay| replay.record.queue.as_deref());
        let queue: Arc<str> = queue.unwrap_or(ALL_QUEUES).into();
        self.tell_apart(queue, what);
    }

    // ---- what time and deaths do ----

    /// Puts back what is due. True when more is due than one group should hold.
    pub(crate) fn move_replays_on(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let due = self.replays.running().filter(|(_, replay)| replay.pace.due() <= context.now);
        let mut due: Vec<u64> = due.map(|(id, _)| id).collect();
        let first = due.partition_point(|id| *id <= self.replays.last_served);
        due.rotate_left(first);
        let (mut left, mut more) = (PORTION, false);
        for id in due {
            if left == 0 || self.is_full() {
                return Ok(true);
            }
            let Some(mut replay) = self.replays.all.remove(&id) else { continue };
            self.replays.last_served = id;
            let moved = self.move_on(id, &mut replay, &mut left, context);
            self.replays.all.insert(id, replay);
            match moved? {
                Moved::More => more = true,
                Moved::AllForNow => {}
                Moved::Done => {
                    self.end_replay(id, ReplayEnd::Done { ended_ms: context.now.as_ms() });
                }
            }
        }
        Ok(more)
    }

    fn move_on(
        &mut self,
        id: u64,
        replay: &mut Replay,
        left: &mut usize,
        context: &mut Context<'_>,
    ) -> Result<Moved> {
        let mut owed = replay.pace.owed(context.now);
        replay.walk.begin_portion();
        loop {
            if replay.limit_reached() {
                return Ok(Moved::Done);
            }
            if self.is_full() {
                return Ok(if owed > 0 { Moved::More } else { Moved::AllForNow });
            }
            let letter = match self.next_letter(&mut replay.walk, left)? {
                Step::End => return Ok(Moved::Done),
                Step::Pause if owed > 0 => return Ok(Moved::More),
                Step::Pause => return Ok(Moved::AllForNow),
                // Looked ahead: it is not done yet.
                Step::Letter(_) if owed == 0 => return Ok(Moved::AllForNow),
                Step::Letter(letter) => letter,
            };
            match self.put_back(*letter, Some(id), context) {
                Ok(()) => {
                    replay.record.replayed += 1;
                    replay.pace.take();
                    owed -= 1;
                }
                Err(refused) if refused.kind() == ErrorKind::Conflict => {
                    replay.record.skipped += 1;
                }
                Err(full) if full.kind() == ErrorKind::DiskFull => {
                    replay.pace.put_off(context.now.plus_ms(DISK_FULL_WAIT_MS));
                    return Ok(Moved::AllForNow);
                }
                Err(error) => return Err(error),
            }
            replay.walk.pass();
            self.replays.dirty.insert(id);
        }
    }

    /// A job died: the replay that had put it back counts it, and stops when too many do.
    pub(crate) fn note_death(&mut self, job: &JobRecord, now: Timestamp) {
        let Some(id) = job.seldom.as_ref().and_then(|seldom| seldom.replay) else { return };
        let Some(replay) = self.replays.all.get_mut(&id) else { return };
        replay.record.died_again += 1;
        self.replays.dirty.insert(id);
        if replay.is_running() && replay.failed_too_often() {
            self.end_replay(id, ReplayEnd::Stopped { ended_ms: now.as_ms() });
        }
    }

    // ---- on the disk ----

    /// Writes what changed in this group.
    pub(crate) fn write_replays(&mut self) {
        for id in std::mem::take(&mut self.replays.dirty) {
            if let Some(replay) = self.replays.all.get_mut(&id) {
                let record = codec::encode(replay.record());
                self.draft.put(Tree::Replays, key::replay(id), record);
            }
        }
    }

    /// Reads all replays; those that run go on at their rate, from now.
    pub(crate) fn recover_replays(&mut self, now: Timestamp) -> Result<()> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let found = self.draft.scan(Tree::Replays, everything, Direction::Ascending);
        for (record_key, bytes) in found.collect::<Result<Vec<_>>>()? {
            let Some(id) = key::replay_from(&record_key) else { continue };
            self.replays.last = self.replays.last.max(id);
            match codec::decode(&bytes) {
                Ok(record) => {
                    self.replays.all.insert(id, Replay::from_record(record, now));
                }
                Err(reason) => self.set_aside(Tree::Replays, record_key, &bytes, &reason)?,
            }
        }
        Ok(())
    }
}

/// What became of a replay that was moved on.
enum Moved {
    /// More is due at once.
    More,
    /// Nothing is due.
    AllForNow,
    /// It has nothing left to do.
    Done,
}

fn no_such_replay(id: u64) -> Error {
    let message = format!(
        "there is no replay {id}; those that run and the last of {REPLAYS_KEPT_MAX} are kept"
    );
    Error::new(ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests;
