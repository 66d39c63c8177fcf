//! System calls, without the C library's functions for them.

use std::ffi::CStr;
use std::os::fd::RawFd;

use libc::{c_int, c_long, iovec};

/// What a system call gave: a number, or that of its error.
pub(super) type Outcome = Result<c_long, c_int>;

/// One system call.
///
/// # Safety
/// The arguments must be what this call takes; pointers must hold as long as it lasts.
pub(super) unsafe fn call<const N: usize>(number: c_long, arguments: [c_long; N]) -> Outcome {
    let mut six = [0; 6];
    six.iter_mut().zip(arguments).for_each(|(to, from)| *to = from);
    let [a, b, c, d, e, f] = six;
    // SAFETY: as the caller says. A call does not look at more arguments than it has.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(errno()),
        result => Ok(result),
    }
}

/// An outcome as a function of the C library tells it.
pub(super) fn told(outcome: Outcome) -> c_long {
    outcome.unwrap_or_else(|error| {
        // SAFETY: the C library gives the address of this thread's errno.
        unsafe { *libc::__errno_location() = error };
        -1
    })
}

fn errno() -> c_int {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}

/// A pointer as an argument.
pub(super) fn address<T>(pointer: *const T) -> c_long {
    pointer as c_long
}

/// Writes the pieces at the file's position, or at an offset.
///
/// # Safety
/// The pieces must be readable.
pub(super) unsafe fn write(file: RawFd, pieces: &[iovec], offset: Option<i64>) -> Outcome {
    let (file, count) = (c_long::from(file), pieces.len() as c_long);
    // SAFETY: the pieces are readable; the list of them is.
    unsafe {
        match (pieces, offset) {
            ([one], None) => {
                call(libc::SYS_write, [file, address(one.iov_base), one.iov_len as c_long])
            }
            ([one], Some(offset)) => {
                let (bytes, length) = (address(one.iov_base), one.iov_len as c_long);
                call(libc::SYS_pwrite64, [file, bytes, length, offset])
            }
            (_, None) => call(libc::SYS_writev, [file, address(pieces.as_ptr()), count]),
            // The offset's upper half is looked at on processors of 32 bits only.
            (_, Some(offset)) => {
                call(libc::SYS_pwritev, [file, address(pieces.as_ptr()), count, offset, 0])
            }
        }
    }
}

/// The position of an open file.
pub(super) fn position(file: RawFd) -> Outcome {
    // SAFETY: no pointers.
    unsafe { call(libc::SYS_lseek, [file.into(), 0, libc::SEEK_CUR.into()]) }
}

/// What kind of file this is, how many names it has, and its length.
pub(super) fn status(file: RawFd) -> Option<libc::stat> {
    let mut found = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills it in when it gives 0.
    unsafe { (libc::fstat(file, found.as_mut_ptr()) == 0).then(|| found.assume_init()) }
}

/// True when a path leads to something, links followed.
pub(super) fn exists(directory: RawFd, path: &CStr) -> bool {
    let path = address(path.as_ptr());
    // SAFETY: the path is a string of C.
    unsafe { call(libc::SYS_faccessat, [directory.into(), path, libc::F_OK.into()]) }.is_ok()
}

/// Opens a directory to know where it is. The caller closes it.
pub(super) fn open_place(directory: RawFd, path: &CStr) -> Outcome {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let path = address(path.as_ptr());
    // SAFETY: the path is a string of C.
    unsafe { call(libc::SYS_openat, [directory.into(), path, flags.into()]) }
}

/// Closes what `open_place` opened.
pub(super) fn close(file: RawFd) {
    // SAFETY: no pointers; nobody else knows this number.
    let _ = unsafe { call(libc::SYS_close, [file.into()]) };
}
