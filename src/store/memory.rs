//! A store in memory, for trials, tests and simulation: nothing survives the process.
//!
//! # Invariants
//! - Clones share their trees. Closing does nothing, so opening a queue on a clone is what opening
//!   a data directory again is elsewhere.
//! - There is nothing between commits: what a crash leaves is what the last commit left.
//! - A fault, once it struck, lasts until [`MemoryStore::restart`], as a failed disk lasts until
//!   the process is started again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{COMMIT_BYTES_MAX, Direction, Entry, KeyRange, Scan, Store, Tree, WriteSet};
use crate::error::{Error, ErrorKind, Result};

/// Plain ordered trees in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    trees: BTreeMap<Tree, BTreeMap<Vec<u8>, Bytes>>,
    bytes: u64,
    commits: u64,
    fault: Option<Fault>,
    failed: bool,
}

/// A commit that will fail.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// The number of the commit, counted like [`Shared::commits`].
    at_commit: u64,
    /// Whether its writes are there after a restart all the same.
    applied: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        MemoryStore::default()
    }

    /// Lets the `n`-th commit from now fail, 1 being the next. Nothing of it is applied.
    pub fn fail_commit(&self, n: u64) {
        self.plan(n, false);
    }

    /// Lets the `n`-th commit from now fail, 1 being the next, though its writes reached the
    /// disk: the caller is told of a failure and finds after the restart that all is there.
    pub fn fail_commit_after_applying(&self, n: u64) {
        self.plan(n, true);
    }

    fn plan(&self, n: u64, applied: bool) {
        let mut shared = self.lock();
        shared.fault = Some(Fault { at_commit: shared.commits + n.max(1), applied });
    }

    /// What starting the process again does: the failure is over, a planned one forgotten.
    pub fn restart(&self) {
        let mut shared = self.lock();
        shared.fault = None;
        shared.failed = false;
    }

    /// How many commits were tried, failed ones included, since the store was made.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code panics between two changes that belong together, so what a panicking thread
        // left behind is whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn check(&self) -> Result<()> {
        if self.failed {
            return Err(Error::new(
                ErrorKind::Poisoned,
                "the store failed: a fault was injected; restart the process, what was \
                 acknowledged is safe",
            ));
        }
        Ok(())
    }

    fn apply(&mut self, writes: WriteSet) {
        for (tree, keys) in writes.into_trees() {
            let entries = self.trees.entry(tree).or_default();
            for (key, value) in keys {
                let key_bytes = key.len();
                let size = |value: &Bytes| (key_bytes + value.len()) as u64;
                self.bytes += value.as_ref().map_or(0, size);
                let replaced = match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
                self.bytes -= replaced.as_ref().map_or(0, size);
            }
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        let shared = self.lock();
        shared.check()?;
        Ok(shared.trees.get(&tree).and_then(|entries| entries.get(key)).cloned())
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        Box::new(MemoryScan { store: self, tree, range, direction, failed: false })
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        let mut shared = self.lock();
        shared.check()?;
        if writes.bytes() > COMMIT_BYTES_MAX {
            return Err(Error::too_large(
                "commit",
                format!("{} bytes are more than the {COMMIT_BYTES_MAX} allowed", writes.bytes()),
            ));
        }
        shared.commits += 1;
        match shared.fault {
            Some(fault) if fault.at_commit == shared.commits => {
                shared.fault = None;
                shared.failed = true;
                if fault.applied {
                    shared.apply(writes);
                }
            }
            _ => shared.apply(writes),
        }
        shared.check()
    }

    fn disk_bytes(&self) -> Result<u64> {
        let shared = self.lock();
        shared.check()?;
        Ok(shared.bytes)
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// A scan that looks up one entry at a time, so that it holds no lock in between.
struct MemoryScan<'a> {
    store: &'a MemoryStore,
    tree: Tree,
    /// What is still to come.
    range: KeyRange,
    direction: Direction,
    /// An error is told once; after it the scan is over.
    failed: bool,
}

impl Iterator for MemoryScan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let shared = self.store.lock();
        if let Err(error) = shared.check() {
            self.failed = true;
            return Some(Err(error));
        }
        if holds_nothing(&self.range) {
            return None;
        }
        let mut entries = shared.trees.get(&self.tree)?.range(self.range.clone());
        let (key, value) = match self.direction {
            Direction::Ascending => entries.next()?,
            Direction::Descending => entries.next_back()?,
        };
        let entry = (key.clone(), value.clone());
        match self.direction {
            Direction::Ascending => self.range.0 = Bound::Excluded(key.clone()),
            Direction::Descending => self.range.1 = Bound::Excluded(key.clone()),
        }
        Some(Ok(entry))
    }
}

/// True for ranges that [`BTreeMap::range`] panics at.
fn holds_nothing(range: &KeyRange) -> bool {
    match range {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;

    fn put(key: &[u8]) -> WriteSet {
        let mut writes = WriteSet::default();
        writes.put(Tree::Meta, key.to_vec(), Bytes::from_static(b"value"));
        writes
    }

    #[test]
    fn a_failed_commit_applies_nothing_and_lasts_until_the_restart() {
        let store = MemoryStore::new();
        store.fail_commit(2);
        store.commit(put(b"one")).unwrap();
        assert_eq!(store.commit(put(b"two")).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(store.commit(put(b"three")).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(store.get(Tree::Meta, b"one").unwrap_err().kind(), ErrorKind::Poisoned);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let first = store.scan(Tree::Meta, all, Direction::Ascending).next().unwrap();
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Poisoned);

        let reopened = store.clone();
        reopened.restart();
        assert!(reopened.get(Tree::Meta, b"one").unwrap().is_some());
        assert!(reopened.get(Tree::Meta, b"two").unwrap().is_none());
        assert!(reopened.get(Tree::Meta, b"three").unwrap().is_none());
        reopened.commit(put(b"four")).unwrap();
        assert_eq!(reopened.commits(), 3);
    }

    #[test]
    fn a_commit_that_fails_after_applying_is_found_after_the_restart() {
        let store = MemoryStore::new();
        store.fail_commit_after_applying(1);
        assert_eq!(store.commit(put(b"one")).unwrap_err().kind(), ErrorKind::Poisoned);
        store.restart();
        assert!(store.get(Tree::Meta, b"one").unwrap().is_some());
    }

    #[test]
    fn bytes_are_those_alive() {
        let store = MemoryStore::new();
        store.commit(put(b"one")).unwrap();
        store.commit(put(b"one")).unwrap();
        assert_eq!(store.disk_bytes().unwrap(), 8);
        let mut remove = WriteSet::default();
        remove.remove(Tree::Meta, b"one".to_vec());
        store.commit(remove).unwrap();
        assert_eq!(store.disk_bytes().unwrap(), 0);
    }
}
