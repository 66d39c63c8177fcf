//! What has a name or an end: unique keys, idempotency keys, results, and jobs that expire (I5).
//!
//! A job that carries a unique key without a time holds it: the key's entry is its own. One with a
//! time may have lost it to a later job when the time was over, by a clock that has stepped back
//! since; nothing in the store tells, so its entry is not asked for.

use std::collections::{HashMap, HashSet};

use super::{Census, all};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobState, QueueId};
use crate::queue::expire::REFILED;
use crate::queue::idempotency::weight_bytes;
use crate::queue::recovery::DELIVERIES_AFTER_DAMAGE;
use crate::store::codec;
use crate::store::format::{
    IdempotencyRecord, JobRecord, ResultRecord, UniqueKeyRecord, UniqueRecord,
};
use crate::store::key::{self, Ending, Named};
use crate::store::{Store, Tree};

/// Names and ends that the records call for, and what is wrong with the index entries.
#[derive(Default)]
pub(crate) struct Keys {
    /// Entries of unique keys whose job is gone or dead.
    pub(crate) dangling_names: Vec<Vec<u8>>,
    /// Jobs that should hold their unique key, and for which there is no entry.
    pub(crate) unheld: Vec<(JobId, UniqueKeyRecord)>,
    /// Entries of the expiry tree for what is not there or can't end any more.
    pub(crate) dangling_endings: Vec<Vec<u8>>,
    /// Jobs that live, are not dead and carry a unique key.
    carriers: HashMap<(QueueId, String), Vec<Carrier>>,
    /// The keys that must be in the expiry tree.
    endings: HashSet<Vec<u8>>,
}

struct Carrier {
    id: JobId,
    ttl_ms: Option<u64>,
    /// It came back after damage: another job may have its key.
    may_share: bool,
}

impl Carrier {
    fn must_hold(&self) -> bool {
        self.ttl_ms.is_none() && !self.may_share
    }
}

impl Census {
    /// Takes note of what a job's record calls for.
    pub(super) fn note_keys(
        &mut self,
        id: JobId,
        state: JobState,
        deliveries: u32,
        job: &JobRecord,
    ) {
        let waits = matches!(state, JobState::Scheduled | JobState::Ready);
        if let Some(moment) = job.expires_at().filter(|_| waits && deliveries == 0) {
            self.keys.endings.insert(key::expiry(moment, &Ending::Job(id)));
        }
        if let Some(unique) = job.unique_key().filter(|_| state != JobState::Dead) {
            let may_share = deliveries >= DELIVERIES_AFTER_DAMAGE;
            let carrier = Carrier { id, ttl_ms: unique.ttl_ms, may_share };
            let name = (id.queue(), unique.key.clone());
            self.keys.carriers.entry(name).or_default().push(carrier);
        }
    }

    pub(super) fn read_names(&mut self, store: &dyn Store) -> Result<()> {
        let mut carriers = std::mem::take(&mut self.keys.carriers);
        for entry in all(store, Tree::Unique) {
            let (entry, bytes) = entry?;
            match key::named_from(&entry) {
                Some(Named::Unique(queue, text)) => {
                    let carriers = carriers.remove(&(queue, text)).unwrap_or_default();
                    self.check_holder(entry, &bytes, &carriers);
                }
                Some(Named::Idempotency(queue, text)) => {
                    self.live_bytes += weight_bytes(&entry, &bytes) as u64;
                    match codec::decode::<IdempotencyRecord>(&bytes) {
                        Ok(record) => {
                            let until = Timestamp::from_ms(record.until_ms);
                            let ending = Ending::Idempotency(queue, text);
                            self.keys.endings.insert(key::expiry(until, &ending));
                            self.note_sequence(JobId::from_u128(record.job));
                        }
                        Err(reason) => self.damaged(Tree::Unique, &entry, &reason),
                    }
                }
                None => self.bad_key(Tree::Unique, &entry),
            }
        }
        for ((_, text), mut carriers) in carriers {
            for carrier in carriers.iter().filter(|carrier| carrier.must_hold()) {
                let id = carrier.id;
                self.problem("I5", format!("job {id} carries {text:?}, but nobody holds the key"));
            }
            carriers.sort_by_key(|carrier| (carrier.must_hold(), carrier.id.sequence()));
            if let Some(Carrier { id, ttl_ms, .. }) = carriers.pop() {
                self.keys.unheld.push((id, UniqueKeyRecord { key: text, ttl_ms }));
            }
        }
        Ok(())
    }

    fn check_holder(&mut self, entry: Vec<u8>, bytes: &[u8], carriers: &[Carrier]) {
        let record = match codec::decode::<UniqueRecord>(bytes) {
            Ok(record) => record,
            Err(reason) => return self.damaged(Tree::Unique, &entry, &reason),
        };
        let holder = JobId::from_u128(record.job);
        if !carriers.iter().any(|carrier| carrier.id == holder) {
            self.problem("I5", format!("a unique key is held by job {holder}, which has it not"));
            self.keys.dangling_names.push(entry);
        }
        for carrier in carriers.iter().filter(|carrier| carrier.must_hold()) {
            if carrier.id != holder {
                let id = carrier.id;
                self.problem("I5", format!("job {id} has a unique key that {holder} holds"));
            }
        }
    }

    pub(super) fn read_results(&mut self, store: &dyn Store) -> Result<()> {
        for entry in all(store, Tree::Results) {
            let (entry, bytes) = entry?;
            self.count_live(Tree::Results, bytes.len());
            match (key::job_from(&entry), codec::decode::<ResultRecord>(&bytes)) {
                (Some(id), Ok(record)) => {
                    let until = Timestamp::from_ms(record.until_ms);
                    self.keys.endings.insert(key::expiry(until, &Ending::Result(id)));
                    self.note_sequence(id);
                }
                (_, Err(reason)) => self.damaged(Tree::Results, &entry, &reason),
                (None, _) => self.bad_key(Tree::Results, &entry),
            }
        }
        Ok(())
    }

    /// The expiry tree, after all that can end was read.
    pub(super) fn read_endings(&mut self, store: &dyn Store) -> Result<()> {
        let mut missing = std::mem::take(&mut self.keys.endings);
        for entry in all(store, Tree::Expiry) {
            let (entry, value) = entry?;
            match key::expiry_from(&entry) {
                // An earlier entry of a job, from when the clock stepped back: it may outlive it.
                Some((_, Ending::Job(_))) if value == REFILED => {}
                Some(_) if missing.remove(&entry) => {}
                Some((moment, ending)) => {
                    let problem = format!("{ending:?} ends at {moment}, but is not there");
                    self.problem("I5", problem);
                    self.keys.dangling_endings.push(entry);
                }
                None => self.bad_key(Tree::Expiry, &entry),
            }
        }
        for (moment, ending) in missing.iter().filter_map(|entry| key::expiry_from(entry)) {
            self.problem("I5", format!("{ending:?} should end at {moment}, but has no entry"));
        }
        Ok(())
    }

    fn note_sequence(&mut self, id: JobId) {
        self.largest_sequence = self.largest_sequence.max(id.sequence());
    }
}
