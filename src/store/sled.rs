//! A store in a sled database: the only module that names sled, and the ten rules of its use.
//!
//! 1. **Pinned** to `=0.34.7`. The 1.0 alphas can delete their own snapshot while opening, and
//!    their flush can wait for good. Nothing here was checked against another release.
//! 2. **Barrier.** sled's `flush` writes the pages of the file and asks for no more
//!    (`sync_file_range`): neither the file's length nor the drive's cache is taken care of. So a
//!    commit is `flush`, then `sync_data` on a handle of our own; then it is durable. A failed
//!    sync is never tried again: the kernel may have dropped what it could not write.
//! 3. **No blob files.** What is longer than a fourth of a segment goes into a file of its own
//!    that nobody syncs. A page takes 16 values before it is split, and links to it: with values
//!    of [`VALUE_BYTES_MAX`] at most and segments of 16 MiB it stays below the 4 MiB.
//! 4. **A commit is small.** sled overwrites a freed segment once the two after the one that
//!    replaced it are written, durable or not: so less than two segments of log, 32 MiB, may lie
//!    between two barriers. A commit appends more than it writes, since pages are written anew:
//!    up to five times its bytes, and some 50 KB for every key that is changed among large
//!    values. [`COMMIT_BYTES_MAX`] keeps the bytes in bounds; whoever builds a commit keeps the
//!    number of such keys in the hundreds.
//! 5. **Nobody else flushes.** The background thread of sled would log a failed sync and go on.
//! 6. **Opening in two steps** (`opening.rs`): sled writes over what its new snapshot does not
//!    need before the name of that snapshot is durable. So it is stopped between the two until
//!    the folder is synced. Before, `snap.*.generating` is removed: what a power cut left half
//!    written stops sled from opening for good.
//! 7. **A small cache, and no `len()`.** The cache counts bytes of the log, the pages in memory
//!    take several times that; `len()` reads the whole tree.
//! 8. **Compaction** (`compaction.rs`), when opening and while in use: one live record pins its
//!    whole segment, and the file seldom gets shorter by itself.
//! 9. **No panic and no wait gets out.** Both happen in sled after an I/O error, the wait since
//!    one error path tells nobody. Every call is guarded, and commits run on a thread that can be
//!    given up (`committer.rs`). From then on the store is poisoned.
//! 10. **A lock of our own comes first** (`data_dir.rs`), so that a second process is told who
//!     holds the directory.
//!
//! # Layout
//! `DIR/lock`; `DIR/sled/`, which appears whole or not at all; `DIR/sled.compact/` and
//! `DIR/sled.old/` only while a database is made or compacted.

mod committer;
mod compaction;
mod copying;
mod database;
mod durable_end;
mod log;
mod message;
mod opening;

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use bytes::Bytes;

use self::committer::Committer;
use self::compaction::Places;
pub use self::compaction::{Limit, Limits};
pub(crate) use self::copying::Copying;
use self::database::Database;
use self::log::Looked;
use super::data_dir::DataDir;
use super::space::{Reserve, Space};
use super::{
    COMMIT_BYTES_MAX, Direction, Entry, KeyRange, Scan, Store, Tree, VALUE_BYTES_MAX, WriteSet,
};
use crate::error::{Error, ErrorKind, Result};

/// Rules 3 and 4. It can't be changed for a database that exists. As large as sled allows: with
/// 8 MiB the memory is 15 MB less and opening 1.5 GB after a crash takes 0.2 seconds instead of
/// 0.4, but a batch of 4 MiB would reach the limit of rule 4.
pub(crate) const SEGMENT_BYTES: usize = 16 << 20;
/// Rule 7. In bytes of the log. Twice as much made nothing faster.
const CACHE_BYTES: u64 = 8 << 20;
/// What opening a database may write: a torn segment made unreadable, a snapshot, and some more.
const OPENING_BYTES: u64 = 24 << 20;
/// How many values a page of sled takes before it is split, and how many links before it is
/// written anew.
const PAGE_VALUES_MAX: usize = 16 + 10;

const _: () = assert!(PAGE_VALUES_MAX * VALUE_BYTES_MAX < SEGMENT_BYTES / 4, "rule 3");
const _: () = assert!(COMMIT_BYTES_MAX * 4 < SEGMENT_BYTES * 2, "rule 4");

/// What sled says of bytes that are not what it wrote.
const CORRUPTED: &str = "bytes of the database are not what was written";
/// How the reason begins when sled panicked.
const PANICKED: &str = "sled panicked";

/// A store in a sled database.
pub struct SledStore {
    /// None after closing.
    database: RwLock<Option<Arc<Database>>>,
    committer: Mutex<Committer>,
    failure: Arc<Failure>,
    places: Places,
    space: Arc<Space>,
    limits: Limits,
    /// What was found at opening.
    looked: Looked,
    /// The last compaction that was tried.
    tried: Mutex<Option<compaction::Tried>>,
}

/// Why the store can't be used any more, once it can't.
#[derive(Debug, Default)]
struct Failure(OnceLock<String>);

impl Failure {
    /// Remembers the first reason and gives back the error that every call now ends with.
    fn set(&self, reason: impl Into<String>) -> Error {
        Self::error(self.0.get_or_init(|| reason.into()))
    }

    fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |reason| Err(Self::error(reason)))
    }

    fn error(reason: &str) -> Error {
        let advice = match reason {
            CORRUPTED => {
                "restart the process, which mends a flipped bit; if this comes again, restore the \
                 data directory from a copy"
            }
            _ => "restart the process, what was acknowledged is safe",
        };
        Error::new(ErrorKind::Poisoned, format!("the store failed: {reason}; {advice}"))
    }
}

impl SledStore {
    /// Opens the database in a directory, and makes both when they are missing.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage), [`Locked`](ErrorKind::Locked) or
    /// [`Corrupt`](ErrorKind::Corrupt), with what to do about it.
    pub fn open(dir: &Path) -> Result<SledStore> {
        let data_dir = Arc::new(DataDir::open(dir)?);
        let space = Space::open(dir, Reserve::AsFound)
            .map_err(|error| unopened(dir, &error.to_string()))?;
        Self::open_in(&data_dir, Arc::new(space), Limits::default(), SEGMENT_BYTES)
    }

    /// Opens the database in a directory that this process holds.
    pub(crate) fn open_in(
        data_dir: &Arc<DataDir>,
        space: Arc<Space>,
        limits: Limits,
        segment_bytes: usize,
    ) -> Result<SledStore> {
        space.make_room(OPENING_BYTES);
        let opened = compaction::open(data_dir, segment_bytes).map_err(|error| {
            match space.at_hand_bytes() < OPENING_BYTES {
                true => space.too_full(OPENING_BYTES),
                false => error,
            }
        })?;
        let looked = opened.looked;
        let database = Arc::new(opened);
        let failure = Arc::<Failure>::default();
        let committer = Committer::start(Arc::clone(&database), Arc::clone(&failure))?;
        let store = SledStore {
            database: RwLock::new(Some(database)),
            committer: Mutex::new(committer),
            failure,
            places: Places::of(data_dir.path()),
            space,
            limits,
            looked,
            tried: Mutex::default(),
        };
        // A copy would not know that something may be missing.
        if !looked.is_unsure && store.is_worth_compacting(None) {
            store.compact()?;
        }
        Ok(store)
    }

    /// True when a directory holds a database, be it one whose swap was cut off half way.
    pub(crate) fn is_there(dir: &Path) -> bool {
        compaction::is_there(dir)
    }

    /// Commits as [`Store::commit`] does.
    pub(crate) fn commit_all(&self, writes: &WriteSet) -> Result<()> {
        self.failure.check()?;
        if writes.bytes() > COMMIT_BYTES_MAX {
            return Err(Error::too_large(
                "commit",
                format!("{} bytes are more than the {COMMIT_BYTES_MAX} allowed", writes.bytes()),
            ));
        }
        if writes.is_empty() {
            return Ok(());
        }
        self.read(|database| Ok(self.space.see_to(&database.file)))??;
        self.committer.lock().unwrap_or_else(PoisonError::into_inner).commit(tree_writes(writes))
    }

    fn read<T>(&self, read: impl FnOnce(&Arc<Database>) -> Result<T, String>) -> Result<T> {
        self.failure.check()?;
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = guard.as_ref() else {
            return Err(closed());
        };
        guarded(|| read(database)).map_err(|reason| {
            database.doubt(&reason);
            self.failure.set(reason)
        })
    }
}

impl Store for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.read(|database| {
            let value = database.tree(tree)?.get(key).map_err(|error| sentence(&error))?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        let opened =
            self.read(|database| Ok((database.tree(tree)?.range(range), Arc::clone(database))));
        match opened {
            Ok(opened) => Box::new(SledScan { store: self, opened: Some(opened), direction }),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        self.commit_all(&writes)
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.read(|database| database.disk_bytes())
    }

    fn problems(&self) -> Result<Vec<String>> {
        let blobs = self.read(|_| blobs(&self.places.current))?;
        let problem = |name| format!("there is a blob file, {name}, which nobody syncs");
        Ok(blobs.into_iter().map(problem).collect())
    }

    fn mended(&self) -> u64 {
        self.looked.mended
    }

    fn wants_count(&self) -> bool {
        self.looked.is_unsure
    }

    fn counted(&self) -> Result<()> {
        self.read(|database| database.counted())
    }

    fn close(&self) -> Result<()> {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        if database.is_none() {
            return Ok(());
        }
        drop(database);
        self.committer.lock().unwrap_or_else(PoisonError::into_inner).close()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the store failed");
        }
    }
}

/// A scan; it keeps the database open for as long as it lives.
struct SledScan<'a> {
    store: &'a SledStore,
    /// None after an error or the end. The database is there to be missed when it is closed.
    opened: Option<(::sled::Iter, Arc<Database>)>,
    direction: Direction,
}

impl Iterator for SledScan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let (entries, _) = self.opened.as_mut()?;
        let step = self.store.read(|_| {
            let next = match self.direction {
                Direction::Ascending => entries.next(),
                Direction::Descending => entries.next_back(),
            };
            match next.transpose().map_err(|error| sentence(&error))? {
                Some((key, value)) => Ok(Some((key.to_vec(), Bytes::copy_from_slice(&value)))),
                None => Ok(None),
            }
        });
        if !matches!(step, Ok(Some(_))) {
            self.opened = None;
        }
        step.transpose()
    }
}

/// Writes of one tree, by its name.
type TreeWrites = (Vec<u8>, KeyWrites);
/// Keys, and what becomes of them.
type KeyWrites = Vec<(Vec<u8>, Option<Bytes>)>;

fn tree_writes(writes: &WriteSet) -> Vec<TreeWrites> {
    let mut by_tree: Vec<(Tree, TreeWrites)> = Vec::new();
    for (tree, key, value) in writes.iter() {
        let entry = (key.clone(), value.clone());
        match by_tree.last_mut() {
            Some((last, (_, keys))) if *last == tree => keys.push(entry),
            _ => by_tree.push((tree, (tree.name().as_bytes().to_vec(), vec![entry]))),
        }
    }
    by_tree.into_iter().map(|(_, writes)| writes).collect()
}

/// The names of sled's blob files; there should be none (rule 3).
fn blobs(database: &Path) -> Result<Vec<String>, String> {
    let names = fs::read_dir(database.join("blobs")).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().display().to_string())).collect()
    });
    names.map_err(|error| error.to_string())
}

/// Turns a panic of sled into a reason (rule 9).
fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panicked| Err(format!("{PANICKED}: {}", panic_message(&*panicked))))
}

fn panic_message(panicked: &(dyn Any + Send)) -> String {
    let text = panicked.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panicked.downcast_ref::<&str>().copied()).unwrap_or("no reason given").into()
}

fn sentence(error: &::sled::Error) -> String {
    match error {
        ::sled::Error::Io(error) => io_sentence(&error.to_string()),
        ::sled::Error::Corruption { .. } => CORRUPTED.to_owned(),
        ::sled::Error::Unsupported(reason) => reason.clone(),
        error => error.to_string(),
    }
}

/// An I/O error that one thread of sled hands to another arrives as the debug text of the first.
fn io_sentence(text: &str) -> String {
    let code = text.strip_prefix("Os { code: ").and_then(|rest| rest.split(',').next());
    match code.and_then(|code| code.parse().ok()) {
        Some(code) => io::Error::from_raw_os_error(code).to_string(),
        None => text.to_owned(),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Poisoned, "the store is closed; open it again")
}

fn unopened(path: &Path, reason: &str) -> Error {
    Error::new(
        ErrorKind::Storage,
        format!("the database {} can't be opened: {reason}; see to the volume", path.display()),
    )
}

fn corrupt(path: &Path, reason: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "the database {} is damaged: {reason}; restore the data directory from a backup, \
             or move it away to start empty",
            path.display()
        ),
    )
}
