//! `pulk serve`: the settings of a node, from flags and the environment, and its log.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::failed;
use crate::config::{Config, StoreKind};
use crate::error::{Error, ErrorKind, Result};
use crate::priority::{PerPriority, Priority};
use crate::retry::RetryPolicy;
use crate::server::{self, ServeOptions};

/// The settings of a node. A flag wins over the environment.
#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Where the queue lives.
    #[arg(long, env = "PULK_DATA_DIR", value_name = "DIR", default_value = "./pulk-data")]
    data_dir: PathBuf,
    /// HTTP address.
    #[arg(long, env = "PULK_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Storage engine: sled or memory.
    #[arg(long, env = "PULK_STORE", default_value = "sled", value_parser = store_kind)]
    store: StoreKind,
    /// The pod's ordinal, a part of every job's id.
    #[arg(long, env = "PULK_SHARD", default_value_t = 0)]
    shard: u16,
    /// False: accepts jobs, runs and hands out none.
    #[arg(
        long,
        env = "JOBS_SCHEDULER_ENABLED",
        value_name = "BOOL",
        default_value = "true",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    scheduler_enabled: bool,
    /// The priorities that claims hand out, e.g. CRITICAL,HIGH; all by default.
    #[arg(long, env = "WORKER_PRIORITY_FILTER", value_name = "LIST")]
    priorities: Option<PriorityFilter>,
    /// Attempts of a critical job.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_CRITICAL",
        value_name = "COUNT",
        default_value_t = 5
    )]
    max_attempts_critical: u32,
    /// Attempts of a job of any priority that has no number of its own.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_DEFAULT",
        value_name = "COUNT",
        default_value_t = 3
    )]
    max_attempts_default: u32,
    /// Attempts of a high job.
    #[arg(long, env = "JOBS_RETRY_MAX_ATTEMPTS_HIGH", value_name = "COUNT")]
    max_attempts_high: Option<u32>,
    /// Attempts of a low job.
    #[arg(long, env = "JOBS_RETRY_MAX_ATTEMPTS_LOW", value_name = "COUNT")]
    max_attempts_low: Option<u32>,
    /// Attempts of a bulk job.
    #[arg(long, env = "JOBS_RETRY_MAX_ATTEMPTS_BULK", value_name = "COUNT")]
    max_attempts_bulk: Option<u32>,
    /// How often a job may be interrupted before it is a dead letter.
    #[arg(long, env = "PULK_MAX_INTERRUPTIONS", value_name = "COUNT", default_value_t = 5)]
    max_interruptions: u32,
    /// The delay before the second attempt.
    #[arg(long, env = "JOBS_RETRY_BASE_MS", value_name = "MS", default_value_t = 1_000)]
    retry_base_ms: u64,
    /// The longest delay between attempts.
    #[arg(long, env = "JOBS_RETRY_MAX_MS", value_name = "MS", default_value_t = 3_600_000)]
    retry_max_ms: u64,
    /// The share of a delay, 0 to 1, that chance may take off.
    #[arg(long, env = "JOBS_RETRY_JITTER", value_name = "SHARE", default_value_t = 0.5)]
    retry_jitter: f64,
    /// Bytes of the disk kept for acks and fails: jobs are refused when only they are left.
    #[arg(long, env = "PULK_DISK_RESERVE_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    disk_reserve_bytes: u64,
    /// How long requests may finish after a signal to stop.
    #[arg(long, env = "PULK_SHUTDOWN_GRACE_MS", value_name = "MS", default_value_t = 25_000)]
    shutdown_grace_ms: u64,
    /// What the log tells, e.g. debug or pulk=debug.
    #[arg(long, env = "PULK_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// How the log tells it.
    #[arg(
        long,
        env = "PULK_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        ignore_case = true
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Priorities with commas between them, in any letter case.
#[derive(Clone, Debug, PartialEq)]
struct PriorityFilter(Vec<Priority>);

pub(super) fn run(arguments: ServeArguments) -> Result<()> {
    start_log(&arguments.log, arguments.log_format)?;
    let options = arguments.options();
    options.config.validate()?;
    let runtime = server::runtime()?;
    let served = runtime.block_on(server::serve(options));
    // A store that is still being opened must not hold up the end.
    runtime.shutdown_background();
    served
}

fn start_log(filter: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::builder().parse(filter).map_err(|reason| {
        let message = format!("PULK_LOG: {filter:?} is not a filter ({reason}); try info");
        Error::new(ErrorKind::Configuration, message)
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|reason| failed(format!("the log can't be started: {reason}")))
}

impl ServeArguments {
    fn options(self) -> ServeOptions {
        let others = self.max_attempts_default;
        let max_attempts = PerPriority::from_fn(|priority| match priority {
            Priority::Critical => self.max_attempts_critical,
            Priority::High => self.max_attempts_high.unwrap_or(others),
            Priority::Default => others,
            Priority::Low => self.max_attempts_low.unwrap_or(others),
            Priority::Bulk => self.max_attempts_bulk.unwrap_or(others),
        });
        let config = Config {
            data_dir: self.data_dir,
            store: self.store,
            shard: self.shard,
            scheduler_enabled: self.scheduler_enabled,
            priorities: self.priorities.map_or_else(|| Priority::ALL.to_vec(), |filter| filter.0),
            max_attempts,
            max_interruptions: self.max_interruptions,
            retry: RetryPolicy {
                base_ms: self.retry_base_ms,
                max_ms: self.retry_max_ms,
                jitter: self.retry_jitter,
            },
            disk_reserve_bytes: self.disk_reserve_bytes,
        };
        let (listen, shutdown_grace_ms) = (self.listen, self.shutdown_grace_ms);
        ServeOptions { config, listen, shutdown_grace_ms }
    }
}

impl FromStr for PriorityFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split(',').map(|one| one.trim().parse()).collect::<Result<_>>().map(PriorityFilter)
    }
}

fn store_kind(text: &str) -> Result<StoreKind, String> {
    [StoreKind::Sled, StoreKind::Memory]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| "use sled or memory".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Command};
    use super::*;

    #[track_caller]
    fn options(flags: &[&str]) -> ServeOptions {
        let arguments = Arguments::try_parse_from([&["pulk", "serve"], flags].concat());
        match arguments.unwrap().command {
            Command::Serve(arguments) => arguments.options(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_flags_it_is_the_default() {
        let options = options(&[]);
        assert_eq!(format!("{:?}", options.config), format!("{:?}", Config::default()));
        assert_eq!(options.listen, "127.0.0.1:8080");
        assert_eq!(options.shutdown_grace_ms, 25_000);
    }

    #[test]
    fn every_priority_has_its_attempts() {
        let config = options(&["--max-attempts-default=7", "--max-attempts-bulk=9"]).config;
        let attempts: Vec<u32> = config.max_attempts.iter().map(|(_, count)| *count).collect();
        assert_eq!(attempts, [5, 7, 7, 7, 9]);
    }

    #[test]
    fn filters_and_switches_are_read_in_any_case() {
        let config = options(&["--priorities", "CRITICAL, high", "--store", "MEMORY"]).config;
        assert_eq!(config.priorities, [Priority::Critical, Priority::High]);
        assert_eq!(config.store, StoreKind::Memory);
        assert!(!options(&["--scheduler-enabled", "FALSE"]).config.scheduler_enabled);
        assert!(options(&["--scheduler-enabled"]).config.scheduler_enabled);
        assert!("critical,".parse::<PriorityFilter>().is_err());
    }
}
