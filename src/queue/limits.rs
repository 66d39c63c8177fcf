//! What of a queue may run at a time, and be started in a time.
//!
//! One place decides: [`QueueEntry::limited`], asked after each job that is started. A queue that
//! may start nothing now is unknown to the picker, as a paused one is, so that it costs claims
//! nothing. It comes back when a running job leaves, or at the moment of its next token, which the
//! writer sleeps for.
//!
//! What lies in a bucket is written with the commit that took from it, so a restart gives nothing
//! twice.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{QueueId, validate_name, validate_range};
use crate::queue::event::Happened;
use crate::queue::state::{QueueEntry, QueueState};
use crate::queue::token_bucket::TokenBucket;
use crate::store::Tree;
use crate::store::codec::{self, DecodeError};
use crate::store::format::{LimitsRecord, RateRecord};
use crate::store::key;

/// Most jobs of a queue that a limit lets run at once.
pub const CONCURRENCY_MAX: u32 = 1_000_000;
/// Most jobs of one `concurrency_key` that a limit lets run at once.
pub const CONCURRENCY_PER_KEY_MAX: u32 = 10_000;
/// Most jobs that a rate or its burst can name.
pub const RATE_JOBS_MAX: u32 = 10_000;
/// Longest time that a rate can name, in milliseconds: a day.
pub const RATE_PER_MS_MAX: u64 = 24 * 3_600_000;

/// What of a queue may run at a time, and be started in a time. By default as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most so many of its jobs run at once, 1 to 1,000,000.
    pub concurrency: Option<u32>,
    /// So often one of its jobs is started.
    pub rate: Option<Rate>,
    /// At most so many of its jobs with the same `concurrency_key` run at once, 1 to 10,000; one
    /// when it is left out. Jobs without such a key are not limited by it.
    pub concurrency_per_key: Option<u32>,
}

/// How many jobs may be started in a time, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many jobs, 1 to 10,000,
    pub jobs: u32,
    /// in so many milliseconds, 1 to 86,400,000.
    pub per_ms: u64,
    /// So many at once after a time in which fewer were started, 1 to 10,000.
    pub burst: u32,
}

/// Why no job of a queue can be started now, whatever waits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// As many jobs run as may.
    Concurrency,
    /// As many were started as may be, until this moment.
    Rate {
        /// When the next one may be started.
        until: Timestamp,
    },
}

impl Limited {
    /// Its name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Limited::Concurrency => "concurrency_reached",
            Limited::Rate { .. } => "rate_limited",
        }
    }
}

impl Limits {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.concurrency == Some(0) {
            let message = "0 would stop the queue; pause it instead, or leave the limit out";
            return Err(Error::invalid("concurrency", message));
        }
        validate_range("concurrency", self.concurrency, 1, CONCURRENCY_MAX)?;
        let per_key = self.concurrency_per_key;
        validate_range("concurrency_per_key", per_key, 1, CONCURRENCY_PER_KEY_MAX)?;
        let Some(rate) = self.rate else { return Ok(()) };
        if rate.jobs == 0 {
            let message = "0 would stop the queue; pause it instead, or leave the limit out";
            return Err(Error::invalid("rate.jobs", message));
        }
        validate_range("rate.jobs", Some(rate.jobs), 1, RATE_JOBS_MAX)?;
        validate_range("rate.per_ms", Some(rate.per_ms), 1, RATE_PER_MS_MAX)?;
        validate_range("rate.burst", Some(rate.burst), 1, RATE_JOBS_MAX)
    }

    /// True when nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// The limits of a queue at work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limiter {
    concurrency: Option<u32>,
    concurrency_per_key: Option<u32>,
    bucket: Option<TokenBucket>,
    /// When there is a token again, while there is none.
    token_at: Option<Timestamp>,
}

/// What the queues' limits have to do later.
#[derive(Default)]
pub(crate) struct Limiting {
    /// When queues without a token get one.
    next_tokens: BTreeSet<(Timestamp, QueueId)>,
    /// Queues whose limits must be written with the group.
    dirty: BTreeSet<QueueId>,
    /// The next tick brings the tokens back.
    clock_stepped_back: bool,
}

impl Limiting {
    /// Tokens that count from the future count from now, from the next tick on (I8).
    pub(crate) fn clock_stepped_back(&mut self) {
        self.clock_stepped_back = true;
    }
}

impl Limiter {
    fn limits(&self) -> Limits {
        let rate = self.bucket.map(|bucket| bucket.rate());
        let Limiter { concurrency, concurrency_per_key, .. } = *self;
        Limits { concurrency, rate, concurrency_per_key }
    }

    fn record(&self) -> LimitsRecord {
        let rate = self.bucket.map(|bucket| {
            let (Rate { jobs, per_ms, burst }, (units, as_of)) = (bucket.rate(), bucket.parts());
            RateRecord { jobs, per_ms, burst, units, as_of_ms: as_of.as_ms() }
        });
        let Limiter { concurrency, concurrency_per_key, .. } = *self;
        LimitsRecord { concurrency, rate, concurrency_per_key }
    }

    /// What was written; an error when nobody can have meant it.
    fn from_record(record: &LimitsRecord) -> Result<Limiter, DecodeError> {
        let bucket = record.rate.map(|RateRecord { jobs, per_ms, burst, units, as_of_ms }| {
            let rate = Rate { jobs, per_ms, burst };
            TokenBucket::from_parts(rate, units, Timestamp::from_ms(as_of_ms))
        });
        let LimitsRecord { concurrency, concurrency_per_key, .. } = *record;
        let limiter = Limiter { concurrency, concurrency_per_key, bucket, token_at: None };
        match limiter.limits().validate() {
            Ok(()) => Ok(limiter),
            Err(_) => Err(DecodeError::Damaged("a limit in it is out of range")),
        }
    }
}

impl QueueEntry {
    /// True when claims may look at it.
    pub(crate) fn is_open(&self) -> bool {
        !self.paused && self.limited().is_none()
    }

    /// Why nothing can be started now.
    pub(crate) fn limited(&self) -> Option<Limited> {
        let limiter = self.limiter.as_ref()?;
        if self.slots_left(limiter) == Some(0) {
            return Some(Limited::Concurrency);
        }
        limiter.token_at.map(|until| Limited::Rate { until })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limiter.as_ref().map(|limiter| limiter.limits()).unwrap_or_default()
    }

    fn slots_left(&self, limiter: &Limiter) -> Option<u64> {
        let running: u64 = self.counts.iter().map(|(_, counts)| counts.running).sum();
        limiter.concurrency.map(|most| u64::from(most).saturating_sub(running))
    }
}

impl QueueState {
    /// Sets the limits of a queue, which is made now if it is new; what was set before is gone. A
    /// queue that had a rate keeps the tokens it had, one that gets its first begins with a burst.
    pub(crate) fn set_limits(&mut self, name: &str, limits: Limits, now: Timestamp) -> Result<()> {
        if !self.queues.by_name.contains_key(name) {
            validate_name("queue", name)?;
            self.check_queues_left(&[name].into())?;
        }
        let id = self.queue_or_new(name)?;
        let Some(entry) = self.queues.by_id.get_mut(&id) else { return Ok(()) };
        if entry.limits() == limits {
            return Ok(());
        }
        let before = entry.limiter.as_ref().and_then(|limiter| limiter.bucket);
        let bucket = limits.rate.map(|rate| match before {
            Some(bucket) => bucket.at_rate(rate, now),
            None => TokenBucket::full(rate, now),
        });
        if let Some(moment) = entry.limiter.take().and_then(|limiter| limiter.token_at) {
            self.limiting.next_tokens.remove(&(moment, id));
        }
        let Limits { concurrency, concurrency_per_key, .. } = limits;
        let limiter = Limiter { concurrency, concurrency_per_key, bucket, token_at: None };
        entry.limiter = (!limits.is_empty()).then(|| Box::new(limiter));
        self.limiting.dirty.insert(id);
        self.note_next_token(id, now);
        self.note_ready(id);
        self.walk_lines_anew(id);
        self.tell_of_queue(id, Happened::Limited { limits });
        Ok(())
    }

    /// A job of this queue is started.
    pub(crate) fn take_token(&mut self, id: QueueId, now: Timestamp) {
        let Some(entry) = self.queues.by_id.get_mut(&id) else { return };
        let Some(bucket) = entry.limiter.as_mut().and_then(|limiter| limiter.bucket.as_mut())
        else {
            return;
        };
        bucket.take(now);
        self.limiting.dirty.insert(id);
        if self.note_next_token(id, now) {
            self.note_ready(id);
        }
    }

    /// When the first queue without a token gets one.
    pub(crate) fn next_token(&self) -> Option<Timestamp> {
        self.limiting.next_tokens.first().map(|(moment, _)| *moment)
    }

    /// Lets queues go on that have a token again.
    pub(crate) fn let_tokens_in(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.limiting.clock_stepped_back) {
            self.bring_tokens_back(now);
        }
        while let Some((moment, id)) = self.limiting.next_tokens.first().copied()
            && moment <= now
        {
            self.limiting.next_tokens.pop_first();
            self.note_next_token(id, now);
            self.note_ready(id);
        }
    }

    /// Tokens count from now where they counted from a moment that is in the future now.
    fn bring_tokens_back(&mut self, now: Timestamp) {
        let limited = self.queues.by_id.iter().filter(|(_, entry)| entry.limiter.is_some());
        for id in limited.map(|(id, _)| *id).collect::<Vec<_>>() {
            let entry = self.queues.by_id.get_mut(&id);
            let limiter = entry.and_then(|entry| entry.limiter.as_mut());
            let Some(bucket) = limiter.and_then(|limiter| limiter.bucket.as_mut()) else {
                continue;
            };
            bucket.clock_stepped_back(now);
            self.limiting.dirty.insert(id);
            self.note_next_token(id, now);
            self.note_ready(id);
        }
    }

    /// Takes note of when a queue has a token again. True when it has none now.
    fn note_next_token(&mut self, id: QueueId, now: Timestamp) -> bool {
        let entry = self.queues.by_id.get_mut(&id);
        let Some(limiter) = entry.and_then(|entry| entry.limiter.as_mut()) else { return false };
        let next = limiter.bucket.and_then(|bucket| bucket.next_at(now));
        if let Some(moment) = std::mem::replace(&mut limiter.token_at, next) {
            self.limiting.next_tokens.remove(&(moment, id));
        }
        self.limiting.next_tokens.extend(next.map(|moment| (moment, id)));
        next.is_some()
    }

    // ---- the store ----

    pub(crate) fn write_limits(&mut self) {
        for id in std::mem::take(&mut self.limiting.dirty) {
            let limiter = self.queues.by_id.get(&id).and_then(|entry| entry.limiter.as_ref());
            match limiter {
                Some(limiter) => {
                    let record = codec::encode(&limiter.record());
                    self.draft.put(Tree::Limits, key::queue(id), record);
                }
                None => self.draft.remove(Tree::Limits, key::queue(id)),
            }
        }
    }

    /// Reads the limits of all queues. Those of a queue that is not there are removed, those that
    /// can't be read set aside: then the queue has none.
    pub(crate) fn recover_limits(&mut self, now: Timestamp) -> Result<()> {
        for (record_key, bytes) in self.all(Tree::Limits)? {
            let Some(id) = key::queue_from(&record_key) else { continue };
            let decoded = codec::decode(&bytes);
            match decoded.and_then(|record: LimitsRecord| Limiter::from_record(&record)) {
                Ok(limiter) => match self.queues.by_id.get_mut(&id) {
                    Some(entry) => {
                        entry.limiter = Some(Box::new(limiter));
                        self.note_next_token(id, now);
                        self.note_ready(id);
                    }
                    None => self.draft.remove(Tree::Limits, record_key),
                },
                Err(reason) => self.set_aside(Tree::Limits, record_key, &bytes, &reason)?,
            }
        }
        Ok(())
    }

    /// Forgets the limits of a queue that is removed.
    pub(crate) fn forget_limits(&mut self, id: QueueId) {
        let entry = self.queues.by_id.get_mut(&id);
        let Some(limiter) = entry.and_then(|entry| entry.limiter.take()) else { return };
        if let Some(moment) = limiter.token_at {
            self.limiting.next_tokens.remove(&(moment, id));
        }
        self.limiting.dirty.insert(id);
    }
}

#[cfg(test)]
mod tests;
