//! `pulk schedules`: lists schedules; runs, pauses, resumes and removes one.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::client::{self, Node, NodeArguments, query};
use super::output;
use super::table::{Column, Table};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  pulk schedules list              when each runs next, and what it skipped
  pulk schedules run nightly       enqueues its job now
  pulk schedules pause nightly     its moments pass by
  pulk schedules resume nightly
  pulk schedules remove nightly    the jobs that it made stay

A schedule is made by PUT /v1/schedules/{name}; see docs/API.md.";

/// What to do with schedules.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SchedulesArguments {
    #[command(subcommand)]
    command: SchedulesCommand,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Debug, Subcommand)]
enum SchedulesCommand {
    /// Show all schedules.
    List {
        /// Print the node's own JSON, a schedule a line.
        #[arg(long)]
        json: bool,
    },
    /// Enqueue the job of a schedule now, paused or not.
    Run(ScheduleArguments),
    /// Let a schedule make no jobs; that survives restarts.
    Pause(ScheduleArguments),
    /// Let it make jobs again, from now on.
    Resume(ScheduleArguments),
    /// Remove a schedule.
    Remove {
        /// The schedule.
        schedule: String,
    },
}

#[derive(Debug, Args)]
struct ScheduleArguments {
    /// The schedule.
    schedule: String,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Page {
    schedules: Vec<Value>,
    next_cursor: Option<String>,
}

pub(super) fn run(arguments: &SchedulesArguments) -> Result<()> {
    let node = arguments.node.node();
    let (change, verb) = match &arguments.command {
        SchedulesCommand::List { json } => return list(&node, *json),
        SchedulesCommand::Run(change) => (change, "run"),
        SchedulesCommand::Pause(change) => (change, "pause"),
        SchedulesCommand::Resume(change) => (change, "resume"),
        SchedulesCommand::Remove { schedule } => {
            node.delete(&client::path(&["v1", "schedules", schedule]))?;
            return output::print(&format!("{schedule} is removed\n"));
        }
    };
    let schedule = &change.schedule;
    let answer = node.post(&client::path(&["v1", "schedules", schedule, verb]), b"{}".to_vec())?;
    if change.json {
        return output::print(&answer.text());
    }
    let told: Value = answer.json()?;
    output::print(&match verb {
        "run" => format!("{}\n", output::text(&told, "id")),
        "pause" => format!("{schedule} is paused\n"),
        _ => format!("{schedule} is not paused; next run {}\n", next_run(&told)),
    })
}

fn list(node: &Node, json: bool) -> Result<()> {
    let columns = [
        Column::Whole("SCHEDULE"),
        Column::Text("CRON"),
        Column::Text("TIME ZONE"),
        Column::Text("KIND"),
        Column::Whole("NEXT RUN"),
        Column::Whole("LAST RUN"),
        Column::Number("SKIPPED"),
    ];
    let mut table = Table::new(&columns);
    let mut cursor = None;
    loop {
        let values = [("limit", Some("1000".to_owned())), ("cursor", cursor.take())];
        let page: Page = node.get(&query("/v1/schedules", &values))?.json()?;
        for schedule in &page.schedules {
            if json {
                output::print(&format!("{schedule}\n"))?;
                continue;
            }
            let text = |name: &str| output::text(schedule, name);
            let last_run = schedule.get("last_run").map(|last| output::text(last, "slot"));
            table.row([
                text("name"),
                text("cron"),
                text("time_zone"),
                schedule.get("job").map_or_else(String::new, |job| output::text(job, "kind")),
                next_run(schedule),
                last_run.unwrap_or_else(|| "never".to_owned()),
                output::number(schedule, "skipped").to_string(),
            ]);
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None if json => return Ok(()),
            None if table.is_empty() => return output::print("There are no schedules.\n"),
            None => return output::print(&table.text()),
        }
    }
}

fn next_run(schedule: &Value) -> String {
    if schedule.get("paused") == Some(&Value::Bool(true)) {
        return "paused".to_owned();
    }
    let next = schedule.get("next_runs").and_then(|runs| runs.get(0)).and_then(Value::as_str);
    next.unwrap_or("never").to_owned()
}
