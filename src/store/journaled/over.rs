//! The writes that lie over the database, and reading through both.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, RwLockReadGuard};

use bytes::Bytes;

use super::mover::Moved;
use crate::error::{Error, Result};
use crate::store::journal::Journal;
use crate::store::{Direction, Entry, KeyRange, Scan, Tree, WriteSet, key};

/// What lies over the database.
pub(super) struct Over {
    /// None after closing.
    pub(super) journal: Option<Journal>,
    /// The writes in the journal file.
    pub(super) active: WriteSet,
    /// The writes of the file before it, while they are being moved.
    pub(super) moving: Option<Arc<WriteSet>>,
    /// How many bytes of them have been moved.
    pub(super) moved_bytes: usize,
    /// The first failure; the store is poisoned.
    pub(super) failure: Option<Error>,
}

impl Over {
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Option<&Option<Bytes>> {
        let moving = self.moving.as_ref();
        self.active.get(tree, key).or_else(|| moving.and_then(|moving| moving.get(tree, key)))
    }

    /// Keys and values of all pending writes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.active.bytes() + self.moving.as_ref().map_or(0, |moving| moving.bytes())) as u64
    }

    /// Takes in how far the move has come; what was moved to the last is forgotten.
    pub(super) fn hear(&mut self, told: Moved) -> Result<()> {
        match told {
            Moved::Portion(bytes) => self.moved_bytes += bytes,
            Moved::All(done) => {
                done?;
                (self.moving, self.moved_bytes) = (None, 0);
            }
        }
        Ok(())
    }

    /// Which share of what is being moved is still to be moved, 0 to 1.
    pub(super) fn share_to_move(&self) -> f64 {
        let Some(moving) = &self.moving else { return 0.0 };
        let left_bytes = moving.bytes().saturating_sub(self.moved_bytes);
        left_bytes as f64 / moving.bytes().max(1) as f64
    }

    /// What the pending writes say of the bytes alive.
    pub(super) fn live_bytes(&self) -> Option<u64> {
        let written = self.get(Tree::Meta, key::LIVE_BYTES)?.as_ref()?;
        Some(u64::from_be_bytes(written.as_ref().try_into().ok()?))
    }

    /// The first pending write of a range, from the side that a scan comes from.
    fn first(
        &self,
        tree: Tree,
        range: &KeyRange,
        direction: Direction,
    ) -> Option<(&Vec<u8>, &Option<Bytes>)> {
        let first_of = |writes: &'_ WriteSet| -> Option<Vec<u8>> {
            let mut found = writes.range(tree, range.clone());
            let found = match direction {
                Direction::Ascending => found.next(),
                Direction::Descending => found.next_back(),
            };
            found.map(|(key, _)| key.clone())
        };
        let keys = [first_of(&self.active), self.moving.as_deref().and_then(first_of)];
        let keys = keys.into_iter().flatten();
        let key = match direction {
            Direction::Ascending => keys.min(),
            Direction::Descending => keys.max(),
        }?;
        let exactly = (Bound::Included(key.clone()), Bound::Included(key));
        let newest = self.active.range(tree, exactly.clone()).next();
        newest.or_else(|| self.moving.as_deref().and_then(|m| m.range(tree, exactly).next()))
    }
}

/// A scan over the pending writes and sled together. While it lives, nothing is committed.
pub(super) struct OverScan<'a> {
    over: RwLockReadGuard<'a, Over>,
    stored: Peekable<Scan<'a>>,
    tree: Tree,
    /// What of the range the pending writes have still to give.
    range: KeyRange,
    direction: Direction,
}

impl<'a> OverScan<'a> {
    pub(super) fn new(
        over: RwLockReadGuard<'a, Over>,
        stored: Peekable<Scan<'a>>,
        tree: Tree,
        range: KeyRange,
        direction: Direction,
    ) -> Self {
        OverScan { over, stored, tree, range, direction }
    }
}

impl Iterator for OverScan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let pending = match is_empty(&self.range) {
                true => None,
                false => self.over.first(self.tree, &self.range, self.direction),
            };
            let Some((key, value)) = pending else { return self.stored.next() };
            match self.stored.peek() {
                Some(Err(_)) => return self.stored.next(),
                Some(Ok((stored, _))) if stored == key => drop(self.stored.next()),
                Some(Ok((stored, _)))
                    if (stored < key) == (self.direction == Direction::Ascending) =>
                {
                    return self.stored.next();
                }
                Some(Ok(_)) | None => {}
            }
            match self.direction {
                Direction::Ascending => self.range.0 = Bound::Excluded(key.clone()),
                Direction::Descending => self.range.1 = Bound::Excluded(key.clone()),
            }
            if let Some(value) = value {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}

/// True for a range that no map takes because it ends where it begins, or before.
fn is_empty((from, until): &KeyRange) -> bool {
    match (from, until) {
        (Bound::Excluded(from), Bound::Excluded(until)) => from >= until,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(until) | Bound::Excluded(until),
        ) => from > until,
        _ => false,
    }
}
