//! Opening a database whole, and compacting it when much of it is dead.
//!
//! # Overview
//! sled's file hardly ever gets shorter. When it is large against what is alive, that is copied
//! into a new database (`copying.rs`), which then takes the place of the old one: while opening,
//! or while the store is in use, by the thread that writes into it. Who reads goes on with the old
//! one until the new one is there, and a scan to its end.
//!
//! # Invariants
//! - `DIR/sled` is a whole database whenever it exists. A new one is built in `DIR/sled.compact`,
//!   made durable and then renamed, so a crash leaves nothing half made in its place.
//! - At every moment of a swap either `DIR/sled` or `DIR/sled.old` holds all that was
//!   acknowledged: the old one is removed only when the new one's name is durable.
//!
//! # Failure handling
//! A copy that fails is thrown away and the database used as it is. A swap that fails half way
//! poisons the store; opening puts it right.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::copying::{Copying, sync_all};
use super::{Database, Failure, SledStore, guarded, unopened};
use crate::error::{Error, Result};
use crate::store::data_dir::{DataDir, sync_dir};
use crate::store::space::COPY_BYTES_MIN;
use crate::store::{Store, Tree, key};

/// How many bytes of the volume a copy takes for two bytes alive: measured 1.1 to 2.3 for one.
const COPY_BYTES_FOR_TWO: u64 = 5;
/// When a database is worth copying.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// While the volume has room.
    pub plenty: Limit,
    /// When it is nearly full.
    pub short: Limit,
}

/// How large the file may get.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Bytes on the disk that are never too many.
    pub spare_bytes: u64,
    /// How many times the live bytes may lie on the disk besides.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            plenty: Limit { spare_bytes: 64 << 20, ratio: 4 },
            short: Limit { spare_bytes: 16 << 20, ratio: 3 },
        }
    }
}

impl Limit {
    fn exceeded(self, disk_bytes: u64, live_bytes: u64) -> bool {
        disk_bytes > live_bytes.saturating_mul(self.ratio).saturating_add(self.spare_bytes)
    }
}

/// How long after a copy that failed no other is begun, unless less is alive.
const FAILED_PAUSE: Duration = Duration::from_secs(2);

/// The last compaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tried {
    /// It goes on.
    Now,
    /// It is done: the size of the file, and what was alive.
    Done { disk_bytes: u64, live_bytes: u64 },
    /// It failed, and when.
    Failed { at: Instant, live_bytes: u64 },
}

impl Tried {
    /// True while another one would come to about the same.
    fn says_no(self, disk_bytes: u64, live_bytes: u64) -> bool {
        match self {
            Tried::Now => true,
            Tried::Done { disk_bytes: after, live_bytes: then } => {
                disk_bytes < after / 2 * 3 && live_bytes >= then / 4 * 3
            }
            Tried::Failed { at, live_bytes: then } => {
                at.elapsed() < FAILED_PAUSE && live_bytes >= then / 4 * 3
            }
        }
    }
}

/// True when a directory holds a database, or what a swap that was cut off left of it.
pub(super) fn is_there(dir: &Path) -> bool {
    let Places { current, old, .. } = Places::of(dir);
    current.exists() || old.exists()
}

/// The places of a data directory.
#[derive(Clone, Debug)]
pub(super) struct Places {
    dir: PathBuf,
    pub(super) current: PathBuf,
    pub(super) new: PathBuf,
    old: PathBuf,
}

impl Places {
    pub(super) fn of(dir: &Path) -> Places {
        Places {
            dir: dir.to_owned(),
            current: dir.join("sled"),
            new: dir.join("sled.compact"),
            old: dir.join("sled.old"),
        }
    }

    /// Brings a directory in which a swap was interrupted back to one database.
    fn settle(&self) -> io::Result<()> {
        if !self.current.exists() && self.old.exists() {
            fs::rename(&self.old, &self.current)?;
        }
        sync_dir(&self.dir)?;
        for left_over in [&self.new, &self.old] {
            if left_over.exists() {
                fs::remove_dir_all(left_over)?;
            }
        }
        sync_dir(&self.dir)
    }

    /// Puts the new database, durable already, in the place of the current one.
    pub(super) fn swap(&self) -> io::Result<()> {
        if self.current.exists() {
            fs::rename(&self.current, &self.old)?;
            sync_dir(&self.dir)?;
        }
        fs::rename(&self.new, &self.current)?;
        self.settle()
    }
}

/// Opens the database of a data directory; makes it when there is none.
pub(super) fn open(data_dir: &Arc<DataDir>, segment_bytes: usize) -> Result<Database> {
    let places = Places::of(data_dir.path());
    let failed = |error: io::Error| unopened(&places.current, &error.to_string());
    places.settle().map_err(failed)?;
    if !places.current.exists() {
        let database = Database::open(&places.new, None, segment_bytes)?;
        guarded(|| database.barrier().and_then(|()| database.close()))
            .map_err(|reason| unopened(&places.new, &reason))?;
        sync_all(&places.new).and_then(|()| places.swap()).map_err(failed)?;
    }
    Database::open(&places.current, Some(Arc::clone(data_dir)), segment_bytes)
}

impl SledStore {
    /// True when the file is too large for what is alive, a copy would fit, and the last one was
    /// not made for the same. `live_bytes` are what the database says when they are not given.
    pub(crate) fn is_worth_compacting(&self, live_bytes: Option<u64>) -> bool {
        let Ok(disk_bytes) = self.disk_bytes() else { return false };
        // Most databases are small: nothing else need be looked at.
        if !self.limits.short.exceeded(disk_bytes, 0) {
            return false;
        }
        let limit = match self.space.is_short() {
            true => self.limits.short,
            false => self.limits.plenty,
        };
        if !limit.exceeded(disk_bytes, 0) {
            return false;
        }
        let Some(live_bytes) = live_bytes.or_else(|| self.live_bytes()) else { return false };
        let tried = *self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        limit.exceeded(disk_bytes, live_bytes)
            && !tried.is_some_and(|tried| tried.says_no(disk_bytes, live_bytes))
            && self.space.at_hand_bytes() >= needed_bytes(live_bytes)
    }

    fn live_bytes(&self) -> Option<u64> {
        let found = self.get(Tree::Meta, key::LIVE_BYTES).ok()??;
        Some(u64::from_be_bytes(found.as_ref().try_into().ok()?))
    }

    /// Copies what is alive, and goes on with the copy; when that fails, with what there is.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when the two could not be swapped.
    pub(crate) fn compact(&self) -> Result<()> {
        let Some(mut copying) = self.begin_copy() else { return Ok(()) };
        loop {
            match copying.step() {
                Ok(true) => return self.go_on_with(copying),
                Ok(false) => {}
                Err(error) => {
                    self.give_up_copy(copying, &error);
                    return Ok(());
                }
            }
        }
    }

    /// Begins a copy; `None` when that fails, which is logged.
    pub(crate) fn begin_copy(&self) -> Option<Copying> {
        tracing::info!(
            bytes = self.disk_bytes().unwrap_or(0),
            live_bytes = self.live_bytes().unwrap_or(0),
            "compacting the database"
        );
        self.remember(Tried::Now);
        let source = self.read(|database| Ok(Arc::clone(database)));
        let begun =
            source.and_then(|source| Copying::begin(source, &self.places, self.space.clone()));
        begun.inspect_err(|_| self.remember_failure()).ok()
    }

    /// Ends a copy that can't go on.
    pub(crate) fn give_up_copy(&self, copying: Copying, why: &Error) {
        copying.throw_away(why);
        self.remember_failure();
    }

    #[expect(clippy::disallowed_methods, reason = "how often a failing disk is tried")]
    fn remember_failure(&self) {
        let (at, live_bytes) = (Instant::now(), self.live_bytes().unwrap_or(0));
        self.remember(Tried::Failed { at, live_bytes });
    }

    fn remember(&self, tried: Tried) {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(tried);
    }

    /// Puts a finished copy in the place of the database.
    ///
    /// # Errors
    /// [`Poisoned`](crate::ErrorKind::Poisoned) when that failed half way.
    pub(crate) fn go_on_with(&self, copying: Copying) -> Result<()> {
        let from_bytes = self.disk_bytes()?;
        let Some(copied) = copying.finish() else {
            self.remember_failure();
            return Ok(());
        };
        let swapped = self.places.swap();
        swapped.map_err(|error| self.failure.set(format!("swapping the database: {error}")))?;
        let mut committer = copied.committer;
        committer.belongs_to(Arc::clone(&self.failure));
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(data_dir) = database.as_ref().and_then(|old| old.data_dir.get()) {
            // It has none: it was a copy.
            let _ = copied.database.data_dir.set(Arc::clone(data_dir));
        }
        let old = database.replace(copied.database);
        drop(database);
        let mut committer = {
            let mut current = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, committer)
        };
        drop(old);
        // Nothing of the old one is needed any more: that a scan still has it, or that it can't
        // be closed, is no failure of the store.
        committer.belongs_to(Arc::<Failure>::default());
        if let Err(error) = committer.close() {
            tracing::debug!(%error, "the database before the copy was left as it was");
        }
        let to_bytes = self.disk_bytes()?;
        let live_bytes = self.live_bytes().unwrap_or(0);
        self.remember(Tried::Done { disk_bytes: to_bytes, live_bytes });
        self.space.restore();
        tracing::info!(from_bytes, to_bytes, ms = copied.ms, "compacted the database");
        Ok(())
    }
}

/// What must be at hand before a copy is begun.
fn needed_bytes(live_bytes: u64) -> u64 {
    live_bytes.saturating_mul(COPY_BYTES_FOR_TWO) / 2 + COPY_BYTES_MIN / 3 * 4
}

#[cfg(test)]
mod tests;
