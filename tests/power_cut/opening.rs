//! The power goes at every moment of an opening that finds dead segments, and of the one after it.
//!
//! What the disk keeps is not drawn but gone through: of one file or directory all that was done
//! to it, or half of its sectors, and nothing of the others. sled's segments are small, so that a
//! short log has many.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::catch_unwind;
use std::path::Path;

use pulk::store::sled::{Limit, Limits};
use pulk::store::{Direction, JournaledStore, Sizes, Store, Tree, WriteSet};
use pulk_proof_disk::chance::Seeded;
use pulk_proof_disk::{Base, Chance, History, Operation, Recording};

use crate::images;

const SEGMENT_BYTES: usize = 64 << 10;
/// Files and directories that an opening changes.
const CHANGED_MAX: u64 = 5;

type All = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(dir: &Path) -> JournaledStore {
    let never = Limit { spare_bytes: u64::MAX, ratio: 1 };
    let compaction = Limits { plenty: never, short: never };
    let sizes = Sizes { journal_file_bytes: 8 << 10, compaction, segment_bytes: SEGMENT_BYTES };
    JournaledStore::open_with_sizes(dir, 0, sizes).unwrap()
}

/// Writes over the same keys again and again: in sled's log, most of what is old is dead then.
fn work(store: &JournaledStore, all: &mut All, commits: u64) {
    for commit in 0..commits {
        let mut writes = WriteSet::default();
        for key in 0..10_u64 {
            let key = (commit * 10 + key) % 12;
            let (key, value) = (key.to_be_bytes().to_vec(), vec![commit as u8; 300]);
            all.insert(key.clone(), value.clone());
            writes.put(Tree::Dead, key, value.into());
        }
        store.commit(writes).unwrap();
    }
}

fn all_of(store: &JournaledStore) -> All {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let entries = store.scan(Tree::Dead, everything, Direction::Ascending);
    entries.map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap()).collect()
}

/// One file or directory keeps something, and the others nothing.
struct Kept {
    /// How often something was asked: which sectors, one apart, which one, what of it.
    asked: usize,
    answers: [u64; 5],
    rest: Seeded,
}

impl Chance for Kept {
    fn below(&mut self, bound: u64) -> u64 {
        self.asked += 1;
        match self.answers.get(self.asked - 1) {
            Some(answer) => answer % bound,
            None => self.rest.below(bound),
        }
    }
}

/// All that can be kept: sectors of 512 or 4096 bytes; one is apart (2); it keeps everything (1)
/// or half (3); the others nothing (0).
fn all_that_is_kept(seed: u64) -> impl Iterator<Item = Kept> {
    (0..CHANGED_MAX).flat_map(move |number| {
        [1, 3].map(|survival| {
            let answers = [seed % 2, 2, number, survival, 0];
            Kept { asked: 0, answers, rest: Seeded::new(seed ^ number << 8 ^ survival) }
        })
    })
}

/// Opens what lies in a directory, and gives what that has done.
fn opened(dir: &Path, all: &All) -> Vec<Operation> {
    let recording = Recording::start(dir).unwrap();
    let store = open(dir);
    let operations = recording.stop();
    assert!(all_of(&store) == *all, "something is not as it was written");
    // It works on from there.
    let mut more = all.clone();
    work(&store, &mut more, 3);
    store.close().unwrap();
    assert!(all_of(&open(dir)) == more, "something is not as it was written later");
    operations
}

/// How an opening is gone through.
struct Search<'a> {
    all: &'a All,
    seed: u64,
    images: usize,
}

impl Search<'_> {
    /// Cuts the power at every moment of what was done on this base, and opens what is left; every
    /// fourth of these openings is gone through in the same way, `deeper`.
    fn go_through(&mut self, base: Base, operations: Vec<Operation>, deeper: bool) {
        let history = History { base, operations };
        let mut disk = history.disk();
        for cut in first_in_database(&history)..=history.operations.len() {
            disk.advance(cut);
            self.seed = self.seed.wrapping_add(1);
            for (nth, mut kept) in all_that_is_kept(self.seed).enumerate() {
                let is_chosen =
                    (self.seed as usize / 4 + nth).is_multiple_of(2 * CHANGED_MAX as usize);
                if !deeper && !is_chosen {
                    continue;
                }
                self.images += 1;
                let (image, answers) = (images::scratch_directory(), kept.answers);
                disk.image(&mut kept, image.path()).unwrap();
                let found = Base::read(image.path()).unwrap();
                let again = catch_unwind(|| opened(image.path(), self.all)).unwrap_or_else(|_| {
                    let done: Vec<String> = history.operations[..cut].iter().map(shown).collect();
                    panic!("{answers:?} is kept after {cut} operations: {done:#?}")
                });
                if deeper && is_chosen && self.seed.is_multiple_of(4) {
                    self.go_through(found, again, false);
                }
            }
        }
    }
}

/// The operation before which nothing is done to the database.
fn first_in_database(history: &History) -> usize {
    let is_first = |operation: &Operation| match operation {
        Operation::Write { path, .. } | Operation::MakeDirectory { path } => {
            path.starts_with("sled")
        }
        _ => false,
    };
    history.operations.iter().position(is_first).unwrap_or(history.operations.len())
}

/// How many segments were written over with zeros from their beginning.
fn zeroed_segments(operations: &[Operation]) -> usize {
    let is_zeroed = |operation: &&Operation| match operation {
        Operation::Write { path, offset, bytes } => {
            path.ends_with("sled/db")
                && offset % SEGMENT_BYTES as u64 == 0
                && bytes.iter().all(|byte| *byte == 0)
        }
        _ => false,
    };
    operations.iter().filter(is_zeroed).count()
}

fn shown(operation: &Operation) -> String {
    match operation {
        Operation::Write { path, offset, bytes } => {
            format!("{} bytes into {} at {offset}", bytes.len(), path.display())
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn an_opening_that_finds_dead_segments_may_be_cut_off_at_every_moment() {
    let mut met = 0;
    // How many segments are dead depends on how the threads took turns.
    for commits in (64..).take(100) {
        let dir = images::scratch_directory();
        let (store, mut all) = (open(dir.path()), All::new());
        work(&store, &mut all, commits);
        store.close().unwrap();
        let base = Base::read(dir.path()).unwrap();
        let operations = opened(dir.path(), &all);
        if zeroed_segments(&operations) == 0 {
            continue;
        }
        let mut search = Search { all: &all, seed: images::seed() >> 1, images: 0 };
        search.go_through(base, operations, true);
        println!("{} images", search.images);
        met += 1;
        if met == 2 {
            return;
        }
    }
    panic!("{met} openings found dead segments");
}
