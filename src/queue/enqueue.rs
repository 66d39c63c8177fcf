//! Takes jobs in: all of a batch or none, each with an id that says where it lies.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{Enqueued, JobId, JobState, Move, NewJob, Payload, RunAt, limits};
use crate::queue::chunk::ChunkSlot;
use crate::queue::event::{Happened, JobDetail};
use crate::queue::state::{Context, QueueState};
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{
    INLINE_PAYLOAD_BYTES_MAX, JobRecord, LocationRecord, PAYLOAD_PART_BYTES, PAYLOAD_PART_KIND,
    PayloadRecord, TimerRecord, Wait,
};
use crate::store::key::{self, LaneId};

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
    /// Takes in validated jobs. They are acknowledged when the group is committed.
    pub(crate) fn enqueue(
        &mut self,
        jobs: Vec<NewJob>,
        context: &mut Context<'_>,
    ) -> Result<Vec<Enqueued>> {
        self.check_room_for(&jobs, context)?;
        let mut taken_in = BTreeMap::<LaneId, (u64, Vec<JobDetail>)>::new();
        let mut enqueued = Vec::with_capacity(jobs.len());
        for job in jobs {
            let kind = self.tells_details.then(|| job.kind.clone());
            let (lane, answer) = self.enqueue_one(job, context.now)?;
            let (jobs, details) = taken_in.entry(lane).or_default();
            *jobs += 1;
            details.extend(kind.map(|kind| JobDetail { id: answer.id, kind, attempt: 1 }));
            enqueued.push(answer);
        }
        for (lane, (jobs, details)) in taken_in {
            self.tell(lane, Happened::Enqueued { jobs, details });
        }
        Ok(enqueued)
    }

    fn enqueue_one(&mut self, new: NewJob, now: Timestamp) -> Result<(LaneId, Enqueued)> {
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
        let job = self.job_record(id, &new);
        let state = if due > now {
            self.count(lane, None, Move::Schedule)?;
            self.set_timer(lane, id, job, due, wait);
            JobState::Scheduled
        } else {
            self.count(lane, None, Move::Enqueue)?;
            let slot = ChunkSlot { place: sequence, id, moved: false, ready_at: now, job };
            self.add_to_lane(lane, slot);
            JobState::Ready
        };
        let (queue, priority) = (new.queue, new.priority);
        Ok((lane, Enqueued { id, state, queue, priority, run_at: due }))
    }

    fn job_record(&mut self, id: JobId, new: &NewJob) -> JobRecord {
        JobRecord {
            kind: new.kind.clone(),
            payload: self.store_payload(id, &new.payload),
            headers: new.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            max_attempts: new.max_attempts.unwrap_or(self.config.max_attempts[new.priority]),
            max_interruptions: new.max_interruptions.unwrap_or(self.config.max_interruptions),
            retry: new.retry,
            timeout_ms: new.timeout_ms,
            ..JobRecord::default()
        }
    }

    /// Puts a large payload in parts into its own tree; a small one goes with its job.
    pub(crate) fn store_payload(&mut self, id: JobId, payload: &Payload) -> PayloadRecord {
        let bytes = payload.bytes();
        if bytes.len() <= INLINE_PAYLOAD_BYTES_MAX {
            return match payload {
                Payload::Json(bytes) => PayloadRecord::Json(bytes.clone()),
                Payload::Binary(bytes) => PayloadRecord::Binary(bytes.clone()),
            };
        }
        for (part, body) in bytes.chunks(PAYLOAD_PART_BYTES).enumerate() {
            let record: Bytes = codec::encode_raw(PAYLOAD_PART_KIND, body);
            self.draft.put_live(Tree::Payload, key::payload_part(id, part as u16), record);
        }
        let bytes = bytes.len() as u32;
        match payload {
            Payload::Json(_) => PayloadRecord::JsonParts { bytes },
            Payload::Binary(_) => PayloadRecord::BinaryParts { bytes },
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
