//! The command line: arguments in, one sentence and an exit code out.

mod bench;
mod client;
mod completions;
mod config_file;
mod confirm;
mod dead;
mod doctor;
mod enqueue;
mod environment;
mod healthcheck;
mod jobs;
mod log;
mod mask;
mod output;
mod push_table;
mod queues;
mod schedules;
mod serve;
mod settings;
mod show;
mod stats;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, ErrorKind};

/// It did not work, or the answer is no.
const EXIT_FAILED: u8 = 1;
/// Bad usage or configuration (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// Storage error (`EX_IOERR`).
const EXIT_STORAGE: u8 = 74;
/// Another process holds the data directory (`EX_TEMPFAIL`).
const EXIT_LOCKED: u8 = 75;

const MORE_HELP: &str = "\
enqueue, stats, jobs, dead, queues, schedules and healthcheck speak to a running node: --url, or
PULK_URL, or http://127.0.0.1:8080.

Exit codes:
   0  done
   1  it failed, or the answer is no
  64  bad usage or configuration
  74  storage error
  75  another process holds the data directory";

/// An embedded, persistent job queue.
#[derive(Debug, Parser)]
#[command(name = "pulk", version, arg_required_else_help = true, after_help = MORE_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve(Box<serve::ServeArguments>),
    /// Enqueue one job, or all in a file.
    Enqueue(Box<enqueue::EnqueueArguments>),
    /// Show what is in the queues.
    Stats(stats::StatsArguments),
    /// List, show, cancel and purge jobs.
    Jobs(jobs::JobsArguments),
    /// List, show, edit, replay and purge dead letters.
    Dead(dead::DeadArguments),
    /// Pause, resume and remove queues.
    Queues(queues::QueuesArguments),
    /// List schedules, or run, pause, resume and remove one.
    Schedules(schedules::SchedulesArguments),
    /// Check every invariant of a data directory that no node has open.
    Doctor(doctor::DoctorArguments),
    /// Measure a node, or a queue in this process, beside the limit of its disk.
    Bench(Box<bench::BenchArguments>),
    /// Ask a node whether it is ready; exit 0 if it is.
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Print a script that completes pulk's arguments in a shell.
    Completions(completions::CompletionsArguments),
}

/// Runs the program with these arguments, the first of which is its own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Not built yet: a file may still change its defaults, and once built they can't be changed.
    let command = environment::prepared(Arguments::command());
    let parsed = command.clone().try_get_matches_from(&arguments).and_then(|matches| {
        let read = Arguments::from_arg_matches(&matches)?;
        Ok((matches, read.command))
    });
    let done = match parsed {
        Ok((matches, Command::Serve(_))) => serve::run(&command, &arguments, &matches),
        Ok((_, Command::Enqueue(arguments))) => enqueue::run(&arguments),
        Ok((_, Command::Stats(arguments))) => stats::run(&arguments),
        Ok((_, Command::Jobs(arguments))) => jobs::run(&arguments),
        Ok((_, Command::Dead(arguments))) => dead::run(&arguments),
        Ok((_, Command::Queues(arguments))) => queues::run(&arguments),
        Ok((_, Command::Schedules(arguments))) => schedules::run(&arguments),
        Ok((_, Command::Doctor(arguments))) => doctor::run(&arguments),
        Ok((_, Command::Bench(arguments))) => bench::run(&arguments),
        Ok((_, Command::Healthcheck(arguments))) => healthcheck::run(&arguments),
        Ok((_, Command::Completions(arguments))) => completions::run(&arguments, &command),
        Err(usage) => return misused(&usage, command, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pulk: {error}");
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

/// What clap has to say: help and version are no errors, all else is bad usage.
fn misused(usage: &clap::Error, mut command: clap::Command, arguments: &[OsString]) -> ExitCode {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !usage.use_stderr() {
        print!("{usage}");
        return ExitCode::SUCCESS;
    }
    if usage.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{usage}");
    } else {
        // Unbuilt arguments can't be written as text, which the sentence on a bad one needs.
        command.build();
        let sentence = environment::blamed(&sentence(&usage.to_string()), &command, arguments);
        eprintln!("pulk: {sentence} (pulk --help says more)");
    }
    ExitCode::from(EXIT_USAGE)
}

/// The first paragraph of clap's message, on one line.
fn sentence(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").map_or(line.clone(), str::to_owned)
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid | ErrorKind::Configuration => EXIT_USAGE,
        ErrorKind::Poisoned | ErrorKind::Corrupt | ErrorKind::Storage => EXIT_STORAGE,
        ErrorKind::Locked => EXIT_LOCKED,
        ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::LeaseLost
        | ErrorKind::Cancelled
        | ErrorKind::TooLarge
        | ErrorKind::Full
        | ErrorKind::TooManyQueues
        | ErrorKind::DiskFull
        | ErrorKind::Draining => EXIT_FAILED,
    }
}

/// It did not work: one sentence, exit code 1.
fn failed(sentence: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_but_those_that_only_show_one_thing() {
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("pulk {}", command.get_name())), "{command}: {help}");
        }
    }

    #[test]
    fn usage_is_one_sentence() {
        let usage = Arguments::try_parse_from(["pulk", "serve", "--shard", "x"]).unwrap_err();
        let sentence = sentence(&usage.to_string());
        assert_eq!(
            sentence,
            "invalid value 'x' for '--shard <SHARD>': invalid digit found in string"
        );
    }
}
