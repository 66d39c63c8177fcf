//! What ends at a moment: jobs that were not started in time, results, idempotency keys.
//!
//! Each has an entry in the expiry tree under its moment. The entry of a job is there exactly
//! while the job waits and no worker ever had it. After the clock stepped back there may be
//! earlier entries beside it, marked as [`REFILED`]: one that is met when its job can't expire any
//! more is removed and does nothing.

use std::ops::Bound;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::dead_letter::DeadReason;
use crate::error::Result;
use crate::job::{JobId, Move};
use crate::queue::cancel::TakenOut;
use crate::queue::chunk::Chunk;
use crate::queue::event::Happened;
use crate::queue::locate::Place;
use crate::queue::state::QueueState;
use crate::store::format::{JobRecord, SlotProgress};
use crate::store::key::{self, Ending};
use crate::store::{Direction, Entry, Tree};

/// Most endings that one tick handles: keeps a group's latency bounded.
const TICK_ENDINGS_MAX: usize = 1_000;
/// Entries read at once.
pub(crate) const ENDINGS_READ: usize = 64;
/// The value of an entry that stands before the real one because the clock stepped back.
pub(crate) const REFILED: &[u8] = &[1];

impl JobRecord {
    /// When it expires, if it can: it was never started.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        let expires_ms = self.seldom.as_ref()?.expires_ms?;
        (self.deliveries == 0).then_some(Timestamp::from_ms(expires_ms))
    }

    /// It is started or dead: from now on it can't expire.
    pub(crate) fn drop_expiry(&mut self) {
        if let Some(seldom) = &mut self.seldom {
            seldom.expires_ms = None;
        }
    }
}

impl QueueState {
    /// Files what ends at a moment.
    pub(crate) fn put_ending(&mut self, moment: Timestamp, ending: &Ending, value: Bytes) {
        self.draft.put(Tree::Expiry, key::expiry(moment, ending), value);
        self.first_ending = Some(self.first_ending.map_or(moment, |first| first.min(moment)));
    }

    /// Removes the entry of a job that is started, gone or dead: it can't expire any more.
    pub(crate) fn forget_expiry(&mut self, id: JobId, job: &JobRecord) {
        if let Some(expires_ms) = job.seldom.as_ref().and_then(|seldom| seldom.expires_ms) {
            let moment = Timestamp::from_ms(expires_ms);
            self.draft.remove(Tree::Expiry, key::expiry(moment, &Ending::Job(id)));
        }
    }

    /// Ends what is due, in the order of the moments. True when more is due at once than one
    /// group should hold.
    pub(crate) fn end_what_is_over(&mut self, now: Timestamp) -> Result<bool> {
        let mut ended = 0;
        let mut behind: Option<Vec<u8>> = None;
        while let Some(first) = self.first_ending.filter(|first| *first <= now) {
            if self.is_full() || ended >= TICK_ENDINGS_MAX {
                return Ok(true);
            }
            // As with timers: what was ended lately lies before the first.
            let first = || Bound::Included(key::moment(first));
            let due = self.endings_from(behind.clone().map_or_else(first, Bound::Excluded))?;
            if due.is_empty() {
                self.first_ending = None;
            }
            for (key, _) in due {
                let known = key::expiry_from(&key);
                if let Some((moment, _)) = &known {
                    self.first_ending = Some(*moment);
                    if *moment > now {
                        return Ok(false);
                    }
                }
                ended += 1;
                behind = Some(key.clone());
                self.draft.remove(Tree::Expiry, key);
                if let Some((moment, ending)) = known {
                    self.end(&ending, moment, now)?;
                }
                if self.is_full() {
                    break;
                }
            }
        }
        Ok(false)
    }

    fn end(&mut self, ending: &Ending, moment: Timestamp, now: Timestamp) -> Result<()> {
        match ending {
            Ending::Job(id) => self.expire(*id, now),
            Ending::Result(id) => self.end_result(*id, moment),
            Ending::Idempotency(queue, key) => self.end_idempotency(*queue, key, moment),
        }
    }

    /// The first entries in the order of their moments.
    pub(crate) fn endings_from(&self, from: Bound<Vec<u8>>) -> Result<Vec<Entry>> {
        let range = (from, Bound::Unbounded);
        self.draft.scan(Tree::Expiry, range, Direction::Ascending).take(ENDINGS_READ).collect()
    }

    /// Buries a job whose moment has come, if it still waits for its first start.
    fn expire(&mut self, id: JobId, now: Timestamp) -> Result<()> {
        let Some(place) = self.locate(id)? else { return Ok(()) };
        let can_expire = match &place {
            Place::Slot(chunk_id, number) => match self.chunk(*chunk_id)? {
                Some(chunk) => self.slot_expires_at(&chunk, *number).is_some(),
                None => false,
            },
            Place::Timer(due) => {
                let entry = key::timer(*due, id);
                let Some(bytes) = self.draft.get(Tree::Timers, &entry)? else { return Ok(()) };
                let record = self.timer_record(&entry, id, &bytes)?;
                record.is_some_and(|(_, record)| record.job.expires_at().is_some())
            }
            Place::Line(place) => {
                let waiter = self.waiter(place)?;
                waiter.is_some_and(|waiter| waiter.job.expires_at().is_some())
            }
            Place::Dead(_) => false,
        };
        if can_expire && let Some(taken) = self.take_out(id, place)? {
            self.bury_expired(id, taken, now)?;
        }
        Ok(())
    }

    /// When the job of a slot expires, if it waits there and was never started.
    pub(crate) fn slot_expires_at(&self, chunk: &Chunk, number: usize) -> Option<Timestamp> {
        let lane = self.lanes.get(&chunk.id.lane);
        let begun = lane.and_then(|lane| lane.begun.get(&chunk.id.first_place));
        let progress = begun.and_then(|begun| begun.slots.get(number));
        match progress.unwrap_or(&SlotProgress::Waiting) {
            SlotProgress::Waiting => chunk.slots.get(number)?.job.expires_at(),
            SlotProgress::Returned { .. }
            | SlotProgress::Leased(_)
            | SlotProgress::LeasedInProcess(_)
            | SlotProgress::Gone => None,
        }
    }

    /// Buries the job of a waiting slot when its moment has passed, instead of handing it out.
    /// True when it did.
    pub(crate) fn bury_if_expired(
        &mut self,
        chunk: &Chunk,
        number: usize,
        now: Timestamp,
    ) -> Result<bool> {
        let expired = self.slot_expires_at(chunk, number).is_some_and(|moment| moment <= now);
        let Some(slot) = chunk.slots.get(number).filter(|_| expired) else { return Ok(false) };
        if let Some(taken) = self.take_out(slot.id, Place::Slot(chunk.id, number))? {
            self.bury_expired(slot.id, taken, now)?;
        }
        Ok(true)
    }

    fn bury_expired(&mut self, id: JobId, taken: TakenOut, now: Timestamp) -> Result<()> {
        self.count(taken.lane, Some(taken.from), Move::Bury)?;
        self.tell(taken.lane, Happened::Expired { id });
        self.put_dead(taken.lane, id, taken.job, DeadReason::Expired, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::config::Config;
    use crate::job::{JobState, NewJob, RunAt, Unique, limits};
    use crate::queue::state::Context;
    use crate::queue::{Claim, examine};
    use crate::store::memory::MemoryStore;
    use crate::store::{COMMIT_BYTES_MAX, Store};

    struct Node {
        store: MemoryStore,
        state: QueueState,
        random: StdRng,
        now: Timestamp,
    }

    impl Node {
        fn open(store: MemoryStore, now: Timestamp) -> Node {
            let mut random = StdRng::seed_from_u64(1);
            let (shared, config) = (Arc::new(store.clone()), Config::default());
            let config = Config { queue_capacity: Default::default(), ..config };
            let state = QueueState::open(shared, config, now, &mut random).unwrap();
            Node { store, state, random, now }
        }

        fn new() -> Node {
            Node::open(MemoryStore::new(), Timestamp::from_ms(1_800_000_000_000))
        }

        fn apply<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
            let context = &mut Context { now: self.now, random: &mut self.random };
            run(&mut self.state, context)
        }

        fn commit(&mut self) -> usize {
            let writes = self.state.finish_group(self.now);
            let bytes = writes.bytes();
            self.store.commit(writes).unwrap();
            bytes
        }

        fn assert_sound(&self) {
            let report = examine(&self.store).unwrap();
            assert!(report.is_sound(), "{:#?}", report.problems);
        }
    }

    #[test]
    fn a_claim_buries_what_it_meets_too_late_and_brings_nothing_back() {
        let mut node = Node::new();
        let jobs = vec![NewJob::new("late").expires_in_ms(1_000), NewJob::new("done")];
        let ids = node.apply(|state, context| state.enqueue(jobs, context)).unwrap();
        let claim = Claim { kinds: vec!["done".to_owned()], ..Claim::default() };
        let token =
            node.apply(|state, context| state.claim(&claim, context)).unwrap().jobs[0].token;
        node.apply(|state, context| state.ack(token, context)).unwrap();
        node.commit();
        node.now = node.now.plus_ms(1_000);
        // Without a tick: the claim itself is the first to see that it is late.
        let taken = node.apply(|state, context| state.claim(&Claim::default(), context)).unwrap();
        assert!(taken.jobs.is_empty(), "{:?}", taken.jobs);
        node.commit();
        assert_eq!(node.state.job(ids[0].id).unwrap().state, JobState::Dead);
        assert!(node.state.job(ids[1].id).is_err());
        node.assert_sound();
    }

    #[test]
    fn many_that_expire_at_once_take_several_groups() {
        let mut node = Node::new();
        for _ in 0..10 {
            let jobs = vec![NewJob::new("k").expires_in_ms(1_000); 200];
            node.apply(|state, context| state.enqueue(jobs, context)).unwrap();
            node.commit();
        }
        assert_eq!(node.state.next_due(), Some(node.now.plus_ms(1_000)));
        node.now = node.now.plus_ms(1_000);
        let mut groups = 1;
        while node.apply(|state, context| state.tick(context)).unwrap() {
            node.commit();
            node.assert_sound();
            groups += 1;
        }
        node.commit();
        assert!(groups > 2, "{groups}");
        assert_eq!(examine(&node.store).unwrap().jobs.dead, 2_000);
        assert_eq!(node.state.next_due(), None);
    }

    #[test]
    fn the_largest_batch_with_all_its_keys_and_ends_fits_in_a_commit() {
        let mut node = Node::new();
        let each = limits::BATCH_BYTES_MAX / limits::BATCH_JOBS_MAX;
        let batch = |key_bytes: usize| {
            let jobs = (0..limits::BATCH_JOBS_MAX).map(|number| {
                let key = format!("{number:0key_bytes$}");
                let job = NewJob::new("k")
                    .queue("q")
                    .run_at(RunAt::DelayMs(5_000))
                    .expires_in_ms(60_000)
                    .idempotency_key(format!("{number}"))
                    .unique(Unique::new(key).on_conflict(crate::job::OnConflict::Replace));
                let left = each - job.weight_bytes();
                job.payload(crate::job::Payload::Binary(vec![7; left].into()))
            });
            jobs.collect::<Vec<_>>()
        };
        for key_bytes in [5, 40] {
            let jobs = batch(key_bytes);
            crate::queue::enqueue::validate_batch(&jobs).unwrap();
            node.apply(|state, context| state.enqueue(jobs, context)).unwrap();
            let bytes = node.commit();
            assert!(bytes < COMMIT_BYTES_MAX, "{bytes} with keys of {key_bytes}");
            node.now = node.now.plus_ms(limits::IDEMPOTENCY_TTL_MS);
        }
    }

    #[test]
    fn one_call_replaces_some_thousand_jobs_and_not_more() {
        let mut node = Node::new();
        let batch = |count: usize| {
            let unique = |number: usize| {
                Unique::new(number.to_string()).on_conflict(crate::job::OnConflict::Replace)
            };
            let job = |number| NewJob::new("k").unique(unique(number));
            (0..count).map(job).collect::<Vec<_>>()
        };
        node.apply(|state, context| state.enqueue(batch(10_000), context)).unwrap();
        node.commit();
        let refused = node.apply(|state, context| state.enqueue(batch(10_000), context));
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), crate::ErrorKind::TooLarge);
        node.apply(|state, context| state.enqueue(batch(3_000), context)).unwrap();
        node.commit();
        node.assert_sound();
        assert_eq!(examine(&node.store).unwrap().jobs.ready, 10_000);
    }

    #[test]
    fn a_crash_while_the_clock_steps_back_is_caught_up_with() {
        let mut node = Node::new();
        for number in 0..3 * ENDINGS_READ {
            let job = NewJob::new("k").run_at(RunAt::DelayMs(5_000)).expires_in_ms(10_000);
            let job = job.unique(Unique::new(number.to_string()).ttl_ms(9_000));
            node.apply(|state, context| state.enqueue_one(job, context)).unwrap();
        }
        node.commit();
        node.now = node.now.minus_ms(3_600_000);
        // Each tick brings one portion back; then the process ends.
        assert!(node.apply(|state, context| state.tick(context)).unwrap());
        node.apply(|state, context| state.enqueue_one(NewJob::new("other"), context)).unwrap();
        node.commit();
        let mut node = Node::open(node.store, node.now.plus_ms(1));
        while node.apply(|state, context| state.tick(context)).unwrap() {
            node.commit();
        }
        node.commit();
        node.assert_sound();
        node.now = node.now.plus_ms(9_000);
        for number in 0..3 * ENDINGS_READ {
            let job = NewJob::new("k").unique(Unique::new(number.to_string()));
            let taken = node.apply(|state, context| state.enqueue_one(job, context)).unwrap();
            assert!(taken.is_new);
        }
        node.now = node.now.plus_ms(1_001);
        while node.apply(|state, context| state.tick(context)).unwrap() {
            node.commit();
        }
        node.commit();
        assert_eq!(examine(&node.store).unwrap().jobs.dead, 3 * ENDINGS_READ as u64);
        node.assert_sound();
    }
}
