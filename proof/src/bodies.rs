//! The bodies of the fuzz targets that see pulk from outside. Each takes any bytes, and panics
//! when something is not as it must be. `fuzz/` feeds them what cargo-fuzz makes up, and
//! `tests/fuzz_corpora.rs` the inputs that are committed.

mod crash_recovery;
mod http_request;
mod queue_commands;

pub use crash_recovery::{crash_again, crash_recovery};
pub use http_request::http_request;
pub use queue_commands::queue_commands;
