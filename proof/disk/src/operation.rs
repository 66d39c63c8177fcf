//! What the kernel was asked to do with the files below a directory.

use std::path::PathBuf;

/// One change below a directory, or one sync. Paths are relative to the directory (which is the
/// empty path), and those that hold when the change is made.
///
/// The order of a recording is the order of the changes: what stands first was done when the next
/// one was noted. Changes that were under way at the same time stand in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A directory was made.
    MakeDirectory {
        /// Its path.
        path: PathBuf,
    },
    /// An empty directory was removed.
    RemoveDirectory {
        /// Its path.
        path: PathBuf,
    },
    /// A file that was not there was made, empty.
    Create {
        /// Its path.
        path: PathBuf,
    },
    /// Bytes were written into a file, which may have become longer by it.
    Write {
        /// Its path.
        path: PathBuf,
        /// Where the first byte went.
        offset: u64,
        /// What was really written: after a short write, what the call said.
        bytes: Vec<u8>,
    },
    /// A file was cut off or made longer by zeros.
    SetLength {
        /// Its path.
        path: PathBuf,
        /// Its length from then on.
        length: u64,
    },
    /// A file or directory got another name; a file that had it is gone.
    Rename {
        /// The name before.
        from: PathBuf,
        /// The name from then on.
        to: PathBuf,
    },
    /// A name of a file was removed.
    Remove {
        /// Its path.
        path: PathBuf,
    },
    /// A sync (fsync or fdatasync) of a file or directory was asked for. It covers what stands
    /// before this.
    SyncBegan {
        /// Counts the syncs of a recording.
        number: u64,
        /// What is synced.
        path: PathBuf,
    },
    /// The sync with this number has returned without an error: what it covers is durable.
    SyncEnded {
        /// As it began.
        number: u64,
    },
    /// A moment that whoever records wants to find again: an answer was given, say.
    Mark(u64),
}
