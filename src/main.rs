//! The `pulk` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    pulk::cli::run(std::env::args_os())
}
