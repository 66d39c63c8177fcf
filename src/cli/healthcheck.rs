//! `pulk healthcheck`: is a node ready? For images without a shell.

use std::time::Duration;

use clap::Args;

use super::failed;
use crate::error::Result;

/// A node that takes longer to answer is not ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct HealthcheckArguments {
    /// The node's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
}

pub(super) fn run(arguments: &HealthcheckArguments) -> Result<()> {
    let url = arguments.url.trim_end_matches('/');
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let answer = agent
        .get(format!("{url}/q/health/ready"))
        .call()
        .map_err(|reason| failed(format!("{url} can't be asked: {reason}; is a node there?")))?;
    match answer.status().as_u16() {
        200 => println!("{url} is ready"),
        503 => return Err(failed(format!("{url} is not ready; {url}/q/health says why"))),
        status => return Err(failed(format!("{url} answers {status}; is it a pulk node?"))),
    }
    Ok(())
}
