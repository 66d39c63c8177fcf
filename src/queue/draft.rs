//! The writes of the group at work, laid over the store: what a command reads includes what the
//! commands before it in the same group wrote.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::store::{Direction, Entry, KeyRange, Store, Tree, WriteSet};

/// Pending writes over a store.
pub(crate) struct Draft {
    store: Arc<dyn Store>,
    writes: WriteSet,
    /// Bytes of chunks, timers, dead letters, payload parts and results: what is really alive.
    live_bytes: u64,
    /// Bytes of such records removed in this group.
    freed_bytes: u64,
    /// Writes of such records in this group: the store pays for each with a part of its page.
    live_writes: usize,
}

impl Draft {
    pub(crate) fn new(store: Arc<dyn Store>, live_bytes: u64) -> Self {
        Draft { store, writes: WriteSet::default(), live_bytes, freed_bytes: 0, live_writes: 0 }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(crate) fn set_live_bytes(&mut self, live_bytes: u64) {
        self.live_bytes = live_bytes;
    }

    /// Bytes of records that carry jobs, removed since the last commit.
    pub(crate) fn freed_bytes(&self) -> u64 {
        self.freed_bytes
    }

    /// Bytes waiting to be committed.
    pub(crate) fn bytes(&self) -> usize {
        self.writes.bytes()
    }

    /// Records that carry jobs, written or removed since the last commit.
    pub(crate) fn live_writes(&self) -> usize {
        self.live_writes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        match self.writes.get(tree, key) {
            Some(pending) => Ok(pending.clone()),
            None => self.store.get(tree, key),
        }
    }

    /// Writes an index or a sum.
    pub(crate) fn put(&mut self, tree: Tree, key: Vec<u8>, value: Bytes) {
        self.writes.put(tree, key, value);
    }

    pub(crate) fn remove(&mut self, tree: Tree, key: Vec<u8>) {
        self.writes.remove(tree, key);
    }

    /// Writes a record that carries jobs, under a key that holds none yet.
    pub(crate) fn put_live(&mut self, tree: Tree, key: Vec<u8>, value: Bytes) {
        self.live_bytes += value.len() as u64;
        self.live_writes += 1;
        self.writes.put(tree, key, value);
    }

    /// Writes a record that is kept for its own sake and takes `bytes` with all that belongs to
    /// it, under a key that holds none yet.
    pub(crate) fn put_weighed(&mut self, tree: Tree, key: Vec<u8>, value: Bytes, bytes: usize) {
        self.live_bytes += bytes as u64;
        self.writes.put(tree, key, value);
    }

    /// Removes a record that carries jobs and takes `bytes`.
    pub(crate) fn remove_live(&mut self, tree: Tree, key: Vec<u8>, bytes: usize) {
        self.live_bytes = self.live_bytes.saturating_sub(bytes as u64);
        self.freed_bytes += bytes as u64;
        self.live_writes += 1;
        self.writes.remove(tree, key);
    }

    /// Hands out the group's writes and begins an empty group.
    pub(crate) fn take(&mut self) -> WriteSet {
        (self.live_writes, self.freed_bytes) = (0, 0);
        std::mem::take(&mut self.writes)
    }

    /// The entries of a range, pending writes included.
    pub(crate) fn scan(
        &self,
        tree: Tree,
        range: KeyRange,
        direction: Direction,
    ) -> impl Iterator<Item = Result<Entry>> {
        let pending = self.writes.range(tree, range.clone());
        let pending: Box<dyn Iterator<Item = _>> = match direction {
            Direction::Ascending => Box::new(pending),
            Direction::Descending => Box::new(pending.rev()),
        };
        let mut pending = pending.peekable();
        let mut stored = self.store.scan(tree, range, direction).peekable();
        std::iter::from_fn(move || {
            loop {
                let pending_first = match (pending.peek(), stored.peek()) {
                    (None, None) => return None,
                    (None, Some(_)) | (_, Some(Err(_))) => return stored.next(),
                    (Some(_), None) => true,
                    (Some((pending_key, _)), Some(Ok((stored_key, _)))) => {
                        if *pending_key == stored_key {
                            // The pending write stands for the stored one.
                            stored.next();
                            true
                        } else {
                            let smaller = *pending_key < stored_key;
                            smaller == (direction == Direction::Ascending)
                        }
                    }
                };
                if !pending_first {
                    return stored.next();
                }
                match pending.next() {
                    Some((key, Some(value))) => return Some(Ok((key.clone(), value.clone()))),
                    Some((_, None)) => {}
                    None => return None,
                }
            }
        })
    }

    /// The last entry at or before `until` and not before `from`.
    pub(crate) fn last(&self, tree: Tree, from: Vec<u8>, until: Vec<u8>) -> Result<Option<Entry>> {
        let range = (Bound::Included(from), Bound::Included(until));
        self.scan(tree, range, Direction::Descending).next().transpose()
    }
}
