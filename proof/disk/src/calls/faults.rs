//! Calls that fail, in a program that has this crate's shared object preloaded.
//!
//! Set by variables of its environment:
//! - `PULK_FAULT_DIR`: calls on files below this directory count.
//! - `PULK_FAULT_CALL`: which ones, separated by commas: `open` (for writing or with a change),
//!   `write`, `length`, `rename`, `remove`, `make` (a directory), `sync`, `read` (opening for
//!   reading included).
//! - `PULK_FAULT_AT`: the number of the call that fails, from 1 on, counted over all threads;
//!   0: none, they are only counted.
//! - `PULK_FAULT_KIND`: `ENOSPC`, `EIO`, or `short`: half of a write is done, and that is said.
//! - `PULK_FAULT_LASTING=1`: every later call fails too (with `short`: by `ENOSPC`).
//! - `PULK_FAULT_LOG`: a file that gets a line for each call that failed, and while they are only
//!   counted one for each call: number, call, path, and of a write how many bytes.
//!
//! Only reads that need the disk count: what this process has read or written of a file before is
//! in the page cache.
//!
//! A sync that fails once and then succeeds is what Linux does: it tells of what it lost one time.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::ops::Range;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_int, c_long};

use super::kernel::{address, call};
use super::names::OpenFile;

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Open,
    Write,
    Length,
    Rename,
    Remove,
    Make,
    Sync,
    Read,
}

/// What happens instead of the real thing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Nothing is done, and the call fails with this error.
    Error(c_int),
    /// Half of it is written.
    Short,
}

impl Fault {
    /// The error of a call that can't be done by half.
    pub(super) fn error(self) -> c_int {
        match self {
            Fault::Error(error) => error,
            Fault::Short => libc::ENOSPC,
        }
    }
}

/// What was set, and how far it is.
pub(super) struct Faults {
    directory: PathBuf,
    calls: Vec<Call>,
    at: u64,
    fault: Fault,
    lasting: bool,
    log: Option<RawFd>,
    seen: u64,
    /// The pages in the page cache, by inode and number.
    cached: HashSet<(u64, u64)>,
}

impl Faults {
    /// `None` when no directory is set.
    pub(super) fn from_environment() -> Option<Faults> {
        let text = |name| std::env::var(name).unwrap_or_default();
        let directory = PathBuf::from(std::env::var_os("PULK_FAULT_DIR")?);
        let calls = text("PULK_FAULT_CALL");
        let calls = calls.split(',').map(|name| {
            let found = NAMES.into_iter().find(|(known, _)| *known == name);
            found.unwrap_or_else(|| refuse(&format!("PULK_FAULT_CALL has {name:?}"))).1
        });
        let fault = match text("PULK_FAULT_KIND").as_str() {
            "ENOSPC" => Fault::Error(libc::ENOSPC),
            "" | "EIO" => Fault::Error(libc::EIO),
            "short" => Fault::Short,
            other => refuse(&format!("PULK_FAULT_KIND is {other:?}")),
        };
        Some(Faults {
            directory,
            calls: calls.collect(),
            at: text("PULK_FAULT_AT").parse().unwrap_or_else(|_| refuse("no PULK_FAULT_AT")),
            fault,
            lasting: text("PULK_FAULT_LASTING") == "1",
            log: std::env::var_os("PULK_FAULT_LOG").map(|path| open_log(&path)),
            seen: 0,
            cached: HashSet::new(),
        })
    }

    pub(super) fn cover(&self, path: &Path) -> bool {
        path.starts_with(&self.directory)
    }

    /// Counts a call, and tells what is to happen to it.
    pub(super) fn next(&mut self, call: Call, path: &Path, bytes: usize) -> Option<Fault> {
        if !self.cover(path) || !self.calls.contains(&call) {
            return None;
        }
        self.seen += 1;
        let is_next = self.seen == self.at;
        let is_later = self.at > 0 && self.seen > self.at && self.lasting;
        if self.at == 0 || is_next || is_later {
            self.log(call, path, bytes);
        }
        match self.fault {
            Fault::Short if is_later => Some(Fault::Error(libc::ENOSPC)),
            fault => (is_next || is_later).then_some(fault),
        }
    }

    /// The same for a read of bytes of a file, if that needs the disk.
    pub(super) fn next_read(&mut self, file: &OpenFile, bytes: Range<u64>) -> Option<Fault> {
        let bytes = bytes.start..bytes.end.min(file.length);
        if !self.cover(&file.path) || pages(bytes).all(|n| self.cached.contains(&(file.inode, n))) {
            return None;
        }
        self.next(Call::Read, &file.path, 0)
    }

    /// Bytes of a file that were read or written.
    pub(super) fn cache(&mut self, file: &OpenFile, bytes: Range<u64>) {
        if self.cover(&file.path) {
            self.cached.extend(pages(bytes).map(|number| (file.inode, number)));
        }
    }

    fn log(&self, kind: Call, path: &Path, bytes: usize) {
        let name = NAMES.into_iter().find(|(_, call)| *call == kind).map_or("", |(name, _)| name);
        let path = path.strip_prefix(&self.directory).unwrap_or(path).display();
        if let Some(log) = self.log {
            say(log, &format!("{} {name} {path} {bytes}\n", self.seen));
        }
    }
}

/// The numbers of the pages in which these bytes lie.
fn pages(bytes: Range<u64>) -> Range<u64> {
    match bytes.is_empty() {
        true => 0..0,
        false => bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES),
    }
}

const PAGE_BYTES: u64 = 4096;

const NAMES: [(&str, Call); 8] = [
    ("open", Call::Open),
    ("write", Call::Write),
    ("length", Call::Length),
    ("rename", Call::Rename),
    ("remove", Call::Remove),
    ("make", Call::Make),
    ("sync", Call::Sync),
    ("read", Call::Read),
];

/// Ends the program, which was started by a test that made a mistake.
fn refuse(what: &str) -> ! {
    say(libc::STDERR_FILENO, &format!("the faults can't be set: {what}\n"));
    std::process::abort()
}

fn open_log(path: &OsStr) -> RawFd {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    let opened = CString::new(path.as_bytes()).ok().and_then(|path| {
        let (at, path) = (c_long::from(libc::AT_FDCWD), address(path.as_ptr()));
        // SAFETY: the path is a string of C.
        unsafe { call(libc::SYS_openat, [at, path, flags.into(), 0o600]) }.ok()
    });
    let opened = opened.and_then(|file| RawFd::try_from(file).ok());
    opened.unwrap_or_else(|| refuse("PULK_FAULT_LOG can't be opened"))
}

fn say(file: RawFd, line: &str) {
    let arguments = [file.into(), address(line.as_ptr()), line.len() as c_long];
    // SAFETY: the line is as long as it says.
    let _ = unsafe { call(libc::SYS_write, arguments) };
}
