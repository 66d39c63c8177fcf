//! Answers questions and changes nothing.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::dead_letter::FailedAttempt;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobState, JobView, Payload, QueueId, RunningView};
use crate::priority::{PerPriority, Priority};
use crate::queue::chunk::Chunk;
use crate::queue::locate::Place;
use crate::queue::state::{Context, QueueState, attention_at};
use crate::queue::view::{QueueView, Snapshot};
use crate::store::Tree;
use crate::store::format::{JobRecord, SlotProgress};
use crate::store::key::{self, LaneId};

impl QueueState {
    /// A job, wherever it is.
    pub(crate) fn job(&mut self, id: JobId) -> Result<JobView> {
        match self.locate(id)? {
            Some(Place::Slot(chunk_id, slot)) => match self.chunk(chunk_id)? {
                Some(chunk) => self.slot_view(&chunk, slot),
                None => Err(no_such_job(id)),
            },
            Some(Place::Timer(due)) => {
                let key = key::timer(due, id);
                let Some(bytes) = self.draft.get(Tree::Timers, &key)? else {
                    return Err(no_such_job(id));
                };
                let Some((lane, record)) = self.timer_record(&key, id, &bytes)? else {
                    return Err(no_such_job(id));
                };
                self.view(lane, id, &record.job, record.wait.state(), due)
            }
            Some(Place::Line(place)) => match self.waiter(&place)? {
                Some(waiter) => self.waiter_view(&place, &waiter),
                None => Err(no_such_job(id)),
            },
            Some(Place::Dead(_)) => self.dead_letter(id),
            None => Err(no_such_job(id)),
        }
    }

    pub(crate) fn slot_view(&mut self, chunk: &Chunk, number: usize) -> Result<JobView> {
        let Some(slot) = chunk.slots.get(number) else {
            return Err(Error::new(ErrorKind::Corrupt, "the chunk has no such slot"));
        };
        let lane = chunk.id.lane;
        let progress = self
            .lanes
            .get(&lane)
            .and_then(|lane| lane.begun.get(&chunk.id.first_place))
            .and_then(|begun| begun.slots.get(number))
            .cloned()
            .unwrap_or(SlotProgress::Waiting);
        let mut view = self.view(lane, slot.id, &slot.job, JobState::Ready, slot.ready_at)?;
        match progress {
            SlotProgress::Leased(lease) | SlotProgress::LeasedInProcess(lease) => {
                view.state = JobState::Running;
                view.expires_at = None;
                view.interruptions = lease.interruptions;
                view.running = Some(RunningView {
                    started_at: Timestamp::from_ms(lease.started_ms),
                    expires_at: attention_at(&lease),
                    progress: lease.progress,
                    worker: lease.worker,
                    cancelled: lease.cancelled,
                });
            }
            SlotProgress::Returned { interruptions, .. } => {
                view.interruptions = interruptions;
                view.expires_at = None;
            }
            SlotProgress::Waiting | SlotProgress::Gone => {}
        }
        Ok(view)
    }

    pub(crate) fn view(
        &mut self,
        lane: LaneId,
        id: JobId,
        job: &JobRecord,
        state: JobState,
        run_at: Timestamp,
    ) -> Result<JobView> {
        let payload = match self.payload(id, &job.payload) {
            // The rest of the job can still be told; the damage itself is logged and counted.
            Err(error) if error.kind() == ErrorKind::Corrupt => Payload::default(),
            payload => payload?,
        };
        let seldom = job.seldom.as_deref();
        Ok(JobView {
            id,
            state,
            queue: self.queue_name(lane.queue).to_string(),
            kind: job.kind.clone(),
            priority: lane.priority,
            payload,
            headers: job.headers.iter().cloned().collect(),
            attempt: job.failures + 1,
            max_attempts: job.max_attempts,
            interruptions: job.interruptions,
            max_interruptions: job.max_interruptions,
            timeout_ms: job.timeout_ms,
            enqueued_at: id.born_at(),
            run_at,
            expires_at: job.expires_at(),
            unique_key: job.unique_key().map(|unique| unique.key.clone()),
            concurrency_key: seldom.and_then(|seldom| seldom.concurrency_key.clone()),
            ordering_key: seldom.and_then(|seldom| seldom.ordering_key.clone()),
            waits_for: None,
            running: None,
            dead: None,
            errors: job
                .errors
                .iter()
                .map(|error| FailedAttempt {
                    attempt: error.attempt,
                    failed_at: Timestamp::from_ms(error.failed_at_ms),
                    error: error.error.clone(),
                })
                .collect(),
        })
    }

    /// All queues, by name.
    pub(crate) fn queues(&mut self, now: Timestamp) -> Result<Vec<QueueView>> {
        let mut names: Vec<(Arc<str>, QueueId)> =
            self.queues.by_name.iter().map(|(name, id)| (name.clone(), *id)).collect();
        names.sort();
        names.into_iter().map(|(_, id)| self.queue_view(id, now)).collect()
    }

    /// The queue of this name.
    pub(crate) fn queue(&mut self, name: &str, now: Timestamp) -> Result<QueueView> {
        match self.queues.by_name.get(name).copied() {
            Some(id) => self.queue_view(id, now),
            None => Err(no_such_queue(name)),
        }
    }

    /// The whole, for metrics and health.
    pub(crate) fn snapshot(&mut self, context: &Context<'_>) -> Result<Snapshot> {
        Ok(Snapshot {
            now: context.now,
            queues: self.queues(context.now)?,
            live_bytes: self.draft.live_bytes(),
            disk_bytes: self.draft.store().disk_bytes()?,
            disk: self.draft.store().disk_space()?,
            damaged_records: self.meta.damaged_records,
            schedules: self.schedules_count(),
        })
    }

    fn queue_view(&mut self, id: QueueId, now: Timestamp) -> Result<QueueView> {
        let (mut oldest_ready_at, mut rates) = (PerPriority::default(), PerPriority::default());
        for priority in Priority::ALL {
            let lane = LaneId { priority, queue: id };
            oldest_ready_at[priority] = self.head(lane)?.map(|head| head.ready_at);
            rates[priority] = self.rates(lane, now);
        }
        match self.queues.by_id.get(&id) {
            Some(entry) => Ok(QueueView {
                name: entry.name.to_string(),
                paused: entry.paused,
                limits: entry.limits(),
                limited: entry.limited(),
                counts: entry.counts,
                in_lines: entry.lines.waiting,
                oldest_ready_at,
                rates,
            }),
            None => Err(Error::new(ErrorKind::NotFound, "the queue is gone")),
        }
    }
}

pub(crate) fn no_such_job(id: JobId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no job {id}: it is done, or it never was"))
}

pub(crate) fn no_such_queue(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no queue {name:?}; a queue is created by its first job"),
    )
}
