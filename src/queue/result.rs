//! Results: what acked jobs gave back, kept for a while.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Found, JobId, JobResult, limits};
use crate::lease::LeaseToken;
use crate::priority::Priority;
use crate::queue::settle::Leased;
use crate::queue::state::{Context, QueueState};
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::ResultRecord;
use crate::store::key::{self, Ending};

/// A worker's word that a job is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack {
    /// The lease.
    pub token: LeaseToken,
    /// What came of it: the text of one JSON value, at most 16 KiB, kept for
    /// [`result_ttl_ms`](crate::Config::result_ttl_ms).
    pub result: Option<Bytes>,
}

impl From<LeaseToken> for Ack {
    /// Without a result.
    fn from(token: LeaseToken) -> Self {
        Ack { token, result: None }
    }
}

impl Ack {
    /// Checks the result against its limits.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) or [`Invalid`](ErrorKind::Invalid), naming `result`.
    pub fn validate(&self) -> Result<()> {
        let Some(result) = &self.result else { return Ok(()) };
        if result.len() > limits::RESULT_BYTES_MAX {
            return Err(Error::too_large(
                "result",
                format!(
                    "{} bytes are too many; at most {} (store large results elsewhere and give \
                     back where they are)",
                    result.len(),
                    limits::RESULT_BYTES_MAX
                ),
            ));
        }
        match serde_json::from_slice::<&RawValue>(result) {
            Ok(_) => Ok(()),
            Err(reason) => Err(Error::invalid("result", format!("is not JSON: {reason}"))),
        }
    }
}

impl QueueState {
    /// What an id stands for: a job, or the result of one that is done.
    pub(crate) fn find(&mut self, id: JobId, context: &Context<'_>) -> Result<Found> {
        match self.job(id) {
            Ok(job) => Ok(Found::Job(Box::new(job))),
            Err(gone) if gone.kind() == ErrorKind::NotFound => {
                let record = self.result_record(id)?;
                let record = record.filter(|(record, _)| record.until_ms > context.now.as_ms());
                record.map(|(record, _)| Found::Done(result_view(id, record))).ok_or(gone)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the result of a job that was just acked, if results are kept here.
    pub(crate) fn keep_result(
        &mut self,
        id: JobId,
        leased: &Leased,
        result: &Bytes,
        now: Timestamp,
    ) -> Result<()> {
        if self.config.result_ttl_ms == 0 {
            return Ok(());
        }
        // Only a job that came back after damage can have been acked before.
        self.forget_result(id)?;
        let job = leased.job();
        let record = ResultRecord {
            queue: self.queue_name(leased.lane().queue).to_string(),
            kind: job.kind,
            priority: leased.lane().priority.number(),
            attempt: job.failures + 1,
            finished_ms: now.as_ms(),
            until_ms: now.plus_ms(self.config.result_ttl_ms).as_ms(),
            result: result.clone(),
        };
        self.put_result(id, &record);
        Ok(())
    }

    /// Writes a result with the entry that ends it.
    pub(crate) fn put_result(&mut self, id: JobId, record: &ResultRecord) {
        self.draft.put_live(Tree::Results, key::job(id), codec::encode(record));
        let until = Timestamp::from_ms(record.until_ms);
        self.put_ending(until, &Ending::Result(id), Bytes::new());
    }

    /// Removes a result whose time is over.
    pub(crate) fn end_result(&mut self, id: JobId, moment: Timestamp) -> Result<()> {
        if let Some((record, bytes)) = self.result_record(id)?
            && record.until_ms == moment.as_ms()
        {
            self.draft.remove_live(Tree::Results, key::job(id), bytes);
        }
        Ok(())
    }

    /// Removes a result and its entry, if there is one.
    pub(crate) fn forget_result(&mut self, id: JobId) -> Result<()> {
        if let Some((record, bytes)) = self.result_record(id)? {
            let until = Timestamp::from_ms(record.until_ms);
            self.draft.remove_live(Tree::Results, key::job(id), bytes);
            self.draft.remove(Tree::Expiry, key::expiry(until, &Ending::Result(id)));
        }
        Ok(())
    }

    /// The result of a job and the bytes that its record takes.
    pub(crate) fn result_record(&mut self, id: JobId) -> Result<Option<(ResultRecord, usize)>> {
        let entry = key::job(id);
        let Some(bytes) = self.draft.get(Tree::Results, &entry)? else { return Ok(None) };
        match codec::decode(&bytes) {
            Ok(record) => Ok(Some((record, bytes.len()))),
            Err(reason) => {
                self.set_aside(Tree::Results, entry, &bytes, &reason)?;
                Ok(None)
            }
        }
    }
}

fn result_view(id: JobId, record: ResultRecord) -> JobResult {
    JobResult {
        id,
        queue: record.queue,
        kind: record.kind,
        priority: Priority::from_number(record.priority).unwrap_or_default(),
        attempt: record.attempt,
        enqueued_at: id.born_at(),
        finished_at: Timestamp::from_ms(record.finished_ms),
        expires_at: Timestamp::from_ms(record.until_ms),
        result: record.result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    #[test]
    fn a_result_is_json_of_at_most_16_kib() {
        let token = LeaseToken { job: JobId::from_u128(7), delivery: 1 };
        let check = |result: String| Ack { token, result: Some(result.into()) }.validate();
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(check(text(limits::RESULT_BYTES_MAX)).is_ok());
        let large = check(text(limits::RESULT_BYTES_MAX + 1)).unwrap_err();
        assert_eq!((large.kind(), large.field()), (ErrorKind::TooLarge, Some("result")));
        assert!(large.to_string().contains("elsewhere"), "{large}");
        assert!(check("[".repeat(4_000) + &"]".repeat(4_000)).is_ok());
        for bad in ["", "{", "1 2", "nul"] {
            let refused = check(bad.to_owned()).unwrap_err();
            assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("result")));
        }
    }
}
