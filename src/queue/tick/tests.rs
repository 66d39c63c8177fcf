use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::config::Config;
use crate::job::{NewJob, RunAt};
use crate::store::memory::MemoryStore;
use crate::store::{KeyRange, Scan, Store, WriteSet};

/// A store that remembers from where on it was read in the order of moments.
struct Noting {
    store: MemoryStore,
    starts: Mutex<Vec<Bound<Vec<u8>>>>,
}

impl Store for Noting {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        if matches!(tree, Tree::Timers | Tree::Expiry) {
            self.starts.lock().unwrap().push(range.0.clone());
        }
        self.store.scan(tree, range, direction)
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        self.store.commit(writes)
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.store.disk_bytes()
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}

/// What a tick reads never lies before what is due first: a store has to step over everything that
/// was removed there and that it is not rid of yet.
#[test]
fn what_came_due_before_is_not_read_over_again() {
    let store = Arc::new(Noting { store: MemoryStore::new(), starts: Mutex::default() });
    let (mut random, begun) = (StdRng::seed_from_u64(1), Timestamp::from_ms(1_800_000_000_000));
    let mut state = QueueState::open(store.clone(), Config::default(), begun, &mut random).unwrap();
    let context = &mut Context { now: begun, random: &mut random };
    let delayed = (1..=2_000).map(|ms| NewJob::new("mail").run_at(RunAt::DelayMs(ms))).collect();
    state.enqueue(delayed, context).unwrap();
    let expiring = (1..=2_000).map(|ms| NewJob::new("mail").expires_in_ms(ms)).collect();
    state.enqueue(expiring, context).unwrap();
    store.commit(state.finish_group(begun)).unwrap();
    let mut done_ms = 0;
    for ms in [500, 501, 900, 2_000] {
        let now = begun.plus_ms(ms);
        let first = begun.plus_ms(done_ms + 1);
        assert_eq!((state.first_timer, state.first_ending), (Some(first), Some(first)));
        store.starts.lock().unwrap().clear();
        let mut has_more = true;
        while has_more {
            has_more = state.tick(&mut Context { now, random: &mut random }).unwrap();
            store.commit(state.finish_group(now)).unwrap();
        }
        let starts = store.starts.lock().unwrap();
        assert!(starts.len() >= 2);
        for start in starts.iter() {
            match start {
                Bound::Included(key) | Bound::Excluded(key) => {
                    assert!(*key >= key::moment(first), "{ms}: {key:?}");
                }
                Bound::Unbounded => panic!("{ms}: all that was ever due is read over"),
            }
        }
        done_ms = ms;
    }
    assert_eq!((state.first_timer, state.first_ending), (None, None));
}
