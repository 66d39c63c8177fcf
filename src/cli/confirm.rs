//! Asks before something is done that can't be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::failed;
use crate::error::{Error, ErrorKind, Result};

/// Whether to ask.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Consent {
    /// Do it without asking.
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Goes on when the user agrees; without a terminal only `--yes` says so.
    ///
    /// # Errors
    /// Bad usage when nobody can be asked; [`Conflict`](ErrorKind::Conflict) when they said no.
    pub(super) fn to(self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            let sentence = format!("{question} Nobody can be asked here; add --yes to do it");
            return Err(Error::new(ErrorKind::Configuration, sentence));
        }
        let unheard = |reason: io::Error| failed(format!("the answer can't be read: {reason}"));
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(unheard)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(unheard)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(failed("nothing was done")),
        }
    }
}
