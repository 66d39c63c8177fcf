//! What this process does with the files below a directory.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::watch::{self, Recorder};
use crate::Operation;

/// Records what all threads of this process do with the files below a directory, from
/// [`start`](Recording::start) to [`stop`](Recording::stop) or until it is dropped. There may be
/// several at once.
#[derive(Debug)]
pub struct Recording {
    key: u64,
}

impl Recording {
    /// Begins to record.
    ///
    /// # Errors
    /// The directory is not there.
    pub fn start(directory: &Path) -> io::Result<Recording> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = directory.canonicalize()?;
        watch::lock().add(Recorder { directory, operations: Vec::new(), syncs: 0, key });
        Ok(Recording { key })
    }

    /// Notes a moment among the operations.
    pub fn mark(&self, number: u64) {
        if let Some(recorder) = watch::lock().recorder(self.key) {
            recorder.operations.push(Operation::Mark(number));
        }
    }

    /// What was recorded so far.
    pub fn operations(&self) -> Vec<Operation> {
        watch::lock().recorder(self.key).map(|it| it.operations.clone()).unwrap_or_default()
    }

    /// Ends the recording, and gives all of it.
    pub fn stop(self) -> Vec<Operation> {
        watch::lock().remove(self.key).map(|recorder| recorder.operations).unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        watch::lock().remove(self.key);
    }
}
