//! Mends what can be made anew from the jobs themselves: counters, places of keys and the location
//! index.
//!
//! Nothing that carries a job is written or removed here. A damaged record stays for the node,
//! which sets it aside when it meets it.

use std::path::Path;
use std::sync::Arc;

use rand::Rng;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::{Config, StoreKind};
use crate::error::Result;
use crate::job::StateCounts;
use crate::priority::PerPriority;
use crate::queue::census::{Report, examine};
use crate::queue::state::QueueState;
use crate::store::{self, Store};

/// Something that must hold, as [`state`](super::state) numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Invariant {
    /// Its number; what begins a problem in a [`Report`].
    pub name: &'static str,
    /// What must hold.
    pub meaning: &'static str,
    /// False: it is about what is handed out, which a directory at rest can't show.
    pub is_checked: bool,
}

/// All of them, and last that records can be read at all.
pub const INVARIANTS: [Invariant; 11] = [
    checked("I1", "a job is in exactly one place"),
    checked("I2", "the counters equal a full count"),
    unseen("I3", "a leased job has one live token, an ended lease none"),
    checked("I4", "progress exists only for chunks that have jobs left"),
    checked("I5", "every index entry points at what is there, and none is missing"),
    checked("I6", "the next sequence is above all in use"),
    unseen("I7", "what was acknowledged is there after a crash"),
    unseen("I8", "time going backwards loses nothing"),
    checked("I9", "no value is too long, and no blob file is there"),
    checked("I10", "nobody waits for a key that has a place"),
    checked("damage", "every record can be read"),
];

const fn checked(name: &'static str, meaning: &'static str) -> Invariant {
    Invariant { name, meaning, is_checked: true }
}

const fn unseen(name: &'static str, meaning: &'static str) -> Invariant {
    Invariant { name, meaning, is_checked: false }
}

/// What a repair found, did and left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repair {
    /// What was there.
    pub before: Report,
    /// Queues whose counters were wrong.
    pub queues: Vec<Recounted>,
    /// The bytes alive as they were said to be and as they are, where that was wrong.
    pub live_bytes: Option<(u64, u64)>,
    /// The next sequence as it was and as it is, where that was wrong.
    pub next_sequence: Option<(u64, u64)>,
    /// Entries of the location index that were removed or written.
    pub locations_mended: u64,
    /// Records of how many jobs of a key there are, that were removed or written.
    pub places_mended: u64,
    /// What is there now: its problems are those that a repair can't mend.
    pub after: Report,
}

/// A queue whose counters were made anew.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recounted {
    /// Its name.
    pub queue: String,
    /// What its record said.
    pub said: PerPriority<StateCounts>,
    /// What was counted.
    pub counted: PerPriority<StateCounts>,
}

/// Opens a data directory that no process uses, and mends what can be made anew.
///
/// # Errors
/// As [`doctor`](super::doctor). What was mended before an error stays mended.
pub fn repair(data_dir: &Path, now: Timestamp, random: &mut dyn Rng) -> Result<Repair> {
    let store = store::open_existing(StoreKind::Sled, data_dir)?;
    let repaired = repair_store(store.clone(), now, random);
    store.close()?;
    repaired
}

/// A repair of an open store. A sound one is not written to.
fn repair_store(store: Arc<dyn Store>, now: Timestamp, random: &mut dyn Rng) -> Result<Repair> {
    let before = examine(&*store)?;
    let mut repair = Repair {
        after: before.clone(),
        before,
        queues: Vec::new(),
        live_bytes: None,
        next_sequence: None,
        locations_mended: 0,
        places_mended: 0,
    };
    // One round mends as much of the index as goes into one commit.
    while !repair.after.is_sound() {
        let problems = repair.after.problems_total;
        mend(&store, now, random, &mut repair)?;
        repair.after = examine(&*store)?;
        if repair.after.problems_total >= problems {
            break;
        }
    }
    // What is missing was told, and is not looked for again.
    store.counted()?;
    Ok(repair)
}

fn mend(
    store: &Arc<dyn Store>,
    now: Timestamp,
    random: &mut dyn Rng,
    repair: &mut Repair,
) -> Result<()> {
    let mut state = QueueState::open_as_found(store.clone(), Config::default(), now, random)?;
    // Records that opening set aside are written first: a recount reads what is stored.
    let writes = state.finish_group(now);
    if !writes.is_empty() {
        store.commit(writes)?;
    }
    let said: Vec<PerPriority<StateCounts>> =
        state.queues.by_id.values().map(|entry| entry.counts).collect();
    let (live_bytes, next_sequence) = (state.draft.live_bytes(), state.meta.next_sequence);
    let mended = state.recount()?;
    repair.locations_mended += mended.locations;
    repair.places_mended += mended.places;
    for (entry, said) in state.queues.by_id.values().zip(said) {
        if entry.counts != said {
            let (queue, counted) = (entry.name.to_string(), entry.counts);
            repair.queues.push(Recounted { queue, said, counted });
        }
    }
    if state.draft.live_bytes() != live_bytes {
        repair.live_bytes = Some((live_bytes, state.draft.live_bytes()));
    }
    if state.meta.next_sequence != next_sequence {
        repair.next_sequence = Some((next_sequence, state.meta.next_sequence));
    }
    store.commit(state.finish_group(now))
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use bytes::Bytes;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::job::{JobId, NewJob, RunAt};
    use crate::queue::state::Context;
    use crate::queue::{Claim, Failure};
    use crate::store::codec;
    use crate::store::format::{LocationRecord, MetaRecord, QueueRecord};
    use crate::store::memory::MemoryStore;
    use crate::store::{Direction, Tree, WriteSet, key};

    fn now() -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000)
    }

    /// A store with a ready, a scheduled and a dead job; the dead one has a location entry.
    fn with_jobs() -> (MemoryStore, JobId) {
        let store = MemoryStore::new();
        let mut random = StdRng::seed_from_u64(1);
        let shared = Arc::new(store.clone());
        let mut state = QueueState::open(shared, Config::default(), now(), &mut random).unwrap();
        let context = &mut Context { now: now(), random: &mut random };
        state.enqueue(vec![NewJob::new("dead")], context).unwrap();
        let token = state.claim(&Claim::default(), context).unwrap().jobs[0].token;
        let failure = Failure { token, error: "no".into(), retry: false, retry_in_ms: None };
        state.fail(&failure, context).unwrap();
        let later = NewJob::new("later").queue("other").run_at(RunAt::DelayMs(5_000));
        state.enqueue(vec![NewJob::new("ready"), later], context).unwrap();
        store.commit(state.finish_group(now())).unwrap();
        assert!(examine(&store).unwrap().is_sound());
        (store, token.job)
    }

    fn repaired(store: &MemoryStore) -> Repair {
        let mut random = StdRng::seed_from_u64(2);
        let repair = repair_store(Arc::new(store.clone()), now(), &mut random).unwrap();
        assert_eq!(repair.after, examine(store).unwrap());
        repair
    }

    fn entries(store: &MemoryStore, tree: Tree) -> Vec<(Vec<u8>, Bytes)> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        store.scan(tree, everything, Direction::Ascending).map(Result::unwrap).collect()
    }

    fn put(store: &MemoryStore, tree: Tree, key: Vec<u8>, value: Bytes) {
        let mut writes = WriteSet::default();
        writes.put(tree, key, value);
        store.commit(writes).unwrap();
    }

    #[test]
    fn counters_are_made_anew() {
        let (store, _) = with_jobs();
        let (record_key, bytes) = entries(&store, Tree::Queues).remove(0);
        let mut record: QueueRecord = codec::decode(&bytes).unwrap();
        let counted = record.counts;
        record.counts[crate::Priority::Bulk].ready = 77;
        put(&store, Tree::Queues, record_key, codec::encode(&record));
        put(&store, Tree::Meta, key::LIVE_BYTES.to_vec(), Bytes::copy_from_slice(&[0; 8]));
        let repair = repaired(&store);
        assert_eq!(repair.before.violations, [("I2", 2)].into());
        assert!(repair.after.is_sound(), "{:#?}", repair.after.problems);
        let said = record.counts;
        assert_eq!(repair.queues, [Recounted { queue: record.name, said, counted }]);
        assert_eq!(repair.live_bytes, Some((0, repair.after.live_bytes)));
        assert_eq!(repair.locations_mended, 0);
    }

    #[test]
    fn the_location_index_is_mended() {
        let (store, dead) = with_jobs();
        let wrong = codec::encode(&LocationRecord::Timer { due_ms: 1 });
        put(&store, Tree::Location, key::job(dead), wrong.clone());
        put(&store, Tree::Location, key::job(JobId::from_u128(77)), wrong);
        let repair = repaired(&store);
        assert_eq!(repair.before.violations, [("I5", 2)].into());
        assert!(repair.after.is_sound(), "{:#?}", repair.after.problems);
        assert_eq!(repair.locations_mended, 2);
        // One that is missing altogether.
        let mut writes = WriteSet::default();
        writes.remove(Tree::Location, key::job(dead));
        store.commit(writes).unwrap();
        assert!(!examine(&store).unwrap().is_sound());
        assert_eq!(repaired(&store).locations_mended, 1);
        assert!(examine(&store).unwrap().is_sound());
    }

    #[test]
    fn a_sequence_in_use_never_comes_again() {
        let (store, _) = with_jobs();
        let bytes = store.get(Tree::Meta, key::META).unwrap().unwrap();
        let mut meta: MetaRecord = codec::decode(&bytes).unwrap();
        let next = std::mem::replace(&mut meta.next_sequence, 1);
        put(&store, Tree::Meta, key::META.to_vec(), codec::encode(&meta));
        let repair = repaired(&store);
        assert_eq!(repair.before.violations, [("I6", 1)].into());
        assert!(repair.after.is_sound(), "{:#?}", repair.after.problems);
        assert_eq!(repair.next_sequence, Some((1, next)));
    }

    #[test]
    fn what_cannot_be_mended_is_told_and_left() {
        let (store, _) = with_jobs();
        let (chunk, bytes) = entries(&store, Tree::Dead).remove(0);
        let mut damaged = bytes.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        put(&store, Tree::Dead, chunk.clone(), damaged.clone().into());
        let repair = repaired(&store);
        assert_eq!(repair.after.violations, [("damage", 1)].into());
        assert_eq!(entries(&store, Tree::Dead), [(chunk, damaged.into())]);
    }

    #[test]
    fn a_sound_store_is_not_written_to() {
        let (store, _) = with_jobs();
        let before: Vec<_> = Tree::ALL.map(|tree| entries(&store, tree)).to_vec();
        let repair = repaired(&store);
        assert_eq!(repair.before, repair.after);
        assert_eq!(before, Tree::ALL.map(|tree| entries(&store, tree)).to_vec());
    }
}
