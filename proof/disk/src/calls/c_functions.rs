//! The functions of the C library that this crate takes the place of.
//!
//! `open` and `openat` have a variable argument in C. Where that is the last of few, callers pass
//! it like any other (on x86-64 and 64-bit ARM); it is looked at only where C would.

use libc::{
    AT_FDCWD, AT_REMOVEDIR, c_char, c_int, c_uint, c_void, iovec, mode_t, off_t, off64_t, size_t,
    ssize_t,
};

use super::kernel::{address, call, told};
use super::observed;

/// Defines functions that pass the pointers of their callers on, in a call that may take them.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty = $body:expr;)*) => {$(
        #[unsafe(no_mangle)]
        #[allow(unused_unsafe, reason = "some take no pointer")]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            // SAFETY: the caller passes what the C library's function of this name takes.
            let outcome = unsafe { $body };
            told(outcome) as $result
        }
    )*};
}

/// The pieces of a list.
///
/// # Safety
/// There are as many as said.
unsafe fn pieces<'a>(list: *const iovec, count: c_int) -> &'a [iovec] {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts(list, count) }
}

fn bytes_of(pieces: &[iovec]) -> usize {
    pieces.iter().map(|piece| piece.iov_len).sum()
}

fn one(bytes: *const c_void, count: size_t) -> [iovec; 1] {
    [iovec { iov_base: bytes.cast_mut(), iov_len: count }]
}

// Names of files.
functions! {
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int =
        observed::open(AT_FDCWD, path, flags, mode);
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int =
        observed::open(AT_FDCWD, path, flags | libc::O_LARGEFILE, mode);
    openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int =
        observed::open(at, path, flags, mode);
    openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int =
        observed::open(at, path, flags | libc::O_LARGEFILE, mode);
    creat(path: *const c_char, mode: mode_t) -> c_int = observed::open(
        AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode);
    creat64(path: *const c_char, mode: mode_t) -> c_int = observed::open(
        AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC | libc::O_LARGEFILE, mode);
    rename(from: *const c_char, to: *const c_char) -> c_int =
        observed::rename((AT_FDCWD, from), (AT_FDCWD, to), 0);
    renameat(at: c_int, from: *const c_char, into: c_int, to: *const c_char) -> c_int =
        observed::rename((at, from), (into, to), 0);
    renameat2(at: c_int, from: *const c_char, into: c_int, to: *const c_char, flags: c_uint)
        -> c_int = observed::rename((at, from), (into, to), flags);
    unlink(path: *const c_char) -> c_int = observed::remove(AT_FDCWD, path, 0);
    unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int =
        observed::remove(at, path, flags);
    rmdir(path: *const c_char) -> c_int = observed::remove(AT_FDCWD, path, AT_REMOVEDIR);
    mkdir(path: *const c_char, mode: mode_t) -> c_int =
        observed::make_directory(AT_FDCWD, path, mode);
    mkdirat(at: c_int, path: *const c_char, mode: mode_t) -> c_int =
        observed::make_directory(at, path, mode);
    link(from: *const c_char, to: *const c_char) -> c_int =
        observed::link((AT_FDCWD, from), (AT_FDCWD, to), 0);
    linkat(at: c_int, from: *const c_char, into: c_int, to: *const c_char, flags: c_int)
        -> c_int = observed::link((at, from), (into, to), flags);
}

// What is in files.
functions! {
    write(file: c_int, bytes: *const c_void, count: size_t) -> ssize_t =
        observed::write(file, &one(bytes, count), None);
    pwrite(file: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t =
        observed::write(file, &one(bytes, count), Some(offset));
    pwrite64(file: c_int, bytes: *const c_void, count: size_t, offset: off64_t) -> ssize_t =
        observed::write(file, &one(bytes, count), Some(offset));
    writev(file: c_int, list: *const iovec, count: c_int) -> ssize_t =
        observed::write(file, pieces(list, count), None);
    pwritev(file: c_int, list: *const iovec, count: c_int, offset: off_t) -> ssize_t =
        observed::write(file, pieces(list, count), Some(offset));
    pwritev64(file: c_int, list: *const iovec, count: c_int, offset: off64_t) -> ssize_t =
        observed::write(file, pieces(list, count), Some(offset));
    ftruncate(file: c_int, length: off_t) -> c_int = observed::set_length(file, length);
    ftruncate64(file: c_int, length: off64_t) -> c_int = observed::set_length(file, length);
    truncate(path: *const c_char, length: off_t) -> c_int =
        observed::set_length_by_name(path, length);
    truncate64(path: *const c_char, length: off64_t) -> c_int =
        observed::set_length_by_name(path, length);
    fallocate(file: c_int, flags: c_int, from: off_t, count: off_t) -> c_int =
        observed::allocate(file, flags, from, count);
    fallocate64(file: c_int, flags: c_int, from: off64_t, count: off64_t) -> c_int =
        observed::allocate(file, flags, from, count);
    fsync(file: c_int) -> c_int = observed::sync(file, libc::SYS_fsync);
    fdatasync(file: c_int) -> c_int = observed::sync(file, libc::SYS_fdatasync);
}

// Reading, which may be made to fail.
functions! {
    read(file: c_int, into: *mut c_void, count: size_t) -> ssize_t =
        observed::read(file, count, None, || {
            call(libc::SYS_read, [file.into(), address(into), count as i64])
        });
    readv(file: c_int, list: *const iovec, count: c_int) -> ssize_t =
        observed::read(file, bytes_of(pieces(list, count)), None, || {
            call(libc::SYS_readv, [file.into(), address(list), count.into()])
        });
    pread(file: c_int, into: *mut c_void, count: size_t, offset: off_t) -> ssize_t =
        observed::read(file, count, Some(offset), || {
            call(libc::SYS_pread64, [file.into(), address(into), count as i64, offset])
        });
    pread64(file: c_int, into: *mut c_void, count: size_t, offset: off64_t) -> ssize_t =
        observed::read(file, count, Some(offset), || {
            call(libc::SYS_pread64, [file.into(), address(into), count as i64, offset])
        });
}

// Copies inside the kernel. The errors are those for which std goes on with read and write.
functions! {
    copy_file_range(
        from: c_int, from_at: *mut off64_t, to: c_int, to_at: *mut off64_t, count: size_t,
        flags: c_uint
    ) -> ssize_t = observed::copy(to, libc::EXDEV, || {
        let (from_at, to_at) = (address(from_at), address(to_at));
        let arguments = [from.into(), from_at, to.into(), to_at, count as i64, flags.into()];
        call(libc::SYS_copy_file_range, arguments)
    });
    sendfile(to: c_int, from: c_int, from_at: *mut off_t, count: size_t) -> ssize_t =
        observed::copy(to, libc::EINVAL, || {
            call(libc::SYS_sendfile, [to.into(), from.into(), address(from_at), count as i64])
        });
    sendfile64(to: c_int, from: c_int, from_at: *mut off64_t, count: size_t) -> ssize_t =
        observed::copy(to, libc::EINVAL, || {
            call(libc::SYS_sendfile, [to.into(), from.into(), address(from_at), count as i64])
        });
    splice(
        from: c_int, from_at: *mut off64_t, to: c_int, to_at: *mut off64_t, count: size_t,
        flags: c_uint
    ) -> ssize_t = observed::copy(to, libc::EINVAL, || {
        let (from_at, to_at) = (address(from_at), address(to_at));
        let arguments = [from.into(), from_at, to.into(), to_at, count as i64, flags.into()];
        call(libc::SYS_splice, arguments)
    });
}

/// Tells its error as its result.
#[unsafe(no_mangle)]
extern "C" fn posix_fallocate(file: c_int, from: off_t, count: off_t) -> c_int {
    observed::allocate(file, 0, from, count).err().unwrap_or(0)
}

/// Tells its error as its result.
#[unsafe(no_mangle)]
extern "C" fn posix_fallocate64(file: c_int, from: off64_t, count: off64_t) -> c_int {
    posix_fallocate(file, from, count)
}
