//! Each kind of call: ask whether it is to fail, do the real thing, note what was done.
//!
//! Every function here that takes a pointer is unsafe in the same way: the pointer must be what
//! the C library's function of that kind takes.

use std::ffi::CStr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::MutexGuard;

use libc::{c_char, c_int, c_long, c_uint, iovec, mode_t};

use super::faults::{Call, Fault};
use super::kernel::{self, Outcome, address, call};
use super::names::{self, OpenFile};
use super::watch::{self, Watch};
use crate::Operation;

type Watching = MutexGuard<'static, Watch>;

/// The watch and a file's name, when somebody wants to know of it.
fn watched_file(file: RawFd) -> Option<(Watching, OpenFile)> {
    let watch = watch::somebody()?;
    let open = names::open_file(file).filter(|open| watch.knows(&open.path))?;
    Some((watch, open))
}

/// The same for what a path names.
///
/// # Safety
/// `path` is a string of C, or null.
unsafe fn watched_name(directory: RawFd, path: *const c_char) -> Option<(Watching, PathBuf)> {
    let watch = watch::somebody()?;
    // SAFETY: as the caller says.
    let path = unsafe { name_of(directory, path) }.filter(|path| watch.knows(path))?;
    Some((watch, path))
}

/// # Safety
/// `path` is a string of C, or null.
unsafe fn name_of(directory: RawFd, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: as the caller says.
    (!path.is_null())
        .then(|| unsafe { CStr::from_ptr(path) })
        .and_then(|path| names::named(directory, path))
}

/// # Safety
/// `path` is a string of C.
pub(super) unsafe fn open(
    directory: RawFd,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> Outcome {
    let arguments = [directory.into(), address(path), flags.into(), mode.into()];
    // SAFETY: as the caller says.
    let real = || unsafe { call(libc::SYS_openat, arguments) };
    // SAFETY: as the caller says.
    let Some((mut watch, named)) = (unsafe { watched_name(directory, path) }) else {
        return real();
    };
    let for_reading = flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) == 0;
    let kind = if for_reading { Call::Read } else { Call::Open };
    if let Some(fault) = watch.fault(kind, &named) {
        return Err(fault.error());
    }
    // SAFETY: as the caller says.
    let was_there = kernel::exists(directory, unsafe { CStr::from_ptr(path) });
    let file = real()?;
    let opened = RawFd::try_from(file).ok().and_then(names::open_file);
    if let Some(OpenFile { path, .. }) = opened {
        if !was_there {
            watch.note(&path, |inside| Operation::Create { path: inside.path });
        } else if flags & libc::O_TRUNC != 0 {
            watch.note(&path, |inside| Operation::SetLength { path: inside.path, length: 0 });
        }
    }
    Ok(file)
}

/// # Safety
/// The pieces are readable.
pub(super) unsafe fn write(file: RawFd, pieces: &[iovec], offset: Option<i64>) -> Outcome {
    let Some((mut watch, open)) = watched_file(file) else {
        // SAFETY: as the caller says.
        return unsafe { kernel::write(file, pieces, offset) };
    };
    let half;
    let bytes = pieces.iter().map(|piece| piece.iov_len).sum();
    let pieces = match watch.fault_of_write(&open.path, bytes) {
        Some(Fault::Error(error)) => return Err(error),
        Some(Fault::Short) => {
            half = first_half(pieces);
            &half
        }
        None => pieces,
    };
    // SAFETY: as the caller says, or less of it.
    let written = unsafe { kernel::write(file, pieces, offset) }?;
    if written == 0 {
        return Ok(written);
    }
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(file, libc::F_GETFL) };
    let offset = match offset {
        // Linux appends, whatever the offset.
        Some(_) if flags & libc::O_APPEND != 0 => open.length,
        Some(offset) => offset as u64,
        None => (kernel::position(file)? - written) as u64,
    };
    watch.cache(&open, offset..offset + written as u64);
    if !watch.is_recorded(&open.path) {
        return Ok(written);
    }
    // SAFETY: as the caller says; the kernel has read as much.
    let bytes = unsafe { first_bytes(pieces, written as usize) };
    watch.note(&open.path, |inside| {
        let bytes = bytes.clone();
        Operation::Write { path: inside.path, offset, bytes }
    });
    Ok(written)
}

/// The first half of what the pieces hold, at least a byte.
fn first_half(pieces: &[iovec]) -> Vec<iovec> {
    let all: usize = pieces.iter().map(|piece| piece.iov_len).sum();
    let mut left = all.div_ceil(2);
    let half = pieces.iter().map(|piece| {
        let taken = piece.iov_len.min(left);
        left -= taken;
        iovec { iov_base: piece.iov_base, iov_len: taken }
    });
    half.collect()
}

/// # Safety
/// The pieces are readable.
unsafe fn first_bytes(pieces: &[iovec], count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    for piece in pieces {
        let taken = piece.iov_len.min(count - bytes.len());
        if taken > 0 {
            // SAFETY: as the caller says.
            let piece = unsafe { std::slice::from_raw_parts(piece.iov_base.cast(), taken) };
            bytes.extend_from_slice(piece);
        }
    }
    bytes
}

/// A read at the file's position or at an offset does the real thing, unless it is to fail.
pub(super) fn read(
    file: RawFd,
    count: usize,
    offset: Option<i64>,
    real: impl FnOnce() -> Outcome,
) -> Outcome {
    let Some((mut watch, open)) = watch::somebody_with_faults().zip(names::open_file(file)) else {
        return real();
    };
    let from = offset.map_or_else(|| kernel::position(file), Ok)? as u64;
    if let Some(fault) = watch.fault_of_read(&open, from..from + count as u64) {
        return Err(fault.error());
    }
    let read = real()?;
    watch.cache(&open, from..from + read as u64);
    Ok(read)
}

pub(super) fn sync(file: RawFd, number: c_long) -> Outcome {
    let mut begun = Vec::new();
    if let Some((mut watch, open)) = watched_file(file) {
        if let Some(fault) = watch.fault(Call::Sync, &open.path) {
            return Err(fault.error());
        }
        begun = watch.begin_sync(&open.path);
    }
    // SAFETY: no pointers.
    let done = unsafe { call(number, [file.into()]) }?;
    if !begun.is_empty() {
        watch::lock().end_sync(&begun);
    }
    Ok(done)
}

pub(super) fn set_length(file: RawFd, length: i64) -> Outcome {
    // SAFETY: no pointers.
    let real = || unsafe { call(libc::SYS_ftruncate, [file.into(), length]) };
    let Some((watch, open)) = watched_file(file) else { return real() };
    change_length(watch, open.path, length, real)
}

/// # Safety
/// `path` is a string of C.
pub(super) unsafe fn set_length_by_name(path: *const c_char, length: i64) -> Outcome {
    // SAFETY: as the caller says.
    let real = || unsafe { call(libc::SYS_truncate, [address(path), length]) };
    // SAFETY: as the caller says.
    let Some((watch, named)) = (unsafe { watched_name(libc::AT_FDCWD, path) }) else {
        return real();
    };
    change_length(watch, named, length, real)
}

fn change_length(
    mut watch: Watching,
    path: PathBuf,
    length: i64,
    real: impl FnOnce() -> Outcome,
) -> Outcome {
    if let Some(fault) = watch.fault(Call::Length, &path) {
        return Err(fault.error());
    }
    let done = real()?;
    let length = length as u64;
    watch.note(&path, |inside| Operation::SetLength { path: inside.path, length });
    Ok(done)
}

/// Room for bytes of a file; without a flag it becomes longer by that.
pub(super) fn allocate(file: RawFd, flags: c_int, from: i64, count: i64) -> Outcome {
    let arguments = [file.into(), flags.into(), from, count];
    // SAFETY: no pointers.
    let real = || unsafe { call(libc::SYS_fallocate, arguments) };
    let Some((mut watch, open)) = watched_file(file) else { return real() };
    if flags & !libc::FALLOC_FL_KEEP_SIZE != 0 && watch.is_recorded(&open.path) {
        return Err(libc::EOPNOTSUPP);
    }
    if let Some(fault) = watch.fault(Call::Length, &open.path) {
        return Err(fault.error());
    }
    let done = real()?;
    let length = (from + count) as u64;
    if flags == 0 && length > open.length {
        watch.note(&open.path, |inside| Operation::SetLength { path: inside.path, length });
    }
    Ok(done)
}

/// # Safety
/// Both paths are strings of C.
pub(super) unsafe fn rename(
    from: (RawFd, *const c_char),
    to: (RawFd, *const c_char),
    flags: c_uint,
) -> Outcome {
    let arguments =
        [from.0.into(), address(from.1), to.0.into(), address(to.1), c_long::from(flags)];
    // SAFETY: as the caller says.
    let real = || unsafe { call(libc::SYS_renameat2, arguments) };
    let Some(mut watch) = watch::somebody() else { return real() };
    // SAFETY: as the caller says.
    let names = unsafe { (name_of(from.0, from.1), name_of(to.0, to.1)) };
    let (Some(from), Some(to)) = names else { return real() };
    if !watch.has_both_or_neither(&from, &to) {
        return Err(libc::EXDEV);
    }
    if flags & !libc::RENAME_NOREPLACE != 0 && watch.is_recorded(&to) {
        return Err(libc::EINVAL);
    }
    if let Some(fault) = watch.fault(Call::Rename, &to) {
        return Err(fault.error());
    }
    let done = real()?;
    watch.note(&to, |inside| {
        let from = inside.other(&from);
        Operation::Rename { from, to: inside.path }
    });
    Ok(done)
}

/// Removes a file, or with `AT_REMOVEDIR` an empty directory.
///
/// # Safety
/// `path` is a string of C.
pub(super) unsafe fn remove(directory: RawFd, path: *const c_char, flags: c_int) -> Outcome {
    let arguments = [directory.into(), address(path), flags.into()];
    // SAFETY: as the caller says.
    let real = || unsafe { call(libc::SYS_unlinkat, arguments) };
    // SAFETY: as the caller says.
    let Some((mut watch, named)) = (unsafe { watched_name(directory, path) }) else {
        return real();
    };
    if let Some(fault) = watch.fault(Call::Remove, &named) {
        return Err(fault.error());
    }
    let done = real()?;
    watch.note(&named, |inside| match flags & libc::AT_REMOVEDIR {
        0 => Operation::Remove { path: inside.path },
        _ => Operation::RemoveDirectory { path: inside.path },
    });
    Ok(done)
}

/// # Safety
/// `path` is a string of C.
pub(super) unsafe fn make_directory(
    directory: RawFd,
    path: *const c_char,
    mode: mode_t,
) -> Outcome {
    // SAFETY: as the caller says.
    let real =
        || unsafe { call(libc::SYS_mkdirat, [directory.into(), address(path), mode.into()]) };
    // SAFETY: as the caller says.
    let Some((mut watch, named)) = (unsafe { watched_name(directory, path) }) else {
        return real();
    };
    if let Some(fault) = watch.fault(Call::Make, &named) {
        return Err(fault.error());
    }
    let done = real()?;
    watch.note(&named, |inside| Operation::MakeDirectory { path: inside.path });
    Ok(done)
}

/// A copy inside the kernel into a file: not while that is watched.
pub(super) fn copy(to: RawFd, refusal: c_int, real: impl FnOnce() -> Outcome) -> Outcome {
    match watched_file(to) {
        Some(_) => Err(refusal),
        None => real(),
    }
}

/// A second name for a file: not while that would be recorded.
///
/// # Safety
/// Both paths are strings of C.
pub(super) unsafe fn link(
    from: (RawFd, *const c_char),
    to: (RawFd, *const c_char),
    flags: c_int,
) -> Outcome {
    // SAFETY: as the caller says.
    if let Some((watch, name)) = unsafe { watched_name(to.0, to.1) }
        && watch.is_recorded(&name)
    {
        return Err(libc::EPERM);
    }
    let arguments = [from.0.into(), address(from.1), to.0.into(), address(to.1), flags.into()];
    // SAFETY: as the caller says.
    unsafe { call(libc::SYS_linkat, arguments) }
}
