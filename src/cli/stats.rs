//! `pulk stats`: what is in the queues, once or again and again.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{Node, NodeArguments};
use super::output;
use super::table::{Column, Table, span, terminal_width};
use crate::error::Result;
use crate::job::JobState;

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Begins a terminal anew: cursor to the corner, and everything behind it gone.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The rates, the first two of which a narrow terminal has room for.
const RATES: [(&str, &str); 4] = [
    ("IN/S", "enqueued_per_s"),
    ("OUT/S", "started_per_s"),
    ("ACK/S", "completed_per_s"),
    ("FAIL/S", "failed_per_s"),
];
/// Columns that a table with all rates wants.
const WIDTH_OF_ALL: u16 = 96;

const EXAMPLES: &str = "\
Examples:
  pulk stats
  pulk stats --watch
  pulk stats --json | jq '.queues[] | select(.counts.dead > 0).name'

Ready, running, scheduled, retrying and dead jobs; OLDEST is how long the first ready one has been
ready. The rates are jobs a second over the last minute: taken in, handed out, acked and failed (the
last two only where there is room).";

/// What to show.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatsArguments {
    /// Show it again every 2 s.
    #[arg(long, short)]
    watch: bool,
    /// Print the node's answer as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn run(arguments: &StatsArguments) -> Result<()> {
    let node = arguments.node.node();
    let first = look(&node, arguments.json)?;
    if !arguments.watch {
        return output::print(&first);
    }
    let clears = io::stdout().is_terminal();
    let mut shown = first;
    loop {
        output::print(&if clears { format!("{CLEAR}{shown}") } else { shown })?;
        thread::sleep(LOOK_EVERY);
        // A node that restarts comes back.
        shown = match look(&node, arguments.json) {
            Ok(shown) => shown,
            Err(error) if arguments.json => {
                eprintln!("pulk: {error}");
                String::new()
            }
            Err(error) => format!("{error}\n"),
        };
    }
}

fn look(node: &Node, json: bool) -> Result<String> {
    let answer = node.get("/v1/queues")?;
    if json {
        return Ok(answer.text());
    }
    Ok(in_words(&answer.json()?))
}

fn in_words(stats: &Value) -> String {
    let queues = stats.get("queues").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if queues.is_empty() {
        return "There are no queues yet.\n".to_owned();
    }
    let is_narrow = terminal_width().is_some_and(|width| width < WIDTH_OF_ALL);
    let rates = if is_narrow { &RATES[..2] } else { &RATES[..] };
    let mut columns = vec![Column::Text("QUEUE")];
    columns.extend(["READY", "RUN", "SCHED", "RETRY", "DEAD", "OLDEST"].map(Column::Number));
    columns.extend(rates.iter().map(|(header, _)| Column::Number(header)));
    columns.push(Column::Whole(""));
    let mut table = Table::new(&columns);
    for queue in queues {
        let is_paused = queue.get("paused") == Some(&Value::Bool(true));
        let name = output::text(queue, "name");
        table.row(row(name, &[queue], rates, if is_paused { "paused" } else { "" }));
    }
    if queues.len() > 1 {
        let all: Vec<&Value> = queues.iter().collect();
        table.row(row("all".to_owned(), &all, rates, ""));
    }
    table.text()
}

/// The sums of these queues.
fn row(name: String, queues: &[&Value], rates: &[(&str, &str)], note: &str) -> Vec<String> {
    const STATES: [JobState; 5] = [
        JobState::Ready,
        JobState::Running,
        JobState::Scheduled,
        JobState::Retrying,
        JobState::Dead,
    ];
    let mut row = vec![name];
    row.extend(STATES.map(|state| {
        let counts = queues.iter().filter_map(|queue| queue.get("counts"));
        counts.map(|counts| output::number(counts, state.as_str())).sum::<u64>().to_string()
    }));
    let ages = queues.iter().filter_map(|queue| queue.get("oldest_age_ms")?.as_u64());
    row.push(ages.max().map_or("–".to_owned(), span));
    row.extend(rates.iter().map(|(_, rate)| {
        let rates = queues.iter().filter_map(|queue| queue.get("rates")?.get(rate)?.as_f64());
        let rate = rates.fold(0.0, |sum, one| sum + one);
        if rate < 99.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
    }));
    row.push(note.to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_told_one_by_one_and_together() {
        let rates = serde_json::json!({"started_per_s": 1.5, "failed_per_s": 0.25});
        let queue = |name: &str, ready: u64, age_ms: Option<u64>, paused: bool| {
            let counts = serde_json::json!({"ready": ready, "dead": 1});
            serde_json::json!({"name": name, "paused": paused, "oldest_age_ms": age_ms,
                "counts": counts, "rates": rates})
        };
        let queues = [queue("mails", 3, Some(1_500), true), queue("b", 0, None, false)];
        let text = in_words(&serde_json::json!({"queues": queues}));
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let cells = |line: &[&str]| -> Vec<String> {
            line.iter().filter(|cell| !cell.is_empty()).map(|&cell| cell.to_owned()).collect()
        };
        let line = |number: usize| cells(&lines[number]).join("|");
        assert_eq!(line(1), "mails|3|0|0|0|1|1.5 s|0.0|1.5|0.0|0.2|paused");
        assert_eq!(line(2), "b|0|0|0|0|1|–|0.0|1.5|0.0|0.2");
        assert_eq!(line(3), "all|3|0|0|0|2|1.5 s|0.0|3.0|0.0|0.5");
        assert_eq!(in_words(&serde_json::json!({"queues": []})), "There are no queues yet.\n");
    }
}
