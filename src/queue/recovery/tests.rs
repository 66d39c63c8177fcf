//! Opening on a store that could not read all of its files.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::job::NewJob;
use crate::queue::state::Context;
use crate::store::memory::MemoryStore;
use crate::store::{KeyRange, Scan, WriteSet};

/// A store that wants a count until it was counted.
struct Unsure {
    store: MemoryStore,
    counted: AtomicBool,
}

impl Store for Unsure {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.store.scan(tree, range, direction)
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        self.store.commit(writes)
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.store.disk_bytes()
    }

    fn wants_count(&self) -> bool {
        !self.counted.load(Ordering::Relaxed)
    }

    fn counted(&self) -> Result<()> {
        self.counted.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}

/// A store with two jobs that is unsure of what it has.
fn unsure() -> Arc<Unsure> {
    let store = MemoryStore::new();
    let mut random = StdRng::seed_from_u64(1);
    let now = Timestamp::from_ms(1_000_000);
    let mut state =
        QueueState::open(Arc::new(store.clone()), Config::default(), now, &mut random).unwrap();
    let mut context = Context { now, random: &mut random };
    state.enqueue(vec![NewJob::new("mail"), NewJob::new("mail")], &mut context).unwrap();
    let writes = state.finish_group(now);
    store.commit(writes).unwrap();
    Arc::new(Unsure { store, counted: AtomicBool::new(false) })
}

fn open(store: &Arc<Unsure>) -> Result<QueueState> {
    let mut random = StdRng::seed_from_u64(2);
    let now = Timestamp::from_ms(1_000_000);
    QueueState::open(store.clone(), Config::default(), now, &mut random)
}

#[test]
fn what_is_whole_is_counted_once_and_opens() {
    let store = unsure();
    assert_eq!(open(&store).unwrap().ready_jobs(), 2);
    assert!(!store.wants_count());
}

#[test]
fn what_lost_jobs_is_refused_at_every_start() {
    let store = unsure();
    let tree = Tree::Ready(crate::Priority::Default);
    let all = (Bound::Unbounded, Bound::Unbounded);
    let (chunk, _) = store.scan(tree, all, Direction::Ascending).next().unwrap().unwrap();
    let mut writes = WriteSet::default();
    writes.remove(tree, chunk);
    store.commit(writes).unwrap();
    for _ in 0..2 {
        let Err(refused) = open(&store) else { panic!("it opened") };
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert!(refused.to_string().contains("jobs are missing"), "{refused}");
    }
}
