//! A copy of what is alive, made portion by portion beside the database it is taken from.
//!
//! # Overview
//! The copy goes through every tree in the order of its keys. The thread that makes it is the only
//! one that writes into the database: what it moves there between two portions, it writes into the
//! copy too ([`Copying::follow`]). So each key has its newest value in the copy: what was written
//! behind the place that the copy has come to is there by `follow`; before it, it is read later.
//! Of each tree is read what lies up to the key that was the last one at the beginning: what came
//! after it came by `follow`, so the copy ends however much is written meanwhile.
//!
//! # Failure handling
//! Any error ends the copy and nothing else; what it has is removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::committer::Committer;
use super::compaction::Places;
use super::{Database, Failure, KeyWrites, guarded, sentence, tree_writes, unopened};
use crate::error::{Error, ErrorKind, Result};
use crate::store::WriteSet;
use crate::store::data_dir::sync_dir;
use crate::store::space::Space;

/// The most bytes of one portion.
const PORTION_BYTES: usize = 1 << 20;
/// The most keys of one portion. More than a commit elsewhere may have (rule 4): keys that come in
/// their order touch only the pages that the portion itself fills.
const PORTION_KEYS: usize = 4_096;

/// A copy being made.
pub(crate) struct Copying {
    source: Arc<Database>,
    target: Arc<Database>,
    committer: Committer,
    path: PathBuf,
    space: Arc<Space>,
    /// The trees not yet copied, and the last key of each; the last tree is at work.
    trees: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The last key of it that was copied.
    behind: Option<Vec<u8>>,
    started: Instant,
}

/// A copy that is whole and durable, but for its name.
pub(super) struct Copied {
    pub(super) database: Arc<Database>,
    pub(super) committer: Committer,
    pub(super) ms: u64,
}

impl Copying {
    #[expect(clippy::disallowed_methods, reason = "only a log line tells how long it took")]
    pub(super) fn begin(
        source: Arc<Database>,
        places: &Places,
        space: Arc<Space>,
    ) -> Result<Copying> {
        let started = Instant::now();
        let begun = open_target(&source, &places.new, started, space);
        begun.inspect_err(|error| remove(&places.new, error))
    }

    /// Copies a portion. True when nothing was left to copy.
    ///
    /// # Errors
    /// What ended the copy: throw it away then.
    pub(crate) fn step(&mut self) -> Result<bool> {
        let Some((name, until)) = self.trees.last().cloned() else { return Ok(true) };
        self.space.see_to_copy()?;
        let portion = guarded(|| self.portion(&name, until.as_deref()));
        let portion = portion.map_err(|reason| unopened(&self.path, &reason))?;
        match portion.last() {
            Some((key, _)) => self.behind = Some(key.clone()),
            None => {
                self.trees.pop();
                self.behind = None;
            }
        }
        // A tree without entries is made all the same.
        self.committer.commit(vec![(name, portion)])?;
        Ok(false)
    }

    fn portion(&self, name: &[u8], until: Option<&[u8]>) -> Result<KeyWrites, String> {
        let (mut portion, mut bytes) = (Vec::new(), 0);
        let Some(until) = until else { return Ok(portion) };
        // Looked up anew each time: sled's iterator would go on with a page it read before.
        for entry in self.source.entries_behind(name, self.behind.as_deref())? {
            let (key, value) = entry.map_err(|error| sentence(&error))?;
            if *key > *until {
                break;
            }
            bytes += key.len() + value.len();
            portion.push((key.to_vec(), Some(Bytes::copy_from_slice(&value))));
            if bytes >= PORTION_BYTES || portion.len() == PORTION_KEYS {
                break;
            }
        }
        Ok(portion)
    }

    /// Writes what has just been written into the database.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(crate) fn follow(&mut self, writes: &WriteSet) -> Result<()> {
        self.space.see_to_copy()?;
        self.committer.commit(tree_writes(writes))
    }

    /// Gives up the copy, and what it has written.
    pub(crate) fn throw_away(self, why: &Error) {
        let Copying { source, target, mut committer, path, .. } = self;
        drop((source, target));
        // What a failed copy holds in memory does not mind that its files are gone.
        if let Err(error) = committer.close() {
            tracing::debug!(%error, "a copy was left as it was");
        }
        remove(&path, why);
    }

    /// Makes the copy durable; `None` when that fails, which is logged.
    pub(super) fn finish(self) -> Option<Copied> {
        match sync_all(&self.path) {
            Ok(()) => {
                let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                Some(Copied { database: self.target, committer: self.committer, ms })
            }
            Err(error) => {
                let why = unopened(&self.path, &error.to_string());
                self.throw_away(&why);
                None
            }
        }
    }
}

fn open_target(
    source: &Arc<Database>,
    path: &Path,
    started: Instant,
    space: Arc<Space>,
) -> Result<Copying> {
    space.see_to_copy()?;
    if path.exists() {
        fs::remove_dir_all(path).map_err(|error| unopened(path, &error.to_string()))?;
    }
    let target = Arc::new(Database::open(path, None, source.segment_bytes)?);
    let committer = Committer::start(Arc::clone(&target), Arc::<Failure>::default())?;
    let trees = guarded(|| {
        let names = source.names().into_iter();
        names.map(|name| Ok((name.clone(), source.last_key(&name)?))).collect()
    });
    let trees = trees.map_err(|reason| unopened(path, &reason))?;
    let (source, path) = (Arc::clone(source), path.to_owned());
    Ok(Copying { source, target, committer, path, space, trees, behind: None, started })
}

fn remove(path: &Path, why: &Error) {
    match why.kind() {
        ErrorKind::Draining => tracing::info!("compacting ended early: {why}"),
        _ => tracing::warn!(error = %why, "the database is used as it is: compacting it failed"),
    }
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %path.display(), "can't be removed");
    }
}

/// Makes a folder durable with all that is in it.
pub(super) fn sync_all(path: &Path) -> io::Result<()> {
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
