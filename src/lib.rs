//! pulk: an embedded, persistent job queue.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dead_letter;
mod engine;
pub mod error;
pub mod handle;
pub mod job;
pub mod lease;
pub mod metrics;
pub mod priority;
pub mod queue;
pub mod retry;
pub mod server;
pub mod store;

pub use clock::Timestamp;
pub use config::{Config, StoreKind};
pub use error::{Error, ErrorKind, Result};
pub use handle::Queue;
pub use job::{JobId, JobState, JobView, NewJob, Payload, RunAt};
pub use lease::LeaseToken;
pub use priority::Priority;
