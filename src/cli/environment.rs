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
    command.mut_subcommands(|subcommand| subcommand.mut_args(prepared_argument))
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

fn is_set(name: &OsStr) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The sentence, with a flag that was never given replaced by the variable that stands for it.
pub(super) fn blamed(sentence: &str, command: &Command, given: &[OsString]) -> String {
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    arguments.fold(sentence.to_owned(), |sentence, argument| {
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
    })
}
