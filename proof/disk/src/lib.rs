//! What the tests do to disks: record what is written, rebuild what a power cut may leave, make
//! calls fail.
//!
//! - [`calls`]: stands in for the functions of the C library, to record calls or make them fail.
//! - [`operation`]: what the kernel was asked to do with the files below a directory, in order.
//! - [`history`], [`image`], [`chance`]: what a power cut may leave of that.
//! - [`strace`]: operations out of a trace of a running program.
//!
//! Nothing here knows of pulk.

pub mod calls;
pub mod chance;
pub mod history;
pub mod image;
pub mod operation;
pub mod strace;

pub use calls::Recording;
pub use chance::Chance;
pub use history::{Base, History};
pub use operation::Operation;
