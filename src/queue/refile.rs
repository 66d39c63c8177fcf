//! After the clock stepped back: brings what ends at a moment back to the time it was given (I8).
//!
//! Each pass goes through its tree a portion at a time, before the commands of a group. What
//! counts from a moment that is now in the future counts from now on. A pass that is cut off by a
//! crash changes nothing twice: what it has brought back, it leaves alone.

use std::ops::Bound;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, limits};
use crate::queue::expire::{ENDINGS_READ, REFILED};
use crate::queue::state::QueueState;
use crate::store::codec;
use crate::store::format::UniqueRecord;
use crate::store::key::{self, Ending};
use crate::store::{Direction, Tree};

impl QueueState {
    /// Goes on with both passes. True when there is more to do.
    pub(crate) fn refile_endings_and_keys(&mut self, now: Timestamp) -> Result<bool> {
        let more_endings = self.refile_endings(now)?;
        let more_keys = self.refile_unique_keys(now)?;
        Ok(more_endings || more_keys)
    }

    fn refile_endings(&mut self, now: Timestamp) -> Result<bool> {
        let Some(from) = self.refile_endings_from.take() else { return Ok(false) };
        let entries = self.endings_from(from)?;
        let read_all = entries.len() < ENDINGS_READ;
        let last = entries.last().map(|(key, _)| key.clone());
        for (entry, value) in entries {
            match key::expiry_from(&entry) {
                Some((moment, Ending::Job(id))) if value != REFILED => {
                    self.refile_job_expiry(moment, id, now);
                }
                Some((moment, Ending::Result(id))) => self.refile_result(moment, id, now)?,
                Some((moment, ending @ Ending::Idempotency(..))) => {
                    self.refile_idempotency(moment, ending, now)?;
                }
                _ => {}
            }
        }
        if !read_all {
            self.refile_endings_from = last.map(Bound::Excluded);
        }
        Ok(self.refile_endings_from.is_some())
    }

    /// The moment lies in the job's record, which may lie in a chunk: it stays, and an earlier
    /// entry stands before it.
    fn refile_job_expiry(&mut self, moment: Timestamp, id: JobId, now: Timestamp) {
        let born_at = id.born_at();
        if born_at > now {
            let earlier = now.plus_ms(moment.ms_since(born_at));
            if earlier < moment {
                self.put_ending(earlier, &Ending::Job(id), Bytes::from_static(REFILED));
            }
        }
    }

    fn refile_result(&mut self, moment: Timestamp, id: JobId, now: Timestamp) -> Result<()> {
        let latest = now.plus_ms(self.config.result_ttl_ms);
        if moment > latest
            && let Some((mut record, _)) = self.result_record(id)?
            && record.until_ms == moment.as_ms()
        {
            self.forget_result(id)?;
            record.until_ms = latest.as_ms();
            self.put_result(id, &record);
        }
        Ok(())
    }

    fn refile_idempotency(
        &mut self,
        moment: Timestamp,
        ending: Ending,
        now: Timestamp,
    ) -> Result<()> {
        let latest = now.plus_ms(limits::IDEMPOTENCY_TTL_MS);
        let entry = key::expiry(moment, &ending);
        if moment > latest
            && let Ending::Idempotency(queue, idempotency_key) = ending
            && let Some(mut record) = self.idempotency_record(queue, &idempotency_key)?
            && record.until_ms == moment.as_ms()
        {
            self.draft.remove(Tree::Expiry, entry);
            record.until_ms = latest.as_ms();
            self.put_idempotency(queue, idempotency_key, &record)?;
        }
        Ok(())
    }

    fn refile_unique_keys(&mut self, now: Timestamp) -> Result<bool> {
        let Some(from) = self.refile_keys_from.take() else { return Ok(false) };
        // Unique keys begin with 0, idempotency keys with 1.
        let range = (from, Bound::Excluded(vec![1]));
        let scan = self.draft.scan(Tree::Unique, range, Direction::Ascending);
        let entries = scan.take(ENDINGS_READ).collect::<Result<Vec<_>>>()?;
        let read_all = entries.len() < ENDINGS_READ;
        let last = entries.last().map(|(key, _)| key.clone());
        for (entry, bytes) in entries {
            match codec::decode::<UniqueRecord>(&bytes) {
                Ok(mut record) if record.ttl_ms.is_some() && record.since_ms > now.as_ms() => {
                    record.since_ms = now.as_ms();
                    self.draft.put(Tree::Unique, entry, codec::encode(&record));
                }
                Ok(_) => {}
                Err(reason) => self.set_aside(Tree::Unique, entry, &bytes, &reason)?,
            }
        }
        if !read_all {
            self.refile_keys_from = last.map(Bound::Excluded);
        }
        Ok(self.refile_keys_from.is_some())
    }
}
