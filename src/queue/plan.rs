//! Decides what becomes of each job of a batch before the first of them is taken in: all or none.
//!
//! A job may stand for an answer that was given before (its idempotency key), for another job that
//! holds its unique key, or take the place of that one. The other job may come in the same batch,
//! before it; then it has no id yet and is known by its place.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Enqueued, JobId, JobState, NewJob, OnConflict, RunAt, Unique, limits};
use crate::priority::Priority;
use crate::queue::state::QueueState;
use crate::queue::unique::{Holder, key_is_held};
use crate::store::format::CHUNK_SLOTS_MAX;
use crate::store::key::ChunkId;

/// The jobs that one batch replaces may together cost no more bytes of writes than this.
const REPLACED_BYTES_MAX: usize = 1 << 20;
/// About what it writes to cancel a job, beside the parts of its payload and its chunk's progress.
const REPLACED_JOB_BYTES: usize = 256;
/// About what it writes to remove one part of a payload.
const PAYLOAD_PART_KEY_BYTES: usize = 24;

/// What the progress of a chunk takes, if it is begun by this.
const PROGRESS_BYTES: usize = 4 * CHUNK_SLOTS_MAX;

/// What becomes of one job of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// It is taken in, in the place of another job if it replaces one.
    New { replaces: Option<Replaced> },
    /// Another job holds its key: that one is the answer.
    Existing(Enqueued),
    /// The same, with the job at this place of the batch.
    ExistingInBatch(usize),
    /// The call was made before: the answer is the one that it got.
    Repeat(Enqueued),
    /// The same, with the job at this place of the batch.
    RepeatInBatch(usize),
}

/// A job that a new one replaces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Replaced {
    /// One that waits at this priority.
    Stored(JobId, Priority),
    InBatch(usize),
}

/// What is planned so far. Keys are those of a queue's name and a key.
#[derive(Default)]
struct Planned<'a> {
    holders: HashMap<(&'a str, &'a str), usize>,
    first_calls: HashMap<(&'a str, &'a str), usize>,
    replaced_bytes: usize,
    chunks: BTreeSet<ChunkId>,
}

impl Plan {
    /// True when a job is taken in.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Plan::New { .. })
    }
}

impl QueueState {
    /// Plans a batch of validated jobs, in their order. Changes nothing.
    ///
    /// # Errors
    /// The place of the first job that stands in the way of all, and why.
    pub(crate) fn plan(
        &mut self,
        jobs: &[NewJob],
        now: Timestamp,
    ) -> Result<Vec<Plan>, (usize, Error)> {
        let mut planned = Planned::default();
        let bytes: usize = jobs.iter().map(NewJob::weight_bytes).sum();
        let mut plans = Vec::with_capacity(jobs.len());
        for (place, job) in jobs.iter().enumerate() {
            let plan = self.plan_one(job, place, &mut planned, now);
            plans.push(plan.map_err(|error| (place, error))?);
            let replaced = planned.replaced_bytes;
            if replaced > REPLACED_BYTES_MAX
                || (replaced > 0 && bytes + replaced > limits::BATCH_BYTES_MAX)
            {
                let message = "replaces more than one call can cancel; send fewer jobs at once";
                return Err((place, Error::too_large("unique", message)));
            }
        }
        Ok(plans)
    }

    fn plan_one<'a>(
        &mut self,
        job: &'a NewJob,
        place: usize,
        planned: &mut Planned<'a>,
        now: Timestamp,
    ) -> Result<Plan> {
        let queue = job.queue.as_str();
        if let Some(key) = &job.idempotency_key {
            if let Some(place) = planned.first_calls.get(&(queue, key)) {
                return Ok(Plan::RepeatInBatch(*place));
            }
            if let Some(answer) = self.first_answer(job, key, now)? {
                return Ok(Plan::Repeat(answer));
            }
            planned.first_calls.insert((queue, key), place);
        }
        if let RunAt::At(moment) = job.run_at {
            job.validate_expiry(moment.ms_since(now))?;
        }
        match &job.unique {
            Some(unique) => self.plan_unique(job, unique, place, planned, now),
            None => Ok(Plan::New { replaces: None }),
        }
    }

    fn plan_unique<'a>(
        &mut self,
        job: &'a NewJob,
        unique: &'a Unique,
        place: usize,
        planned: &mut Planned<'a>,
        now: Timestamp,
    ) -> Result<Plan> {
        let name = (job.queue.as_str(), unique.key.as_str());
        if let Some(before) = planned.holders.get(&name).copied() {
            return match unique.on_conflict {
                OnConflict::Reject => Err(key_is_twice_in_the_batch(&unique.key, before)),
                OnConflict::Return => Ok(Plan::ExistingInBatch(before)),
                OnConflict::Replace => {
                    planned.holders.insert(name, place);
                    planned.replaced_bytes += REPLACED_JOB_BYTES;
                    Ok(Plan::New { replaces: Some(Replaced::InBatch(before)) })
                }
            };
        }
        let queue = self.queues.by_name.get(name.0).copied();
        let holder = match queue {
            Some(queue) => self.unique_holder(queue, &unique.key, now)?,
            None => None,
        };
        let replaces = match (holder, unique.on_conflict) {
            (None, _) => None,
            (Some(holder), OnConflict::Return) => {
                return Ok(Plan::Existing(holder.into_answer(job.queue.clone())));
            }
            (Some(holder), OnConflict::Replace) if holder.state != JobState::Running => {
                let chunk = holder.chunk.filter(|chunk| planned.chunks.insert(*chunk));
                planned.replaced_bytes += self.replaced_bytes(&holder, chunk);
                Some(Replaced::Stored(holder.id, holder.priority))
            }
            (Some(holder), _) => {
                return Err(key_is_held(&unique.key, &holder).at_field("unique"));
            }
        };
        planned.holders.insert(name, place);
        Ok(Plan::New { replaces })
    }

    /// About how many bytes it writes to cancel a job; `chunk` is the one it is taken from, unless
    /// another job was taken from it before.
    fn replaced_bytes(&self, holder: &Holder, chunk: Option<ChunkId>) -> usize {
        let parts = usize::from(holder.payload_parts) * PAYLOAD_PART_KEY_BYTES;
        let begun =
            chunk.and_then(|chunk| self.lanes.get(&chunk.lane)?.begun.get(&chunk.first_place));
        let progress = begun.map_or(PROGRESS_BYTES, |begun| begun.record_bytes_estimate());
        // Each is in up to three records: its line, where the job is, and who has a place.
        let keys = 3 * holder.shared_key_bytes;
        REPLACED_JOB_BYTES + parts + keys + chunk.map_or(0, |_| progress)
    }
}

impl Holder {
    fn into_answer(self, queue: String) -> Enqueued {
        Enqueued {
            id: self.id,
            state: self.state,
            queue,
            priority: self.priority,
            run_at: self.run_at,
            replaced: None,
            is_new: false,
        }
    }
}

fn key_is_twice_in_the_batch(unique_key: &str, before: usize) -> Error {
    let message = format!(
        "the unique key {unique_key:?} is that of jobs[{before}] too; leave one of them out, or \
         say on_conflict"
    );
    Error::new(ErrorKind::Conflict, message).at_field("unique")
}
