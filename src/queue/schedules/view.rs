//! What readers see of schedules.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::job::{CatchUp, JobId, NewJob};
use crate::queue::schedules::slots::{LocalTime, Slots};

/// A schedule as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When it makes jobs.
    pub cron: String,
    /// The time zone in which that is meant.
    pub time_zone: String,
    /// The job that it makes.
    pub job: NewJob,
    /// What becomes of missed moments.
    pub catch_up: CatchUp,
    /// True when it makes none.
    pub paused: bool,
    /// The last moment that made a job.
    pub last_run: Option<LastRun>,
    /// Moments that were passed over: missed, or a job held the unique key.
    pub skipped: u64,
    /// Slots after this moment are to come.
    pub(crate) after: Timestamp,
    pub(crate) slots: Option<Arc<Slots>>,
}

impl ScheduleView {
    /// The moments that come next, so many at most; none while it is paused.
    #[must_use]
    pub fn next_runs(&self, most: usize) -> Vec<LocalTime> {
        let Some(slots) = self.slots.as_ref().filter(|_| !self.paused) else { return Vec::new() };
        let next = |moment: &Timestamp| slots.next_after(*moment);
        let runs = std::iter::successors(slots.next_after(self.after), next);
        runs.take(most).map(|slot| slots.local(slot)).collect()
    }
}

/// The last moment for which a schedule made a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// The moment.
    pub slot: Timestamp,
    /// The job, which may be done and gone.
    pub job: JobId,
}

/// What came of putting a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulePut {
    /// The schedule as it is now.
    pub schedule: ScheduleView,
    /// False when it replaced one of its name.
    pub is_new: bool,
}

/// Which schedules to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleQuery {
    /// So many at most, 1 to 1,000.
    pub limit: usize,
    /// Where to go on.
    pub cursor: Option<String>,
}

/// A page of schedules, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<ScheduleView>,
    /// Where the next page begins; not there on the last one.
    pub next_cursor: Option<String>,
}
