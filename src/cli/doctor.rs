//! `pulk doctor`: the verdict on a data directory, and what of it can be mended.

use std::path::PathBuf;

use clap::Args;
use rand::rngs::StdRng;
use serde::Serialize;

use super::table::{Column, Table};
use super::{failed, output};
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::job::JobState;
use crate::queue::{self, INVARIANTS, Repair, Report};

const MORE_HELP: &str = "\
Doctor opens the database as a node would: leftovers of a crash are cleared away, and a database
that is mostly dead is compacted. To keep a directory as it is, run it on a copy.

--repair makes the counters and the location index anew from the jobs that are there. It writes or
removes no job; damaged records stay, and a node sets them aside when it meets them.

Examples:
  pulk doctor ./pulk-data
  pulk doctor ./pulk-data --repair --json

Exit code 0 when every invariant holds (with --repair: afterwards), 1 when not.";

/// What to look at.
#[derive(Debug, Args)]
#[command(after_help = MORE_HELP)]
pub(super) struct DoctorArguments {
    /// The data directory; no node may have it open.
    directory: PathBuf,
    /// Mend what can be made anew.
    #[arg(long)]
    repair: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// The findings for programs.
#[derive(Serialize)]
struct Findings<'a> {
    directory: String,
    sound: bool,
    invariants: [queue::Invariant; 11],
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<&'a Repair>,
}

pub(super) fn run(arguments: &DoctorArguments) -> Result<()> {
    let directory = arguments.directory.display();
    let repair = if arguments.repair {
        #[expect(clippy::disallowed_methods, reason = "where chance enters a repair")]
        let mut random: StdRng = rand::make_rng();
        Some(queue::repair(&arguments.directory, SystemClock.now(), &mut random)?)
    } else {
        None
    };
    let report = match &repair {
        Some(repair) => repair.after.clone(),
        None => queue::doctor(&arguments.directory)?,
    };
    if arguments.json {
        output::print(&in_json(arguments, &report, repair.as_ref())?)?;
    } else {
        let changes = repair.as_ref().map(changes).unwrap_or_default();
        output::print(&(changes + &findings(&report)))?;
    }
    if report.is_sound() {
        if !arguments.json {
            output::print(&format!("{directory} is sound: every invariant holds.\n"))?;
        }
        return Ok(());
    }
    let advice = if arguments.repair {
        "a repair can't mend them; a node sets damaged records aside, and a copy of the directory \
         brings back what was in them"
    } else {
        "keep a copy of it before a node opens it again, or before you try --repair"
    };
    let problems = report.problems_total;
    Err(failed(format!("{directory} is not sound: {problems} problems; {advice}")))
}

fn in_json(
    arguments: &DoctorArguments,
    report: &Report,
    repair: Option<&Repair>,
) -> Result<String> {
    let findings = Findings {
        directory: arguments.directory.display().to_string(),
        sound: report.is_sound(),
        invariants: INVARIANTS,
        report,
        repair,
    };
    let text = serde_json::to_string(&findings);
    text.map(|text| text + "\n").map_err(|reason| failed(format!("no JSON can be made: {reason}")))
}

fn findings(report: &Report) -> String {
    let mut text = format!("{} queues, {} chunks\n", report.queues, report.chunks);
    for state in JobState::ALL {
        text += &format!("{:>12} {state}\n", report.jobs.of(state));
    }
    text += &format!("{:>12} bytes of records alive\n", report.live_bytes);
    text += &format!("{:>12} damaged records set aside\n", report.set_aside);
    if report.mended > 0 {
        let mended = report.mended;
        text += &format!("{mended:>12} damages in the files mended just now; look to the disk\n");
    }
    text.push('\n');
    let mut table = Table::new(&[Column::Whole(""), Column::Whole(""), Column::Text("")]);
    for invariant in INVARIANTS {
        let verdict = match report.violations.get(invariant.name) {
            Some(1) => "1 problem".to_owned(),
            Some(problems) => format!("{problems} problems"),
            None if invariant.is_checked => "ok".to_owned(),
            None => "not to be seen".to_owned(),
        };
        table.row([invariant.name.to_owned(), verdict, invariant.meaning.to_owned()]);
    }
    text += table.text().trim_start_matches('\n');
    text.push('\n');
    for problem in &report.problems {
        text += &format!("  {problem}\n");
    }
    let untold = report.problems_total - report.problems.len() as u64;
    if untold > 0 {
        text += &format!("  and {untold} more\n");
    }
    text
}

/// What a repair did.
fn changes(repair: &Repair) -> String {
    if repair.before.is_sound() {
        return "There was nothing to repair, and nothing was written.\n\n".to_owned();
    }
    let mut text = String::new();
    for queue in &repair.queues {
        for ((priority, said), (_, counted)) in queue.said.iter().zip(queue.counted.iter()) {
            for state in
                JobState::ALL.into_iter().filter(|state| said.of(*state) != counted.of(*state))
            {
                let (name, said, counted) = (&queue.queue, said.of(state), counted.of(state));
                text += &format!("Repaired: {name} {priority} {state}: {said}, now {counted}\n");
            }
        }
    }
    if let Some((said, counted)) = repair.live_bytes {
        text += &format!("Repaired: bytes of records alive: {said}, now {counted}\n");
    }
    if let Some((was, is)) = repair.next_sequence {
        text += &format!("Repaired: the next sequence: {was}, now {is}\n");
    }
    if repair.places_mended > 0 {
        text += &format!("Repaired: {} records of places of keys\n", repair.places_mended);
    }
    if repair.locations_mended > 0 {
        text += &format!("Repaired: {} entries of the location index\n", repair.locations_mended);
    }
    if text.is_empty() { "Nothing could be repaired.\n\n".to_owned() } else { text + "\n" }
}
