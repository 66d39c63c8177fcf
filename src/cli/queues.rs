//! `pulk queues`: pauses a queue, lets it go on, removes an empty one.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{self, Node, NodeArguments};
use super::output;
use super::table::jobs;
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  pulk queues pause mails     its jobs wait; enqueue still works
  pulk queues resume mails
  pulk queues next            which job is next, and why
  pulk queues remove mails    when no job is left in it; see pulk jobs purge";

/// What to do with a queue.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct QueuesArguments {
    #[command(subcommand)]
    command: QueuesCommand,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Debug, Subcommand)]
enum QueuesCommand {
    /// Hand out no more jobs of a queue; that survives restarts.
    Pause(QueueArguments),
    /// Hand out its jobs again.
    Resume(QueueArguments),
    /// Say which job is next, and why.
    Next {
        /// Print the node's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Remove a queue that holds no job at all.
    Remove {
        /// The queue.
        queue: String,
    },
}

#[derive(Debug, Args)]
struct QueueArguments {
    /// The queue.
    queue: String,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &QueuesArguments) -> Result<()> {
    let node = arguments.node.node();
    let (change, verb, paused) = match &arguments.command {
        QueuesCommand::Pause(change) => (change, "pause", "is paused"),
        QueuesCommand::Resume(change) => (change, "resume", "is not paused"),
        QueuesCommand::Next { json } => return next(&node, *json),
        QueuesCommand::Remove { queue } => {
            node.delete(&client::path(&["v1", "queues", queue]))?;
            return output::print(&format!("{queue} is removed\n"));
        }
    };
    let queue = &change.queue;
    let answer = node.post(&client::path(&["v1", "queues", queue, verb]), b"{}".to_vec())?;
    if change.json {
        return output::print(&answer.text());
    }
    let told: Value = answer.json()?;
    let ready = told.get("counts").map_or(0, |counts| output::number(counts, "ready"));
    output::print(&format!("{queue} {paused}; {} ready\n", jobs(ready)))
}

fn next(node: &Node, json: bool) -> Result<()> {
    let answer = node.get("/v1/queues?explain=next")?;
    if json {
        return output::print(&answer.text());
    }
    let told: Value = answer.json()?;
    let next = told.get("next").unwrap_or(&Value::Null);
    let text = |of: &Value, name: &str| {
        of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let why = text(next, "why");
    output::print(&match next.get("job") {
        Some(job) => {
            let [id, queue, kind, priority] =
                ["id", "queue", "kind", "priority"].map(|name| text(job, name));
            format!("{id} {queue} {kind} {priority}: {why}\n")
        }
        None => format!("{why}\n"),
    })
}
