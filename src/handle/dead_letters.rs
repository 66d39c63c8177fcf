//! The verbs for dead letters: what people do with jobs that were given up.

use super::Queue;
use crate::error::Result;
use crate::job::{Enqueued, JobId, JobView};
use crate::queue::dead::DeadListing;
use crate::queue::replay::ReplayWork;
use crate::queue::retention::PurgeWork;
use crate::queue::{
    DeadEdit, DeadPage, DeadPurged, DeadQuery, ManyReplayed, PurgeDead, ReplayMany, ReplayView,
};

impl Queue {
    /// A page of dead letters, by queue and in each by the time they died.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage> {
        query.validate()?;
        let mut listing = DeadListing::new(query)?;
        self.call(0, move |state, _| state.list_dead(&mut listing)).await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`Conflict`](crate::ErrorKind::Conflict) when the
    /// job lives.
    pub async fn dead_letter(&self, id: JobId) -> Result<JobView> {
        self.call(0, move |state, _| state.dead_letter(id).map(Some)).await
    }

    /// Changes a dead letter, and gives it as it is then.
    ///
    /// # Errors
    /// As [`dead_letter`](Self::dead_letter); [`Invalid`](crate::ErrorKind::Invalid) or
    /// [`TooLarge`](crate::ErrorKind::TooLarge), naming the field;
    /// [`DiskFull`](crate::ErrorKind::DiskFull).
    pub async fn edit_dead_letter(&self, id: JobId, edit: DeadEdit) -> Result<JobView> {
        edit.validate()?;
        let weight = edit.weight_bytes();
        self.call(weight, move |state, context| state.edit_dead(id, &edit, context.now).map(Some))
            .await
    }

    /// Removes a dead letter for good.
    ///
    /// # Errors
    /// As [`dead_letter`](Self::dead_letter).
    pub async fn delete_dead_letter(&self, id: JobId) -> Result<()> {
        self.call(0, move |state, _| state.delete_dead(id).map(Some)).await
    }

    /// Removes all dead letters of a choice that are there now, in portions: other commands run in
    /// between. It goes on to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub async fn purge_dead_letters(&self, purge: PurgeDead) -> Result<DeadPurged> {
        purge.choice.validate()?;
        let mut work = PurgeWork::new(&purge);
        self.call(0, move |state, _| state.purge_dead(&mut work)).await
    }

    /// Puts a dead letter back to work: its attempts begin again, its errors are kept.
    ///
    /// # Errors
    /// As [`dead_letter`](Self::dead_letter); [`DiskFull`](crate::ErrorKind::DiskFull).
    pub async fn replay(&self, id: JobId) -> Result<Enqueued> {
        self.refuse_while_draining()?;
        self.call(0, move |state, context| state.replay(id, context).map(Some)).await
    }

    /// Puts many dead letters back to work: in portions before the answer, or with a rate in the
    /// background, over restarts. Only those that are dead when it begins are replayed. It goes on
    /// to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field;
    /// [`DiskFull`](crate::ErrorKind::DiskFull); [`Conflict`](crate::ErrorKind::Conflict) when
    /// [`REPLAYS_RUNNING_MAX`](crate::queue::REPLAYS_RUNNING_MAX) background replays run already.
    pub async fn replay_many(&self, replay: ReplayMany) -> Result<ManyReplayed> {
        replay.validate()?;
        self.refuse_while_draining()?;
        let mut work = ReplayWork::new(replay);
        self.call(0, move |state, context| state.replay_many(&mut work, context)).await
    }

    /// The background replays that run and the last that ended, the newest first.
    ///
    /// # Errors
    /// None of its own.
    pub async fn replays(&self) -> Result<Vec<ReplayView>> {
        self.call(0, |state, _| Ok(Some(state.replays()))).await
    }

    /// The background replay with this number.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn replay_status(&self, id: u64) -> Result<ReplayView> {
        self.call(0, move |state, _| state.replay_status(id).map(Some)).await
    }

    /// Ends a background replay, and gives it as it is then. What it put back stays so; one that
    /// has ended already stays as it is.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    pub async fn cancel_replay(&self, id: u64) -> Result<ReplayView> {
        self.call(0, move |state, context| state.cancel_replay(id, context.now).map(Some)).await
    }
}
