//! Who wants to know of which files: the recordings of this process and the faults set for it.
//!
//! # Invariants
//! - W1 All changes of files below a watched directory happen under one lock, together with
//!   noting them; so the order of notes is that of the changes, and paths are those that held.
//! - W2 A sync happens outside the lock: it takes long, and others must be able to write meanwhile.
//! - W3 Nothing is done under the lock that waits for another thread of the program.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::faults::{Call, Fault, Faults};
use super::names::OpenFile;
use crate::Operation;

/// How many want to know. One more as long as nobody has looked whether faults are set.
static WATCHERS: AtomicUsize = AtomicUsize::new(1);

static WATCH: Mutex<Watch> = Mutex::new(Watch { looked: false, faults: None, recorders: vec![] });

pub(super) struct Watch {
    /// Whether the environment was read.
    looked: bool,
    faults: Option<Faults>,
    recorders: Vec<Recorder>,
}

/// One recording.
pub(super) struct Recorder {
    pub(super) directory: PathBuf,
    pub(super) operations: Vec<Operation>,
    pub(super) syncs: u64,
    /// Tells recordings apart.
    pub(super) key: u64,
}

/// The watch, if somebody watches; this is all that a call costs otherwise.
pub(super) fn somebody() -> Option<MutexGuard<'static, Watch>> {
    if WATCHERS.load(Ordering::Relaxed) == 0 {
        return None;
    }
    Some(lock()).filter(|watch| watch.faults.is_some() || !watch.recorders.is_empty())
}

/// The watch, if calls are to fail: reading changes nothing that would be recorded.
pub(super) fn somebody_with_faults() -> Option<MutexGuard<'static, Watch>> {
    somebody().filter(|watch| watch.faults.is_some())
}

pub(super) fn lock() -> MutexGuard<'static, Watch> {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    if !watch.looked {
        watch.looked = true;
        watch.faults = Faults::from_environment();
        watch.count();
    }
    watch
}

impl Watch {
    fn count(&self) {
        let watchers = self.recorders.len() + usize::from(self.faults.is_some());
        WATCHERS.store(watchers, Ordering::Relaxed);
    }

    /// True when somebody wants to know of this path.
    pub(super) fn knows(&self, path: &Path) -> bool {
        self.is_recorded(path) || self.faults.as_ref().is_some_and(|faults| faults.cover(path))
    }

    /// True when changes of this path are recorded.
    pub(super) fn is_recorded(&self, path: &Path) -> bool {
        self.recorders.iter().any(|recorder| path.starts_with(&recorder.directory))
    }

    /// True when each recording has both paths or neither.
    pub(super) fn has_both_or_neither(&self, one: &Path, other: &Path) -> bool {
        let has = |recorder: &Recorder, path: &Path| path.starts_with(&recorder.directory);
        self.recorders.iter().all(|recorder| has(recorder, one) == has(recorder, other))
    }

    /// What is to happen to this call instead of the real thing.
    pub(super) fn fault(&mut self, call: Call, path: &Path) -> Option<Fault> {
        self.faults.as_mut()?.next(call, path, 0)
    }

    /// The same for a write.
    pub(super) fn fault_of_write(&mut self, path: &Path, bytes: usize) -> Option<Fault> {
        self.faults.as_mut()?.next(Call::Write, path, bytes)
    }

    /// The same for a read.
    pub(super) fn fault_of_read(&mut self, file: &OpenFile, bytes: Range<u64>) -> Option<Fault> {
        self.faults.as_mut()?.next_read(file, bytes)
    }

    /// Tells the faults what need not be read from the disk any more.
    pub(super) fn cache(&mut self, file: &OpenFile, bytes: Range<u64>) {
        if let Some(faults) = &mut self.faults {
            faults.cache(file, bytes);
        }
    }

    /// Notes an operation with every recording that has the path.
    pub(super) fn note(&mut self, path: &Path, operation: impl Fn(Inside) -> Operation) {
        for recorder in &mut self.recorders {
            if let Ok(inside) = path.strip_prefix(&recorder.directory) {
                let inside = Inside { path: inside.into(), directory: &recorder.directory };
                recorder.operations.push(operation(inside));
            }
        }
    }

    /// Notes that a sync begins; gives the recordings that did, and the numbers they gave it.
    pub(super) fn begin_sync(&mut self, path: &Path) -> Vec<(u64, u64)> {
        let mut begun = Vec::new();
        for recorder in &mut self.recorders {
            if let Ok(path) = path.strip_prefix(&recorder.directory) {
                let (number, path) = (recorder.syncs, path.into());
                recorder.operations.push(Operation::SyncBegan { number, path });
                recorder.syncs += 1;
                begun.push((recorder.key, number));
            }
        }
        begun
    }

    /// Notes that a sync has succeeded.
    pub(super) fn end_sync(&mut self, begun: &[(u64, u64)]) {
        for (key, number) in begun {
            if let Some(recorder) = self.recorder(*key) {
                recorder.operations.push(Operation::SyncEnded { number: *number });
            }
        }
    }

    pub(super) fn add(&mut self, recorder: Recorder) {
        self.recorders.push(recorder);
        self.count();
    }

    pub(super) fn recorder(&mut self, key: u64) -> Option<&mut Recorder> {
        self.recorders.iter_mut().find(|recorder| recorder.key == key)
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<Recorder> {
        let at = self.recorders.iter().position(|recorder| recorder.key == key)?;
        let removed = self.recorders.remove(at);
        self.count();
        Some(removed)
    }
}

/// A path as one recording has it.
pub(super) struct Inside<'a> {
    pub(super) path: PathBuf,
    directory: &'a Path,
}

impl Inside<'_> {
    /// Another path of the same recording.
    pub(super) fn other(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.directory).unwrap_or(path).into()
    }
}
