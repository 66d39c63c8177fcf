//! The store of the product: a journal before a sled database.
//!
//! # Overview
//! A commit is appended to the journal and synced; then it is durable, and its writes are laid
//! over the database in memory. When a journal file is full, a thread moves its writes into sled,
//! in portions that keep sled's rules, and gives the file up. What was written twice meanwhile, or
//! written and removed, reaches sled once or never.
//!
//! # Invariants
//! - A key is read from the newest of: the writes of this journal file, those of the one being
//!   moved, sled.
//! - A journal file is given up only when all its writes are behind sled's own barrier.
//! - What is being moved is forgotten by [`Store::commit`] alone: no scan sees it go.
//!
//! # Failure handling
//! A journal that can't be appended to or synced, or a portion that sled refuses, poisons the
//! store: every later commit fails, and opening finds out from the journal what there is.

mod mover;
mod over;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use self::mover::{Moved, Mover, Order, move_into};
use self::over::{Over, OverScan};
use super::data_dir::DataDir;
use super::journal::{self, Journal};
use super::space::{Reserve, Space};
use super::{COMMIT_BYTES_MAX, Direction, DiskSpace, KeyRange, Scan, Store, Tree, WriteSet};
use crate::error::{Error, ErrorKind, Result};
use crate::store::sled::{Limits, SEGMENT_BYTES, SledStore};

/// A journal file of this size is moved into sled.
const FILE_BYTES_FULL: u64 = 4 << 20;
/// A journal file grows to at most so many times that while the one before it is moved. Beyond its
/// size it grows no faster than that one is moved: each commit waits a little, instead of one for
/// the whole of the move.
const FILE_GROWTH_MAX: u64 = 2;
/// What a journal file may need beyond the bytes of a commit.
const APPEND_SPARE_BYTES: u64 = 1 << 20;

/// A sled database behind a journal.
pub struct JournaledStore {
    sled: Arc<SledStore>,
    over: RwLock<Over>,
    mover: Mutex<Option<Mover>>,
    dir: PathBuf,
    space: Arc<Space>,
    file_bytes_full: u64,
    /// Flipped bits that were mended in the journal.
    mended: u64,
}

/// How large the files may get before something is done about it. The defaults were measured; the
/// tests have them smaller, so that a short history meets it all.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// A journal file of so many bytes is moved into sled; one with nothing in it has as many.
    pub journal_file_bytes: u64,
    /// When sled's file is compacted.
    pub compaction: Limits,
    /// The segments of sled's file, a power of two up to 16 MiB; a database keeps those that it
    /// was made with. Smaller ones are for small commits only (rules 3 and 4 in `sled.rs`).
    pub segment_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            journal_file_bytes: FILE_BYTES_FULL,
            compaction: Limits::default(),
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

impl JournaledStore {
    /// Opens the store in a directory, and makes it when it is missing. What an unclean end left
    /// in the journal is moved into sled first.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage), [`Locked`](ErrorKind::Locked) or
    /// [`Corrupt`](ErrorKind::Corrupt), with what to do about it.
    pub fn open(dir: &Path) -> Result<JournaledStore> {
        Self::open_with(dir, Reserve::AsFound, Sizes::default())
    }

    /// The same, and keeps `reserve_bytes` of the volume for when it is full.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_reserve(dir: &Path, reserve_bytes: u64) -> Result<JournaledStore> {
        Self::open_with(dir, Reserve::Bytes(reserve_bytes), Sizes::default())
    }

    /// The same with other sizes than the defaults.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_sizes(dir: &Path, reserve_bytes: u64, sizes: Sizes) -> Result<JournaledStore> {
        Self::open_with(dir, Reserve::Bytes(reserve_bytes), sizes)
    }

    fn open_with(dir: &Path, reserve: Reserve, sizes: Sizes) -> Result<JournaledStore> {
        let data_dir = Arc::new(DataDir::open(dir)?);
        let space = Space::open(dir, reserve).map_err(|error| unusable(dir, &error))?;
        let space = Arc::new(space);
        let (limits, segment_bytes) = (sizes.compaction, sizes.segment_bytes);
        let sled = SledStore::open_in(&data_dir, space.clone(), limits, segment_bytes)?;
        let sled = Arc::new(sled);
        let (journal, mended) = empty(dir, &sled, &space, sizes.journal_file_bytes)?;
        let over = Over {
            journal: Some(journal),
            active: WriteSet::default(),
            moving: None,
            moved_bytes: 0,
            failure: None,
        };
        space.restore();
        let mover = Mover::start(sled.clone(), space.clone(), dir.to_owned())?;
        Ok(JournaledStore {
            sled,
            over: RwLock::new(over),
            mover: Mutex::new(Some(mover)),
            dir: dir.to_owned(),
            space,
            file_bytes_full: sizes.journal_file_bytes,
            mended,
        })
    }

    fn over(&self) -> RwLockReadGuard<'_, Over> {
        self.over.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn over_mut(&self) -> RwLockWriteGuard<'_, Over> {
        self.over.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was moved, and has a full file moved. When this one is full too, waits until
    /// enough of that is moved.
    fn keep_moving(&self, over: &mut Over) -> Result<()> {
        let bytes = over.journal.as_ref().map_or(0, Journal::bytes);
        let mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mover) = mover.as_ref() else { return Err(closed()) };
        while over.moving.is_some() {
            let told = if bytes < self.bytes_until_wait(over) {
                let Ok(told) = mover.moved.try_recv() else { break };
                told
            } else {
                mover.moved.recv().unwrap_or_else(|_| Moved::All(Err(closed())))
            };
            over.hear(told)?;
        }
        if over.moving.is_none() && (bytes >= self.file_bytes_full || self.is_waited_for(over)) {
            let number = over.journal.as_ref().map_or(1, |journal| journal.number() + 1);
            self.space.make_room(self.file_bytes_full + APPEND_SPARE_BYTES);
            let next = Journal::begin(&self.dir, number, bytes, self.file_bytes_full)
                .map_err(|error| lost(&error))?;
            if let Some(full) = over.journal.replace(next) {
                let writes = Arc::new(std::mem::take(&mut over.active));
                over.moving = Some(writes.clone());
                let (number, path) = (full.number(), full.path().to_owned());
                mover.orders.send(Order::Move { writes, number, path }).map_err(|_| closed())?;
            }
        }
        Ok(())
    }

    /// How long the journal file may get before a commit waits for the mover.
    fn bytes_until_wait(&self, over: &Over) -> u64 {
        let spare_bytes = (FILE_GROWTH_MAX - 1) * self.file_bytes_full;
        self.file_bytes_full + (spare_bytes as f64 * (1.0 - over.share_to_move())) as u64
    }

    /// Goes on with what gives space back, when no commit comes to do so.
    fn tidy_up(&self, over: &mut Over) -> Result<()> {
        let mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mover) = mover.as_ref().filter(|_| over.moving.is_none()) {
            mover.orders.send(Order::TidyUp).map_err(|_| closed())?;
        }
        drop(mover);
        self.keep_moving(over).inspect_err(|error| over.failure = Some(error.clone()))
    }

    /// True when the database is only compacted once it has what is in the journal.
    fn is_waited_for(&self, over: &Over) -> bool {
        !over.active.is_empty() && self.sled.is_worth_compacting(over.live_bytes())
    }

    fn append(&self, over: &mut Over, writes: WriteSet) -> Result<()> {
        let journal = over.journal.as_mut().ok_or_else(closed)?;
        // The encoding of many small writes is a few times as long as they are.
        let bytes = 4 * writes.bytes() as u64 + APPEND_SPARE_BYTES / 4;
        if journal.prepared_bytes_left() < bytes {
            self.space.make_room(bytes + APPEND_SPARE_BYTES);
        }
        journal.append(&writes).map_err(|error| lost(&error))?;
        over.active.merge(writes);
        self.keep_moving(over)
    }
}

impl Store for JournaledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        match self.over().get(tree, key) {
            Some(pending) => Ok(pending.clone()),
            None => self.sled.get(tree, key),
        }
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        // Locked first: from then on no commit forgets what was moved, be it into a database that
        // has taken the place of the one that is scanned.
        let over = self.over();
        let stored = self.sled.scan(tree, range.clone(), direction).peekable();
        Box::new(OverScan::new(over, stored, tree, range, direction))
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        if writes.bytes() > COMMIT_BYTES_MAX {
            return Err(Error::too_large(
                "commit",
                format!("{} bytes are more than the {COMMIT_BYTES_MAX} allowed", writes.bytes()),
            ));
        }
        if writes.is_empty() {
            return Ok(());
        }
        let mut over = self.over_mut();
        if let Some(failure) = &over.failure {
            return Err(failure.clone());
        }
        let appended = self.append(&mut over, writes);
        if let Err(error) = &appended {
            over.failure = Some(error.clone());
        }
        appended
    }

    fn disk_bytes(&self) -> Result<u64> {
        let journals = journal::files(&self.dir).map_err(|error| lost(&error))?;
        let bytes = journals.iter().filter_map(|(_, path)| fs::metadata(path).ok());
        Ok(self.sled.disk_bytes()? + bytes.map(|found| found.len()).sum::<u64>())
    }

    fn disk_space(&self) -> Result<Option<DiskSpace>> {
        let pending_bytes = self.over().bytes();
        let Some(space) = self.space.now(pending_bytes) else { return Ok(None) };
        // The last commits may have come while a copy of what was alive before was being made:
        // nothing but this sees then that another one is worth it.
        let is_waited_for = self.is_waited_for(&self.over());
        if self.space.is_full() || self.space.could_restore(space.free_bytes) || is_waited_for {
            let mut over = self.over_mut();
            if over.failure.is_none() && over.journal.is_some() {
                self.tidy_up(&mut over)?;
            }
        }
        Ok(Some(space))
    }

    fn problems(&self) -> Result<Vec<String>> {
        self.sled.problems()
    }

    fn mended(&self) -> u64 {
        self.sled.mended() + self.mended
    }

    fn wants_count(&self) -> bool {
        self.sled.wants_count()
    }

    fn counted(&self) -> Result<()> {
        self.sled.counted()
    }

    /// Moves what is left into sled, so that an orderly end leaves no journal.
    fn close(&self) -> Result<()> {
        let mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mover) = mover else { return Ok(()) };
        let mut over = self.over_mut();
        // It ends with what it has at hand; an answer that was taken before does not come again.
        let answer = mover.stop();
        let moved =
            if over.moving.is_some() { answer.unwrap_or_else(|| Err(closed())) } else { Ok(()) };
        let left = over.journal.take();
        if let Some(failure) = over.failure.clone() {
            return Err(failure);
        }
        moved?;
        over.moving = None;
        let active = std::mem::take(&mut over.active);
        drop(over);
        move_into(&self.sled, active.iter(), |_| {})?;
        if let Some(journal) = left {
            journal::give_up(&self.dir, (journal.number(), journal.path()))
                .map_err(|error| lost(&error))?;
        }
        self.sled.close()
    }
}

impl Drop for JournaledStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the store failed");
        }
    }
}

/// Moves what journal files an unclean end has left into sled, and begins a new one.
/// Gives that, and how many flipped bits were mended.
fn empty(
    dir: &Path,
    sled: &SledStore,
    space: &Space,
    file_bytes_full: u64,
) -> Result<(Journal, u64)> {
    let files = journal::files(dir).map_err(|error| unusable(dir, &error))?;
    journal::sync(&files).map_err(|error| unusable(dir, &error))?;
    let mut all = WriteSet::default();
    let recovered = journal::read(&files)?;
    for writes in recovered.commits {
        all.merge(writes);
    }
    move_into(sled, all.iter(), |_| {})?;
    let next = journal::next_number(dir).map_err(|error| unusable(dir, &error))?;
    for (number, path) in &files {
        journal::give_up(dir, (*number, path)).map_err(|error| unusable(dir, &error))?;
    }
    let needed_bytes = file_bytes_full + APPEND_SPARE_BYTES;
    space.make_room(needed_bytes);
    let begun = Journal::begin(dir, next, 0, file_bytes_full).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => space.too_full(needed_bytes),
        _ => unusable(dir, &error),
    });
    Ok((begun?, recovered.mended))
}

fn unusable(dir: &Path, error: &io::Error) -> Error {
    let dir = dir.display();
    Error::new(ErrorKind::Storage, format!("the journal in {dir} can't be used: {error}"))
}

fn lost(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Poisoned,
        format!(
            "the store failed: the journal: {error}; restart the process, what was acknowledged \
             is safe"
        ),
    )
}

fn closed() -> Error {
    Error::new(ErrorKind::Poisoned, "the store is closed; open the queue again")
}

#[cfg(test)]
mod tests;
