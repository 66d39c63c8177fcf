//! Removes a queue in which there is no job.

use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, QueueId};
use crate::priority::Priority;
use crate::queue::event::Happened;
use crate::queue::inspect::no_such_queue;
use crate::queue::state::QueueState;
use crate::queue::walk::Scope;
use crate::store::Tree;
use crate::store::key::{self, LaneId};

impl QueueState {
    /// Removes an empty queue, and with it its limits and whether it is paused. Its number is never
    /// given again: ids of jobs that were in it never mean others.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Conflict`](ErrorKind::Conflict) when a job is in it.
    pub(crate) fn remove_queue(&mut self, name: &str) -> Result<()> {
        let Some(queue) = self.queues.by_name.get(name).copied() else {
            return Err(no_such_queue(name));
        };
        let scope = Scope { queue: Some(queue), priority: None, states: Vec::new() };
        let jobs = self.jobs_in(&scope, &JobState::ALL);
        if jobs > 0 {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "queue {name:?} has {jobs} jobs (dead letters count); only an empty one can be \
                     removed: finish or purge them first"
                ),
            ));
        }
        self.tell_of_queue(queue, Happened::QueueRemoved);
        self.forget_queue(queue);
        Ok(())
    }

    /// The turn among the lanes stays where it is: the next one goes on behind
    /// the number, whether or not a queue has it.
    fn forget_queue(&mut self, queue: QueueId) {
        self.forget_limits(queue);
        if let Some(entry) = self.queues.by_id.remove(&queue) {
            self.queues.by_name.remove(&entry.name);
        }
        for priority in Priority::ALL {
            let lane = LaneId { priority, queue };
            self.lanes.remove(&lane);
            self.mergeable.remove(&lane);
            self.became_ready.remove(&lane);
            self.picker.leave(lane);
        }
        self.gates.walks.remove(&queue);
        self.gates.dirty.insert(queue);
        self.draft.remove(Tree::Queues, key::queue(queue));
    }
}
