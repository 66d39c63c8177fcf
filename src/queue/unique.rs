//! Unique keys: at most one job of a queue holds a key, and no key outlives its job or its time.
//!
//! Nothing waits for the end of a key's time: when it is over, the next job that wants the key
//! takes it. So a job's end frees the key only while the key is still this job's.

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobState, QueueId};
use crate::priority::Priority;
use crate::queue::locate::Place;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{JobRecord, UniqueKeyRecord, UniqueRecord};
use crate::store::key::{self, ChunkId};

/// The job that holds a unique key, as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) id: JobId,
    pub(crate) state: JobState,
    pub(crate) priority: Priority,
    pub(crate) run_at: Timestamp,
    /// Where it lies, if it lies in a chunk.
    pub(crate) chunk: Option<ChunkId>,
    pub(crate) payload_parts: u16,
    /// Bytes of the keys that it shares with others.
    pub(crate) shared_key_bytes: usize,
}

impl UniqueRecord {
    /// True when its time is over: the key is free, whatever its job does.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        let since = Timestamp::from_ms(self.since_ms);
        self.ttl_ms.is_some_and(|ttl_ms| now >= since.plus_ms(ttl_ms))
    }
}

impl UniqueKeyRecord {
    /// True when the time that a job has its key for is over.
    pub(crate) fn is_over(&self, id: JobId, now: Timestamp) -> bool {
        self.ttl_ms.is_some_and(|ttl_ms| now >= id.born_at().plus_ms(ttl_ms))
    }
}

impl JobRecord {
    /// Its unique key, if it brought one.
    pub(crate) fn unique_key(&self) -> Option<&UniqueKeyRecord> {
        self.seldom.as_ref()?.unique.as_ref()
    }
}

impl QueueState {
    /// The job that holds this key now; `None` when it is free.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when the record of the key was damaged: before the next
    /// group it is made anew from the job that carries the key.
    pub(crate) fn unique_holder(
        &mut self,
        queue: QueueId,
        unique_key: &str,
        now: Timestamp,
    ) -> Result<Option<Holder>> {
        let entry = key::unique(queue, unique_key);
        let Some(bytes) = self.draft.get(Tree::Unique, &entry)? else { return Ok(None) };
        match codec::decode::<UniqueRecord>(&bytes) {
            Ok(record) if record.is_over(now) => Ok(None),
            Ok(record) => self.holder(JobId::from_u128(record.job)),
            Err(reason) => {
                self.set_aside(Tree::Unique, entry, &bytes, &reason)?;
                Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "the record of the unique key {unique_key:?} was damaged and is made \
                         anew; nothing was changed, try again"
                    ),
                ))
            }
        }
    }

    /// What is told of a job that holds a key; `None` when it is gone or dead.
    fn holder(&mut self, id: JobId) -> Result<Option<Holder>> {
        let Some(place) = self.locate(id)? else { return Ok(None) };
        match place {
            Place::Slot(chunk_id, number) => {
                let Some(chunk) = self.chunk(chunk_id)? else { return Ok(None) };
                let running = self.lease(chunk_id, number).is_some();
                Ok(chunk.slots.get(number).map(|slot| Holder {
                    id,
                    state: if running { JobState::Running } else { JobState::Ready },
                    priority: chunk_id.lane.priority,
                    run_at: slot.ready_at,
                    chunk: Some(chunk_id),
                    payload_parts: slot.job.payload.parts(),
                    shared_key_bytes: slot.job.shared_key_bytes(),
                }))
            }
            Place::Timer(due) => {
                let entry = key::timer(due, id);
                let Some(bytes) = self.draft.get(Tree::Timers, &entry)? else { return Ok(None) };
                Ok(self.timer_record(&entry, id, &bytes)?.map(|(lane, record)| Holder {
                    id,
                    state: record.wait.state(),
                    priority: lane.priority,
                    run_at: due,
                    chunk: None,
                    payload_parts: record.job.payload.parts(),
                    shared_key_bytes: record.job.shared_key_bytes(),
                }))
            }
            Place::Line(place) => Ok(self.waiter(&place)?.map(|waiter| Holder {
                id,
                state: JobState::Ready,
                priority: waiter.lane.priority,
                run_at: waiter.ready_at,
                chunk: None,
                payload_parts: waiter.job.payload.parts(),
                shared_key_bytes: waiter.job.shared_key_bytes(),
            })),
            Place::Dead(_) => Ok(None),
        }
    }

    /// Makes a job the holder of a key that is free, counted from its birth.
    pub(crate) fn hold_unique_key(&mut self, id: JobId, unique: &UniqueKeyRecord, now: Timestamp) {
        // Born later than now: the clock stepped back, and its time begins again (I8).
        let since_ms = id.born_at().min(now).as_ms();
        let record = UniqueRecord { job: id.as_u128(), since_ms, ttl_ms: unique.ttl_ms };
        let entry = key::unique(id.queue(), &unique.key);
        self.draft.put(Tree::Unique, entry, codec::encode(&record));
    }

    /// Lets a dead letter that is about to be replayed hold its key again. A key whose time is
    /// over stays free.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict), with the id of the job that holds the key, or without
    /// one when the record of the key was damaged.
    pub(crate) fn retake_unique_key(
        &mut self,
        id: JobId,
        job: &JobRecord,
        now: Timestamp,
    ) -> Result<()> {
        let Some(unique) = job.unique_key() else { return Ok(()) };
        if unique.is_over(id, now) {
            return Ok(());
        }
        match self.unique_holder(id.queue(), &unique.key, now) {
            Ok(Some(holder)) if holder.id != id => Err(key_is_held(&unique.key, &holder)),
            Ok(_) => {
                self.hold_unique_key(id, unique, now);
                Ok(())
            }
            // Nobody knows yet who holds it: a replay of many leaves it out and goes on.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Err(Error::new(ErrorKind::Conflict, error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Frees the key of a job that is gone or dead, unless another job has taken it meanwhile.
    pub(crate) fn release_unique_key(&mut self, id: JobId, job: &JobRecord) -> Result<()> {
        let Some(unique) = job.unique_key() else { return Ok(()) };
        let key = key::unique(id.queue(), &unique.key);
        let Some(bytes) = self.draft.get(Tree::Unique, &key)? else { return Ok(()) };
        match codec::decode::<UniqueRecord>(&bytes) {
            Ok(holder) if holder.job == id.as_u128() => self.draft.remove(Tree::Unique, key),
            Ok(_) => {}
            Err(reason) => self.set_aside(Tree::Unique, key, &bytes, &reason)?,
        }
        Ok(())
    }
}

/// Refuses what a job that holds the key stands in the way of.
pub(crate) fn key_is_held(unique_key: &str, holder: &Holder) -> Error {
    let Holder { id, state, .. } = holder;
    Error::new(
        ErrorKind::Conflict,
        format!(
            "the unique key {unique_key:?} is held by job {id}, which is {state}; wait for its \
             end, or cancel it"
        ),
    )
    .about_job(id)
}
