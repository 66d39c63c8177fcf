//! The directory of an embedded run: a new one, taken away at the end.

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::process;

use super::super::failed;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// What a data directory has in it.
const OF_A_QUEUE: [&str; 2] = ["lock", "sled"];

/// A directory for one run.
pub(super) struct RunDirectory {
    root: PathBuf,
    /// False: it was there before, empty, and stays.
    is_ours: bool,
}

impl RunDirectory {
    /// The directory that was named, or a new one below the current directory.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) when there is anything in it.
    pub(super) fn new(named: Option<&Path>, now: Timestamp) -> Result<RunDirectory> {
        let ours = || PathBuf::from(format!("pulk-bench-{}-{}", now.as_ms(), process::id()));
        let root = named.map_or_else(ours, Path::to_owned);
        let told = root.display();
        let wrong = |sentence: String| Error::new(ErrorKind::Configuration, sentence);
        let is_ours = match fs::read_dir(&root).map(|mut entries| entries.next().is_none()) {
            Ok(true) => false,
            Ok(false) if OF_A_QUEUE.iter().any(|name| root.join(name).exists()) => {
                return Err(wrong(format!(
                    "{told} holds a queue, and a bench takes away what it wrote: name a directory \
                     that does not exist yet"
                )));
            }
            Ok(false) => {
                return Err(wrong(format!(
                    "{told} is not empty; name a directory that does not exist yet"
                )));
            }
            Err(reason) if reason.kind() == IoErrorKind::NotFound => {
                fs::create_dir_all(&root).map_err(|reason| {
                    wrong(format!("{told} can't be made: {reason}; name another directory"))
                })?;
                true
            }
            Err(reason) => {
                return Err(wrong(format!(
                    "{told} can't be used: {reason}; name another directory"
                )));
            }
        };
        Ok(RunDirectory { root, is_ours })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the queue lies.
    pub(super) fn queue(&self) -> PathBuf {
        self.root.join("queue")
    }

    /// Takes away what the run wrote.
    ///
    /// # Errors
    /// When it stays; the sentence says where.
    pub(super) fn remove(self) -> Result<()> {
        let removed = match self.is_ours {
            true => fs::remove_dir_all(&self.root),
            false if self.queue().exists() => fs::remove_dir_all(self.queue()),
            false => Ok(()),
        };
        removed.map_err(|reason| {
            let directory = self.root.display();
            failed(format!("{directory} can't be removed: {reason}; remove it by hand"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(path: &Path) -> Result<RunDirectory> {
        RunDirectory::new(Some(path), Timestamp::from_ms(0))
    }

    #[test]
    fn only_what_the_run_wrote_is_taken_away() {
        let outer = tempfile::tempdir().unwrap();
        let (new, empty) = (outer.path().join("a/new"), outer.path().join("empty"));
        fs::create_dir(&empty).unwrap();
        for (path, stays) in [(&new, false), (&empty, true)] {
            let directory = taken(path).unwrap();
            fs::create_dir(directory.queue()).unwrap();
            directory.remove().unwrap();
            assert_eq!(path.exists(), stays, "{}", path.display());
        }
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_with_anything_in_it_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("notes"), "").unwrap();
        let sentence = |path: &Path| taken(path).err().unwrap().to_string();
        assert!(sentence(outer.path()).contains("is not empty"));
        assert!(sentence(&outer.path().join("notes")).contains("can't be used"));
        fs::write(outer.path().join("lock"), "").unwrap();
        assert!(sentence(outer.path()).contains("holds a queue"));
        assert!(outer.path().join("notes").exists());
    }
}
