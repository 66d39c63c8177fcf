//! The log of a node: to stderr, as text or JSON.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::failed;
use crate::error::{Error, ErrorKind, Result};

/// How the log tells what happened.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// A filter that the log can use.
pub(super) fn filter(text: &str) -> Result<String, String> {
    let parsed = EnvFilter::builder().parse(text);
    parsed.map(|_| text.to_owned()).map_err(|reason| format!("{reason}; try info"))
}

pub(super) fn start(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|reason| Error::new(ErrorKind::Configuration, format!("--log: {reason}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|reason| failed(format!("the log can't be started: {reason}")))
}
