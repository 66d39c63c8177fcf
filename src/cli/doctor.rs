//! `pulk doctor`: the verdict on a data directory.

use std::path::PathBuf;

use clap::Args;

use super::failed;
use crate::error::Result;
use crate::job::JobState;
use crate::queue::{self, Report};

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// The data directory; no node may have it open.
    directory: PathBuf,
}

pub(super) fn run(arguments: &DoctorArguments) -> Result<()> {
    let report = queue::doctor(&arguments.directory)?;
    print!("{}", findings(&report));
    let directory = arguments.directory.display();
    if report.is_sound() {
        println!("{directory} is sound: every invariant holds.");
        return Ok(());
    }
    Err(failed(format!(
        "{directory} is not sound: {} problems, the first of them listed above; keep a copy of it \
         before a node opens it again",
        report.problems_total
    )))
}

fn findings(report: &Report) -> String {
    let mut text = format!("{} queues, {} chunks\n", report.queues, report.chunks);
    for state in JobState::ALL {
        text += &format!("{:>12} {state}\n", report.jobs.of(state));
    }
    text += &format!("{:>12} bytes of records alive\n", report.live_bytes);
    text += &format!("{:>12} damaged records set aside\n", report.set_aside);
    for problem in &report.problems {
        text += &format!("  {problem}\n");
    }
    text
}
