//! The verbs of operators that are about many jobs.

use super::Queue;
use crate::error::Result;
use crate::queue::list::Listing;
use crate::queue::purge::Purging;
use crate::queue::{JobPage, JobQuery, Limits, Next, Purge, Purged, QueueView};

impl Queue {
    /// A page of jobs: ready and running ones in the order of claims, then those that wait for a
    /// moment, then the dead. A page may be short, or empty, while a `next_cursor` is there.
    ///
    /// A job that does not move from one place to another while the pages are read is on exactly
    /// one of them.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub async fn jobs(&self, query: JobQuery) -> Result<JobPage> {
        let mut listing = Listing::new(query)?;
        self.call(0, move |state, _| state.list(&mut listing)).await
    }

    /// All queues as [`queues`](Queue::queues) gives them, and which job is next and why: the one
    /// that a claim for one job of any queue, priority and kind would get now.
    ///
    /// # Errors
    /// None of its own.
    pub async fn explain_next(&self) -> Result<(Vec<QueueView>, Next)> {
        self.call(0, |state, context| {
            let Some(next) = state.explain_next(context.now)? else { return Ok(None) };
            Ok(Some((state.queues(context.now)?, next)))
        })
        .await
    }

    /// Removes the jobs of a queue that were enqueued before this call, by state and priority.
    /// Running ones are cancelled, and only if their state is named.
    ///
    /// Many jobs go in several commits, with other calls between them: when the process ends in the
    /// middle, some are gone and others are not. Dropping the future does not stop it.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such queue.
    pub async fn purge(&self, purge: Purge) -> Result<Purged> {
        let mut purging = Purging::new(purge);
        self.call(0, move |state, _| state.purge(&mut purging)).await
    }

    /// Sets how many jobs of a queue may run at once, and how many may be started in a time;
    /// what is left out is not limited. What runs already goes on. A queue of this name is made
    /// if there is none. It survives restarts, and a restart gives no second burst.
    ///
    /// A started job has used its token, whatever becomes of it. A queue that had a rate keeps
    /// the tokens it has when it gets another; one that had none begins with a burst.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field;
    /// [`TooManyQueues`](crate::ErrorKind::TooManyQueues) when it would be a new queue.
    pub async fn set_limits(&self, name: &str, limits: Limits) -> Result<QueueView> {
        limits.validate()?;
        let name = name.to_owned();
        self.call(0, move |state, context| {
            state.set_limits(&name, limits, context.now)?;
            state.queue(&name, context.now).map(Some)
        })
        .await
    }

    /// Removes a queue in which there is no job, also no dead letter; and with it its limits and
    /// whether it is paused. The next job for its name makes a new queue.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such queue,
    /// [`Conflict`](crate::ErrorKind::Conflict) when a job is in it.
    pub async fn remove_queue(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.call(0, move |state, _| state.remove_queue(&name).map(Some)).await
    }
}
