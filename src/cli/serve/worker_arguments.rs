//! The arguments of `pulk serve` for the node's own worker and what it pushes to.

use clap::{Args, value_parser};

use super::super::mask;
use super::super::push_table::{secret, secret_in_file};
use super::super::settings::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::server::WorkerOptions;
use crate::worker::push::{
    AnswerRules, BreakerLimits, PushConfig, Statuses, TargetConfig, TargetUrl,
};

/// What the target of all jobs is called.
const DEFAULT_TARGET: &str = "default";
/// Most jobs that a node's own worker may run at once.
const CONCURRENCY_MAX: i64 = 10_000;
/// An answer that takes longer than a week does not come.
const TIMEOUT_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Who is away may be asked once an hour at least.
const BREAKER_MS_MAX: u64 = 3_600_000;

/// Settings of the node's own worker. It works when there is a push target.
#[derive(Debug, Args)]
pub(super) struct WorkerArguments {
    /// Jobs that the node's own worker runs at once; twice the processors by default.
    #[arg(
        long,
        env = "WORKER_CONCURRENCY",
        value_name = "COUNT",
        value_parser = value_parser!(u32).range(1..=CONCURRENCY_MAX)
    )]
    concurrency: Option<u32>,
    /// How many of these only critical and high jobs take; by default a quarter of four or more,
    /// none with --priorities.
    #[arg(
        long,
        env = "WORKER_RESERVED",
        value_name = "COUNT",
        value_parser = value_parser!(u32).range(..CONCURRENCY_MAX)
    )]
    reserved: Option<u32>,
    /// Push jobs to this URL by HTTP POST; those that no `[[push]]` table of the file takes.
    #[arg(
        long,
        env = "WORKER_PUSH_URL",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    push_url: String,
    /// Sign pushes with this secret.
    #[arg(
        long,
        env = "WORKER_PUSH_SECRET",
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    push_secret: String,
    /// Sign pushes with the secret in this file.
    #[arg(
        long,
        env = "WORKER_PUSH_SECRET_FILE",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    push_secret_file: String,
    /// Most pushes to a target at a time; 0 is no limit but --concurrency.
    #[arg(
        long,
        env = "WORKER_PUSH_CONCURRENCY",
        value_name = "COUNT",
        default_value_t = 0,
        value_parser = value_parser!(u32).range(..=CONCURRENCY_MAX)
    )]
    push_concurrency: u32,
    /// How long an answer may take, if the job's own timeout is not shorter; 0 is no limit.
    #[arg(
        long,
        env = "WORKER_PUSH_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 3_600_000,
        value_parser = value_parser!(u64).range(..=TIMEOUT_MS_MAX)
    )]
    push_timeout_ms: u64,
    /// Answers that put a job off for as long as their Retry-After says.
    #[arg(
        long,
        env = "WORKER_PUSH_WAIT_STATUSES",
        value_name = "LIST",
        default_value_t = AnswerRules::default().wait
    )]
    push_wait_statuses: Statuses,
    /// Answers by which an attempt has failed.
    #[arg(
        long,
        env = "WORKER_PUSH_RETRY_STATUSES",
        value_name = "LIST",
        default_value_t = AnswerRules::default().retry
    )]
    push_retry_statuses: Statuses,
    /// Answers by which a job is a dead letter.
    #[arg(
        long,
        env = "WORKER_PUSH_REJECT_STATUSES",
        value_name = "LIST",
        default_value_t = AnswerRules::default().reject
    )]
    push_reject_statuses: Statuses,
    /// After so many failures in a row a target gets one job at a time, to see; 0 is never.
    #[arg(
        long,
        env = "WORKER_PUSH_BREAKER_FAILURES",
        value_name = "COUNT",
        default_value_t = BreakerLimits::default().failures
    )]
    push_breaker_failures: u32,
    /// The longest time between two such jobs.
    #[arg(
        long,
        env = "WORKER_PUSH_BREAKER_MAX_MS",
        value_name = "MS",
        default_value_t = BreakerLimits::default().delay_max_ms,
        value_parser = value_parser!(u64).range(1..=BREAKER_MS_MAX)
    )]
    push_breaker_max_ms: u64,
}

impl WorkerArguments {
    /// The worker and its targets, each value checked.
    pub(super) fn options(&self, settings: &Settings) -> Result<WorkerOptions> {
        let push = PushConfig {
            targets: self.targets(settings)?,
            answers: AnswerRules {
                wait: self.push_wait_statuses.clone(),
                retry: self.push_retry_statuses.clone(),
                reject: self.push_reject_statuses.clone(),
            },
            breaker: BreakerLimits {
                failures: self.push_breaker_failures,
                delay_max_ms: self.push_breaker_max_ms,
            },
        };
        push.validate()?;
        let count = |count: u32| count as usize;
        Ok(WorkerOptions {
            concurrency: self.concurrency.map(count),
            reserved: self.reserved.map(count),
            push,
        })
    }

    /// The tables of the file in their order, and the target of all jobs behind them.
    fn targets(&self, settings: &Settings) -> Result<Vec<TargetConfig>> {
        let wrong = |key: &str, reason: &str| {
            Error::new(ErrorKind::Configuration, format!("{}: {reason}", settings.blame(key)))
        };
        if !self.push_secret.is_empty() && !self.push_secret_file.is_empty() {
            let file = settings.blame("push_secret_file");
            let both = format!("there is a secret in {file} too; leave out one of them");
            return Err(wrong("push_secret", &both));
        }
        let own = secret(&self.push_secret).map_err(|reason| wrong("push_secret", &reason))?;
        let in_file = secret_in_file(&self.push_secret_file)
            .map_err(|reason| wrong("push_secret_file", &reason))?;
        let url = match self.push_url.as_str() {
            "" => None,
            text => Some(text.parse::<TargetUrl>().map_err(|reason| {
                wrong("push_url", &format!("{:?}: {reason}", mask::url(text)))
            })?),
        };
        let nowhere = || -> Result<TargetUrl> { "http://localhost/".parse() };
        let standard = TargetConfig {
            concurrency: self.push_concurrency as usize,
            timeout_ms: self.push_timeout_ms,
            secret: own.or(in_file),
            ..TargetConfig::new(DEFAULT_TARGET, url.clone().map_or_else(nowhere, Ok)?)
        };
        let tables = settings.push_tables().iter().zip(1..);
        let mut targets: Vec<TargetConfig> =
            tables.map(|(table, number)| table.target(number, &standard)).collect();
        if url.is_some() {
            targets.push(standard);
        }
        Ok(targets)
    }
}
