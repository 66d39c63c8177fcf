//! Schedules: jobs that are made again and again, at the moments of a cron expression in a time
//! zone.
//!
//! # Invariants
//! - The moments of a schedule are its *slots*. Each is fired or skipped once: which is recorded in
//!   the same commit as the job, so that a crash neither doubles nor forgets one.
//! - What was done never becomes undone: a slot at or before the last one is none any more, also
//!   when the clock steps back.
//! - Memory holds all schedules, and the moment at which each has something to do.

pub(crate) mod due;
mod fire;
mod record;
pub(crate) mod slots;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Enqueued, JobId, NewSchedule};
use crate::queue::event::Happened;
use crate::queue::schedules::slots::Slots;
use crate::queue::schedules::view::{
    LastRun, SchedulePage, SchedulePut, ScheduleQuery, ScheduleView,
};
use crate::queue::state::{Context, QueueState};
use crate::store::format::{ScheduleProgressRecord, ScheduleRecord};
use crate::store::{Tree, codec, key};

/// Most schedules.
pub const SCHEDULES_MAX: usize = 1_000;
/// Most schedules of one page.
pub const SCHEDULE_PAGE_MAX: usize = 1_000;

/// Why a slot made no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipping {
    /// Nobody was there to see it in time, and its schedule does not make up for it.
    Missed,
    /// Another job held the unique key.
    Conflict,
}

impl Skipping {
    /// All of them.
    pub const ALL: [Skipping; 2] = [Skipping::Missed, Skipping::Conflict];

    /// The lower-case name used in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Skipping::Missed => "missed",
            Skipping::Conflict => "conflict",
        }
    }
}

/// A schedule that was checked and can be put.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    name: String,
    definition: NewSchedule,
    slots: Slots,
}

impl Checked {
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) or [`TooLarge`](ErrorKind::TooLarge), naming the field.
    pub(crate) fn new(name: &str, schedule: NewSchedule) -> Result<Checked> {
        schedule.validate(name)?;
        let slots = Slots::new(&schedule.cron, &schedule.time_zone)?;
        let time_zone = slots.time_zone().to_owned();
        Ok(Checked {
            name: name.to_owned(),
            definition: NewSchedule { time_zone, ..schedule },
            slots,
        })
    }

    pub(crate) fn weight_bytes(&self) -> usize {
        self.definition.job.weight_bytes()
    }
}

/// All schedules.
#[derive(Default)]
pub(crate) struct Schedules {
    all: BTreeMap<Arc<str>, Schedule>,
    /// When each has something to do, those that ever will.
    due: BTreeSet<(Timestamp, Arc<str>)>,
    /// The clock stepped back, and the next tick has to tell them.
    clock_stepped_back: bool,
}

struct Schedule {
    definition: NewSchedule,
    /// None when a newer program can't read them any more.
    slots: Option<Arc<Slots>>,
    progress: ScheduleProgressRecord,
    /// Its entry in [`Schedules::due`].
    due: Option<Timestamp>,
    /// There was no room for its last job: it is looked at again then.
    wait_until: Option<Timestamp>,
}

impl ScheduleProgressRecord {
    fn begun(now: Timestamp, paused: bool) -> Self {
        ScheduleProgressRecord {
            paused,
            since_ms: now.as_ms(),
            done_ms: None,
            last_run: None,
            skipped: 0,
        }
    }
}

impl Schedule {
    /// Slots after this moment are still to be done.
    fn after(&self) -> Timestamp {
        Timestamp::from_ms(self.progress.since_ms.max(self.progress.done_ms.unwrap_or(0)))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let slots = self.slots.as_ref().filter(|_| !self.progress.paused)?;
        let next = slots.next_after(self.after())?;
        Some(next.max(self.wait_until.unwrap_or(next)))
    }

    fn view(&self, name: &str, now: Timestamp) -> ScheduleView {
        let progress = &self.progress;
        ScheduleView {
            name: name.to_owned(),
            cron: self.definition.cron.clone(),
            time_zone: self.definition.time_zone.clone(),
            job: self.definition.job.clone(),
            catch_up: self.definition.catch_up,
            paused: progress.paused,
            last_run: progress.last_run.map(|last| LastRun {
                slot: Timestamp::from_ms(last.slot_ms),
                job: JobId::from_u128(last.job),
            }),
            skipped: progress.skipped,
            after: self.after().max(now),
            slots: self.slots.clone(),
        }
    }
}

impl QueueState {
    // ---- for callers ----

    /// Makes a schedule, or replaces the one of its name. What it has done so far counts on when
    /// its moments are the same; otherwise, and when it is not paused any more, it counts from now.
    pub(crate) fn put_schedule(
        &mut self,
        checked: Checked,
        context: &Context<'_>,
    ) -> Result<SchedulePut> {
        let Checked { name, definition, slots } = checked;
        let before = self.schedules.all.get(&*name);
        if before.is_none() && self.schedules.all.len() >= SCHEDULES_MAX {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("there are {SCHEDULES_MAX} schedules already; remove one first"),
            ));
        }
        let record = codec::encode(&ScheduleRecord::of(&definition));
        let begun = ScheduleProgressRecord::begun(context.now, definition.paused);
        let (progress, is_new) = match before {
            None => (begun, true),
            Some(Schedule { progress, definition: old, .. }) => {
                let same = (&old.cron, &old.time_zone) == (&definition.cron, &definition.time_zone);
                let goes_on = same && (definition.paused || !progress.paused);
                let since_ms = if goes_on { progress.since_ms } else { begun.since_ms };
                let done_ms = progress.done_ms.filter(|_| same);
                let paused = definition.paused;
                (ScheduleProgressRecord { paused, since_ms, done_ms, ..progress.clone() }, false)
            }
        };
        self.check_disk_room(record.len(), context.now)?;
        self.draft.put(Tree::Schedules, key::schedule(&name), record);
        let name: Arc<str> = name.into();
        let slots = Some(Arc::new(slots));
        self.forget_due(&name);
        let schedule = Schedule { definition, slots, progress, due: None, wait_until: None };
        self.schedules.all.insert(name.clone(), schedule);
        self.save_schedule_progress(&name);
        self.plan_schedule(&name);
        self.tell_of_schedule(&name, Happened::SchedulePut { schedule: name.clone() });
        Ok(SchedulePut { schedule: self.schedule(&name, context.now)?, is_new })
    }

    /// One schedule.
    pub(crate) fn schedule(&self, name: &str, now: Timestamp) -> Result<ScheduleView> {
        let schedule = self.schedules.all.get(name).ok_or_else(|| no_such_schedule(name))?;
        Ok(schedule.view(name, now))
    }

    /// A page of schedules, by name.
    pub(crate) fn list_schedules(&self, query: &ScheduleQuery, now: Timestamp) -> SchedulePage {
        let from = query.cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.schedules.all.range::<str, _>((from, Bound::Unbounded));
        let taken = rest.by_ref().take(query.limit);
        let schedules: Vec<_> = taken.map(|(name, schedule)| schedule.view(name, now)).collect();
        let last = schedules.last().filter(|_| rest.next().is_some());
        SchedulePage { next_cursor: last.map(|last| last.name.clone()), schedules }
    }

    /// Removes a schedule. The jobs that it made stay.
    pub(crate) fn remove_schedule(&mut self, name: &str) -> Result<()> {
        let (name, _) =
            self.schedules.all.get_key_value(name).ok_or_else(|| no_such_schedule(name))?;
        let name = name.clone();
        self.tell_of_schedule(&name, Happened::ScheduleRemoved { schedule: name.clone() });
        self.forget_due(&name);
        self.schedules.all.remove(&name);
        self.draft.remove(Tree::Schedules, key::schedule(&name));
        self.draft.remove(Tree::Schedules, key::schedule_progress(&name));
        Ok(())
    }

    /// Lets a schedule make no jobs, or lets it make them again, from now on.
    pub(crate) fn pause_schedule(
        &mut self,
        name: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<ScheduleView> {
        let found = self.schedules.all.get_key_value(name).map(|(name, _)| name.clone());
        let name = found.ok_or_else(|| no_such_schedule(name))?;
        if let Some(Schedule { progress, definition, .. }) = self.schedules.all.get_mut(&name)
            && progress.paused != paused
        {
            (progress.paused, definition.paused) = (paused, paused);
            if !paused {
                progress.since_ms = now.as_ms();
            }
            self.save_schedule_progress(&name);
            self.plan_schedule(&name);
            let schedule = name.clone();
            let what = match paused {
                true => Happened::SchedulePaused { schedule },
                false => Happened::ScheduleResumed { schedule },
            };
            self.tell_of_schedule(&name, what);
        }
        self.schedule(&name, now)
    }

    /// Makes a job of a schedule now, beside its slots, as an enqueue would.
    pub(crate) fn run_schedule(
        &mut self,
        name: &str,
        context: &mut Context<'_>,
    ) -> Result<Enqueued> {
        let schedule = self.schedules.all.get(name).ok_or_else(|| no_such_schedule(name))?;
        let job = schedule.definition.job_for(name, context.now);
        self.enqueue_one(job, context)
    }

    /// How many there are.
    pub(crate) fn schedules_count(&self) -> u64 {
        self.schedules.all.len() as u64
    }

    // ---- when they have something to do ----

    /// Enters when a schedule has something to do next.
    fn plan_schedule(&mut self, name: &Arc<str>) {
        self.forget_due(name);
        let Some(schedule) = self.schedules.all.get_mut(name) else { return };
        schedule.due = schedule.next_due();
        if let Some(due) = schedule.due {
            self.schedules.due.insert((due, name.clone()));
        }
    }

    fn forget_due(&mut self, name: &Arc<str>) {
        let Some(schedule) = self.schedules.all.get_mut(name) else { return };
        if let Some(due) = schedule.due.take() {
            self.schedules.due.remove(&(due, name.clone()));
        }
    }

    /// Takes note that the clock stepped back. The next tick heeds it, as with timers: opening
    /// writes nothing.
    pub(crate) fn note_step_back_for_schedules(&mut self) {
        self.schedules.clock_stepped_back = true;
    }

    /// After the clock stepped back, those that began to count in the future count from now. What
    /// was done stays done.
    fn step_schedules_back(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.schedules.clock_stepped_back) {
            return;
        }
        let names: Vec<Arc<str>> = self.schedules.all.keys().cloned().collect();
        for name in names {
            let Some(schedule) = self.schedules.all.get_mut(&name) else { continue };
            schedule.wait_until = None;
            if schedule.progress.since_ms > now.as_ms() {
                schedule.progress.since_ms = now.as_ms();
                self.save_schedule_progress(&name);
            }
            self.plan_schedule(&name);
        }
    }

    fn tell_of_schedule(&mut self, name: &Arc<str>, what: Happened) {
        let queue = self.schedules.all.get(name).map(|schedule| &*schedule.definition.job.queue);
        let queue: Arc<str> = queue.unwrap_or_default().into();
        self.tell_apart(queue, what);
    }
}

fn no_such_schedule(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no schedule {name:?}"))
}

#[cfg(test)]
mod tests;
