//! Any history reads like an ordered map, over closing, killing, moving and compacting.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::store::sled::Limit;
use crate::store::{Entry, key};

/// Files so small that most histories move some.
const TEST_FILE_BYTES_FULL: u64 = 400;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    /// Close, and open again.
    Reopen,
    /// Open what a killed process would have left.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..40u8, prop::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        8 => prop::collection::vec(write, 1..8).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

fn open(dir: &Path) -> JournaledStore {
    let sizes = Sizes { journal_file_bytes: TEST_FILE_BYTES_FULL, ..Sizes::default() };
    JournaledStore::open_with(dir, Reserve::AsFound, sizes).unwrap()
}

/// The files as they are, in another directory: what is in the page cache outlives a process.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let into = tempfile::tempdir().unwrap();
    copy(dir, into.path());
    into
}

/// Waits until nothing is being moved, so that the files stand still.
fn settle(store: &JournaledStore) {
    let mut over = store.over_mut();
    let mover = store.mover.lock().unwrap();
    while over.moving.is_some() {
        over.hear(mover.as_ref().unwrap().moved.recv().unwrap()).unwrap();
    }
}

fn check(store: &JournaledStore, model: &BTreeMap<Vec<u8>, Bytes>) {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let up = store.scan(Tree::Dead, all.clone(), Direction::Ascending);
    let up: Vec<Entry> = up.collect::<Result<_>>().unwrap();
    let expected: Vec<Entry> = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(up, expected);
    let part = (Bound::Excluded(vec![9]), Bound::Included(vec![30]));
    let down = store.scan(Tree::Dead, part.clone(), Direction::Descending);
    let down: Vec<Entry> = down.collect::<Result<_>>().unwrap();
    let expected: Vec<Entry> =
        model.range(part).rev().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(down, expected);
    for key in 0..40 {
        assert_eq!(store.get(Tree::Dead, &[key]).unwrap().as_ref(), model.get(&vec![key]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_like_an_ordered_map(steps in prop::collection::vec(step(), 1..60)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(keys) => {
                    let mut writes = WriteSet::default();
                    for (key, value) in keys {
                        let key = vec![key];
                        match value {
                            Some(value) => {
                                let value = Bytes::from(vec![value; 20]);
                                writes.put(Tree::Dead, key.clone(), value.clone());
                                model.insert(key, value);
                            }
                            None => {
                                writes.remove(Tree::Dead, key.clone());
                                model.remove(&key);
                            }
                        }
                    }
                    store.commit(writes).unwrap();
                }
                Step::Reopen => {
                    store.close().unwrap();
                    let left = journal::files(dir.path()).unwrap();
                    prop_assert!(left.is_empty(), "an orderly end left {left:?}");
                    store = open(dir.path());
                }
                Step::Kill => {
                    settle(&store);
                    let copy = copy_of(dir.path());
                    drop(store);
                    dir = copy;
                    store = open(dir.path());
                }
            }
            check(&store, &model);
        }
    }
}

#[test]
fn writes_of_a_file_are_read_while_it_is_moved_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = BTreeMap::new();
    for round in 0..100u8 {
        for key in 0..10u8 {
            let mut writes = WriteSet::default();
            let value = Bytes::from(vec![round; 50]);
            writes.put(Tree::Dead, vec![key], value.clone());
            model.insert(vec![key], value);
            store.commit(writes).unwrap();
            check(&store, &model);
        }
    }
    let files = journal::files(dir.path()).unwrap();
    assert!(files.len() <= 2 && files[0].0 > 10, "files were moved and given up: {files:?}");
}

#[test]
fn space_comes_back_while_the_store_is_open() {
    const EAGER: Limit = Limit { spare_bytes: 2 << 20, ratio: 4 };
    const VALUE_BYTES: usize = 20_000;
    let limits = Limits { plenty: EAGER, short: EAGER };
    let sizes = Sizes { journal_file_bytes: 100_000, compaction: limits, ..Sizes::default() };
    let dir = tempfile::tempdir().unwrap();
    let store = JournaledStore::open_with(dir.path(), Reserve::AsFound, sizes).unwrap();
    let mut model = BTreeMap::new();
    // Once more and once less: every value is written, then all but two are removed.
    for number in (0..200u8).chain(2..200) {
        let mut writes = WriteSet::default();
        let key = vec![number];
        match model.remove(&key) {
            Some(_) => writes.remove(Tree::Dead, key),
            None => {
                let value = Bytes::from(vec![number; VALUE_BYTES]);
                writes.put(Tree::Dead, key.clone(), value.clone());
                model.insert(key, value);
            }
        }
        let live_bytes = (model.len() * VALUE_BYTES) as u64;
        let live_bytes = Bytes::copy_from_slice(&live_bytes.to_be_bytes());
        writes.put(Tree::Meta, key::LIVE_BYTES.to_vec(), live_bytes);
        store.commit(writes).unwrap();
        check(&store, &model);
    }
    // Less than a file of the journal was written since: that is moved all the same.
    // The engine asks for the space before each group, and so has the store see to it.
    let most = EAGER.spare_bytes + EAGER.ratio * (model.len() * VALUE_BYTES) as u64;
    while store.sled.disk_bytes().unwrap() > most {
        store.disk_space().unwrap();
        check(&store, &model);
        std::thread::yield_now();
    }
    store.close().unwrap();
    let store = JournaledStore::open_with(dir.path(), Reserve::AsFound, sizes).unwrap();
    check(&store, &model);
}

#[test]
fn closing_after_a_move_that_failed_says_so_and_returns() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // The mover finds no file to give up.
    fs::remove_file(dir.path().join("journal.1")).unwrap();
    let mut writes = WriteSet::default();
    writes.put(Tree::Dead, vec![1], Bytes::from(vec![1; 50]));
    let refused = (0..10_000).find_map(|_| store.commit(writes.clone()).err());
    assert_eq!(refused.unwrap().kind(), ErrorKind::Poisoned);
    assert_eq!(store.close().unwrap_err().kind(), ErrorKind::Poisoned);
}

/// A commit that finds the next file full too waits for a portion of the move, not for all of it.
#[test]
fn a_full_file_grows_as_fast_as_the_one_before_is_moved() {
    const FULL: usize = 4_000;
    let dir = tempfile::tempdir().unwrap();
    let sizes = Sizes { journal_file_bytes: FULL as u64, ..Sizes::default() };
    let store = JournaledStore::open_with(dir.path(), Reserve::AsFound, sizes).unwrap();
    let (orders, ordered) = mpsc::channel();
    let (tell, moved) = mpsc::channel();
    let mover = Mover { orders, moved, thread: std::thread::spawn(|| ()) };
    drop(store.mover.lock().unwrap().replace(mover).unwrap().stop());
    let commit = |key: u8, bytes: usize| {
        let mut writes = WriteSet::default();
        writes.put(Tree::Dead, vec![key], Bytes::from(vec![key; bytes]));
        store.commit(writes)
    };
    commit(1, FULL).unwrap();
    let Order::Move { writes, .. } = ordered.recv().unwrap() else { panic!("no move") };
    // As much again is free; from there on it depends on the mover.
    commit(2, FULL / 2).unwrap();
    tell.send(Moved::Portion(writes.bytes() / 2)).unwrap();
    commit(3, FULL * 3 / 4).unwrap();
    // Half of the room is taken. Nothing more is moved, and the mover is gone: no wait ends well.
    drop(tell);
    let error = commit(4, FULL / 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    for key in 1..=4 {
        assert!(store.get(Tree::Dead, &[key]).unwrap().is_some());
    }
}
