//! `pulk dead replay` and `pulk dead replays`.

use clap::Args;
use serde_json::Value;

use super::super::client::Node;
use super::super::confirm::Consent;
use super::super::output;
use super::super::table::{Column, Table};
use super::selection::Selection;
use super::{letters, nothing_matches};
use crate::error::Result;

/// What to replay, and how fast.
#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    selection: Selection,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// So many a second, in the background.
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Stop when a larger share of them than this, 0 to 1, dies again.
    #[arg(long, value_name = "SHARE", requires = "rate")]
    max_error_share: Option<f64>,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
}

impl ReplayArguments {
    pub(super) fn run(&self, node: &Node) -> Result<()> {
        let matched = self.selection.matched(node, "/v1/dead/replay")?;
        if matched == 0 {
            return nothing_matches(self.json, "replayed");
        }
        let at_most = self.limit.map_or(matched, |limit| limit.min(matched));
        let pace = self.rate.map(|rate| format!(", {rate} a second")).unwrap_or_default();
        let what = self.selection.in_words();
        let count = if at_most < matched {
            format!("{at_most} of {}", letters(matched))
        } else {
            letters(matched)
        };
        self.consent.to(&format!("This replays {count}{pace} ({what}). Go on?"))?;
        let members = [
            ("limit", self.limit.map(Value::from)),
            ("rate_per_s", self.rate.map(Value::from)),
            ("max_error_share", self.max_error_share.map(Value::from)),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let body = self.selection.body(&members.collect::<Vec<_>>())?;
        let answer = node.post_many("/v1/dead/replay", body)?;
        if self.json {
            return output::print(&answer.text());
        }
        output::print(&told(&answer.json()?))
    }
}

fn told(answer: &Value) -> String {
    if let Some(replay) = answer.get("replay") {
        let id = output::text(replay, "id");
        return format!("Replay {id} runs in the background; pulk dead replays shows it.\n");
    }
    let skipped = match output::number(answer, "skipped") {
        0 => String::new(),
        skipped => format!(", {skipped} skipped: another job has their unique key"),
    };
    format!("{} replayed{skipped}\n", letters(output::number(answer, "replayed")))
}

/// Prints the replays that run, and the last that ended.
pub(super) fn list(node: &Node, json: bool) -> Result<()> {
    let answer = node.get("/v1/replays")?;
    if json {
        return output::print(&answer.text());
    }
    let list: Value = answer.json()?;
    let replays = list.get("replays").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(&[
        Column::Whole("ID"),
        Column::Text("STATE"),
        Column::Text("OF"),
        Column::Number("A SECOND"),
        Column::Number("MATCHED"),
        Column::Number("REPLAYED"),
        Column::Number("SKIPPED"),
        Column::Number("DIED AGAIN"),
        Column::Whole("STARTED AT"),
    ]);
    for replay in replays {
        let of =
            ["queue", "kind", "reason", "error"].map(|name| (name, output::text(replay, name)));
        let of = of.iter().filter(|(_, value)| !value.is_empty());
        let of: Vec<String> = of.map(|(name, value)| format!("{name} {value}")).collect();
        let mut row = vec![output::text(replay, "id"), output::text(replay, "state")];
        row.push(if of.is_empty() { "all".to_owned() } else { of.join(", ") });
        row.extend(
            ["rate_per_s", "matched", "replayed", "skipped", "died_again", "started_at"]
                .map(|name| output::text(replay, name)),
        );
        table.row(row);
    }
    output::print(&if table.is_empty() { "There are none.\n".to_owned() } else { table.text() })
}
