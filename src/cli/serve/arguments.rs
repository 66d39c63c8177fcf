//! The arguments of `pulk serve`. Each long one but `--config` and `--print-config` is a setting:
//! the file takes it under its field's name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{Args, value_parser};

use super::super::log::{self, LogFormat};
use super::worker_arguments::WorkerArguments;
use crate::config::{AGEING_MS_MAX, DEAD_AGE_MS_MAX, RESULT_TTL_MS_MAX, StoreKind};
use crate::error::{Error, Result};
use crate::job::{JobId, QueueId, limits};
use crate::priority::Priority;
use crate::retry::RetryPolicy;
use crate::server::ConnectionLimits;

const EXAMPLES: &str = "\
Examples:
  pulk serve
  pulk serve --data-dir /var/lib/pulk --listen 0.0.0.0:8080
  pulk serve --config /etc/pulk.toml --print-config";

/// More jobs than a data directory can ever number are no limit.
const CAPACITY_MAX: u64 = JobId::SEQUENCE_MAX;
/// More bytes than TOML can write.
const BYTES_MAX: u64 = i64::MAX as u64;
/// A node that takes longer than a day to stop does not stop.
const SHUTDOWN_GRACE_MS_MAX: u64 = 24 * 3_600_000;

/// The settings of a node. A flag stands above the environment, that above the file.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct ServeArguments {
    /// A TOML file with settings: the names of the flags, with _ for -.
    #[arg(long, env = "PULK_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print every setting with its value and where that is from, as TOML, and end.
    #[arg(long)]
    pub(super) print_config: bool,
    /// Where the queue lives.
    #[arg(long, env = "PULK_DATA_DIR", value_name = "DIR", default_value = "./pulk-data")]
    pub(super) data_dir: PathBuf,
    /// HTTP address.
    #[arg(
        long,
        env = "PULK_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080",
        value_parser = listen
    )]
    pub(super) listen: String,
    /// Storage engine: sled or memory.
    #[arg(long, env = "PULK_STORE", default_value = "sled", value_parser = store_kind)]
    pub(super) store: StoreKind,
    /// The pod's ordinal, a part of every job's id.
    #[arg(long, env = "PULK_SHARD", default_value_t = 0)]
    pub(super) shard: u16,
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
    pub(super) scheduler_enabled: bool,
    /// The priorities that claims hand out, e.g. CRITICAL,HIGH; all by default.
    #[arg(long, env = "WORKER_PRIORITY_FILTER", value_name = "LIST")]
    pub(super) priorities: Option<PriorityFilter>,
    /// Attempts of a critical job.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_CRITICAL",
        value_name = "COUNT",
        default_value_t = 5,
        value_parser = value_parser!(u32).range(1..=i64::from(limits::ATTEMPTS_MAX))
    )]
    pub(super) max_attempts_critical: u32,
    /// Attempts of a job of any priority that has no number of its own.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_DEFAULT",
        value_name = "COUNT",
        default_value_t = 3,
        value_parser = value_parser!(u32).range(1..=i64::from(limits::ATTEMPTS_MAX))
    )]
    pub(super) max_attempts_default: u32,
    /// Attempts of a high job.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_HIGH",
        value_name = "COUNT",
        value_parser = value_parser!(u32).range(1..=i64::from(limits::ATTEMPTS_MAX))
    )]
    pub(super) max_attempts_high: Option<u32>,
    /// Attempts of a low job.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_LOW",
        value_name = "COUNT",
        value_parser = value_parser!(u32).range(1..=i64::from(limits::ATTEMPTS_MAX))
    )]
    pub(super) max_attempts_low: Option<u32>,
    /// Attempts of a bulk job.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_ATTEMPTS_BULK",
        value_name = "COUNT",
        value_parser = value_parser!(u32).range(1..=i64::from(limits::ATTEMPTS_MAX))
    )]
    pub(super) max_attempts_bulk: Option<u32>,
    /// How often a job may be interrupted before it is a dead letter.
    #[arg(
        long,
        env = "PULK_MAX_INTERRUPTIONS",
        value_name = "COUNT",
        default_value_t = 5,
        value_parser = value_parser!(u32).range(..=i64::from(limits::INTERRUPTIONS_MAX))
    )]
    pub(super) max_interruptions: u32,
    /// The delay before the second attempt.
    #[arg(
        long,
        env = "JOBS_RETRY_BASE_MS",
        value_name = "MS",
        default_value_t = 1_000,
        value_parser = value_parser!(u64).range(..=RetryPolicy::DELAY_MS_MAX)
    )]
    pub(super) retry_base_ms: u64,
    /// The longest delay between attempts.
    #[arg(
        long,
        env = "JOBS_RETRY_MAX_MS",
        value_name = "MS",
        default_value_t = 3_600_000,
        value_parser = value_parser!(u64).range(..=RetryPolicy::DELAY_MS_MAX)
    )]
    pub(super) retry_max_ms: u64,
    /// The share of a delay, 0 to 1, that chance may take off.
    #[arg(
        long,
        env = "JOBS_RETRY_JITTER",
        value_name = "SHARE",
        default_value_t = 0.5,
        value_parser = share
    )]
    pub(super) retry_jitter: f64,
    /// How long a high job is ready before it counts as critical; 0: it never does.
    #[arg(
        long,
        env = "JOBS_AGEING_MS_HIGH",
        value_name = "MS",
        default_value_t = 60_000,
        value_parser = value_parser!(u64).range(..=AGEING_MS_MAX)
    )]
    pub(super) ageing_ms_high: u64,
    /// How long a default job is ready before it counts as high; 0: it never does.
    #[arg(
        long,
        env = "JOBS_AGEING_MS_DEFAULT",
        value_name = "MS",
        default_value_t = 120_000,
        value_parser = value_parser!(u64).range(..=AGEING_MS_MAX)
    )]
    pub(super) ageing_ms_default: u64,
    /// How long a low job is ready before it counts as default; 0: it never does.
    #[arg(
        long,
        env = "JOBS_AGEING_MS_LOW",
        value_name = "MS",
        default_value_t = 300_000,
        value_parser = value_parser!(u64).range(..=AGEING_MS_MAX)
    )]
    pub(super) ageing_ms_low: u64,
    /// How long a bulk job is ready before it counts as low; 0: it never does.
    #[arg(
        long,
        env = "JOBS_AGEING_MS_BULK",
        value_name = "MS",
        default_value_t = 600_000,
        value_parser = value_parser!(u64).range(..=AGEING_MS_MAX)
    )]
    pub(super) ageing_ms_bulk: u64,
    /// Most critical jobs that may wait in one queue; 0 is no limit.
    #[arg(
        long,
        env = "JOBS_QUEUE_CAPACITY_CRITICAL",
        value_name = "COUNT",
        default_value_t = 1_000,
        value_parser = value_parser!(u64).range(..=CAPACITY_MAX)
    )]
    pub(super) queue_capacity_critical: u64,
    /// Most jobs that may wait in one queue, of any priority that has no number of its own.
    #[arg(
        long,
        env = "JOBS_QUEUE_CAPACITY_DEFAULT",
        value_name = "COUNT",
        default_value_t = 10_000,
        value_parser = value_parser!(u64).range(..=CAPACITY_MAX)
    )]
    pub(super) queue_capacity_default: u64,
    /// Most high jobs that may wait in one queue.
    #[arg(
        long,
        env = "JOBS_QUEUE_CAPACITY_HIGH",
        value_name = "COUNT",
        value_parser = value_parser!(u64).range(..=CAPACITY_MAX)
    )]
    pub(super) queue_capacity_high: Option<u64>,
    /// Most low jobs that may wait in one queue.
    #[arg(
        long,
        env = "JOBS_QUEUE_CAPACITY_LOW",
        value_name = "COUNT",
        value_parser = value_parser!(u64).range(..=CAPACITY_MAX)
    )]
    pub(super) queue_capacity_low: Option<u64>,
    /// Most bulk jobs that may wait in one queue.
    #[arg(
        long,
        env = "JOBS_QUEUE_CAPACITY_BULK",
        value_name = "COUNT",
        value_parser = value_parser!(u64).range(..=CAPACITY_MAX)
    )]
    pub(super) queue_capacity_bulk: Option<u64>,
    /// Most queues; a job for one more is refused.
    #[arg(
        long,
        env = "PULK_MAX_QUEUES",
        value_name = "COUNT",
        default_value_t = 1_000,
        value_parser = value_parser!(u32).range(1..=i64::from(QueueId::MAX))
    )]
    pub(super) max_queues: u32,
    /// Most bytes of jobs; less urgent ones are refused before that. 0 is no limit.
    #[arg(
        long,
        env = "PULK_MAX_BYTES",
        value_name = "BYTES",
        default_value_t = 0,
        value_parser = value_parser!(u64).range(..=BYTES_MAX)
    )]
    pub(super) max_bytes: u64,
    /// Bytes of the disk that are kept for finishing jobs when it is full.
    #[arg(
        long,
        env = "PULK_DISK_RESERVE_BYTES",
        value_name = "BYTES",
        default_value_t = 64 << 20,
        value_parser = value_parser!(u64).range(..=BYTES_MAX)
    )]
    pub(super) disk_reserve_bytes: u64,
    /// How long the result of a job is kept after its ack; 0 is not at all.
    #[arg(
        long,
        env = "PULK_RESULT_TTL_MS",
        value_name = "MS",
        default_value_t = 3_600_000,
        value_parser = value_parser!(u64).range(..=RESULT_TTL_MS_MAX)
    )]
    pub(super) result_ttl_ms: u64,
    /// Dead letters older than this are removed; 0 keeps them for ever.
    #[arg(
        long,
        env = "PULK_DEAD_MAX_AGE_MS",
        value_name = "MS",
        default_value_t = 0,
        value_parser = value_parser!(u64).range(..=DEAD_AGE_MS_MAX)
    )]
    pub(super) dead_max_age_ms: u64,
    /// Of the dead letters of a queue, the oldest above this number are removed; 0 is no limit.
    #[arg(
        long,
        env = "PULK_DEAD_MAX_PER_QUEUE",
        value_name = "COUNT",
        default_value_t = 0,
        value_parser = value_parser!(u64).range(..=CAPACITY_MAX)
    )]
    pub(super) dead_max_per_queue: u64,
    /// How long requests may finish after a signal to stop.
    #[arg(
        long,
        env = "PULK_SHUTDOWN_GRACE_MS",
        value_name = "MS",
        default_value_t = 25_000,
        value_parser = value_parser!(u64).range(1..=SHUTDOWN_GRACE_MS_MAX)
    )]
    pub(super) shutdown_grace_ms: u64,
    /// The most connections at a time.
    #[arg(
        long,
        env = "PULK_MAX_CONNECTIONS",
        value_name = "COUNT",
        default_value_t = 4_096,
        value_parser = value_parser!(u64).range(1..=ConnectionLimits::CONNECTIONS_MAX as u64)
    )]
    pub(super) max_connections: u64,
    /// How long a request's head or body may take, and the client's taking of the answer.
    #[arg(
        long,
        env = "PULK_READ_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 30_000,
        value_parser = value_parser!(u64).range(1..=ConnectionLimits::READ_TIMEOUT_MS_MAX)
    )]
    pub(super) read_timeout_ms: u64,
    /// How long a connection may be without a request.
    #[arg(
        long,
        env = "PULK_IDLE_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 75_000,
        value_parser = value_parser!(u64).range(1..=ConnectionLimits::IDLE_TIMEOUT_MS_MAX)
    )]
    pub(super) idle_timeout_ms: u64,
    /// What the log tells, e.g. debug or pulk=debug.
    #[arg(
        long,
        env = "PULK_LOG",
        value_name = "FILTER",
        default_value = "info",
        value_parser = log::filter
    )]
    pub(super) log: String,
    /// How the log tells it.
    #[arg(
        long,
        env = "PULK_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        ignore_case = true
    )]
    pub(super) log_format: LogFormat,
    #[command(flatten)]
    pub(super) worker: WorkerArguments,
}

/// Priorities with commas between them, in any letter case.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct PriorityFilter(pub(in crate::cli) Vec<Priority>);

impl FromStr for PriorityFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split(',').map(|one| one.trim().parse()).collect::<Result<_>>().map(PriorityFilter)
    }
}

impl fmt::Display for PriorityFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|priority| priority.as_str()).collect();
        formatter.write_str(&names.join(","))
    }
}

fn store_kind(text: &str) -> Result<StoreKind, String> {
    [StoreKind::Sled, StoreKind::Memory]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| "use sled or memory".to_owned())
}

fn listen(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("this is not an address; write it like 127.0.0.1:8080".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|reason| format!("{reason}"))?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("use a number from 0 to 1".to_owned())
    }
}
