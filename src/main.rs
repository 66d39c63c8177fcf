//! The `pulk` program.

use std::process::ExitCode;

/// jemalloc: batches are 1.4 times as fast as with glibc's allocator, and 3,000,000 jobs that wait
/// take 40 MB less. `.cargo/config.toml` says when it gives memory back.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pulk::cli::run(std::env::args_os())
}
