//! Idempotency keys: who repeats a call gets the answer that the first one got.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{Enqueued, JobId, NewJob, QueueId, limits};
use crate::priority::Priority;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::IdempotencyRecord;
use crate::store::key::{self, Ending};

/// What a key takes, in bytes, with its entry in the expiry tree: many keys of finished jobs would
/// otherwise look like a file full of nothing, worth compacting at every opening.
pub(crate) fn weight_bytes(key: &[u8], value: &[u8]) -> usize {
    const ENTRIES_BYTES: usize = 32;
    ENTRIES_BYTES + 2 * key.len() + value.len()
}

impl QueueState {
    /// The answer that the first call with this job's idempotency key got, while it is remembered.
    pub(crate) fn first_answer(
        &mut self,
        job: &NewJob,
        idempotency_key: &str,
        now: Timestamp,
    ) -> Result<Option<Enqueued>> {
        let Some(queue) = self.queues.by_name.get(job.queue.as_str()).copied() else {
            return Ok(None);
        };
        let Some(record) = self.idempotency_record(queue, idempotency_key)? else {
            return Ok(None);
        };
        if Timestamp::from_ms(record.until_ms) <= now {
            return Ok(None);
        }
        Ok(Some(Enqueued {
            id: JobId::from_u128(record.job),
            state: record.state,
            queue: job.queue.clone(),
            priority: Priority::from_number(record.priority).unwrap_or_default(),
            run_at: Timestamp::from_ms(record.run_at_ms),
            replaced: record.replaced.map(JobId::from_u128),
            is_new: false,
        }))
    }

    /// Remembers the answer to a call with an idempotency key.
    pub(crate) fn remember_answer(
        &mut self,
        idempotency_key: String,
        answer: &Enqueued,
        now: Timestamp,
    ) -> Result<()> {
        let queue = answer.id.queue();
        if let Some(older) = self.idempotency_record(queue, &idempotency_key)? {
            // Its time is over, and nobody has cleared it away yet.
            let ending = Ending::Idempotency(queue, idempotency_key.clone());
            let moment = Timestamp::from_ms(older.until_ms);
            self.draft.remove(Tree::Expiry, key::expiry(moment, &ending));
        }
        let record = IdempotencyRecord {
            job: answer.id.as_u128(),
            state: answer.state,
            priority: answer.priority.number(),
            run_at_ms: answer.run_at.as_ms(),
            replaced: answer.replaced.map(JobId::as_u128),
            until_ms: now.plus_ms(limits::IDEMPOTENCY_TTL_MS).as_ms(),
        };
        self.put_idempotency(queue, idempotency_key, &record)
    }

    /// Writes the record of a key with the entry that ends it.
    pub(crate) fn put_idempotency(
        &mut self,
        queue: QueueId,
        idempotency_key: String,
        record: &IdempotencyRecord,
    ) -> Result<()> {
        self.remove_idempotency(queue, &idempotency_key)?;
        let entry = key::idempotency(queue, &idempotency_key);
        let value = codec::encode(record);
        let bytes = weight_bytes(&entry, &value);
        self.draft.put_weighed(Tree::Unique, entry, value, bytes);
        let until = Timestamp::from_ms(record.until_ms);
        self.put_ending(until, &Ending::Idempotency(queue, idempotency_key), Bytes::new());
        Ok(())
    }

    fn remove_idempotency(&mut self, queue: QueueId, idempotency_key: &str) -> Result<()> {
        let entry = key::idempotency(queue, idempotency_key);
        if let Some(value) = self.draft.get(Tree::Unique, &entry)? {
            let bytes = weight_bytes(&entry, &value);
            self.draft.remove_live(Tree::Unique, entry, bytes);
        }
        Ok(())
    }

    /// Forgets a key whose time is over.
    pub(crate) fn end_idempotency(
        &mut self,
        queue: QueueId,
        idempotency_key: &str,
        moment: Timestamp,
    ) -> Result<()> {
        let record = self.idempotency_record(queue, idempotency_key)?;
        if record.is_some_and(|record| record.until_ms == moment.as_ms()) {
            self.remove_idempotency(queue, idempotency_key)?;
        }
        Ok(())
    }

    pub(crate) fn idempotency_record(
        &mut self,
        queue: QueueId,
        idempotency_key: &str,
    ) -> Result<Option<IdempotencyRecord>> {
        let entry = key::idempotency(queue, idempotency_key);
        let Some(bytes) = self.draft.get(Tree::Unique, &entry)? else { return Ok(None) };
        match codec::decode(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(reason) => {
                self.set_aside(Tree::Unique, entry, &bytes, &reason)?;
                Ok(None)
            }
        }
    }
}
