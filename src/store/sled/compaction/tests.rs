//! Compaction while opening and while in use, cut off at every step.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::*;
use crate::store::space::{Reserve, Space};
use crate::store::{Direction, Entry, KeyRange, WriteSet};

const ALL: KeyRange = (Bound::Unbounded, Bound::Unbounded);
/// A file that is compacted early.
const EAGER: Limits = both(Limit { spare_bytes: 2 << 20, ratio: 4 });
/// A file that is never compacted.
const NEVER: Limits = both(Limit { spare_bytes: u64::MAX, ratio: 1 });

const fn both(limit: Limit) -> Limits {
    Limits { plenty: limit, short: limit }
}

fn open_store(dir: &Path, limits: Limits) -> SledStore {
    let data_dir = Arc::new(DataDir::open(dir).unwrap());
    let space = Space::open(dir, Reserve::AsFound).unwrap();
    SledStore::open_in(&data_dir, Arc::new(space), limits, crate::store::sled::SEGMENT_BYTES)
        .unwrap()
}

fn key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// Writes 10 MB of which a hundredth stays alive, and tells so in the meta tree.
fn mostly_dead(dir: &Path, tells: bool) {
    let store = open_store(dir, NEVER);
    for round in 0..5 {
        let mut writes = WriteSet::default();
        for one in 0..100 {
            writes.put(Tree::Payload, key(round * 100 + one), vec![7; 20_000].into());
        }
        store.commit_all(&writes).unwrap();
    }
    for round in 0..5 {
        let mut writes = WriteSet::default();
        for one in 0..99 {
            writes.remove(Tree::Payload, key(round * 100 + one));
        }
        writes.put(Tree::Timers, key(round), Bytes::from_static(b"timer"));
        store.commit_all(&writes).unwrap();
    }
    if tells {
        let mut writes = WriteSet::default();
        let live_bytes = Bytes::copy_from_slice(&100_000_u64.to_be_bytes());
        writes.put(Tree::Meta, key::LIVE_BYTES.to_vec(), live_bytes);
        store.commit_all(&writes).unwrap();
    }
    store.close().unwrap();
}

type All = BTreeMap<Tree, Vec<Entry>>;

fn all(store: &SledStore) -> All {
    let of_tree =
        |tree| store.scan(tree, ALL, Direction::Ascending).collect::<Result<Vec<Entry>>>().unwrap();
    Tree::ALL.into_iter().map(|tree| (tree, of_tree(tree))).collect()
}

fn alive(store: &SledStore) -> usize {
    store.scan(Tree::Payload, ALL, Direction::Ascending).map(Result::unwrap).count()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files as they are, in another directory: what a process that dies now would leave.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    let into = tempfile::tempdir().unwrap();
    copy_into(dir, into.path());
    into
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_into(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[track_caller]
fn assert_would_be_there(dir: &Path, expected: &All, at: &str) {
    let left = copy_of(dir);
    let store = open_store(left.path(), NEVER);
    assert!(all(&store) == *expected, "after a crash {at}");
    assert_eq!(names(left.path()), ["lock", "sled"], "after a crash {at}");
    store.close().unwrap();
}

#[test]
fn a_mostly_dead_database_is_copied_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    mostly_dead(dir.path(), true);
    let before = fs::metadata(dir.path().join("sled/db")).unwrap().len();
    let store = open_store(dir.path(), EAGER);
    let after = store.disk_bytes().unwrap();
    assert!(after < before / 4, "from {before} to {after} bytes");
    assert_eq!(alive(&store), 5);
    assert_eq!(names(dir.path()), ["lock", "sled"]);
    assert!(store.problems().unwrap().is_empty());
    store.close().unwrap();

    // Nothing is left to gain, and what was copied is there once more.
    let store = open_store(dir.path(), EAGER);
    assert_eq!(alive(&store), 5);
    assert!(store.disk_bytes().unwrap() <= after);
}

#[test]
fn without_knowing_what_is_alive_nothing_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    mostly_dead(dir.path(), false);
    let before = fs::metadata(dir.path().join("sled/db")).unwrap().len();
    let store = open_store(dir.path(), EAGER);
    assert!(!store.is_worth_compacting(None));
    assert!(store.is_worth_compacting(Some(0)), "the caller knows");
    assert!(store.disk_bytes().unwrap() >= before);
    assert_eq!(alive(&store), 5);
}

#[test]
fn a_copy_that_fails_leaves_the_original_in_use_and_is_not_tried_at_once_again() {
    let dir = tempfile::tempdir().unwrap();
    mostly_dead(dir.path(), true);
    let mut store = open_store(dir.path(), NEVER);
    store.limits = EAGER;
    assert!(store.is_worth_compacting(None));
    // The copy finds a file where its folder should be.
    fs::write(dir.path().join("sled.compact"), "").unwrap();
    store.compact().unwrap();
    assert_eq!(alive(&store), 5);
    assert!(!store.is_worth_compacting(None));
    assert!(store.is_worth_compacting(Some(50_000)), "less is alive than then");
    fs::remove_file(dir.path().join("sled.compact")).unwrap();
    store.compact().unwrap();
    assert_eq!(alive(&store), 5);
    assert!(!store.is_worth_compacting(None));
    store.close().unwrap();
}

#[test]
fn a_copy_made_in_use_can_be_cut_off_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    mostly_dead(dir.path(), true);
    let store = open_store(dir.path(), NEVER);
    let before = store.disk_bytes().unwrap();
    let mut copying = store.begin_copy().unwrap();
    let mut expected = all(&store);
    assert_would_be_there(dir.path(), &expected, "before the first step");
    for step in 0.. {
        // Behind the place that the copy has come to, and before it: new, changed and gone.
        let mut writes = WriteSet::default();
        writes.put(Tree::Payload, key(step * 10_000), Bytes::from(vec![step as u8; 300]));
        writes.put(Tree::Payload, key(99 + step % 3 * 100), Bytes::from(vec![step as u8; 9]));
        writes.remove(Tree::Timers, key(step));
        writes.put(Tree::Timers, key(100 + step), Bytes::from_static(b"new"));
        writes.remove(Tree::Dead, key(step / 2));
        writes.put(Tree::Dead, key(step), Bytes::from(vec![1; 2_000]));
        store.commit_all(&writes).unwrap();
        copying.follow(&writes).unwrap();
        expected = all(&store);
        if copying.step().unwrap() {
            assert!(step > Tree::ALL.len() as u32);
            break;
        }
        if step % 4 == 0 {
            assert_would_be_there(dir.path(), &expected, &format!("in step {step}"));
        }
    }
    assert_would_be_there(dir.path(), &expected, "before the swap");
    each_state_of_the_swap(dir.path(), &expected);

    store.go_on_with(copying).unwrap();
    assert!(all(&store) == expected);
    assert!(store.disk_bytes().unwrap() < before / 4);
    assert_eq!(names(dir.path()), ["lock", "sled"]);
    assert_would_be_there(dir.path(), &expected, "after the swap");
    let mut writes = WriteSet::default();
    writes.put(Tree::Unique, key(1), Bytes::from_static(b"later"));
    store.commit_all(&writes).unwrap();
    let expected = all(&store);
    assert_would_be_there(dir.path(), &expected, "after a later commit");
    store.close().unwrap();
    let store = open_store(dir.path(), NEVER);
    assert!(all(&store) == expected);
}

/// Crashes between the renames: the copy is whole, and so is what it was made of.
fn each_state_of_the_swap(dir: &Path, expected: &All) {
    let left = copy_of(dir);
    let at = |name: &str| left.path().join(name);
    fs::rename(at("sled"), at("sled.old")).unwrap();
    assert_would_be_there(left.path(), expected, "after the first rename");
    fs::rename(at("sled.compact"), at("sled")).unwrap();
    assert_would_be_there(left.path(), expected, "after the second rename");
    fs::remove_file(at("sled.old/db")).unwrap();
    assert_would_be_there(left.path(), expected, "while the old one is removed");
}

#[test]
fn a_scan_goes_on_with_the_database_that_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    mostly_dead(dir.path(), true);
    let store = open_store(dir.path(), NEVER);
    let expected = all(&store);
    let mut scan = store.scan(Tree::Payload, ALL, Direction::Ascending);
    let mut found = vec![scan.next().unwrap().unwrap()];
    store.compact().unwrap();
    found.extend(scan.map(Result::unwrap));
    assert_eq!(found, expected[&Tree::Payload]);
    assert!(all(&store) == expected);
    // The lock is held by the copy too, and goes with it.
    assert!(DataDir::open(dir.path()).is_err());
    store.close().unwrap();
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn a_copy_that_would_not_fit_is_not_begun() {
    let fits = |live_bytes: u64, at_hand_bytes: u64| at_hand_bytes >= needed_bytes(live_bytes);
    assert!(fits(0, 4 << 20));
    assert!(!fits(0, 3 << 20));
    assert!(fits(100 << 20, 260 << 20));
    assert!(!fits(100 << 20, 240 << 20));
}
