//! `pulk healthcheck`: is a node ready? For images without a shell.

use std::time::Duration;

use clap::Args;

use super::client::{Failure, NodeArguments};
use super::{failed, output};
use crate::error::Result;

/// A node that takes longer to answer is not ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pulk healthcheck --url http://127.0.0.1:8080 && echo ready")]
pub(super) struct HealthcheckArguments {
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn run(arguments: &HealthcheckArguments) -> Result<()> {
    let node = arguments.node.node();
    let url = node.name();
    let status =
        node.probe("/q/health/ready", ANSWER_TIMEOUT).map_err(|failure| match failure {
            Failure::Unreachable(sentence) | Failure::Lost(sentence) => failed(sentence),
            Failure::Refused(refusal) => failed(refusal.sentence),
        })?;
    match status {
        200 => output::print(&format!("{url} is ready\n")),
        503 => Err(failed(format!("{url} is not ready; {url}/q/health says why"))),
        status => Err(failed(format!("{url} answers {status}; is it a pulk node?"))),
    }
}
