//! Runs the jobs of a queue in this process.
//!
//! A driver like `api`: it speaks to the [`Queue`](crate::Queue) handle and to nothing below it.

mod handler;
mod job;
mod outcome;

pub use handler::{Handler, Running, Waiting};
pub use job::{Job, TRACEPARENT};
pub use outcome::Outcome;
