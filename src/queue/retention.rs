//! Dead letters that go: deleted, purged, too old, or too many.
//!
//! Number and age are limits of the configuration, off by default. The number of a queue's letters
//! is held when a letter is filed; their age by a sweep, once a minute, from the oldest of each
//! queue on. What was over the limits before they were set goes with the sweep at opening.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::dead_letter::Removal;
use crate::error::Result;
use crate::job::{JobId, JobState, Move, QueueId};
use crate::queue::dead_walk::{DeadChoice, DeadWalk, Letter, PORTION, Step};
use crate::queue::event::Happened;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::key::LaneId;

/// Time from one sweep to the next.
const SWEEP_EVERY_MS: u64 = 60_000;

/// A purge of many dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeDead {
    /// Which.
    pub choice: DeadChoice,
    /// Only count what would be removed.
    pub dry_run: bool,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadPurged {
    /// Dead letters that were meant.
    pub matched: u64,
    /// Those removed.
    pub removed: u64,
}

/// A purge under way.
pub(crate) struct PurgeWork {
    dry_run: bool,
    walk: DeadWalk,
    told: DeadPurged,
}

impl PurgeWork {
    pub(crate) fn new(purge: &PurgeDead) -> Self {
        let walk = DeadWalk::new(&purge.choice);
        PurgeWork { dry_run: purge.dry_run, walk, told: DeadPurged::default() }
    }
}

/// When dead letters are looked through for those over a limit.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// The next sweep; `None` when none is needed.
    pub(crate) next_sweep: Option<Timestamp>,
    /// A sweep is under way, and goes on with this queue.
    sweeping: Option<QueueId>,
    /// What made room for others in this group: told once for all of them.
    gone: Gone,
}

/// How many letters of each lane went in one application.
type Gone = BTreeMap<(LaneId, Removal), u64>;

impl QueueState {
    /// Removes one dead letter.
    pub(crate) fn delete_dead(&mut self, id: JobId) -> Result<()> {
        let letter = self.find_dead(id)?;
        let mut gone = Gone::new();
        self.remove_letter(letter, Removal::Deleted, &mut gone)?;
        self.tell_gone(gone);
        Ok(())
    }

    /// Removes many. `None` when it must be applied again to go on.
    pub(crate) fn purge_dead(&mut self, work: &mut PurgeWork) -> Result<Option<DeadPurged>> {
        work.walk.died_by.get_or_insert(self.meta.next_sequence);
        let mut gone = Gone::new();
        let all = self.purge_portion(work, &mut gone)?;
        self.tell_gone(gone);
        Ok(all.then_some(work.told))
    }

    fn purge_portion(&mut self, work: &mut PurgeWork, gone: &mut Gone) -> Result<bool> {
        work.walk.begin_portion();
        let mut left = PORTION;
        loop {
            if !work.dry_run && self.is_full() {
                return Ok(false);
            }
            let letter = match self.next_letter(&mut work.walk, &mut left)? {
                Step::Letter(letter) => letter,
                Step::Pause => return Ok(false),
                Step::End => return Ok(true),
            };
            work.walk.pass();
            work.told.matched += 1;
            if !work.dry_run {
                self.remove_letter(*letter, Removal::Purged, gone)?;
                work.told.removed += 1;
            }
        }
    }

    fn remove_letter(&mut self, letter: Letter, why: Removal, gone: &mut Gone) -> Result<()> {
        self.draft.remove_live(Tree::Dead, letter.key, letter.bytes);
        self.count(letter.lane, Some(JobState::Dead), Move::Cancel)?;
        self.forget_job(letter.id, true, &letter.record.job)?;
        *gone.entry((letter.lane, why)).or_default() += 1;
        Ok(())
    }

    /// Tells what went for others that died in this group.
    pub(crate) fn tell_what_made_room(&mut self) {
        let gone = std::mem::take(&mut self.retention.gone);
        self.tell_gone(gone);
    }

    fn tell_gone(&mut self, gone: Gone) {
        for ((lane, why), jobs) in gone {
            self.tell(lane, Happened::DeadRemoved { jobs, why });
        }
    }

    // ---- the limits of the configuration ----

    /// A letter was filed: when its queue has one too many now, the oldest goes.
    pub(crate) fn hold_number_of_dead(&mut self, queue: QueueId) -> Result<()> {
        if !self.too_many_dead(queue) {
            return Ok(());
        }
        let mut walk = DeadWalk::of_queue(&self.queue_name(queue));
        if let Step::Letter(letter) = self.next_letter(&mut walk, &mut { PORTION })? {
            let mut gone = std::mem::take(&mut self.retention.gone);
            self.remove_letter(*letter, Removal::Number, &mut gone)?;
            self.retention.gone = gone;
        }
        Ok(())
    }

    fn too_many_dead(&self, queue: QueueId) -> bool {
        let most = self.config.dead_max_per_queue;
        most > 0 && self.dead_in(queue) > most
    }

    fn dead_in(&self, queue: QueueId) -> u64 {
        let entry = self.queues.by_id.get(&queue);
        entry.map_or(0, |entry| entry.counts.iter().map(|(_, counts)| counts.dead).sum())
    }

    /// Plans the sweep at opening.
    pub(crate) fn plan_first_sweep(&mut self, now: Timestamp) {
        let limited = self.config.dead_max_age_ms > 0 || self.config.dead_max_per_queue > 0;
        self.retention.next_sweep = limited.then_some(now);
    }

    /// Removes letters over the limits, when it is time for it. True when more is to do at once.
    pub(crate) fn sweep_dead(&mut self, now: Timestamp) -> Result<bool> {
        let Some(next) = self.retention.next_sweep else { return Ok(false) };
        // A clock that stepped back must not put the next sweep off for long.
        let next = next.min(now.plus_ms(SWEEP_EVERY_MS));
        self.retention.next_sweep = Some(next);
        if next > now {
            return Ok(false);
        }
        let mut gone = Gone::new();
        let done = self.sweep_portion(now, &mut gone)?;
        self.tell_gone(gone);
        if done {
            let aged = self.config.dead_max_age_ms > 0;
            self.retention.next_sweep = aged.then(|| now.plus_ms(SWEEP_EVERY_MS));
        }
        Ok(!done)
    }

    fn sweep_portion(&mut self, now: Timestamp, gone: &mut Gone) -> Result<bool> {
        let mut left = PORTION;
        let mut from = self.retention.sweeping.take().map_or(Bound::Unbounded, Bound::Included);
        loop {
            let mut queues = self.queues.by_id.range((from, Bound::Unbounded)).map(|(id, _)| *id);
            let Some(queue) = queues.find(|id| self.dead_in(*id) > 0) else { return Ok(true) };
            if !self.sweep_queue(queue, now, &mut left, gone)? {
                self.retention.sweeping = Some(queue);
                return Ok(false);
            }
            from = Bound::Excluded(queue);
        }
    }

    /// True when no letter of this queue is over a limit any more.
    fn sweep_queue(
        &mut self,
        queue: QueueId,
        now: Timestamp,
        left: &mut usize,
        gone: &mut Gone,
    ) -> Result<bool> {
        let mut walk = DeadWalk::of_queue(&self.queue_name(queue));
        let max_age_ms = self.config.dead_max_age_ms;
        loop {
            if self.is_full() {
                return Ok(false);
            }
            let letter = match self.next_letter(&mut walk, left)? {
                Step::Letter(letter) => letter,
                Step::Pause => return Ok(false),
                Step::End => return Ok(true),
            };
            let why = if self.too_many_dead(queue) {
                Removal::Number
            } else if max_age_ms > 0 && letter.died_at.plus_ms(max_age_ms) <= now {
                Removal::Age
            } else {
                return Ok(true);
            };
            walk.pass();
            self.remove_letter(*letter, why, gone)?;
        }
    }
}

#[cfg(test)]
mod tests;
