//! `pulk enqueue`: one job from the arguments, or many from a file.

mod batches;
mod lines;

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::NodeArguments;
use super::{failed, output};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::limits;
use crate::priority::Priority;

const EXAMPLES: &str = "\
Examples:
  pulk enqueue mail.welcome --payload '{\"to\":\"ann@example.org\"}'
  pulk enqueue report --queue reports --priority bulk --delay-ms 60000
  pulk enqueue thumbnail --payload-file picture.jpg --binary
  pulk enqueue --file jobs.ndjson      one job a line, as for POST /v1/jobs
  gzip -dc jobs.gz | pulk enqueue --file -

From a file, jobs go in batches. One that the node takes no more jobs for is sent again after the
time the node names, for up to 10 minutes; with --no-wait it is an error. A batch is taken whole or
not at all, and an error says from which line on to go on.";

/// All that says something about one job.
const ONE_JOB: [&str; 17] = [
    "kind",
    "queue",
    "priority",
    "payload",
    "payload_file",
    "binary",
    "headers",
    "delay_ms",
    "run_at",
    "max_attempts",
    "timeout_ms",
    "expires_in_ms",
    "unique_key",
    "on_conflict",
    "concurrency_key",
    "ordering_key",
    "idempotency_key",
];

/// What to enqueue.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct EnqueueArguments {
    #[command(flatten)]
    job: OneJob,
    /// A file with one job a line (NDJSON); - is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ONE_JOB)]
    file: Option<PathBuf>,
    /// The line of the file to begin with.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "file",
        value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Do not wait for room: a full queue is an error.
    #[arg(long, requires = "file")]
    no_wait: bool,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Debug, Args)]
struct OneJob {
    /// What is to be done.
    #[arg(required_unless_present = "file")]
    kind: Option<String>,
    /// The queue it goes to.
    #[arg(long)]
    queue: Option<String>,
    /// critical, high, default, low or bulk.
    #[arg(long)]
    priority: Option<Priority>,
    /// What the handler gets, as JSON.
    #[arg(long, value_name = "JSON", conflicts_with = "payload_file")]
    payload: Option<String>,
    /// A file with the payload; - is stdin.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// The file is no JSON: take its bytes as they are.
    #[arg(long, requires = "payload_file")]
    binary: bool,
    /// A name and a value beside the payload; as often as needed.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// How long it waits before it may run.
    #[arg(long, value_name = "MS", conflicts_with = "run_at")]
    delay_ms: Option<u64>,
    /// When it may run, like 2026-11-23T08:15:30Z.
    #[arg(long, value_name = "TIME")]
    run_at: Option<Timestamp>,
    /// How often it may fail.
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// How long one attempt may take.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Not started by then, it is dead.
    #[arg(long, value_name = "MS")]
    expires_in_ms: Option<u64>,
    /// No second job of the queue may hold this key.
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// What becomes of this job when another holds the key.
    #[arg(long, value_name = "HOW", requires = "unique_key",
        value_parser = ["reject", "return", "replace"])]
    on_conflict: Option<String>,
    /// Few jobs of the queue with this key run at a time.
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// Jobs of the queue with this key run one after the other.
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// The same call again with this key gets the same answer, for 24 hours.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Serialize)]
struct JobBody<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    headers: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<UniqueBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
}

#[derive(Serialize)]
struct UniqueBody<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_conflict: Option<&'a str>,
}

pub(super) fn run(arguments: &EnqueueArguments) -> Result<()> {
    let node = arguments.node.node();
    if let Some(file) = &arguments.file {
        let lines = lines::Lines::open(file, arguments.from_line)?;
        let options = batches::Options {
            waits: !arguments.no_wait,
            prints_ids: arguments.json,
            draws: io::stderr().is_terminal(),
        };
        return batches::send(&node, lines, options);
    }
    let body = serde_json::to_vec(&arguments.job.body()?)
        .map_err(|reason| failed(format!("the job can't be written as JSON: {reason}")))?;
    let key = arguments.job.idempotency_key.as_deref();
    let answer = node.post_with("/v1/jobs", body, key.map(|key| ("idempotency-key", key)))?;
    if arguments.json {
        return output::print(&answer.text());
    }
    let enqueued: serde_json::Value = answer.json()?;
    output::print(&format!("{}\n", output::text(&enqueued, "id")))
}

impl OneJob {
    fn body(&self) -> Result<JobBody<'_>> {
        let (payload, payload_base64) = match (&self.payload, &self.payload_file) {
            (Some(text), _) => (Some(json("--payload", text.clone())?), None),
            (None, Some(file)) => payload_of(file, self.binary)?,
            (None, None) => (None, None),
        };
        let headers = self.headers.iter().cloned();
        let unique = self.unique_key.as_deref();
        Ok(JobBody {
            kind: self.kind.as_deref().unwrap_or_default(),
            queue: self.queue.as_deref(),
            priority: self.priority,
            payload,
            payload_base64,
            headers: headers.map(|(name, value)| (name, value.into())).collect(),
            delay_ms: self.delay_ms,
            run_at: self.run_at,
            max_attempts: self.max_attempts,
            timeout_ms: self.timeout_ms,
            expires_in_ms: self.expires_in_ms,
            unique: unique.map(|key| UniqueBody { key, on_conflict: self.on_conflict.as_deref() }),
            concurrency_key: self.concurrency_key.as_deref(),
            ordering_key: self.ordering_key.as_deref(),
        })
    }
}

/// The payload as JSON or, of any bytes, as base64.
pub(super) fn payload_of(
    file: &Path,
    is_binary: bool,
) -> Result<(Option<Box<RawValue>>, Option<String>)> {
    let name = file.display();
    let unreadable = |reason: &dyn std::fmt::Display| {
        let sentence = format!("--payload-file: {name} can't be read: {reason}");
        Error::new(ErrorKind::Configuration, sentence)
    };
    let mut bytes = Vec::new();
    let most = limits::PAYLOAD_BYTES_MAX as u64;
    let opened: io::Result<Box<dyn Read>> = if file == Path::new("-") {
        Ok(Box::new(io::stdin().lock()))
    } else {
        fs::File::open(file).map(|file| Box::new(file) as Box<dyn Read>)
    };
    let read = opened.and_then(|source| source.take(most + 1).read_to_end(&mut bytes));
    if read.map_err(|reason| unreadable(&reason))? as u64 > most {
        return Err(unreadable(&format!("it is over {most} bytes, the limit of a payload")));
    }
    if is_binary {
        return Ok((None, Some(BASE64_STANDARD.encode(bytes))));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable(&"it is no text; add --binary to send its bytes"))?;
    Ok((Some(json("--payload-file", text)?), None))
}

/// A text that is JSON, kept byte for byte.
pub(super) fn json(flag: &str, text: String) -> Result<Box<RawValue>> {
    serde_json::from_str::<&RawValue>(&text).map(ToOwned::to_owned).map_err(|reason| {
        let sentence = format!("{flag}: this is no JSON: {reason}");
        Error::new(ErrorKind::Configuration, sentence)
    })
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    #[test]
    fn nothing_said_about_one_job_goes_with_a_file() {
        let command = OneJob::augment_args(clap::Command::new("enqueue"));
        let ids: Vec<&str> =
            command.get_arguments().map(|argument| argument.get_id().as_str()).collect();
        assert_eq!(ids, ONE_JOB);
    }
}
