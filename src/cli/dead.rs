//! `pulk dead`: the dead letters.

mod edit;
mod replay;
mod selection;

use clap::{Args, Subcommand};
use serde_json::Value;

use self::selection::{Filter, Selection};
use super::client::{self, Node, NodeArguments};
use super::confirm::Consent;
use super::table::{Column, Table, from_now};
use super::{failed, output, show};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  pulk dead list --queue mails --error timeout
  pulk dead show 01KAXYZ…
  pulk dead edit 01KAXYZ… --payload '{\"to\":\"ann@example.org\"}'
  pulk dead replay 01KAXYZ…
  pulk dead replay --queue mails --rate 50 --max-error-share 0.2
  pulk dead purge --reason expired --yes

replay and purge count first, say how many letters match, and ask.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  pulk dead replay 01KAXYZ… 01KAXYA…
  pulk dead replay --queue mails --error 'no route' --limit 10
  pulk dead replay --all --rate 50 --max-error-share 0.2

With --rate the node replays in the background, so many jobs a second; it goes on after a restart,
and stops by itself when a larger share than --max-error-share of them dies again. pulk dead
replays shows how far it is, pulk dead stop ends it.";

/// What to do with dead letters.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DeadArguments {
    #[command(subcommand)]
    command: DeadCommand,
    #[command(flatten)]
    node: NodeArguments,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// List dead letters.
    #[command(
        after_help = "Example:\n  pulk dead list --queue mails --reason exhausted --limit 20"
    )]
    List(ListArguments),
    /// Show one with its payload and all its errors.
    Show {
        /// The job.
        id: String,
        /// Print the node's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Change one before it is replayed.
    #[command(after_help = edit::EXAMPLES)]
    Edit(Box<edit::EditArguments>),
    /// Put dead letters back to work.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(replay::ReplayArguments),
    /// Remove dead letters for good.
    #[command(
        after_help = "Examples:\n  pulk dead purge 01KAXYZ…\n  pulk dead purge --queue mails \
                            --reason expired --yes"
    )]
    Purge(PurgeArguments),
    /// Show the replays that run in the background, and the last that ended.
    Replays {
        /// Print the node's answer as it is.
        #[arg(long)]
        json: bool,
    },
    /// Stop a replay that runs in the background.
    Stop {
        /// The replay.
        id: String,
    },
}

#[derive(Debug, Args)]
struct ListArguments {
    #[command(flatten)]
    filter: Filter,
    /// How many.
    #[arg(long, value_name = "COUNT", default_value_t = super::jobs::LIMIT_DEFAULT)]
    limit: u64,
    /// All there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print the letters as the node tells them, one a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PurgeArguments {
    #[command(flatten)]
    selection: Selection,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
}

pub(super) fn run(arguments: &DeadArguments) -> Result<()> {
    let node = arguments.node.node();
    match &arguments.command {
        DeadCommand::List(list) => list.run(&node),
        DeadCommand::Show { id, json } => {
            show::job(&node.get(&client::path(&["v1", "dead", id]))?, *json)
        }
        DeadCommand::Edit(edit) => edit.run(&node),
        DeadCommand::Replay(replay) => replay.run(&node),
        DeadCommand::Purge(purge) => purge.run(&node),
        DeadCommand::Replays { json } => replay::list(&node, *json),
        DeadCommand::Stop { id } => {
            node.delete(&client::path(&["v1", "replays", id]))?;
            output::print(&format!("{id} stopped\n"))
        }
    }
}

impl ListArguments {
    fn run(&self, node: &Node) -> Result<()> {
        let limit = (!self.all).then_some(self.limit);
        let columns = [
            Column::Whole("ID"),
            Column::Text("QUEUE"),
            Column::Text("KIND"),
            Column::Text("REASON"),
            Column::Number("DIED"),
            Column::Text("LAST ERROR"),
        ];
        let rows = |page: &[Value]| {
            let mut table = Table::new(&columns);
            for job in page {
                let errors = job.get("errors").and_then(Value::as_array);
                let last = errors.and_then(|errors| errors.last());
                table.row([
                    output::text(job, "id"),
                    output::text(job, "queue"),
                    output::text(job, "kind"),
                    output::text(job, "reason"),
                    from_now(&output::text(job, "died_at")),
                    last.map(|last| output::text(last, "error")).unwrap_or_default(),
                ]);
            }
            table
        };
        let filter = self.filter.as_query();
        super::jobs::listed(node, "/v1/dead", &filter, limit, self.json, rows)
    }
}

impl PurgeArguments {
    fn run(&self, node: &Node) -> Result<()> {
        let matched = self.selection.matched(node, "/v1/dead/purge")?;
        if matched == 0 {
            return nothing_matches(self.json, "removed");
        }
        let what = self.selection.in_words();
        self.consent.to(&format!("This removes {} for good ({what}). Go on?", letters(matched)))?;
        let answer = node.post_many("/v1/dead/purge", self.selection.body(&[])?)?;
        if self.json {
            return output::print(&answer.text());
        }
        let purged: Value = answer.json()?;
        output::print(&format!("{} removed\n", letters(output::number(&purged, "removed"))))
    }
}

/// Nothing to ask, nothing to do.
fn nothing_matches(json: bool, done: &str) -> Result<()> {
    if json {
        return output::print(&format!("{{\"matched\":0,\"{done}\":0}}\n"));
    }
    output::print("No dead letter matches; nothing was done.\n")
}

fn letters(count: u64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

/// A body as JSON.
fn body(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|reason| failed(format!("no JSON can be made: {reason}")))
}
