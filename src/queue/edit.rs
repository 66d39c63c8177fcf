//! Changes a dead letter before it is put back to work. Its place in the order of death stays.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobState, JobView, Move, NewJob, Payload};
use crate::priority::Priority;
use crate::queue::dead_walk::Letter;
use crate::queue::event::Happened;
use crate::queue::state::QueueState;
use crate::retry::RetryPolicy;
use crate::store::Tree;
use crate::store::codec;
use crate::store::key::LaneId;

/// What to change in a dead letter. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadEdit {
    /// What is to be done.
    pub kind: Option<String>,
    /// What the handler gets.
    pub payload: Option<Payload>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// All names and values beside the payload.
    pub headers: Option<BTreeMap<String, String>>,
    /// How often it may fail in all.
    pub max_attempts: Option<u32>,
    /// How often it may be interrupted.
    pub max_interruptions: Option<u32>,
    /// How long to wait between attempts; `Some(None)` for the configured policy.
    pub retry: Option<Option<RetryPolicy>>,
    /// How long one attempt may take, in milliseconds; `Some(None)` for as long as it likes.
    pub timeout_ms: Option<Option<u64>>,
}

impl DeadEdit {
    /// Checks every field against the limits of an enqueue.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) or [`TooLarge`](crate::ErrorKind::TooLarge), naming
    /// the field.
    pub fn validate(&self) -> Result<()> {
        let as_new = NewJob::new(self.kind.as_deref().unwrap_or("kept"));
        NewJob {
            payload: self.payload.clone().unwrap_or_default(),
            headers: self.headers.clone().unwrap_or_default(),
            max_attempts: self.max_attempts,
            max_interruptions: self.max_interruptions,
            retry: self.retry.flatten(),
            timeout_ms: self.timeout_ms.flatten(),
            ..as_new
        }
        .validate()
    }

    /// Bytes that it brings with it.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, |payload| payload.bytes().len())
    }
}

impl QueueState {
    /// Changes a dead letter.
    pub(crate) fn edit_dead(
        &mut self,
        id: JobId,
        edit: &DeadEdit,
        now: Timestamp,
    ) -> Result<JobView> {
        let Letter { key, died_at, lane, mut record, bytes, .. } = self.find_dead(id)?;
        if edit.payload.is_some() {
            self.check_disk_room(edit.weight_bytes(), now)?;
        }
        let job = &mut record.job;
        if let Some(payload) = &edit.payload {
            self.forget_payload(id, &job.payload)?;
            job.payload = self.store_payload(id, payload);
        }
        if let Some(kind) = &edit.kind {
            job.kind.clone_from(kind);
        }
        if let Some(headers) = &edit.headers {
            job.headers = headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        }
        job.max_attempts = edit.max_attempts.unwrap_or(job.max_attempts);
        job.max_interruptions = edit.max_interruptions.unwrap_or(job.max_interruptions);
        job.retry = edit.retry.unwrap_or(job.retry);
        job.timeout_ms = edit.timeout_ms.unwrap_or(job.timeout_ms);
        let new_lane = LaneId { priority: edit.priority.unwrap_or(lane.priority), ..lane };
        if new_lane != lane {
            self.count(lane, Some(JobState::Dead), Move::LeaveLane)?;
            self.count(new_lane, None, Move::EnterLane)?;
            record.priority = new_lane.priority.number();
        }
        self.draft.remove_live(Tree::Dead, key.clone(), bytes);
        let written = codec::encode(&record);
        let bytes = written.len();
        self.draft.put_live(Tree::Dead, key.clone(), written);
        self.tell(new_lane, Happened::Edited { id });
        self.dead_view(Letter { key, id, died_at, lane: new_lane, record, bytes })
    }
}

#[cfg(test)]
mod tests;
