//! The data directory: made, checked and locked before anything in it is touched.
//!
//! # Invariants
//! - One [`DataDir`] exists for a directory at a time, over all processes: an advisory lock on the
//!   file `lock` in it, which the kernel releases when its holder dies.
//! - The directory's own entry is durable before anything is written inside.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as IoErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// A data directory that this process holds.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked for as long as this exists.
    lock: File,
}

impl DataDir {
    /// Takes the directory, and makes it first when it is missing.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage) when it can't be used, [`Locked`](ErrorKind::Locked) when
    /// another process has it; both say what to do.
    pub(crate) fn open(path: &Path) -> Result<DataDir> {
        create(path)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(|error| unusable(path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path, &mut lock)),
            Err(TryLockError::Error(error)) => {
                return Err(storage(format!(
                    "the data directory {} can't be locked: {error}; use a local file system",
                    path.display()
                )));
            }
        }
        if let Err(error) = introduce(&mut lock) {
            tracing::warn!(
                directory = %path.display(), %error,
                "the lock file does not name this process"
            );
        }
        sync_dir(path).map_err(|error| unusable(path, &error))?;
        Ok(DataDir { path: path.to_owned(), lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    /// Closing the file would not do: a process that is just being started from this one has a
    /// copy of it until it runs its own program, and the lock would live as long.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(directory = %self.path.display(), %error, "the lock stays for now");
        }
    }
}

/// Makes the entries of a directory durable: what was created, renamed or removed in it.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn create(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => {
            return Err(storage(format!(
                "the data directory {} is a file; move it away or choose another directory",
                path.display()
            )));
        }
        Err(error) if error.kind() == IoErrorKind::NotFound => {}
        Err(error) => return Err(unusable(path, &error)),
    }
    // The directories that this makes, the innermost first.
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|part| !part.as_os_str().is_empty() && !part.exists())
        .collect();
    fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
    for made in missing {
        let parent = match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        sync_dir(parent).map_err(|error| unusable(path, &error))?;
    }
    Ok(())
}

/// Writes who holds the lock into its file.
fn introduce(lock: &mut File) -> io::Result<()> {
    let text = format!("pid {}\nhost {}\n", std::process::id(), host());
    lock.rewind()?;
    lock.write_all(text.as_bytes())?;
    // Shortened last: a full disk still has room for what replaces older text.
    lock.set_len(text.len() as u64)
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

fn locked(path: &Path, lock: &mut File) -> Error {
    let mut text = String::new();
    // What can't be read is not told; that the directory is locked is.
    let _ = lock.take(1024).read_to_string(&mut text);
    let told = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let holder = match (told("pid "), told("host ")) {
        (Some(pid), Some(host)) => format!("process {pid} on host {host}"),
        _ => "another process".to_owned(),
    };
    Error::new(
        ErrorKind::Locked,
        format!(
            "the data directory {} is held by {holder}; stop it or use another directory",
            path.display()
        ),
    )
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    let directory = path.display();
    storage(match error.kind() {
        IoErrorKind::PermissionDenied => format!(
            "the data directory {directory} is not writable for this user; \
             change its owner or choose another directory"
        ),
        IoErrorKind::ReadOnlyFilesystem => format!(
            "the data directory {directory} is on a read-only file system; \
             mount it writable or choose another directory"
        ),
        IoErrorKind::NotADirectory => format!(
            "the data directory {directory} can't be made: a part of its path is a file; \
             choose another directory"
        ),
        IoErrorKind::StorageFull | IoErrorKind::QuotaExceeded => format!(
            "the data directory {directory} has no space left; free some or enlarge the volume"
        ),
        _ => format!(
            "the data directory {directory} can't be used: {error}; \
             repair it or choose another directory"
        ),
    })
}

fn storage(message: String) -> Error {
    Error::new(ErrorKind::Storage, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_as_deep_as_needed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b/c");
        let data_dir = DataDir::open(&path).unwrap();
        assert_eq!(data_dir.path(), path);
        assert!(path.join("lock").is_file());
    }

    #[test]
    fn the_lock_ends_with_its_holder_and_names_it_until_then() {
        let parent = tempfile::tempdir().unwrap();
        let held = DataDir::open(parent.path()).unwrap();
        let refused = DataDir::open(parent.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Locked);
        let told = refused.to_string();
        assert!(told.contains(&format!("process {} on host", std::process::id())), "{told}");
        assert!(told.contains(&parent.path().display().to_string()), "{told}");
        drop(held);
        DataDir::open(parent.path()).unwrap();
    }

    #[test]
    fn a_copy_of_the_lock_in_a_starting_process_does_not_hold_it() {
        let parent = tempfile::tempdir().unwrap();
        let held = DataDir::open(parent.path()).unwrap();
        let _copy = held.lock.try_clone().unwrap();
        drop(held);
        DataDir::open(parent.path()).unwrap();
    }

    #[test]
    fn older_text_in_the_lock_file_does_not_show_through() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("lock"), "pid 1\nhost a-much-longer-name-than-any\n\n\nx")
            .unwrap();
        let _held = DataDir::open(parent.path()).unwrap();
        let text = fs::read_to_string(parent.path().join("lock")).unwrap();
        assert_eq!(text, format!("pid {}\nhost {}\n", std::process::id(), host()));
    }

    #[test]
    fn what_is_wrong_with_the_path_is_said_in_a_sentence() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let told = |path: &Path| {
            let error = DataDir::open(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage);
            error.to_string()
        };
        assert!(told(&file).contains("is a file; move it away"), "{}", told(&file));
        let below = file.join("below");
        assert!(told(&below).contains("a part of its path is a file"), "{}", told(&below));
        let denied = |kind: IoErrorKind| unusable(&file, &io::Error::from(kind)).to_string();
        assert!(denied(IoErrorKind::PermissionDenied).contains("change its owner"));
        assert!(denied(IoErrorKind::ReadOnlyFilesystem).contains("read-only file system"));
        assert!(denied(IoErrorKind::StorageFull).contains("no space left"));
    }
}
