//! Where the queue's data lies: named ordered trees, read freely, changed by one atomic commit.
//!
//! # Contract of [`Store::commit`]
//! - Ensures: when it returns `Ok`, every write of the set would survive a power cut. When the
//!   process dies before that, either all of them are there after reopening or none.
//! - Ensures: after an `Err` of kind [`Poisoned`], every later commit fails too: what is on the
//!   disk is no longer known, and only reopening tells. A set larger than [`COMMIT_BYTES_MAX`] is
//!   refused before anything is written.
//! - Assumes: no value is longer than [`VALUE_BYTES_MAX`]; one thread commits.
//!
//! [`Poisoned`]: crate::ErrorKind::Poisoned

pub(crate) mod codec;
pub(crate) mod data_dir;
mod flipped_bit;
pub(crate) mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub(crate) mod journal;
mod journaled;
pub(crate) mod key;
pub mod memory;
pub mod sled;
mod space;

pub use journaled::{JournaledStore, Sizes};

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::StoreKind;
use crate::error::{Error, ErrorKind, Result};
use crate::priority::Priority;

/// The longest value, in bytes (I9).
pub const VALUE_BYTES_MAX: usize = 32 << 10;
/// The most bytes, keys and values together, that one commit may write. A batch of the largest
/// size, 4 MiB in 10,000 delayed jobs, stays below it with all its keys and index entries.
pub const COMMIT_BYTES_MAX: usize = 6 << 20;

/// The trees. What each holds, by which key, is said in `format.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// What the store as a whole knows, and the sum of the bytes alive: two keys.
    Meta,
    /// Queue number → its name, settings and counters.
    Queues,
    /// Chunks of jobs that can be claimed or are leased, one tree for each priority.
    Ready(Priority),
    /// What became of the jobs of a chunk, only for chunks begun.
    Progress,
    /// Jobs that wait for a moment.
    Timers,
    /// Dead letters.
    Dead,
    /// Where a job is, only for those that left the chunk they were born in. An index.
    Location,
    /// Unique keys and idempotency keys in use.
    Unique,
    /// Parts of payloads too large to lie in their job's record.
    Payload,
    /// Records whose checksum failed, as they were found.
    Damaged,
    /// What ends at a moment: jobs not started in time, results, idempotency keys. An index.
    Expiry,
    /// What acked jobs gave back, while it is kept.
    Results,
    /// Replays of many dead letters: those that run, and the last that ended.
    Replays,
    /// Schedules: what each is, and how far it has come.
    Schedules,
    /// Queue number → its limits and the tokens of its rate, where it has some.
    Limits,
    /// Ready jobs that wait for another one with the same key, in the order of each key's line.
    Lines,
    /// How many jobs of a key have a place and how many wait in its line; queue number → how many
    /// of its jobs wait in lines.
    Places,
}

impl Tree {
    /// All trees.
    pub const ALL: [Tree; 21] = [
        Tree::Meta,
        Tree::Queues,
        Tree::Ready(Priority::Critical),
        Tree::Ready(Priority::High),
        Tree::Ready(Priority::Default),
        Tree::Ready(Priority::Low),
        Tree::Ready(Priority::Bulk),
        Tree::Progress,
        Tree::Timers,
        Tree::Dead,
        Tree::Location,
        Tree::Unique,
        Tree::Payload,
        Tree::Damaged,
        Tree::Expiry,
        Tree::Results,
        Tree::Replays,
        Tree::Schedules,
        Tree::Limits,
        Tree::Lines,
        Tree::Places,
    ];

    /// The number of the tree in the journal: its place in [`Tree::ALL`], which never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        Tree::ALL.iter().position(|tree| *tree == self).unwrap_or_default() as u8
    }

    /// The tree with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Tree> {
        Tree::ALL.get(usize::from(number)).copied()
    }

    /// The name of the tree in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tree::Meta => "meta",
            Tree::Queues => "queues",
            Tree::Ready(Priority::Critical) => "ready.critical",
            Tree::Ready(Priority::High) => "ready.high",
            Tree::Ready(Priority::Default) => "ready.default",
            Tree::Ready(Priority::Low) => "ready.low",
            Tree::Ready(Priority::Bulk) => "ready.bulk",
            Tree::Progress => "progress",
            Tree::Timers => "timers",
            Tree::Dead => "dead",
            Tree::Location => "location",
            Tree::Unique => "unique",
            Tree::Payload => "payload",
            Tree::Damaged => "damaged",
            Tree::Expiry => "expiry",
            Tree::Results => "results",
            Tree::Replays => "replays",
            Tree::Schedules => "schedules",
            Tree::Limits => "limits",
            Tree::Lines => "lines",
            Tree::Places => "places",
        }
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Bytes);
/// The keys a scan is about.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);
/// What a scan gives, one entry at a time.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Entry>> + 'a>;

/// Which end of the range a scan starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key.
    Ascending,
    /// From the largest key.
    Descending,
}

/// The volume that a store lies on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Its size.
    pub total_bytes: u64,
    /// Free for everybody.
    pub free_bytes: u64,
    /// What is kept for acks, fails and the like, be it free or held already.
    pub reserve_bytes: u64,
    /// About how many bytes of new jobs it takes before the reserve is touched; 0 when it is full.
    pub room_bytes: u64,
}

/// Named ordered trees with one atomic, durable commit.
pub trait Store: Send + Sync {
    /// The value under this key.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when the engine can't read.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>>;

    /// The entries in this range. Costs what is taken from it, whatever the tree's size.
    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_>;

    /// Writes the whole set, and returns when it is durable.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned): stop, and reopen.
    fn commit(&self, writes: WriteSet) -> Result<()>;

    /// Bytes that the store takes on the disk.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when the engine can't tell.
    fn disk_bytes(&self) -> Result<u64>;

    /// The volume that the store lies on, and what of it may still be written; `None` without one.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when the store has failed.
    fn disk_space(&self) -> Result<Option<DiskSpace>> {
        Ok(None)
    }

    /// How many bytes of jobs may be written before what is kept for acks is touched; `None`
    /// without a limit. Asked before each group of commands: a store that is full may use the
    /// occasion to tidy up.
    ///
    /// # Errors
    /// As [`disk_space`](Self::disk_space).
    fn disk_room_bytes(&self) -> Result<Option<u64>> {
        Ok(self.disk_space()?.map(|space| space.room_bytes))
    }

    /// What is wrong with the store beside its records, as sentences; nothing in a sound one.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when the engine can't tell.
    fn problems(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// How many damages in its files were mended when it was opened: signs of a disk that rots.
    fn mended(&self) -> u64 {
        0
    }

    /// True when a part of its files could not be read that was dead, or that has rotted: only a
    /// count of all records tells whether one is missing.
    fn wants_count(&self) -> bool {
        false
    }

    /// They were counted, and none is missing.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when that can't be remembered.
    fn counted(&self) -> Result<()> {
        Ok(())
    }

    /// Releases what the store holds, so that it can be opened again; the last call on it.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when closing failed. What was committed is safe.
    fn close(&self) -> Result<()>;
}

/// Opens the store of a data directory, which is created when it is missing. `reserve_bytes` of
/// its volume are kept for acks, fails and the like.
///
/// # Errors
/// [`Locked`](crate::ErrorKind::Locked) when another process holds the directory,
/// [`Storage`](crate::ErrorKind::Storage) when it can't be used.
pub fn open(kind: StoreKind, data_dir: &Path, reserve_bytes: u64) -> Result<Arc<dyn Store>> {
    match kind {
        StoreKind::Memory => Ok(Arc::new(memory::MemoryStore::new())),
        StoreKind::Sled => {
            Ok(Arc::new(JournaledStore::open_with_reserve(data_dir, reserve_bytes)?))
        }
    }
}

/// Opens the store of a data directory that must be there already. What is kept of its volume
/// stays as it is.
///
/// # Errors
/// As [`open`], and [`Storage`](crate::ErrorKind::Storage) when nothing is there.
pub fn open_existing(kind: StoreKind, data_dir: &Path) -> Result<Arc<dyn Store>> {
    if kind == StoreKind::Sled && !sled::SledStore::is_there(data_dir) {
        return Err(Error::new(
            ErrorKind::Storage,
            format!("{} holds no pulk data; name a node's data directory", data_dir.display()),
        ));
    }
    match kind {
        StoreKind::Memory => Ok(Arc::new(memory::MemoryStore::new())),
        StoreKind::Sled => Ok(Arc::new(JournaledStore::open(data_dir)?)),
    }
}

/// The writes of one commit over all trees: for each key its new value, or `None` to remove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    trees: BTreeMap<Tree, BTreeMap<Vec<u8>, Option<Bytes>>>,
    bytes: usize,
}

impl WriteSet {
    /// Sets the value under a key.
    ///
    /// # Panics
    /// When the value is longer than [`VALUE_BYTES_MAX`] (I9): a mistake of the caller.
    pub fn put(&mut self, tree: Tree, key: Vec<u8>, value: Bytes) {
        assert!(value.len() <= VALUE_BYTES_MAX, "I9: a value of {} bytes", value.len());
        self.write(tree, key, Some(value));
    }

    /// Removes the value under a key, if there is one.
    pub fn remove(&mut self, tree: Tree, key: Vec<u8>) {
        self.write(tree, key, None);
    }

    fn write(&mut self, tree: Tree, key: Vec<u8>, value: Option<Bytes>) {
        let size = |key_bytes: usize, value: &Option<Bytes>| {
            key_bytes + value.as_ref().map_or(0, Bytes::len)
        };
        let key_bytes = key.len();
        self.bytes += size(key_bytes, &value);
        if let Some(replaced) = self.trees.entry(tree).or_default().insert(key, value) {
            self.bytes -= size(key_bytes, &replaced);
        }
    }

    /// What this set says about a key: `Some(None)` is "removed".
    #[must_use]
    pub fn get(&self, tree: Tree, key: &[u8]) -> Option<&Option<Bytes>> {
        self.trees.get(&tree)?.get(key)
    }

    /// What this set says about the keys of a tree, in their order.
    pub fn range(
        &self,
        tree: Tree,
        range: KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Option<Bytes>)> {
        self.trees.get(&tree).into_iter().flat_map(move |keys| keys.range(range.clone()))
    }

    /// Adds the writes of a later set, which stand for those before it under the same keys.
    pub fn merge(&mut self, later: WriteSet) {
        for (tree, keys) in later.into_trees() {
            for (key, value) in keys {
                self.write(tree, key, value);
            }
        }
    }

    /// All writes in the order of trees and keys, without giving them away.
    pub fn iter(&self) -> impl Iterator<Item = (Tree, &Vec<u8>, &Option<Bytes>)> {
        self.trees
            .iter()
            .flat_map(|(tree, keys)| keys.iter().map(move |(key, value)| (*tree, key, value)))
    }

    /// All writes, tree by tree, each in the order of its keys.
    pub fn into_trees(
        self,
    ) -> impl Iterator<Item = (Tree, impl Iterator<Item = (Vec<u8>, Option<Bytes>)>)> {
        self.trees.into_iter().map(|(tree, keys)| (tree, keys.into_iter()))
    }

    /// Keys and values together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }
}
