//! Stands in for the functions of the C library by which a program changes files: to record what
//! it does, or to make a call fail.
//!
//! Every program that links this crate calls the functions in `c_functions` instead of those of
//! the C library, its dependencies included. They do the real thing by a system call of their
//! own. While nobody records and no fault is set, that is all they do, but for one atomic load.
//!
//! - In this process: [`Recording`].
//! - In another, which has the crate's shared object preloaded (`LD_PRELOAD`): faults, set by the
//!   variables in `faults`.
//!
//! # What is not seen
//! - System calls made without the C library, as `rustix` does. pulk makes room for files so
//!   (`fallocate`), which changes no byte of them, but the length of its ballast.
//! - Writes into memory that a file is mapped to, and the streams of the C library (`fopen`).
//! - `sync`, `syncfs`, `sync_file_range` and what `O_SYNC` promises: taken as no promise.
//!
//! # What is refused while it would be recorded
//! What [`Operation`](crate::Operation) has no word for gets the error by which programs fall
//! back on something else: copies inside the kernel, hard links, moves over the border of the
//! directory, exchanging two names, holes punched into files.

// The one place with unsafe code: functions with the C library's names, for the C library's
// callers, with its pointers.
#![allow(unsafe_code, reason = "it takes the place of functions of the C library")]

mod c_functions;
mod faults;
mod kernel;
mod names;
mod observed;
mod recording;
mod watch;

pub use recording::Recording;
