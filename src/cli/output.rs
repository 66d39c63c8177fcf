//! What a command prints.

use std::io::{self, Write};

use super::failed;
use crate::error::Result;

/// Prints a text. A reader that has gone away (`pulk jobs | head`) ends the program: nobody
/// wants the rest.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(reason) if reason.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(reason) => Err(failed(format!("the output can't be written: {reason}"))),
    }
}
