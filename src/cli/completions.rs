//! `pulk completions`: a script that lets a shell complete pulk's arguments.

use clap::{Args, Command};
use clap_complete::Shell;
use clap_complete::aot::generate;

use super::output;
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  pulk completions bash > /etc/bash_completion.d/pulk
  pulk completions zsh > \"${fpath[1]}/_pulk\"
  pulk completions fish > ~/.config/fish/completions/pulk.fish";

/// For which shell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionsArguments {
    /// The shell.
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

pub(super) fn run(arguments: &CompletionsArguments, command: &Command) -> Result<()> {
    let shell = match arguments.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    generate(shell, &mut command.clone(), "pulk", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
