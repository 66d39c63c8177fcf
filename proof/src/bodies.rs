//! The bodies of the fuzz targets: plain functions of bytes, which `cargo test` runs too.

mod queue_commands;

pub use queue_commands::queue_commands;
