//! Puts dead letters back to work: one, or many in one call.
//!
//! A replay of many takes only letters that had died when it began: each death notes the sequence
//! that was next, and the replay takes one for itself. So a job that dies again meanwhile is left
//! alone, whatever the clock does.

use crate::error::{Error, ErrorKind, Result};
use crate::job::{Enqueued, JobId, JobState, Move, validate_range};
use crate::queue::dead_walk::{DeadChoice, DeadWalk, Letter, PORTION, Step};
use crate::queue::event::Happened;
use crate::queue::gate::Arrival;
use crate::queue::replays::{RATE_PER_S_MAX, RATE_PER_S_MIN, ReplayView};
use crate::queue::state::{Context, QueueState};

/// The highest limit a replay takes: more than a disk holds.
pub const REPLAY_JOBS_MAX: u64 = 1_000_000_000_000;

/// A replay of many dead letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayMany {
    /// Which.
    pub choice: DeadChoice,
    /// At most so many are put back to work, 1 to [`REPLAY_JOBS_MAX`].
    pub limit: Option<u64>,
    /// At most so many a second, 0.001 to 10,000, by a replay that goes on in the background;
    /// all at once, before the answer, when `None`.
    pub rate_per_s: Option<f64>,
    /// The background replay stops by itself when more than this share of what it has replayed
    /// died again, 0 to 1.
    pub max_error_share: Option<f64>,
    /// Only count what would be replayed.
    pub dry_run: bool,
}

/// What a replay of many did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManyReplayed {
    /// Dead letters that were meant, up to the limit.
    pub matched: u64,
    /// Those put back to work.
    pub replayed: u64,
    /// Those left dead because something stood in their way, a unique key in use for one.
    pub skipped: u64,
    /// The replay that does it in the background, when a rate was asked for.
    pub replay: Option<ReplayView>,
}

impl ReplayMany {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        self.choice.validate()?;
        validate_range("limit", self.limit, 1, REPLAY_JOBS_MAX)?;
        let within = |field, value: Option<f64>, least, most| match value {
            // Not even equal to itself: validate_range would take it.
            Some(value) if value.is_nan() => Err(Error::invalid(field, "is not a number")),
            value => validate_range(field, value, least, most),
        };
        within("rate_per_s", self.rate_per_s, RATE_PER_S_MIN, RATE_PER_S_MAX)?;
        within("max_error_share", self.max_error_share, 0.0, 1.0)?;
        if self.max_error_share.is_some() && self.rate_per_s.is_none() {
            return Err(Error::invalid(
                "max_error_share",
                "needs rate_per_s: a replay without a rate is over before a job can die again",
            ));
        }
        Ok(())
    }
}

/// A replay of many under way in one call.
pub(crate) struct ReplayWork {
    request: ReplayMany,
    walk: DeadWalk,
    told: ManyReplayed,
}

impl ReplayWork {
    pub(crate) fn new(request: ReplayMany) -> Self {
        let walk = DeadWalk::new(&request.choice);
        ReplayWork { request, walk, told: ManyReplayed::default() }
    }

    /// Nothing is moved in this call: it only counts.
    fn only_counts(&self) -> bool {
        self.request.dry_run || self.request.rate_per_s.is_some()
    }

    fn limit_reached(&self) -> bool {
        let counted = if self.only_counts() { self.told.matched } else { self.told.replayed };
        self.request.limit.is_some_and(|limit| counted >= limit)
    }
}

impl QueueState {
    /// Puts a dead letter back to work: attempts and interruptions begin again, errors are kept.
    pub(crate) fn replay(&mut self, id: JobId, context: &mut Context<'_>) -> Result<Enqueued> {
        let letter = self.find_dead(id)?;
        let lane = letter.lane;
        self.put_back(letter, None, context)?;
        Ok(Enqueued {
            id,
            state: JobState::Ready,
            queue: self.queue_name(lane.queue).to_string(),
            priority: lane.priority,
            run_at: context.now,
            replaced: None,
            is_new: false,
        })
    }

    /// Replays many, or counts them and begins a background replay. `None` when it must be
    /// applied again to go on.
    pub(crate) fn replay_many(
        &mut self,
        work: &mut ReplayWork,
        context: &mut Context<'_>,
    ) -> Result<Option<ManyReplayed>> {
        if work.walk.died_by.is_none() {
            if work.request.rate_per_s.is_some() && !work.request.dry_run {
                self.check_room_for_replay()?;
            }
            work.walk.died_by = Some(match work.request.dry_run {
                true => self.meta.next_sequence,
                false => self.next_sequence()?,
            });
        }
        if !self.replay_portion(work, context)? {
            return Ok(None);
        }
        let mut told = std::mem::take(&mut work.told);
        if let Some(rate_per_s) = work.request.rate_per_s.filter(|_| !work.request.dry_run) {
            let mut walk = DeadWalk::new(&work.request.choice);
            walk.died_by = work.walk.died_by;
            let replay =
                self.begin_replay(&work.request, walk, rate_per_s, told.matched, context)?;
            told.replay = Some(replay);
        }
        Ok(Some(told))
    }

    /// Goes on until the group is full; true when all letters were looked at.
    fn replay_portion(&mut self, work: &mut ReplayWork, context: &mut Context<'_>) -> Result<bool> {
        work.walk.begin_portion();
        let mut left = PORTION;
        while !work.limit_reached() {
            if !work.only_counts() && self.is_full() {
                return Ok(false);
            }
            let letter = match self.next_letter(&mut work.walk, &mut left)? {
                Step::Letter(letter) => letter,
                Step::Pause => return Ok(false),
                Step::End => return Ok(true),
            };
            work.walk.pass();
            work.told.matched += 1;
            if work.only_counts() {
                continue;
            }
            match self.put_back(*letter, None, context) {
                Ok(()) => work.told.replayed += 1,
                Err(refused) if refused.kind() == ErrorKind::Conflict => work.told.skipped += 1,
                Err(error) => return Err(after_some(&error, work.told.replayed)),
            }
        }
        Ok(true)
    }

    /// Puts a letter back to work, by this background replay if it is one. A refusal changes
    /// nothing.
    pub(crate) fn put_back(
        &mut self,
        letter: Letter,
        replay: Option<u64>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.check_disk_room(letter.bytes, context.now)?;
        let Letter { key, id, lane, record, bytes, .. } = letter;
        let mut job = record.job;
        self.retake_unique_key(id, &job, context.now)?;
        (job.failures, job.interruptions) = (0, 0);
        job.note_replay(replay);
        self.draft.remove_live(crate::store::Tree::Dead, key, bytes);
        self.count(lane, Some(JobState::Dead), Move::Replay)?;
        let (is_new, has_turn) = (false, false);
        self.let_in(lane, Arrival { id, job, ready_at: context.now, is_new, has_turn })?;
        self.tell(lane, Happened::Replayed { id });
        Ok(())
    }
}

/// The error that ended a replay half way, with what it had done by then.
fn after_some(error: &Error, replayed: u64) -> Error {
    if replayed == 0 || error.kind() == ErrorKind::Poisoned {
        return error.clone();
    }
    Error::new(
        error.kind(),
        format!("{error}; {replayed} dead letters were replayed before, call again for the rest"),
    )
}

#[cfg(test)]
mod tests;
