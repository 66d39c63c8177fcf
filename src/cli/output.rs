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

/// A member of a JSON object as text; "" where there is none.
pub(super) fn text(object: &serde_json::Value, name: &str) -> String {
    match object.get(name) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A member of a JSON object as a number; 0 where there is none.
pub(super) fn number(object: &serde_json::Value, name: &str) -> u64 {
    object.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default()
}
