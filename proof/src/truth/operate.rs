//! What operators do to jobs and queues.

use pulk::queue::{Cancelled, Purge, Purged, QueueView};
use pulk::{ErrorKind, JobId, JobState, Priority};

use super::{Checked, Named, QueueNumber, Truth, granted, hold, is_done, other_answer, refused};
use crate::command::{Answer, Told};

impl Truth {
    // ---- queues and their numbers ----

    pub(super) fn number(&self, name: &str) -> Option<QueueNumber> {
        self.queues.iter().find(|(_, queue)| queue.name == name).map(|(number, _)| *number)
    }

    pub(super) fn name(&self, number: QueueNumber) -> &str {
        self.queues.get(&number).map_or("a queue that is gone", |queue| &queue.name)
    }

    pub(super) fn new_queue(&mut self, name: &str) -> QueueNumber {
        let number = self.next_queue;
        self.next_queue += 1;
        self.queues.insert(number, Named::new(name));
        number
    }

    // ---- calls ----

    pub(super) fn cancel(&mut self, id: JobId, told: Option<&Told>) -> Checked {
        let Some(serial) = self.serial(id) else { return refused(told, ErrorKind::NotFound) };
        let expected = if self.job(serial).state() == JobState::Running {
            self.mark_cancelled(serial);
            Cancelled::Running
        } else {
            self.forget(serial);
            Cancelled::Gone
        };
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Cancelled(cancelled)) => {
                hold!(*cancelled == expected, "{id} is {expected:?}, and was told {cancelled:?}");
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    /// Marks a running job; true when it was not marked before.
    fn mark_cancelled(&mut self, serial: u64) -> bool {
        let lease = self.lease(serial);
        let newly = !lease.cancelled;
        if newly {
            lease.cancelled = true;
            lease.is_written();
        }
        newly
    }

    pub(super) fn pause(&mut self, name: &str, paused: bool, told: Option<&Told>) -> Checked {
        let Some(number) = self.number(name) else { return refused(told, ErrorKind::NotFound) };
        self.queues.get_mut(&number).expect("it has a number").paused = paused;
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Queue(view)) => self.is_queue(number, view),
            Some(other) => Err(other_answer(other)),
        }
    }

    pub(super) fn remove_queue(&mut self, name: &str, told: Option<&Told>) -> Checked {
        let Some(number) = self.number(name) else { return refused(told, ErrorKind::NotFound) };
        if self.jobs.values().any(|job| job.queue == number) {
            return refused(told, ErrorKind::Conflict);
        }
        self.queues.remove(&number);
        is_done(told)
    }

    pub(super) fn purge(&mut self, purge: &Purge, told: Option<&Told>) -> Checked {
        let Some(number) = self.number(&purge.queue) else {
            return refused(told, ErrorKind::NotFound);
        };
        let states = match purge.states.as_slice() {
            [] => &[JobState::Scheduled, JobState::Ready, JobState::Retrying],
            states => states,
        };
        let meant = self.jobs.iter().filter(|(_, job)| {
            job.queue == number
                && purge.priority.is_none_or(|priority| priority == job.priority)
                && states.contains(&job.state())
        });
        let meant: Vec<u64> = meant.map(|(serial, _)| *serial).collect();
        let mut expected = Purged::default();
        for serial in meant {
            if self.job(serial).state() != JobState::Running {
                self.forget(serial);
                expected.removed += 1;
                continue;
            }
            let newly = u64::from(self.mark_cancelled(serial));
            expected.removed += newly;
            expected.cancelled += newly;
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Purged(purged)) => {
                hold!(*purged == expected, "a purge did {expected:?}, and told {purged:?}");
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    /// The view of a queue is right.
    pub(super) fn is_queue(&self, number: u32, view: &QueueView) -> Checked {
        let queue = &self.queues[&number];
        hold!(view.name == queue.name, "I2: queue {} is told as {}", queue.name, view.name);
        hold!(view.paused == queue.paused, "queue {} is told paused: {}", view.name, view.paused);
        self.is_limited(number, view.limits, view.limited)?;
        let (counts, oldest) = self.counts(number);
        hold!(
            view.counts == counts,
            "I2: queue {} has {counts:?}, and tells {:?}",
            view.name,
            view.counts
        );
        for priority in Priority::ALL {
            let (told, there) = (view.in_lines[priority], self.in_lines(number, priority));
            hold!(told == there, "I2: {there} {priority} jobs wait in lines: {view:?}");
        }
        hold!(
            view.oldest_ready_at == oldest,
            "the oldest ready jobs of queue {} are of {oldest:?}, and told as of {:?}",
            view.name,
            view.oldest_ready_at
        );
        Ok(())
    }
}
