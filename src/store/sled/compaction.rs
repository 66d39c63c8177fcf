//! Opening a database whole: made, swapped in, or copied when much of it is dead.
//!
//! # Invariants
//! - `DIR/sled` is a whole database whenever it exists. A new one is built in `DIR/sled.compact`,
//!   made durable and then renamed, so a crash leaves nothing half made in its place.
//! - At every moment of a swap either `DIR/sled` or `DIR/sled.old` holds all that was
//!   acknowledged: the old one is removed only when the new one's name is durable.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::committer::Committer;
use super::{Database, Failure, TreeWrites, guarded, sentence, unopened};
use crate::error::Result;
use crate::store::Tree;
use crate::store::data_dir::{DataDir, sync_dir};

/// Where the queue keeps the number of bytes that are alive, as eight bytes, big-endian.
const LIVE_BYTES_KEY: &[u8] = b"live_bytes";
/// How many bytes of a copy are committed at a time.
const COPY_BYTES: usize = 2 << 20;

/// When a database is worth copying.
pub(super) struct Limits {
    /// Bytes on the disk that are never too many.
    spare_bytes: u64,
    /// How many times the live bytes may lie on the disk besides.
    ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { spare_bytes: 64 << 20, ratio: 4 }
    }
}

/// True when a directory holds a database, or what a swap that was cut off left of it.
pub(super) fn is_there(dir: &Path) -> bool {
    let Places { current, old, .. } = Places::of(dir);
    current.exists() || old.exists()
}

impl Limits {
    fn exceeded(&self, disk_bytes: u64, live_bytes: u64) -> bool {
        disk_bytes > live_bytes.saturating_mul(self.ratio).saturating_add(self.spare_bytes)
    }
}

/// The places of a data directory.
struct Places {
    dir: PathBuf,
    current: PathBuf,
    new: PathBuf,
    old: PathBuf,
}

impl Places {
    fn of(dir: &Path) -> Places {
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
    fn swap(&self) -> io::Result<()> {
        if self.current.exists() {
            fs::rename(&self.current, &self.old)?;
            sync_dir(&self.dir)?;
        }
        fs::rename(&self.new, &self.current)?;
        self.settle()
    }
}

/// Opens the database of a data directory; makes it when there is none, compacts it when much of
/// it is dead.
pub(super) fn open(data_dir: &Arc<DataDir>, limits: &Limits) -> Result<Database> {
    let places = Places::of(data_dir.path());
    let failed = |error: io::Error| unopened(&places.current, &error.to_string());
    places.settle().map_err(failed)?;
    if !places.current.exists() {
        let database = Database::open(&places.new, None)?;
        guarded(|| database.barrier().and_then(|()| database.close()))
            .map_err(|reason| unopened(&places.new, &reason))?;
        sync_all(&places.new).and_then(|()| places.swap()).map_err(failed)?;
    }
    let database = Database::open(&places.current, Some(Arc::clone(data_dir)))?;
    match worth_compacting(&database, limits) {
        Some(disk_bytes) => compact(database, disk_bytes, &places, data_dir),
        None => Ok(database),
    }
}

/// The bytes on the disk, when they are too many.
fn worth_compacting(database: &Database, limits: &Limits) -> Option<u64> {
    let disk_bytes = database.disk_bytes().ok()?;
    // Most databases are small: their meta tree need not be read.
    if !limits.exceeded(disk_bytes, 0) {
        return None;
    }
    let live_bytes = guarded(|| {
        database.tree(Tree::Meta)?.get(LIVE_BYTES_KEY).map_err(|error| sentence(&error))
    });
    let live_bytes = u64::from_be_bytes(live_bytes.ok()??.as_ref().try_into().ok()?);
    limits.exceeded(disk_bytes, live_bytes).then_some(disk_bytes)
}

/// Copies what is alive, and goes on with the copy. When that fails, with the original.
#[expect(clippy::disallowed_methods, reason = "only a log line tells how long it took")]
fn compact(
    database: Database,
    disk_bytes: u64,
    places: &Places,
    data_dir: &Arc<DataDir>,
) -> Result<Database> {
    let started = std::time::Instant::now();
    tracing::info!(bytes = disk_bytes, "compacting the database");
    if let Err(error) = copy(&database, &places.new) {
        tracing::warn!(%error, "the database is used as it is: compacting it failed");
        // What a failed copy holds in memory does not mind that its files are gone.
        if let Err(error) = fs::remove_dir_all(&places.new) {
            tracing::warn!(%error, directory = %places.new.display(), "can't be removed");
        }
        return Ok(database);
    }
    let failed = |reason: String| unopened(&places.current, &reason);
    guarded(|| database.close()).map_err(failed)?;
    places.swap().map_err(|error| failed(error.to_string()))?;
    let database = Database::open(&places.current, Some(Arc::clone(data_dir)))?;
    tracing::info!(
        from_bytes = disk_bytes,
        to_bytes = database.disk_bytes().unwrap_or_default(),
        ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "compacted the database"
    );
    Ok(database)
}

/// Copies every tree into a new database, durable when this returns.
fn copy(source: &Database, path: &Path) -> Result<()> {
    let failure = Arc::<Failure>::default();
    let target = Arc::new(Database::open(path, None)?);
    let mut committer = Committer::start(target, Arc::clone(&failure))?;
    let unread = |reason: String| unopened(path, &reason);
    for name in guarded(|| Ok(source.names())).map_err(unread)? {
        let mut entries = guarded(|| source.entries(&name)).map_err(unread)?;
        let mut writes: TreeWrites = (name, Vec::new());
        let mut bytes = 0;
        while let Some((key, value)) =
            guarded(|| entries.next().transpose().map_err(|error| sentence(&error)))
                .map_err(unread)?
        {
            bytes += key.len() + value.len();
            writes.1.push((key.to_vec(), Some(Bytes::copy_from_slice(&value))));
            if bytes >= COPY_BYTES {
                bytes = 0;
                let next = (writes.0.clone(), Vec::new());
                committer.commit(vec![std::mem::replace(&mut writes, next)])?;
            }
        }
        committer.commit(vec![writes])?;
    }
    committer.close()?;
    sync_all(path).map_err(|error| unopened(path, &error.to_string()))
}

/// Makes a folder durable with all that is in it.
fn sync_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { spare_bytes: 12 << 20, ratio: 4 };

    /// Writes 40 MB of which a hundredth stays alive, and tells so in the meta tree.
    fn mostly_dead(dir: &Path, tells: bool) {
        let data_dir = Arc::new(DataDir::open(dir).unwrap());
        let database = open(&data_dir, &LIMITS).unwrap();
        let payload = b"payload".to_vec();
        let key = |number: u32| number.to_be_bytes().to_vec();
        for round in 0..20 {
            let new = (0..100).map(|one| (key(round * 100 + one), Some(vec![7; 20_000].into())));
            database.commit(&[(payload.clone(), new.collect())]).unwrap();
        }
        for round in 0..20 {
            let dead = (0..99).map(|one| (key(round * 100 + one), None));
            database.commit(&[(payload.clone(), dead.collect())]).unwrap();
        }
        if tells {
            let live_bytes = Bytes::copy_from_slice(&400_000_u64.to_be_bytes());
            let write = (LIVE_BYTES_KEY.to_vec(), Some(live_bytes));
            database.commit(&[(b"meta".to_vec(), vec![write])]).unwrap();
        }
        database.close().unwrap();
    }

    fn alive(database: &Database) -> usize {
        database.entries(b"payload").unwrap().map(Result::unwrap).count()
    }

    #[test]
    fn a_mostly_dead_database_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        mostly_dead(dir.path(), true);
        let before = fs::metadata(dir.path().join("sled/db")).unwrap().len();
        let data_dir = Arc::new(DataDir::open(dir.path()).unwrap());
        let database = open(&data_dir, &LIMITS).unwrap();
        let after = database.disk_bytes().unwrap();
        assert!(after < before / 4, "from {before} to {after} bytes");
        assert_eq!(alive(&database), 20);
        assert!(!dir.path().join("sled.old").exists());
        assert!(!dir.path().join("sled.compact").exists());
        database.close().unwrap();

        // Nothing is left to gain, and what was copied is there once more.
        let database = open(&data_dir, &LIMITS).unwrap();
        assert_eq!(alive(&database), 20);
        assert!(database.disk_bytes().unwrap() <= after);
    }

    #[test]
    fn without_knowing_what_is_alive_nothing_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        mostly_dead(dir.path(), false);
        let data_dir = Arc::new(DataDir::open(dir.path()).unwrap());
        let database = open(&data_dir, &LIMITS).unwrap();
        assert_eq!(worth_compacting(&database, &LIMITS), None);
        assert_eq!(alive(&database), 20);
    }

    #[test]
    fn a_copy_that_fails_leaves_the_original_in_use() {
        let dir = tempfile::tempdir().unwrap();
        mostly_dead(dir.path(), true);
        let data_dir = Arc::new(DataDir::open(dir.path()).unwrap());
        let places = Places::of(dir.path());
        let database = Database::open(&places.current, Some(Arc::clone(&data_dir))).unwrap();
        // The copy finds a file where its folder should be.
        fs::write(&places.new, "").unwrap();
        let disk_bytes = database.disk_bytes().unwrap();
        let database = compact(database, disk_bytes, &places, &data_dir).unwrap();
        assert_eq!(alive(&database), 20);
    }
}
