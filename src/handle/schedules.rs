//! The verbs for schedules: jobs made again and again.

use super::Queue;
use crate::error::{Error, Result};
use crate::job::{Enqueued, NewSchedule};
use crate::queue::schedules::Checked;
use crate::queue::{SCHEDULE_PAGE_MAX, SchedulePage, SchedulePut, ScheduleQuery, ScheduleView};

impl Queue {
    /// Makes a schedule, or replaces the one of its name. Its first job is for the first moment
    /// after this call. When it replaces one with the same `cron` and `time_zone`, no moment is
    /// made up for or left out by that; otherwise, and when it is not paused any more, it counts
    /// from now.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) or [`TooLarge`](crate::ErrorKind::TooLarge), naming
    /// the field; [`Conflict`](crate::ErrorKind::Conflict) when there are
    /// [`SCHEDULES_MAX`](crate::queue::SCHEDULES_MAX) already;
    /// [`DiskFull`](crate::ErrorKind::DiskFull).
    pub async fn put_schedule(&self, name: &str, schedule: NewSchedule) -> Result<SchedulePut> {
        let checked = Checked::new(name, schedule)?;
        let weight = checked.weight_bytes();
        self.call(weight, move |state, context| {
            state.put_schedule(checked.clone(), context).map(Some)
        })
        .await
    }

    /// One schedule.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn schedule(&self, name: &str) -> Result<ScheduleView> {
        let name = name.to_owned();
        self.call(0, move |state, context| state.schedule(&name, context.now).map(Some)).await
    }

    /// A page of schedules, by name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming `limit`.
    pub async fn schedules(&self, query: ScheduleQuery) -> Result<SchedulePage> {
        if !(1..=SCHEDULE_PAGE_MAX).contains(&query.limit) {
            let message = format!("{} is out of range; use 1 to {SCHEDULE_PAGE_MAX}", query.limit);
            return Err(Error::invalid("limit", message));
        }
        self.call(0, move |state, context| Ok(Some(state.list_schedules(&query, context.now))))
            .await
    }

    /// Removes a schedule. The jobs that it made stay.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn remove_schedule(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.call(0, move |state, _| state.remove_schedule(&name).map(Some)).await
    }

    /// Lets a schedule make no jobs; that survives restarts. Its moments pass by.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn pause_schedule(&self, name: &str) -> Result<ScheduleView> {
        self.set_schedule_paused(name, true).await
    }

    /// Lets a schedule make jobs again, from now on.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn resume_schedule(&self, name: &str) -> Result<ScheduleView> {
        self.set_schedule_paused(name, false).await
    }

    async fn set_schedule_paused(&self, name: &str, paused: bool) -> Result<ScheduleView> {
        let name = name.to_owned();
        self.call(0, move |state, context| {
            state.pause_schedule(&name, paused, context.now).map(Some)
        })
        .await
    }

    /// Puts the job of a schedule in its queue now, paused or not, beside its moments.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound), and as [`enqueue`](Self::enqueue).
    pub async fn run_schedule(&self, name: &str) -> Result<Enqueued> {
        self.refuse_while_draining()?;
        let name = name.to_owned();
        self.call(0, move |state, context| state.run_schedule(&name, context).map(Some)).await
    }
}
