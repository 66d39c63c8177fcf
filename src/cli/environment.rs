//! What the environment adds to clap's own reading of it: empty is unset, one variable has an
//! older name, and an error names the variable that is at fault.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, Command};

/// Read when the first of the two is not set: what the deployment before pulk called it.
const ALIAS: (&str, &str) = ("JOBS_SCHEDULER_ENABLED", "QUARKUS_SCHEDULER_ENABLED");

/// The command with its arguments reading the environment as pulk means it.
pub(super) fn prepared(command: Command) -> Command {
    command.mut_args(prepared_argument).mut_subcommands(prepared)
}

fn prepared_argument(argument: Arg) -> Arg {
    let Some(name) = argument.get_env().map(OsStr::to_owned) else { return argument };
    if is_set(&name) {
        return argument;
    }
    if name == ALIAS.0 && is_set(OsStr::new(ALIAS.1)) {
        return argument.env(ALIAS.1);
    }
    match env::var_os(&name) {
        Some(_empty) => argument.env(Resettable::Reset),
        None => argument,
    }
}

/// The command with arguments that do not read the environment.
pub(super) fn ignored(command: Command) -> Command {
    command.mut_args(|argument| argument.env(Resettable::Reset))
}

fn is_set(name: &OsStr) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The sentence, with a flag that was never given replaced by the variable that stands for it.
pub(super) fn blamed(sentence: &str, command: &Command, given: &[OsString]) -> String {
    let blamed = command.get_arguments().fold(sentence.to_owned(), |sentence, argument| {
        let (Some(name), Some(flag)) = (argument.get_env(), argument.get_long()) else {
            return sentence;
        };
        let flag = format!("--{flag}");
        let is_given = given.iter().any(|one| {
            let one = one.to_string_lossy();
            one == flag || one.starts_with(&format!("{flag}="))
        });
        if is_given || !is_set(name) {
            return sentence;
        }
        sentence.replace(&format!("'{argument}'"), &name.to_string_lossy())
    });
    command.get_subcommands().fold(blamed, |sentence, command| blamed_in(&sentence, command, given))
}

fn blamed_in(sentence: &str, command: &Command, given: &[OsString]) -> String {
    let is_used = given.iter().any(|one| one == command.get_name());
    if is_used { blamed(sentence, command, given) } else { sentence.to_owned() }
}
