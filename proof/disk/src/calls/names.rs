//! Where files are: paths without links, from the root.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::kernel;

/// What is open, as far as it can be recorded.
pub(super) struct OpenFile {
    pub(super) path: PathBuf,
    pub(super) length: u64,
    /// Stays the same under another name.
    pub(super) inode: u64,
}

/// The regular file or directory that is open under a number; `None` for what is no file, or has
/// lost its last name.
pub(super) fn open_file(file: RawFd) -> Option<OpenFile> {
    let status = kernel::status(file)?;
    let kind = status.st_mode & libc::S_IFMT;
    if ![libc::S_IFREG, libc::S_IFDIR].contains(&kind) || status.st_nlink == 0 {
        return None;
    }
    let length = u64::try_from(status.st_size).unwrap_or(0);
    Some(OpenFile { path: path_of(file)?, length, inode: status.st_ino })
}

/// The path of what a call names: the place of its parent, without links, and its last part.
pub(super) fn named(directory: RawFd, path: &CStr) -> Option<PathBuf> {
    let mut path = path.to_bytes();
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&b"/"[..], path.get(1..)?),
        Some(at) => (path.get(..at)?, path.get(at + 1..)?),
        None => (&b"."[..], path),
    };
    if name.is_empty() || name == b"." || name == b".." {
        return None;
    }
    let parent = CString::new(parent).ok()?;
    let place = RawFd::try_from(kernel::open_place(directory, &parent).ok()?).ok()?;
    let parent = path_of(place);
    kernel::close(place);
    Some(parent?.join(OsStr::from_bytes(name)))
}

fn path_of(file: RawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{file}")).ok().filter(|path| path.is_absolute())
}
