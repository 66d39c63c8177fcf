//! Takes jobs in: all of a batch or none, each with an id that says where it lies.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Enqueued, JobId, JobState, Move, NewJob, RunAt, limits};
use crate::queue::event::{Happened, JobDetail};
use crate::queue::gate::Arrival;
use crate::queue::plan::{Plan, Replaced};
use crate::queue::state::{Context, QueueState};
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{
    JobRecord, LocationRecord, SeldomRecord, TimerRecord, UniqueKeyRecord, Wait,
};
use crate::store::key::{self, Ending, LaneId};

/// Checks a batch as a whole and each job in it, before it reaches the writer.
///
/// # Errors
/// `Invalid` or `TooLarge`, the field named as `jobs[3].kind`.
pub(crate) fn validate_batch(jobs: &[NewJob]) -> Result<()> {
    if jobs.is_empty() {
        return Err(Error::invalid("jobs", "must not be empty; name at least one job"));
    }
    if jobs.len() > limits::BATCH_JOBS_MAX {
        return Err(Error::invalid(
            "jobs",
            format!("{} are too many for one call; at most {}", jobs.len(), limits::BATCH_JOBS_MAX),
        ));
    }
    let bytes: usize = jobs.iter().map(NewJob::weight_bytes).sum();
    if bytes > limits::BATCH_BYTES_MAX {
        return Err(Error::too_large(
            "jobs",
            format!("{bytes} bytes are too many for one call; at most {}", limits::BATCH_BYTES_MAX),
        ));
    }
    for (number, job) in jobs.iter().enumerate() {
        job.validate().map_err(|error| error.inside(&format!("jobs[{number}]")))?;
    }
    Ok(())
}

impl QueueState {
    /// Takes in validated jobs, all or none. They are acknowledged when the group is committed.
    pub(crate) fn enqueue(
        &mut self,
        jobs: Vec<NewJob>,
        context: &mut Context<'_>,
    ) -> Result<Vec<Enqueued>> {
        let plans = self
            .plan(&jobs, context.now)
            .map_err(|(place, error)| error.inside(&format!("jobs[{place}]")))?;
        self.check_room_for(&jobs, &plans, context)?;
        self.take_in(jobs, plans, context)
    }

    /// Takes in one validated job.
    pub(crate) fn enqueue_one(
        &mut self,
        job: NewJob,
        context: &mut Context<'_>,
    ) -> Result<Enqueued> {
        let jobs = vec![job];
        let plans = self.plan(&jobs, context.now).map_err(|(_, error)| error)?;
        self.check_room_for(&jobs, &plans, context)?;
        only_one(self.take_in(jobs, plans, context)?)
    }

    /// Takes in the job of a schedule: it always finds room, but on the disk.
    pub(crate) fn enqueue_scheduled(
        &mut self,
        job: NewJob,
        context: &mut Context<'_>,
    ) -> Result<Enqueued> {
        let bytes = job.weight_bytes();
        let jobs = vec![job];
        let plans = self.plan(&jobs, context.now).map_err(|(_, error)| error)?;
        if plans.iter().any(Plan::is_new) {
            self.check_disk_room(bytes, context.now)?;
        }
        only_one(self.take_in(jobs, plans, context)?)
    }

    fn take_in(
        &mut self,
        jobs: Vec<NewJob>,
        plans: Vec<Plan>,
        context: &Context<'_>,
    ) -> Result<Vec<Enqueued>> {
        let now = context.now;
        let mut taken_in = BTreeMap::<LaneId, (u64, Vec<JobDetail>)>::new();
        let mut enqueued = Vec::<Enqueued>::with_capacity(jobs.len());
        for (mut job, plan) in jobs.into_iter().zip(plans) {
            let idempotency_key = job.idempotency_key.take();
            let is_repeat = matches!(plan, Plan::Repeat(_) | Plan::RepeatInBatch(_));
            let answer = match plan {
                Plan::New { replaces } => {
                    let replaced = self.cancel_replaced(replaces, &enqueued)?;
                    let kind = self.tells_details.then(|| job.kind.clone());
                    let (lane, answer) = self.add(job, now)?;
                    let (jobs, details) = taken_in.entry(lane).or_default();
                    *jobs += 1;
                    details.extend(kind.map(|kind| JobDetail { id: answer.id, kind, attempt: 1 }));
                    Enqueued { replaced, ..answer }
                }
                Plan::Existing(answer) | Plan::Repeat(answer) => answer,
                Plan::ExistingInBatch(place) => {
                    Enqueued { replaced: None, ..answer_at(&enqueued, place)? }
                }
                Plan::RepeatInBatch(place) => answer_at(&enqueued, place)?,
            };
            if let Some(key) = idempotency_key.filter(|_| !is_repeat) {
                self.remember_answer(key, &answer, now)?;
            }
            enqueued.push(answer);
        }
        for (lane, (jobs, details)) in taken_in {
            self.tell(lane, Happened::Enqueued { jobs, details });
        }
        Ok(enqueued)
    }

    /// Cancels the job that a new one replaces. A damaged one is gone already.
    fn cancel_replaced(
        &mut self,
        replaces: Option<Replaced>,
        enqueued: &[Enqueued],
    ) -> Result<Option<JobId>> {
        let id = match replaces {
            Some(Replaced::Stored(id, _)) => id,
            Some(Replaced::InBatch(place)) => answer_at(enqueued, place)?.id,
            None => return Ok(None),
        };
        match self.cancel(id) {
            Ok(_) => Ok(Some(id)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, new: NewJob, now: Timestamp) -> Result<(LaneId, Enqueued)> {
        let lane = LaneId { priority: new.priority, queue: self.queue_or_new(&new.queue)? };
        let sequence = self.next_sequence()?;
        let id = JobId::new(now, self.config.shard, lane.queue, lane.priority, sequence);
        let (due, wait) = match new.run_at {
            RunAt::Now => (now, Wait::At),
            RunAt::DelayMs(delay_ms) => {
                (now.plus_ms(delay_ms), Wait::After { since_ms: now.as_ms() })
            }
            RunAt::At(moment) => (moment.max(now), Wait::At),
        };
        let job = self.job_record(id, &new, now);
        if let Some(unique) = job.unique_key() {
            self.hold_unique_key(id, unique, now);
        }
        if let Some(moment) = job.expires_at() {
            self.put_ending(moment, &Ending::Job(id), Bytes::new());
        }
        let state = if due > now {
            self.count(lane, None, Move::Schedule)?;
            self.set_timer(lane, id, job, due, wait);
            JobState::Scheduled
        } else {
            self.count(lane, None, Move::Enqueue)?;
            let (is_new, has_turn) = (true, false);
            self.let_in(lane, Arrival { id, job, ready_at: now, is_new, has_turn })?;
            JobState::Ready
        };
        let (queue, priority) = (new.queue, new.priority);
        let (replaced, is_new) = (None, true);
        Ok((lane, Enqueued { id, state, queue, priority, run_at: due, replaced, is_new }))
    }

    fn job_record(&mut self, id: JobId, new: &NewJob, now: Timestamp) -> JobRecord {
        let unique = new
            .unique
            .as_ref()
            .map(|unique| UniqueKeyRecord { key: unique.key.clone(), ttl_ms: unique.ttl_ms });
        let expires_ms = new.expires_in_ms.map(|in_ms| now.plus_ms(in_ms).as_ms());
        let (ordering_key, concurrency_key) =
            (new.ordering_key.clone(), new.concurrency_key.clone());
        let seldom =
            SeldomRecord { unique, expires_ms, replay: None, ordering_key, concurrency_key };
        let has_seldom = seldom != SeldomRecord::default();
        JobRecord {
            kind: new.kind.clone(),
            payload: self.store_payload(id, &new.payload),
            headers: new.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            max_attempts: new.max_attempts.unwrap_or(self.config.max_attempts[new.priority]),
            max_interruptions: new.max_interruptions.unwrap_or(self.config.max_interruptions),
            retry: new.retry,
            timeout_ms: new.timeout_ms,
            seldom: has_seldom.then(|| Box::new(seldom)),
            ..JobRecord::default()
        }
    }

    /// Lets a job wait for a moment.
    pub(crate) fn set_timer(
        &mut self,
        lane: LaneId,
        id: JobId,
        job: JobRecord,
        due: Timestamp,
        wait: Wait,
    ) {
        let record = TimerRecord { priority: lane.priority.number(), wait, job };
        self.draft.put_live(Tree::Timers, key::timer(due, id), codec::encode(&record));
        let location = LocationRecord::Timer { due_ms: due.as_ms() };
        self.draft.put(Tree::Location, key::job(id), codec::encode(&location));
        self.first_timer = Some(self.first_timer.map_or(due, |first| first.min(due)));
    }
}

fn only_one(mut enqueued: Vec<Enqueued>) -> Result<Enqueued> {
    enqueued.pop().ok_or_else(|| Error::new(ErrorKind::Poisoned, "no job was enqueued"))
}

/// The answer to a job that came before in the same batch.
fn answer_at(enqueued: &[Enqueued], place: usize) -> Result<Enqueued> {
    match enqueued.get(place) {
        Some(answer) => Ok(Enqueued { is_new: false, ..answer.clone() }),
        None => Err(Error::new(ErrorKind::Poisoned, "a job was planned before the one it needs")),
    }
}
