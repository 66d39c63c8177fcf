//! What the tests do to disks: record what is written, rebuild what a power cut may leave, make
//! calls fail.
//!
//! - [`operation`]: what the kernel was asked to do with the files below a directory, in order.
//!
//! Nothing here knows of pulk.

pub mod chance;
pub mod operation;

pub use chance::Chance;
pub use operation::Operation;
