//! `pulk jobs`: lists jobs, shows one, cancels some, purges a queue.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{self, Node, NodeArguments};
use super::confirm::Consent;
use super::show;
use super::table::{Column, Table, from_now, jobs};
use super::{failed, output};
use crate::error::Result;
use crate::job::JobState;
use crate::priority::Priority;

/// Jobs shown where nobody says how many.
pub(super) const LIMIT_DEFAULT: u64 = 100;

const EXAMPLES: &str = "\
Examples:
  pulk jobs --queue mails --state ready
  pulk jobs --kind report --all --json | jq -r .id
  pulk jobs show 01KAXYZ…
  pulk jobs cancel 01KAXYZ… 01KAXYA…
  pulk jobs purge mails --state scheduled

The order is that of claims, then that of timers, then the dead. RUNS is when a job may run, or
since when it may; TRY is the attempt it is at, of how many. --json prints one job a line.";

/// Which jobs.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct JobsArguments {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    #[command(flatten)]
    list: ListArguments,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Debug, Args)]
struct ListArguments {
    /// Of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// In this state.
    #[arg(long, value_parser = states())]
    state: Option<String>,
    /// Of this priority.
    #[arg(long)]
    priority: Option<Priority>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// How many.
    #[arg(long, value_name = "COUNT", default_value_t = LIMIT_DEFAULT)]
    limit: u64,
    /// All there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print the jobs as the node tells them, one a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Show one job with its payload and errors.
    Show {
        /// The job.
        id: String,
        /// Print the node's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Cancel jobs: those that wait are gone, the holder of a running one learns it.
    #[command(after_help = "Example:\n  pulk jobs cancel 01KAXYZ… --yes")]
    Cancel {
        /// The jobs.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        consent: Consent,
    },
    /// Remove the jobs of a queue that wait, or those in one state.
    #[command(
        after_help = "Examples:\n  pulk jobs purge mails\n  pulk jobs purge mails --state dead \
                            --yes\n\nWithout --state: scheduled, ready and retrying ones."
    )]
    Purge {
        /// The queue.
        queue: String,
        /// Only those in this state; running ones are cancelled.
        #[arg(long, value_parser = states())]
        state: Option<String>,
        /// Only those of this priority.
        #[arg(long)]
        priority: Option<Priority>,
        /// Print the node's answer as it is.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        consent: Consent,
    },
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(JobState::ALL.map(JobState::as_str))
}

pub(super) fn run(arguments: &JobsArguments) -> Result<()> {
    let node = arguments.node.node();
    match &arguments.command {
        None => list(&node, &arguments.list),
        Some(JobsCommand::Show { id, json }) => {
            show::job(&node.get(&client::path(&["v1", "jobs", id]))?, *json)
        }
        Some(JobsCommand::Cancel { ids, consent }) => cancel(&node, ids, *consent),
        Some(JobsCommand::Purge { queue, state, priority, json, consent }) => {
            let priority = priority.map(Priority::as_str);
            let purge = Purge { queue, state: state.as_deref(), priority };
            purge.run(&node, *json, *consent)
        }
    }
}

fn list(node: &Node, arguments: &ListArguments) -> Result<()> {
    let filter = [
        ("queue", arguments.queue.clone()),
        ("state", arguments.state.clone()),
        ("priority", arguments.priority.map(|priority| priority.to_string())),
        ("kind", arguments.kind.clone()),
    ];
    let limit = (!arguments.all).then_some(arguments.limit);
    let columns = [
        Column::Whole("ID"),
        Column::Text("STATE"),
        Column::Text("QUEUE"),
        Column::Text("PRIORITY"),
        Column::Text("KIND"),
        Column::Number("TRY"),
        Column::Number("RUNS"),
    ];
    let rows = |page: &[Value]| {
        let mut table = Table::new(&columns);
        for job in page {
            table.row([
                output::text(job, "id"),
                output::text(job, "state"),
                output::text(job, "queue"),
                output::text(job, "priority"),
                output::text(job, "kind"),
                format!("{}/{}", output::text(job, "attempt"), output::text(job, "max_attempts")),
                from_now(&output::text(job, "run_at")),
            ]);
        }
        table
    };
    listed(node, "/v1/jobs", &filter, limit, arguments.json, rows)
}

/// Prints a list of jobs page by page, as a table or as JSON lines.
pub(super) fn listed(
    node: &Node,
    path: &str,
    filter: &[(&str, Option<String>)],
    limit: Option<u64>,
    json: bool,
    rows: impl Fn(&[Value]) -> Table,
) -> Result<()> {
    let mut shown = 0;
    let has_more = client::pages(node, path, filter, limit, |page: &[Box<RawValue>]| {
        shown += page.len();
        if json {
            let lines: String = page.iter().map(|job| format!("{}\n", on_a_line(job))).collect();
            return output::print(&lines);
        }
        let jobs: Vec<Value> =
            page.iter().filter_map(|job| serde_json::from_str(job.get()).ok()).collect();
        let table = rows(&jobs);
        if table.is_empty() { Ok(()) } else { output::print(&table.text()) }
    })?;
    if has_more {
        eprintln!("There are more; --limit or --all shows them.");
    } else if shown == 0 && !json {
        output::print("There are none.\n")?;
    }
    Ok(())
}

/// A payload is kept as it was written, over several lines if need be: here a job is one line.
fn on_a_line(job: &RawValue) -> String {
    // Between the tokens of JSON, a line's end is as good as a space; inside a text it is escaped.
    job.get().replace(['\n', '\r'], " ")
}

fn cancel(node: &Node, ids: &[String], consent: Consent) -> Result<()> {
    consent.to(&format!("Cancel {}?", jobs(ids.len() as u64)))?;
    let mut failures = 0;
    for id in ids {
        match node.delete(&client::path(&["v1", "jobs", id])) {
            Ok(answer) => {
                let state = output::text(&answer.json()?, "state");
                let note = if state == "running" { "; its holder is told" } else { "" };
                output::print(&format!("{id} {state}{note}\n"))?;
            }
            Err(client::Failure::Refused(refusal)) => {
                failures += 1;
                eprintln!("{id} not cancelled: {}", refusal.sentence);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    match failures {
        0 => Ok(()),
        _ => Err(failed(format!("{failures} of {} not cancelled", jobs(ids.len() as u64)))),
    }
}

struct Purge<'a> {
    queue: &'a str,
    state: Option<&'a str>,
    priority: Option<&'a str>,
}

impl Purge<'_> {
    fn run(&self, node: &Node, json: bool, consent: Consent) -> Result<()> {
        let (queue, state) = (self.queue, self.state.unwrap_or("waiting"));
        let there: Value = node.get(&client::path(&["v1", "queues", queue]))?.json()?;
        let priority = self.priority.map(|priority| format!(" {priority}")).unwrap_or_default();
        let count = jobs(self.count(&there));
        let does = if state == "running" { "cancels" } else { "removes" };
        consent.to(&format!("This {does} {count} of queue {queue} ({state}{priority}). Go on?"))?;
        let given = |value: Option<&str>| value.map(str::to_owned);
        let filter = [("state", given(self.state)), ("priority", given(self.priority))];
        let path = client::query(&client::path(&["v1", "queues", queue, "jobs"]), &filter);
        let answer = node.delete_many(&path)?;
        if json {
            return output::print(&answer.text());
        }
        let purged: Value = answer.json()?;
        let mut told = format!("{} removed", jobs(output::number(&purged, "removed")));
        let cancelled = output::number(&purged, "cancelled");
        if cancelled > 0 {
            told += &format!(", {cancelled} of them running: their holders are told");
        }
        output::print(&format!("{told}\n"))
    }

    /// How many jobs there are of what is to be purged, at the moment.
    fn count(&self, queue: &Value) -> u64 {
        let of = match self.priority {
            Some(priority) => queue.get("priorities").and_then(|all| all.get(priority)),
            None => Some(queue),
        };
        let Some(counts) = of.and_then(|of| of.get("counts")) else { return 0 };
        match self.state {
            Some(state) => output::number(counts, state),
            None => ["scheduled", "ready", "retrying"]
                .map(|one| output::number(counts, one))
                .iter()
                .sum(),
        }
    }
}
