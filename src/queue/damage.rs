//! Sets records aside whose checksum fails, and goes on with what is whole.
//!
//! A damaged record is moved to the `damaged` tree as it was found, counted and logged. What
//! memory had of it is forgotten, and before the next group the counters and the index of names
//! are made anew from what is left: that reads the whole store once, which a disk that returns
//! wrong bytes is worth.

use bytes::Bytes;

use crate::error::Result;
use crate::job::QueueId;
use crate::priority::Priority;
use crate::queue::census::Census;
use crate::queue::state::QueueState;
use crate::store::codec::{self, DecodeError};
use crate::store::key::{self, ChunkId, LaneId};
use crate::store::{Tree, VALUE_BYTES_MAX};

/// Entries that a recount made anew.
pub(crate) struct Mended {
    pub(crate) locations: u64,
    pub(crate) places: u64,
}

impl QueueState {
    /// Moves a record that can't be read to the damaged tree.
    pub(crate) fn set_aside(
        &mut self,
        tree: Tree,
        key: Vec<u8>,
        bytes: &[u8],
        reason: &DecodeError,
    ) -> Result<()> {
        let name = tree.name();
        let shown_key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::error!(
            tree = name,
            key = shown_key,
            "a record can't be read and was set aside in the damaged tree: {reason}; restore the \
             volume from a copy if its jobs are needed"
        );
        let kept = bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes);
        self.draft.put(Tree::Damaged, key::damaged(tree, &key), Bytes::copy_from_slice(kept));
        if let Tree::Ready(priority) = tree
            && let Some(id) = ChunkId::from_key(priority, &key)
        {
            self.forget_chunk(id);
        }
        match tree {
            Tree::Ready(_)
            | Tree::Lines
            | Tree::Timers
            | Tree::Dead
            | Tree::Payload
            | Tree::Results => {
                self.draft.remove_live(tree, key, bytes.len());
            }
            _ => self.draft.remove(tree, key),
        }
        self.meta.damaged_records += 1;
        self.needs_recount = true;
        Ok(())
    }

    fn forget_chunk(&mut self, id: ChunkId) {
        self.cache.remove(id);
        if let Some(lane) = self.lanes.get_mut(&id.lane) {
            lane.forget(id.first_place);
        }
        self.picker.forget_head(id.lane);
        self.leases.retain(|(_, chunk, _)| *chunk != id);
        self.draft.remove(Tree::Progress, id.progress_key());
    }

    /// Makes the counters and the location index anew from a full count. Called with nothing
    /// pending. Gives how many entries were wrong.
    pub(crate) fn recount(&mut self) -> Result<Mended> {
        let census = Census::take(self.draft.store())?;
        self.draft.set_live_bytes(census.live_bytes);
        let ids: Vec<QueueId> = self.queues.by_id.keys().copied().collect();
        for id in ids {
            let counts = census.counts.get(&id).copied().unwrap_or_default();
            if let Some(entry) = self.queues.by_id.get_mut(&id) {
                entry.counts = counts;
                entry.lines.waiting = census.lines.waiting.get(&id).copied().unwrap_or_default();
            }
            self.mark_queue_dirty(id);
            self.gates.dirty.insert(id);
            self.note_ready(id);
            // Who left with the damage may have had a place.
            self.walk_lines_anew(id);
        }
        let mended = Mended {
            locations: census.wrong_locations.len() as u64,
            places: census.lines.wrong_places.len() as u64,
        };
        for (job, location) in census.wrong_locations {
            match location {
                Some(location) => {
                    self.draft.put(Tree::Location, key::job(job), codec::encode(&location));
                }
                None => self.draft.remove(Tree::Location, key::job(job)),
            }
        }
        for (entry, places) in census.lines.wrong_places {
            match places {
                Some(places) => self.draft.put(Tree::Places, entry, codec::encode(&places)),
                None => self.draft.remove(Tree::Places, entry),
            }
        }
        let keys = census.keys;
        keys.dangling_names.into_iter().for_each(|name| self.draft.remove(Tree::Unique, name));
        keys.dangling_endings.into_iter().for_each(|entry| self.draft.remove(Tree::Expiry, entry));
        for (id, unique) in keys.unheld {
            if !unique.is_over(id, self.last_now) {
                self.hold_unique_key(id, &unique, self.last_now);
            }
        }
        // A sequence that is in use never comes again (I6).
        self.meta.next_sequence = self.meta.next_sequence.max(census.largest_sequence + 1);
        self.needs_recount = census.lines.more_are_wrong;
        Ok(mended)
    }

    /// Tells the picker which lanes of a queue have ready jobs, by its counters;
    /// none of one that is paused or at a limit.
    pub(crate) fn note_ready(&mut self, id: QueueId) {
        let Some(entry) = self.queues.by_id.get(&id) else { return };
        let is_open = entry.is_open();
        for priority in Priority::ALL {
            let lane = LaneId { priority, queue: id };
            if self.queues.ready_jobs(lane) > 0 && is_open {
                self.picker.enter(lane);
                self.picker.forget_head(lane);
                self.became_ready.insert(lane);
            } else {
                self.picker.leave(lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::clock::Timestamp;
    use crate::config::Config;
    use crate::dead_letter::DeadReason;
    use crate::error::ErrorKind;
    use crate::job::{JobId, JobState, NewJob, Payload, RunAt, Unique};
    use crate::priority::Priority;
    use crate::queue::state::Context;
    use crate::queue::{Ack, Claim, DeadEdit, Failure, examine};
    use crate::store::memory::MemoryStore;
    use crate::store::{Direction, Store, WriteSet};

    struct Node {
        store: MemoryStore,
        state: QueueState,
        random: StdRng,
    }

    fn now() -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000)
    }

    impl Node {
        fn open(store: MemoryStore) -> Node {
            let mut random = StdRng::seed_from_u64(1);
            let (shared, config) = (Arc::new(store.clone()), Config::default());
            let state = QueueState::open(shared, config, now(), &mut random).unwrap();
            Node { store, state, random }
        }

        fn apply<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
            let context = &mut Context { now: now(), random: &mut self.random };
            while self.state.tick(context).unwrap() {}
            let outcome = run(&mut self.state, context);
            self.store.commit(self.state.finish_group(now())).unwrap();
            outcome
        }

        /// Ten ready jobs, one running with a large payload, one scheduled, one dead.
        fn with_jobs() -> (Node, JobId, JobId) {
            let mut node = Node::open(MemoryStore::new());
            let large = Payload::Binary(vec![7; 40_000].into());
            node.apply(|state, context| {
                state.enqueue(vec![NewJob::new("running").payload(large)], context).unwrap();
                let claim = Claim { limit: 1, ..Claim::default() };
                assert_eq!(state.claim(&claim, context).unwrap().jobs.len(), 1);
            });
            node.apply(|state, context| {
                state.enqueue(vec![NewJob::new("dead").queue("other")], context).unwrap();
                let claim = Claim { queues: vec!["other".to_owned()], ..Claim::default() };
                let token = state.claim(&claim, context).unwrap().jobs[0].token;
                let error = "no".to_owned();
                let failure = Failure { token, error, retry: false, retry_in_ms: None };
                state.fail(&failure, context).unwrap();
                let later = NewJob::new("later").run_at(RunAt::DelayMs(5_000));
                state.enqueue(vec![later], context).unwrap();
            });
            let ready = node.apply(|state, context| {
                state.enqueue(vec![NewJob::new("ready"); 10], context).unwrap()
            });
            let after = node.apply(|state, context| {
                let low = NewJob::new("ready").priority(Priority::Low);
                state.enqueue(vec![low], context).unwrap()
            });
            (node, ready[0].id, after[0].id)
        }

        /// Flips a bit in the last record of a tree, and opens the store again.
        fn damage(self, tree: Tree) -> Node {
            let everything = (Bound::Unbounded, Bound::Unbounded);
            let last = self.store.scan(tree, everything, Direction::Descending).next();
            let (key, value) = last.unwrap().unwrap();
            let mut value = value.to_vec();
            *value.last_mut().unwrap() ^= 1;
            let mut writes = WriteSet::default();
            writes.put(tree, key, value.into());
            self.store.commit(writes).unwrap();
            assert!(!examine(&self.store).unwrap().is_sound(), "the damage is seen");
            Node::open(self.store)
        }

        /// The store is sound again, with one record set aside and so many jobs left.
        fn assert_sound(mut self, ready: u64, running: u64, scheduled: u64, dead: u64) {
            self.apply(|_, _| ());
            self.apply(|_, _| ());
            let report = examine(&self.store).unwrap();
            assert!(report.is_sound(), "{:#?}", report.problems);
            assert_eq!(report.set_aside, 1);
            let jobs = report.jobs;
            let counted = (jobs.ready, jobs.running, jobs.scheduled, jobs.dead);
            assert_eq!(counted, (ready, running, scheduled, dead));
            assert_eq!(self.state.meta.damaged_records, 1);
        }
    }

    #[test]
    fn a_damaged_chunk_costs_its_own_jobs_and_no_others() {
        let (node, lost, left) = Node::with_jobs();
        let mut node = node.damage(Tree::Ready(Priority::Default));
        let refused = node.apply(|state, _| state.job(lost)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert_eq!(node.apply(|state, _| state.job(left)).unwrap().state, JobState::Ready);
        node.assert_sound(1, 1, 1, 1);
    }

    #[test]
    fn a_claim_goes_on_behind_a_damaged_chunk() {
        let (node, _, left) = Node::with_jobs();
        let mut node = node.damage(Tree::Ready(Priority::Default));
        let claim = Claim { limit: 100, ..Claim::default() };
        let taken = node.apply(|state, context| state.claim(&claim, context)).unwrap();
        assert_eq!(taken.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [left]);
        node.assert_sound(0, 2, 1, 1);
    }

    #[test]
    fn without_its_progress_a_chunk_is_handed_out_again_under_new_tokens() {
        let (node, _, _) = Node::with_jobs();
        let mut node = node.damage(Tree::Progress);
        let claim = Claim { kinds: vec!["running".to_owned()], ..Claim::default() };
        let taken = node.apply(|state, context| state.claim(&claim, context)).unwrap();
        assert!(taken.jobs[0].token.delivery > 1_000_000, "no old token may hold it");
        node.assert_sound(11, 1, 1, 1);
    }

    #[test]
    fn a_damaged_timer_and_a_damaged_dead_letter_are_set_aside_when_they_are_read() {
        let (node, _, _) = Node::with_jobs();
        let mut node = node.damage(Tree::Timers);
        node.apply(|state, _| state.clock_stepped_back(now()));
        node.assert_sound(11, 1, 0, 1);
        let (node, _, _) = Node::with_jobs();
        let mut node = node.damage(Tree::Dead);
        let page = node.apply(|state, _| state.dead_letters(&Default::default())).unwrap();
        assert!(page.jobs.is_empty());
        node.assert_sound(11, 1, 1, 0);
    }

    #[test]
    fn a_queue_whose_record_is_damaged_keeps_its_jobs_under_another_name() {
        let (node, _, _) = Node::with_jobs();
        let mut node = node.damage(Tree::Queues);
        let names: Vec<_> = node.apply(|state, _| state.queues(now())).unwrap();
        assert!(names.iter().any(|queue| queue.name == "damaged-2"), "{names:?}");
        node.assert_sound(11, 1, 1, 1);
    }

    #[test]
    fn a_damaged_record_of_a_unique_key_lets_nobody_take_the_key() {
        let mut node = Node::open(MemoryStore::new());
        let job = || NewJob::new("k").unique(Unique::new("a"));
        let holder = node.apply(|state, context| state.enqueue_one(job(), context)).unwrap().id;
        let mut node = node.damage(Tree::Unique);
        let refused = node.apply(|state, context| state.enqueue_one(job(), context)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        let refused = node.apply(|state, context| state.enqueue_one(job(), context)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(refused.job(), Some(holder.to_string().as_str()));
        node.assert_sound(1, 0, 0, 0);
    }

    #[test]
    fn a_replay_that_meets_a_damaged_record_of_a_key_is_a_conflict() {
        let mut node = Node::open(MemoryStore::new());
        let job = || NewJob::new("k").unique(Unique::new("a"));
        let dead = node.apply(|state, context| {
            state.enqueue_one(job(), context).unwrap();
            let token = state.claim(&Claim::default(), context).unwrap().jobs[0].token;
            let error = "no".to_owned();
            let failure = Failure { token, error, retry: false, retry_in_ms: None };
            state.fail(&failure, context).unwrap();
            token.job()
        });
        node.apply(|state, context| state.enqueue_one(job(), context)).unwrap();
        let mut node = node.damage(Tree::Unique);
        let replay =
            |node: &mut Node| node.apply(|state, context| state.replay(dead, context)).unwrap_err();
        let refused = replay(&mut node);
        assert_eq!((refused.kind(), refused.job()), (ErrorKind::Conflict, None));
        assert!(replay(&mut node).job().is_some());
        node.assert_sound(1, 0, 0, 1);
    }

    #[test]
    fn a_damaged_result_is_set_aside_with_what_would_have_ended_it() {
        let mut node = Node::open(MemoryStore::new());
        node.apply(|state, context| state.enqueue_one(NewJob::new("k"), context)).unwrap();
        let id = node.apply(|state, context| {
            let token = state.claim(&Claim::default(), context).unwrap().jobs[0].token;
            let ack = Ack { token, result: Some("1".into()) };
            state.ack(ack, context).unwrap();
            token.job()
        });
        let mut node = node.damage(Tree::Results);
        let refused = node.apply(|state, context| state.find(id, context)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        node.assert_sound(0, 0, 0, 0);
    }

    #[test]
    fn a_damaged_idempotency_key_is_set_aside_with_what_would_have_ended_it() {
        let mut node = Node::open(MemoryStore::new());
        let job = || NewJob::new("k").idempotency_key("a");
        node.apply(|state, context| state.enqueue_one(job(), context)).unwrap();
        let mut node = node.damage(Tree::Unique);
        node.apply(|state, context| state.enqueue_one(job(), context)).unwrap();
        node.assert_sound(2, 0, 0, 0);
    }

    #[test]
    fn with_a_damaged_chunk_its_keys_and_its_ends_go() {
        let mut node = Node::open(MemoryStore::new());
        let job = || NewJob::new("k").unique(Unique::new("a")).expires_in_ms(60_000);
        let lost = node.apply(|state, context| state.enqueue_one(job(), context)).unwrap().id;
        let mut node = node.damage(Tree::Ready(Priority::Default));
        let next = node.apply(|state, context| state.enqueue_one(job(), context)).unwrap();
        assert!(next.is_new && next.id != lost);
        node.assert_sound(1, 0, 0, 0);
    }

    #[test]
    fn without_its_progress_a_chunk_keeps_its_keys_and_expires_no_more() {
        let mut node = Node::open(MemoryStore::new());
        let jobs = ["a", "b", "c"].map(|key| NewJob::new("k").unique(Unique::new(key)));
        let jobs = jobs.map(|job| job.expires_in_ms(60_000)).to_vec();
        node.apply(|state, context| state.enqueue(jobs.clone(), context)).unwrap();
        node.apply(|state, context| {
            let token = state.claim(&Claim::default(), context).unwrap().jobs[0].token;
            state.ack(token, context).unwrap();
        });
        // The key of the one that is done is another's by now.
        node.apply(|state, context| state.enqueue_one(jobs[0].clone(), context)).unwrap();
        let mut node = node.damage(Tree::Progress);
        let refused = node.apply(|state, context| state.enqueue_one(jobs[1].clone(), context));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        node.assert_sound(4, 0, 0, 0);
    }

    #[test]
    fn a_job_without_its_payload_becomes_a_dead_letter() {
        let (node, _, _) = Node::with_jobs();
        let mut node = node.damage(Tree::Payload);
        let claim = Claim { kinds: vec!["running".to_owned()], ..Claim::default() };
        // Its lease runs out, and the next claim meets the damage.
        node.state.config.max_interruptions = 9;
        let later = now().plus_ms(60_000);
        let context = &mut Context { now: later, random: &mut node.random };
        while node.state.tick(context).unwrap() {}
        assert!(node.state.claim(&claim, context).unwrap().jobs.is_empty());
        node.store.commit(node.state.finish_group(later)).unwrap();
        let dead = node.state.dead_letters(&Default::default()).unwrap().jobs;
        let reasons: Vec<_> = dead.iter().map(|job| job.dead.unwrap().reason).collect();
        assert_eq!(reasons, [DeadReason::Damaged, DeadReason::Rejected]);
        assert!(dead[0].errors[0].error.contains("damaged"), "{:?}", dead[0].errors);
    }

    #[test]
    fn a_dead_letter_without_its_payload_can_be_mended_or_deleted() {
        for mend in [true, false] {
            let (node, _, _) = Node::with_jobs();
            let mut node = node.damage(Tree::Payload);
            let later = now().plus_ms(60_000);
            let random = &mut StdRng::seed_from_u64(2);
            let context = &mut Context { now: later, random };
            let claim = Claim { kinds: vec!["running".to_owned()], ..Claim::default() };
            while node.state.tick(context).unwrap() {}
            assert!(node.state.claim(&claim, context).unwrap().jobs.is_empty());
            node.store.commit(node.state.finish_group(later)).unwrap();
            let id = node.state.dead_letters(&Default::default()).unwrap().jobs[0].id;
            node.apply(|state, context| match mend {
                true => {
                    let payload = Some(Payload::Json("7".into()));
                    let edit = DeadEdit { payload, ..DeadEdit::default() };
                    assert_eq!(
                        state.edit_dead(id, &edit, later).unwrap().payload,
                        edit.payload.unwrap()
                    );
                    state.replay(id, context).map(drop).unwrap();
                }
                false => state.delete_dead(id).unwrap(),
            });
            node.assert_sound(if mend { 13 } else { 12 }, 0, 0, 1);
        }
    }
}
