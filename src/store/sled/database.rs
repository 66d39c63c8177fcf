//! An open sled database: opened whole or refused, read, committed to behind a barrier, closed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ::sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::durable_end::DurableEnd;
use super::log::{self, Extent, Looked, Trouble};
use super::opening::{self, Opened};
use super::{CORRUPTED, PANICKED, TreeWrites};
use super::{corrupt, sentence, unopened};
use crate::error::{ErrorKind, Result};
use crate::store::Tree;
use crate::store::data_dir::{DataDir, sync_dir};

/// An open sled database. Its methods may panic; their callers see to that.
pub(super) struct Database {
    pub(super) db: ::sled::Db,
    pub(super) trees: BTreeMap<Tree, ::sled::Tree>,
    /// Our own handle of the file that sled writes (rule 2).
    pub(super) file: File,
    /// How far its log is durable.
    end: Mutex<DurableEnd>,
    /// What was found before it was opened.
    pub(super) looked: Looked,
    /// Ours until nothing of the database is left (rule 10). A copy being made goes without: it
    /// may outlive its failure.
    pub(super) data_dir: OnceLock<Arc<DataDir>>,
    pub(super) segment_bytes: usize,
}

impl Database {
    /// Opens the database in this folder of the data directory, and makes it when it is missing.
    pub(super) fn open(
        path: &Path,
        data_dir: Option<Arc<DataDir>>,
        segment_bytes: usize,
    ) -> Result<Database> {
        let failed = |error: io::Error| unopened(path, &error.to_string());
        opening::remove_half_written_snapshots(path).map_err(failed)?;
        let (end, mut looked) = match path.join("db").exists() {
            true => whole_to_its_end(path, segment_bytes).map(|(end, found)| (Some(end), found))?,
            false => (None, Looked::default()),
        };
        let opened = opening::open(path, segment_bytes).or_else(|error| match &end {
            // sled has read more than we have.
            Some(end) if error.kind() == ErrorKind::Corrupt => {
                let more = look(path, segment_bytes, end, Extent::Everything)?.mended;
                looked.mended += more;
                if more > 0 { opening::open(path, segment_bytes) } else { Err(error) }
            }
            _ => Err(error),
        });
        let Opened { db, trees, file } = opened?;
        let recovered = u64::try_from(db.context.pagecache.log.stable_offset()).unwrap_or(0);
        if end.as_ref().is_some_and(|end| recovered < end.last()) {
            return Err(corrupt(path, "the end of its log, which was durable, was not read"));
        }
        let end = end.map_or_else(|| DurableEnd::create(path), Ok).map_err(failed)?;
        // What a new database consists of.
        sync_dir(path).map_err(failed)?;
        let data_dir = data_dir.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Database { db, trees, file, end: Mutex::new(end), looked, data_dir, segment_bytes })
    }

    pub(super) fn tree(&self, tree: Tree) -> Result<&::sled::Tree, String> {
        self.trees.get(&tree).ok_or_else(|| format!("the tree {} is not open", tree.name()))
    }

    /// A tree by its name: one of ours at hand, or whatever a database being copied has.
    pub(super) fn named(&self, name: &[u8]) -> Result<::sled::Tree, String> {
        let ours = self.trees.iter().find(|(tree, _)| tree.name().as_bytes() == name);
        match ours {
            Some((_, tree)) => Ok(tree.clone()),
            None => self.db.open_tree(name).map_err(|error| sentence(&error)),
        }
    }

    pub(super) fn names(&self) -> Vec<Vec<u8>> {
        self.db.tree_names().iter().map(|name| name.to_vec()).collect()
    }

    /// The entries of a tree behind a key, or all of them.
    pub(super) fn entries_behind(
        &self,
        name: &[u8],
        key: Option<&[u8]>,
    ) -> Result<::sled::Iter, String> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let tree = self.db.open_tree(name).map_err(|error| sentence(&error))?;
        Ok(tree.range::<&[u8], _>((from, Bound::Unbounded)))
    }

    pub(super) fn last_key(&self, name: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let tree = self.db.open_tree(name).map_err(|error| sentence(&error))?;
        let last = tree.last().map_err(|error| sentence(&error))?;
        Ok(last.map(|(key, _)| key.to_vec()))
    }

    pub(super) fn disk_bytes(&self) -> Result<u64, String> {
        Ok(self.file.metadata().map_err(|error| error.to_string())?.len())
    }

    /// True when sled has met an I/O error, even if it has not told the thread that waits for it.
    pub(super) fn has_failed(&self) -> bool {
        self.db.context.global_error().is_err()
    }

    /// One transaction over all the trees, then the barrier (rule 2).
    ///
    /// A transaction over several trees is one batch of sled's log: it is recovered when all of
    /// it is there, and not at all otherwise.
    pub(super) fn commit(&self, writes: &[TreeWrites]) -> Result<(), String> {
        let trees = writes
            .iter()
            .map(|(name, _)| self.named(name))
            .collect::<Result<Vec<::sled::Tree>, String>>()?;
        trees
            .as_slice()
            .transaction(|views| {
                for (view, (_, keys)) in views.iter().zip(writes) {
                    for (key, value) in keys {
                        match value {
                            Some(value) => view.insert(key.as_slice(), value.as_ref())?,
                            None => view.remove(key.as_slice())?,
                        };
                    }
                }
                Ok::<(), ConflictableTransactionError<()>>(())
            })
            .map_err(|error| match error {
                TransactionError::Abort(()) => "a transaction was aborted".to_owned(),
                TransactionError::Storage(error) => sentence(&error),
            })?;
        self.barrier()
    }

    pub(super) fn barrier(&self) -> Result<(), String> {
        self.db.flush().map_err(|error| sentence(&error))?;
        // What is written by now is durable after the sync; it may be more by then.
        let written = self.db.context.pagecache.log.stable_offset();
        self.file.sync_data().map_err(|error| format!("fdatasync of the database: {error}"))?;
        let recorded = self.end().record(u64::try_from(written).unwrap_or(0));
        recorded.map_err(|error| format!("writing down the end of the database: {error}"))
    }

    /// Everything was counted, and nothing is missing.
    pub(super) fn counted(&self) -> Result<(), String> {
        self.end().set_uncounted(false).map_err(|error| error.to_string())
    }

    fn end(&self) -> MutexGuard<'_, DurableEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the reason of a failure is that something could not be read, remembers it: the next
    /// opening looks at all of the log.
    pub(super) fn doubt(&self, reason: &str) {
        let is_damage = reason == CORRUPTED || (reason.starts_with(PANICKED) && !self.has_failed());
        if is_damage && let Err(error) = self.end().doubt() {
            tracing::error!(%error, "it can't be written down that the database is damaged");
        }
    }

    /// Returns when sled has let go of its files, so that they can be opened or moved at once.
    pub(super) fn close(self) -> Result<(), String> {
        let Database { db, trees, file, end, data_dir, .. } = self;
        drop((trees, end));
        drop(db);
        // sled's last thread drops the last handle a little later, and the lock of sled with it.
        file.lock().map_err(|error| format!("waiting for sled to close: {error}"))?;
        // As with the lock of the directory, a copy of the file may live a little longer.
        file.unlock().map_err(|error| format!("letting go of the database: {error}"))?;
        drop(data_dir);
        Ok(())
    }
}

/// Mends what is damaged of a database that is there, or refuses it.
fn whole_to_its_end(path: &Path, segment_bytes: usize) -> Result<(DurableEnd, Looked)> {
    let failed = |error: io::Error| unopened(path, &error.to_string());
    let missing = || corrupt(path, "its file durable is missing or can't be read");
    let mut end = DurableEnd::open(path).map_err(failed)?.ok_or_else(missing)?;
    let extent = match end.is_in_doubt() {
        true => Extent::Everything,
        false => Extent::SinceSnapshot,
    };
    let mut looked = look(path, segment_bytes, &end, extent)?;
    if looked.is_unsure {
        // sled will put that part in order, and the next opening would not see it.
        end.set_uncounted(true).map_err(failed)?;
    }
    looked.is_unsure = end.is_uncounted();
    end.settle().map_err(failed)?;
    Ok((end, looked))
}

fn look(path: &Path, segment_bytes: usize, end: &DurableEnd, extent: Extent) -> Result<Looked> {
    log::mend(path, segment_bytes, end.last(), extent).map_err(|trouble| match trouble {
        Trouble::Io(error) => unopened(path, &error.to_string()),
        Trouble::Damage(reason) => corrupt(path, &reason),
    })
}

#[cfg(test)]
mod tests;
