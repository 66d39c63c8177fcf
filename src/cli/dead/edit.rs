//! `pulk dead edit`: changes a dead letter before it is replayed.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::client::{self, Node};
use super::super::enqueue::{header, json, payload_of};
use super::super::{failed, show};
use crate::error::{Error, ErrorKind, Result};
use crate::priority::Priority;

pub(super) const EXAMPLES: &str = "\
Examples:
  pulk dead edit 01KAXYZ… --payload '{\"to\":\"ann@example.org\"}' --max-attempts 5
  pulk dead edit 01KAXYZ… --payload-file fixed.json --priority high

It stays dead until it is replayed.";

/// What to change.
#[derive(Debug, Args)]
pub(super) struct EditArguments {
    /// The dead letter.
    id: String,
    #[command(flatten)]
    change: Change,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Change {
    /// What is to be done.
    #[arg(long)]
    kind: Option<String>,
    /// What the handler gets, as JSON.
    #[arg(long, value_name = "JSON", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the payload; - is stdin.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// The file is no JSON: take its bytes as they are.
    #[arg(long, requires = "payload_file")]
    binary: bool,
    /// critical, high, default, low or bulk.
    #[arg(long)]
    priority: Option<Priority>,
    /// A name and a value; those given replace all there were.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// How often it may fail.
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// How often it may be interrupted.
    #[arg(long, value_name = "COUNT")]
    max_interruptions: Option<u32>,
    /// How long one attempt may take.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
}

#[derive(Serialize)]
struct ChangeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_interruptions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

impl EditArguments {
    pub(super) fn run(&self, node: &Node) -> Result<()> {
        let body = serde_json::to_vec(&self.change.body()?)
            .map_err(|reason| failed(format!("the change can't be written as JSON: {reason}")))?;
        if body == b"{}" {
            let sentence = "say what to change, for example --payload; --help lists what can be";
            return Err(Error::new(ErrorKind::Configuration, sentence));
        }
        show::job(&node.patch(&client::path(&["v1", "dead", &self.id]), body)?, self.json)
    }
}

impl Change {
    fn body(&self) -> Result<ChangeBody<'_>> {
        let (payload, payload_base64) = match (&self.payload, &self.payload_file) {
            (Some(text), _) => (Some(json("--payload", text.clone())?), None),
            (None, Some(file)) => payload_of(file, self.binary)?,
            (None, None) => (None, None),
        };
        let headers = self.headers.iter().cloned();
        Ok(ChangeBody {
            kind: self.kind.as_deref(),
            payload,
            payload_base64,
            priority: self.priority,
            headers: headers.map(|(name, value)| (name, value.into())).collect(),
            max_attempts: self.max_attempts,
            max_interruptions: self.max_interruptions,
            timeout_ms: self.timeout_ms,
        })
    }
}
