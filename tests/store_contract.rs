//! What every store promises, run over each of them: reads, scans, and one atomic commit.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(clippy::indexing_slicing, reason = "the same")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use pulk::store::memory::MemoryStore;
use pulk::store::sled::SledStore;
use pulk::store::{
    COMMIT_BYTES_MAX, Direction, JournaledStore, KeyRange, Store, Tree, VALUE_BYTES_MAX, WriteSet,
};
use pulk::{ErrorKind, Priority};

const ALL: KeyRange = (Bound::Unbounded, Bound::Unbounded);

/// A store that can be closed and opened again.
trait Engine {
    fn open(&self) -> Box<dyn Store>;
}

impl Engine for MemoryStore {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.clone())
    }
}

/// A sled database in a directory.
struct Sled<'a>(&'a Path);

impl Engine for Sled<'_> {
    fn open(&self) -> Box<dyn Store> {
        Box::new(SledStore::open(self.0).unwrap())
    }
}

/// The store of the product: a journal before sled.
struct Journaled<'a>(&'a Path);

impl Engine for Journaled<'_> {
    fn open(&self) -> Box<dyn Store> {
        Box::new(JournaledStore::open(self.0).unwrap())
    }
}

fn on_every_engine(promise: impl Fn(&dyn Engine)) {
    promise(&MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    promise(&Sled(dir.path()));
    let dir = tempfile::tempdir().unwrap();
    promise(&Journaled(dir.path()));
}

fn put(tree: Tree, entries: &[(&str, &str)]) -> WriteSet {
    let mut writes = WriteSet::default();
    for (key, value) in entries {
        writes.put(tree, key.as_bytes().to_vec(), Bytes::copy_from_slice(value.as_bytes()));
    }
    writes
}

fn get(store: &dyn Store, tree: Tree, key: &str) -> Option<String> {
    let value = store.get(tree, key.as_bytes()).unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn keys(store: &dyn Store, range: KeyRange, direction: Direction) -> String {
    let mut found = String::new();
    for entry in store.scan(Tree::Timers, range, direction) {
        let (key, value) = entry.unwrap();
        assert_eq!(key, value, "an entry has its own value");
        found.push_str(std::str::from_utf8(&key).unwrap());
    }
    found
}

#[test]
fn a_commit_writes_all_its_trees_and_nothing_else() {
    on_every_engine(|engine| {
        let store = engine.open();
        let mut writes = put(Tree::Meta, &[("key", "meta")]);
        for tree in Tree::ALL {
            assert_eq!(get(&*store, tree, "key"), None);
            writes.put(tree, b"key".to_vec(), Bytes::from_static(tree.name().as_bytes()));
        }
        store.commit(writes).unwrap();
        for tree in Tree::ALL {
            assert_eq!(get(&*store, tree, "key").as_deref(), Some(tree.name()));
            assert_eq!(get(&*store, tree, "other"), None);
        }
        store.commit(WriteSet::default()).unwrap();
        store.close().unwrap();
    });
}

#[test]
fn the_last_write_of_a_key_counts() {
    on_every_engine(|engine| {
        let store = engine.open();
        store.commit(put(Tree::Dead, &[("a", "1"), ("b", "1"), ("c", "1")])).unwrap();
        let mut writes = put(Tree::Dead, &[("b", "2"), ("d", "2")]);
        writes.remove(Tree::Dead, b"a".to_vec());
        writes.remove(Tree::Dead, b"never there".to_vec());
        store.commit(writes).unwrap();
        let found: Vec<_> =
            ["a", "b", "c", "d"].iter().map(|key| get(&*store, Tree::Dead, key)).collect();
        assert_eq!(found, [None, Some("2".into()), Some("1".into()), Some("2".into())]);
    });
}

#[test]
fn scans_keep_to_their_range_in_both_directions() {
    use Bound::{Excluded, Included, Unbounded};
    let key = |key: &str| key.as_bytes().to_vec();
    on_every_engine(|engine| {
        let store = engine.open();
        let ascending = |range: KeyRange| keys(&*store, range, Direction::Ascending);
        let descending = |range: KeyRange| keys(&*store, range, Direction::Descending);
        assert_eq!(ascending(ALL) + &descending(ALL), "");
        let entries = [("b", "b"), ("d", "d"), ("f", "f"), ("h", "h")];
        store.commit(put(Tree::Timers, &entries)).unwrap();

        for (range, expected) in [
            (ALL, "bdfh"),
            ((Included(key("d")), Included(key("f"))), "df"),
            ((Included(key("d")), Excluded(key("f"))), "d"),
            ((Excluded(key("d")), Included(key("f"))), "f"),
            ((Excluded(key("d")), Excluded(key("f"))), ""),
            ((Included(key("c")), Excluded(key("g"))), "df"),
            ((Unbounded, Excluded(key("d"))), "b"),
            ((Excluded(key("f")), Unbounded), "h"),
            ((Included(key("d")), Included(key("d"))), "d"),
            ((Excluded(key("d")), Excluded(key("d"))), ""),
            ((Excluded(key("d")), Included(key("d"))), ""),
            ((Included(key("x")), Unbounded), ""),
            ((Unbounded, Excluded(key(""))), ""),
            ((Included(key("f")), Included(key("b"))), ""),
        ] {
            assert_eq!(ascending(range.clone()), expected, "{range:?}");
            let backwards: String = expected.chars().rev().collect();
            assert_eq!(descending(range.clone()), backwards, "{range:?}, descending");
        }
    });
}

#[test]
fn a_scan_costs_what_is_taken_from_it() {
    on_every_engine(|engine| {
        let store = engine.open();
        for hundred in 0..100_u32 {
            let mut writes = WriteSet::default();
            for one in 0..100 {
                let key = (hundred * 100 + one).to_be_bytes();
                writes.put(Tree::Timers, key.to_vec(), Bytes::copy_from_slice(&key));
            }
            store.commit(writes).unwrap();
        }
        // Ten thousand scans of ten thousand entries would take minutes.
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes();
            let (from, to) = (Bound::Included(key.to_vec()), Bound::Unbounded);
            let mut scan = store.scan(Tree::Timers, (from, to), Direction::Ascending);
            assert_eq!(scan.next().unwrap().unwrap().0, key);
            let (from, to) = (Bound::Unbounded, Bound::Included(key.to_vec()));
            let mut scan = store.scan(Tree::Timers, (from, to), Direction::Descending);
            assert_eq!(scan.next().unwrap().unwrap().0, key);
        }
    });
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    on_every_engine(|engine| {
        for round in 0..5 {
            let store = engine.open();
            for before in 0..round {
                let key = format!("key {before}");
                assert_eq!(get(&*store, Tree::Progress, &key), Some(format!("value {before}")));
            }
            let (key, value) = (format!("key {round}"), format!("value {round}"));
            store.commit(put(Tree::Progress, &[(&key, &value)])).unwrap();
            store.close().unwrap();
        }
    });
}

#[test]
fn large_values_come_back_whole() {
    on_every_engine(|engine| {
        let mut writes = WriteSet::default();
        for number in 0..100_u8 {
            writes.put(Tree::Payload, vec![number], Bytes::from(vec![number; VALUE_BYTES_MAX]));
        }
        let store = engine.open();
        store.commit(writes).unwrap();
        store.close().unwrap();
        let store = engine.open();
        for number in 0..100_u8 {
            let value = store.get(Tree::Payload, &[number]).unwrap().unwrap();
            assert_eq!(value, vec![number; VALUE_BYTES_MAX]);
        }
    });
}

#[test]
fn a_commit_above_the_limit_is_refused_and_changes_nothing() {
    on_every_engine(|engine| {
        let store = engine.open();
        let mut writes = WriteSet::default();
        for number in 0..=(COMMIT_BYTES_MAX / VALUE_BYTES_MAX) as u32 {
            let value = Bytes::from(vec![0; VALUE_BYTES_MAX]);
            writes.put(Tree::Payload, number.to_be_bytes().to_vec(), value);
        }
        assert_eq!(store.commit(writes).unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(store.scan(Tree::Payload, ALL, Direction::Ascending).next().is_none());
        store.commit(put(Tree::Meta, &[("key", "value")])).unwrap();
    });
}

/// One write: which tree, which key, and the value's length, or none to remove it.
type Write = (usize, u16, Option<usize>);

fn write_sets() -> impl Strategy<Value = Vec<Vec<Write>>> {
    let length = prop_oneof![0..50_usize, 0..3_000_usize];
    // Few keys, so that they meet again; one in four is removed.
    let write = (0..3_usize, 0..200_u16, prop::option::weighted(0.75, length));
    prop::collection::vec(prop::collection::vec(write, 1..60), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_writes_read_like_an_ordered_map(sets in write_sets()) {
        let trees = [Tree::Ready(Priority::Default), Tree::Timers, Tree::Progress];
        on_every_engine(|engine| {
            let mut model: BTreeMap<Tree, BTreeMap<Vec<u8>, Bytes>> = BTreeMap::new();
            let mut store = engine.open();
            for (number, set) in sets.iter().enumerate() {
                let mut writes = WriteSet::default();
                for &(tree, key, length) in set {
                    let tree = trees[tree];
                    let key = key.to_be_bytes().to_vec();
                    let entries = model.entry(tree).or_default();
                    if let Some(length) = length {
                        let value = Bytes::from(vec![number as u8; length]);
                        entries.insert(key.clone(), value.clone());
                        writes.put(tree, key, value);
                    } else {
                        entries.remove(&key);
                        writes.remove(tree, key);
                    }
                }
                store.commit(writes).unwrap();
                if number % 5 == 4 {
                    store.close().unwrap();
                    drop(store);
                    store = engine.open();
                }
            }
            for tree in trees {
                let expected = model.remove(&tree).unwrap_or_default();
                let expected: Vec<_> = expected.into_iter().collect();
                let ascending: Vec<_> =
                    store.scan(tree, ALL, Direction::Ascending).map(Result::unwrap).collect();
                assert_eq!(ascending, expected);
                let mut descending: Vec<_> =
                    store.scan(tree, ALL, Direction::Descending).map(Result::unwrap).collect();
                descending.reverse();
                assert_eq!(descending, expected);
                for (key, value) in expected {
                    assert_eq!(store.get(tree, &key).unwrap(), Some(value));
                }
            }
        });
    }
}
