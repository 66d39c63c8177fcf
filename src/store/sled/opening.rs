//! Opens sled's files in two steps, so that a power cut finds no step half done.
//!
//! # Why
//! While opening, sled reads its log from its last snapshot on, writes a new snapshot, renames it
//! to its name and removes the one before, but does not sync the folder. Then it writes zeros over
//! every segment that the new snapshot does not need. When the power goes then, the disk may have
//! those zeros and the snapshot before. That one needs the segments: all in them was written again
//! later, but they are missing in the log, and sled takes the gap for the log's end.
//!
//! # How
//! Between the two, sled removes blob files that are newer than its log, and gives up with an
//! error when it can't. It has no blob files here (rule 3); so there is a directory, which is no
//! file to be removed. The first step ends there: the new snapshot is written, and nothing written
//! over but what lies behind the end of the log, which the snapshot before does not need either.
//! Then the folder is synced and the directory removed. The second step finds the new snapshot,
//! reads the one segment in which that ends, comes to the same state, and goes on.
//!
//! A crash between the two leaves the directory; the next opening takes it as its own.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic;
use std::path::{Path, PathBuf};

use super::{CACHE_BYTES, corrupt, panic_message, sentence, unopened};
use crate::error::Result;
use crate::store::Tree;
use crate::store::data_dir::sync_dir;

/// What the name of a blob file would be that is newer than any log: `i64::MAX`.
const STOP: &str = "9223372036854775807";

/// What is open then.
pub(super) struct Opened {
    pub(super) db: ::sled::Db,
    pub(super) trees: BTreeMap<Tree, ::sled::Tree>,
    /// Our own handle of its file.
    pub(super) file: File,
}

/// Opens the database in this folder with our trees in it, and makes what is missing.
///
/// # Errors
/// What sled says, and a panic of it.
pub(super) fn open(path: &Path, segment_bytes: usize) -> Result<Opened> {
    let failed = |error: io::Error| unopened(path, &error.to_string());
    if path.join("db").exists() {
        settle_snapshot(path, segment_bytes)?;
    }
    unstop(path).map_err(failed)?;
    guarded(path, || {
        let db = config(path, segment_bytes).open()?;
        let mut trees = BTreeMap::new();
        for tree in Tree::ALL {
            trees.insert(tree, db.open_tree(tree.name())?);
        }
        Ok((db, trees))
    })
    .and_then(|(db, trees)| Ok(Opened { db, trees, file: open_file(path).map_err(failed)? }))
}

/// The first step: sled's snapshot is durable and of the end of its log, and what only the one
/// before needs is there still.
fn settle_snapshot(path: &Path, segment_bytes: usize) -> Result<()> {
    let failed = |error: io::Error| unopened(path, &error.to_string());
    fs::create_dir_all(stop(path)).map_err(failed)?;
    guarded(path, || match config(path, segment_bytes).open() {
        Err(::sled::Error::Io(error)) if is_stop(&error) => Ok(()),
        // It has found nothing in its log, and wrote no snapshot.
        opened => opened.map(drop),
    })?;
    // Threads of sled have the file, locked, a little longer.
    let file = open_file(path).map_err(failed)?;
    file.lock().and_then(|()| file.unlock()).map_err(failed)?;
    sync_dir(path).map_err(failed)
}

fn stop(path: &Path) -> PathBuf {
    path.join("blobs").join(STOP)
}

/// True for what comes of removing a directory as if it were a file.
fn is_stop(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::IsADirectory => true,
        // What other systems than Linux call it.
        ErrorKind::PermissionDenied => !cfg!(target_os = "linux"),
        _ => false,
    }
}

fn unstop(path: &Path) -> io::Result<()> {
    match fs::remove_dir(stop(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn config(path: &Path, segment_bytes: usize) -> ::sled::Config {
    ::sled::Config::new()
        .path(path)
        .segment_size(segment_bytes)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
        .print_profile_on_drop(false)
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path.join("db"))
}

fn guarded<T>(
    path: &Path,
    call: impl FnOnce() -> ::sled::Result<T> + panic::UnwindSafe,
) -> Result<T> {
    match panic::catch_unwind(call) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error @ (::sled::Error::Io(_) | ::sled::Error::Unsupported(_)))) => {
            Err(unopened(path, &sentence(&error)))
        }
        Ok(Err(error)) => Err(corrupt(path, &sentence(&error))),
        Err(panicked) => Err(corrupt(path, &panic_message(&*panicked))),
    }
}

/// Removes what a power cut has left half written, and what stops sled for good.
pub(super) fn remove_half_written_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut removed = false;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
            tracing::info!(file = %entry.path().display(), "removed a half-written snapshot");
            removed = true;
        }
    }
    if removed { sync_dir(path) } else { Ok(()) }
}
