//! Picks the lane that is served next: strict priorities, with ageing, in turn within a level.
//!
//! A lane counts as what its first waiting job counts as (its *level*, see [`ageing`]). The lanes
//! of the most urgent level are served one job each, in turn: the next one is the first behind
//! the one served last at that level, by queue and priority. Naturally urgent lanes and aged ones
//! take turns alike, so that neither starves the other.
//!
//! [`ageing`]: crate::queue::ageing
//!
//! # Invariants
//! - P1 A lane is here exactly while jobs wait in it and its queue is not paused.
//! - P2 A lane that can't age stands at its own priority. One that can stands where its first
//!   waiting job puts it at `now`, or it is unknown, and then it stands at no level.
//! - P3 A known head is the first waiting job of its lane.
//! - P4 `rises` has one entry for each known lane that goes on ageing.
//!
//! Unknown lanes are those found at opening, those of a queue that was resumed, and those whose
//! head went otherwise than by a claim. A claim looks their heads up first: each of them once, so
//! what that costs was caused by one removal before, or by opening; and only of lanes it wants.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::clock::Timestamp;
use crate::job::QueueId;
use crate::priority::{PerPriority, Priority};
use crate::queue::ageing::{Ageing, Standing};
use crate::queue::lane::Head;
use crate::store::key::LaneId;

/// Every lane in which jobs wait, in the order in which they are served.
pub(crate) struct Picker {
    ageing: Ageing,
    lanes: BTreeMap<LaneId, Known>,
    levels: Levels,
    /// When known lanes count one level up.
    rises: BTreeSet<(Timestamp, LaneId)>,
    unknown: BTreeSet<LaneId>,
    /// By level: the next lane goes first.
    last_served: PerPriority<Option<LaneId>>,
    /// The moment for which levels are right.
    now: Timestamp,
}

/// What is known of a lane.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Its head must be looked up.
    Nothing,
    /// Where it stands. Without a head: it does not age, or nothing was found in it.
    Standing(Standing, Option<FirstJob>),
}

#[derive(Clone, Copy, Debug)]
struct FirstJob {
    place: u64,
    ready_at: Timestamp,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) lane: LaneId,
    /// What it counts as.
    pub(crate) level: Priority,
    /// No other wanted lane counts as that.
    pub(crate) is_alone: bool,
}

impl Picker {
    pub(crate) fn new(ageing_ms: PerPriority<u64>) -> Self {
        Picker {
            ageing: Ageing::new(ageing_ms),
            lanes: BTreeMap::new(),
            levels: Levels::default(),
            rises: BTreeSet::new(),
            unknown: BTreeSet::new(),
            last_served: PerPriority::default(),
            now: Timestamp::default(),
        }
    }

    // ---- lanes come and go ----

    /// Jobs wait in this lane, if it is not known yet.
    pub(crate) fn enter(&mut self, lane: LaneId) {
        if let Entry::Vacant(place) = self.lanes.entry(lane) {
            place.insert(Known::Nothing);
            self.forget_head(lane);
        }
    }

    /// No job waits in this lane any more, or nobody may have it.
    pub(crate) fn leave(&mut self, lane: LaneId) {
        if let Some(known) = self.lanes.remove(&lane) {
            self.unfile(lane, known);
        }
    }

    /// Which job of this lane is the first must be looked up.
    pub(crate) fn forget_head(&mut self, lane: LaneId) {
        let known = match self.ageing.ages(lane.priority) {
            true => Known::Nothing,
            false => self.stands_by_itself(lane),
        };
        self.file(lane, known);
    }

    /// A job waits at this place. It is the first of its lane if no other waits, or if the first
    /// one stands behind it.
    pub(crate) fn job_came(
        &mut self,
        lane: LaneId,
        place: u64,
        ready_at: Timestamp,
        is_only_one: bool,
    ) {
        let is_first = match self.lanes.get(&lane) {
            Some(Known::Standing(_, Some(first))) => place < first.place,
            Some(_) => is_only_one,
            None => false,
        };
        if is_first {
            self.stand(lane, FirstJob { place, ready_at });
        }
    }

    /// A job that waited at this place is gone from there.
    pub(crate) fn job_left(&mut self, lane: LaneId, place: u64) {
        if let Some(Known::Standing(_, Some(first))) = self.lanes.get(&lane)
            && first.place == place
        {
            self.forget_head(lane);
        }
    }

    /// The head of a lane was looked up.
    pub(crate) fn set_head(&mut self, lane: LaneId, head: Option<Head>) {
        if !self.ageing.ages(lane.priority) {
            return;
        }
        match head {
            Some(Head { place, ready_at, .. }) => self.stand(lane, FirstJob { place, ready_at }),
            // Its counters are wrong: a claim finds out, and a recount follows.
            None => {
                let known = self.stands_by_itself(lane);
                self.file(lane, known);
            }
        }
    }

    fn stands_by_itself(&self, lane: LaneId) -> Known {
        Known::Standing(Standing { level: lane.priority, rises_at: None }, None)
    }

    fn stand(&mut self, lane: LaneId, first: FirstJob) {
        if self.ageing.ages(lane.priority) {
            let standing = self.ageing.standing(lane.priority, first.ready_at, self.now);
            self.file(lane, Known::Standing(standing, Some(first)));
        }
    }

    /// Puts a lane that is here where it belongs now.
    fn file(&mut self, lane: LaneId, known: Known) {
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        let before = std::mem::replace(entry, known);
        self.unfile(lane, before);
        match known {
            Known::Nothing => drop(self.unknown.insert(lane)),
            Known::Standing(standing, _) => {
                self.levels.insert(standing.level, lane);
                self.rises.extend(standing.rises_at.map(|moment| (moment, lane)));
            }
        }
    }

    fn unfile(&mut self, lane: LaneId, known: Known) {
        match known {
            Known::Nothing => drop(self.unknown.remove(&lane)),
            Known::Standing(standing, _) => {
                self.levels.remove(standing.level, lane);
                if let Some(moment) = standing.rises_at {
                    self.rises.remove(&(moment, lane));
                }
            }
        }
    }

    // ---- time ----

    /// Lets every known lane stand where it does at this moment. Costs what changed since the
    /// last one; all lanes when the clock stepped back.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        let stepped_back = now < self.now;
        self.now = now;
        if stepped_back {
            let lanes: Vec<LaneId> = self.lanes.keys().copied().collect();
            lanes.into_iter().for_each(|lane| self.stand_again(lane));
        }
        while let Some((moment, lane)) = self.rises.first().copied()
            && moment <= now
        {
            self.stand_again(lane);
        }
    }

    fn stand_again(&mut self, lane: LaneId) {
        if let Some(Known::Standing(_, Some(first))) = self.lanes.get(&lane).copied() {
            self.stand(lane, first);
        }
    }

    // ---- whose turn it is ----

    /// What a lane counts as; `None` when nothing is to be had there, or its head is unknown.
    pub(crate) fn level(&self, lane: LaneId) -> Option<Priority> {
        match self.lanes.get(&lane)? {
            Known::Standing(standing, _) => Some(standing.level),
            Known::Nothing => None,
        }
    }

    pub(crate) fn is_unknown(&self, lane: LaneId) -> bool {
        self.unknown.contains(&lane)
    }

    /// Lanes whose heads must be looked up before it is known whose turn it is, among those of
    /// these priorities; at most so many.
    pub(crate) fn unknown_lanes(&self, wanted: &Wanted, most: usize) -> Vec<LaneId> {
        if self.unknown.is_empty() {
            return Vec::new();
        }
        let lane = |priority, queue| LaneId { priority, queue };
        match &wanted.queues {
            Some(queues) => {
                let lanes = queues.iter().flat_map(|queue| {
                    wanted.priorities().map(move |priority| lane(priority, *queue))
                });
                lanes.filter(|lane| self.unknown.contains(lane)).take(most).collect()
            }
            None => {
                let ends =
                    |priority| lane(priority, QueueId(0))..=lane(priority, QueueId(u32::MAX));
                let lanes =
                    wanted.priorities().flat_map(|priority| self.unknown.range(ends(priority)));
                lanes.take(most).copied().collect()
            }
        }
    }

    /// Whose turn it is among these lanes, or among all.
    pub(crate) fn next(&self, among: Option<&Levels>, wanted: &Wanted) -> Option<Turn> {
        among.unwrap_or(&self.levels).next(wanted, &self.last_served)
    }

    /// The lanes of some queues; of all where none are named.
    pub(crate) fn levels_of(&self, wanted: &Wanted) -> Levels {
        let Some(queues) = &wanted.queues else { return self.levels.clone() };
        let mut levels = Levels::default();
        for queue in queues {
            for priority in wanted.priorities() {
                let lane = LaneId { priority, queue: *queue };
                if let Some(level) = self.level(lane) {
                    levels.insert(level, lane);
                }
            }
        }
        levels
    }

    /// A lane gave a job while it counted as this.
    pub(crate) fn served(&mut self, turn: &Turn) {
        self.last_served[turn.level] = Some(turn.lane);
    }

    /// What a job counts as that has been ready since then.
    pub(crate) fn standing(
        &self,
        priority: Priority,
        ready_at: Timestamp,
        now: Timestamp,
    ) -> Standing {
        self.ageing.standing(priority, ready_at, now)
    }

    /// The lane served last at this level.
    pub(crate) fn last_served(&self, level: Priority) -> Option<LaneId> {
        self.last_served[level]
    }

    /// The lanes at a level in the order in which it is their turn.
    pub(crate) fn in_turn(&self, level: Priority, wanted: &Wanted) -> Vec<LaneId> {
        let mut lanes: Vec<LaneId> = wanted
            .priorities()
            .flat_map(|priority| {
                let queues = self.levels.0[level][priority].iter();
                queues.map(move |queue| LaneId { priority, queue: *queue })
            })
            .collect();
        lanes.sort_unstable_by_key(|lane| turn_key(*lane));
        let last = self.last_served[level].map(turn_key);
        let first = lanes.partition_point(|lane| last.is_some_and(|last| turn_key(*lane) <= last));
        lanes.rotate_left(first);
        lanes
    }
}

/// Which lanes a claim wants.
pub(crate) struct Wanted {
    /// Of these queues; of all when `None`.
    pub(crate) queues: Option<BTreeSet<QueueId>>,
    /// Of these priorities.
    pub(crate) priorities: PerPriority<bool>,
}

impl Wanted {
    pub(crate) fn priorities(&self) -> impl Iterator<Item = Priority> + Clone + use<'_> {
        Priority::ALL.into_iter().filter(|priority| self.priorities[*priority])
    }
}

/// The order of turns: by queue, then by priority.
fn turn_key(lane: LaneId) -> (QueueId, Priority) {
    (lane.queue, lane.priority)
}

/// Lanes by what they count as, then by their own priority.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels(PerPriority<PerPriority<BTreeSet<QueueId>>>);

impl Levels {
    pub(crate) fn insert(&mut self, level: Priority, lane: LaneId) {
        self.0[level][lane.priority].insert(lane.queue);
    }

    pub(crate) fn remove(&mut self, level: Priority, lane: LaneId) {
        self.0[level][lane.priority].remove(&lane.queue);
    }

    fn next(&self, wanted: &Wanted, last_served: &PerPriority<Option<LaneId>>) -> Option<Turn> {
        Priority::ALL.into_iter().find_map(|level| {
            let lane = self.next_at(level, wanted, last_served[level])?;
            let lanes = wanted.priorities().map(|priority| self.0[level][priority].len());
            Some(Turn { lane, level, is_alone: lanes.sum::<usize>() == 1 })
        })
    }

    /// The first lane behind the last one; the very first when there is none behind it.
    fn next_at(&self, level: Priority, wanted: &Wanted, last: Option<LaneId>) -> Option<LaneId> {
        let first_from = |from: &dyn Fn(Priority) -> Bound<QueueId>| {
            let lanes = wanted.priorities().filter_map(|priority| {
                let queue =
                    *self.0[level][priority].range((from(priority), Bound::Unbounded)).next()?;
                Some(LaneId { priority, queue })
            });
            lanes.min_by_key(|lane| turn_key(*lane))
        };
        let behind = last.and_then(|last| {
            first_from(&|priority| match priority > last.priority {
                true => Bound::Included(last.queue),
                false => Bound::Excluded(last.queue),
            })
        });
        behind.or_else(|| first_from(&|_| Bound::Unbounded))
    }
}

#[cfg(test)]
mod tests;
