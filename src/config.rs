//! What a queue needs to know before it opens.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::job::{QueueId, limits};
use crate::priority::{PerPriority, Priority};
use crate::retry::RetryPolicy;

/// Which engine keeps the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// A sled database in the data directory: survives crashes and power cuts.
    #[default]
    Sled,
    /// Nothing is written anywhere: for tests and trials.
    Memory,
}

impl StoreKind {
    /// The lower-case name used on the command line and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StoreKind::Sled => "sled",
            StoreKind::Memory => "memory",
        }
    }
}

/// The configuration of a queue. [`Config::default`] is a working one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the data lives.
    pub data_dir: PathBuf,
    /// Which engine keeps it.
    pub store: StoreKind,
    /// The pod's ordinal, a part of every job's id; 0 alone.
    pub shard: u16,
    /// False: jobs are taken in, none is handed out.
    pub scheduler_enabled: bool,
    /// The priorities that claims hand out; all of them by default.
    pub priorities: Vec<Priority>,
    /// How long a job of each priority is ready before it counts one level up, in milliseconds;
    /// then the limit of that level begins, up to critical, whose own is not used. 0: it never
    /// counts as more.
    pub ageing_ms: PerPriority<u64>,
    /// How often a job may fail, where it does not say so itself.
    pub max_attempts: PerPriority<u32>,
    /// How often a job may be interrupted, where it does not say so itself.
    pub max_interruptions: u32,
    /// How long to wait between attempts, where a job does not say so itself.
    pub retry: RetryPolicy,
    /// Most jobs of each priority that may wait in one queue (scheduled, ready or retrying); 0 is
    /// no limit.
    pub queue_capacity: PerPriority<u64>,
    /// Most queues, 1 to 131,071. A job for one more is refused.
    pub max_queues: u32,
    /// Most bytes that records alive may take; 0 is no limit. Less urgent jobs are refused before
    /// that.
    pub max_bytes: u64,
    /// Bytes of the disk that are kept for finishing jobs when it is full.
    pub disk_reserve_bytes: u64,
    /// How long the result of a job is kept after its ack, in milliseconds; 0 is not at all.
    pub result_ttl_ms: u64,
    /// Dead letters older than this are removed, in milliseconds; 0 keeps them for ever.
    pub dead_max_age_ms: u64,
    /// Of the dead letters of one queue, the oldest above this number are removed; 0 is no limit.
    pub dead_max_per_queue: u64,
}

/// The longest limit of ageing, in milliseconds: 10 years.
pub const AGEING_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;
/// The longest time that a result may be kept, in milliseconds: 30 days.
pub const RESULT_TTL_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// The longest age of dead letters that may be asked for, in milliseconds: 10 years.
pub const DEAD_AGE_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;

impl Config {
    /// Checks that the values make sense.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the value.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::Configuration, message));
        for (priority, attempts) in self.max_attempts.iter() {
            if !(1..=limits::ATTEMPTS_MAX).contains(attempts) {
                return wrong(format!(
                    "max_attempts of {priority}: {attempts} is out of range; use 1 to {}",
                    limits::ATTEMPTS_MAX
                ));
            }
        }
        if self.max_interruptions > limits::INTERRUPTIONS_MAX {
            return wrong(format!(
                "max_interruptions: {} is out of range; use 0 to {}",
                self.max_interruptions,
                limits::INTERRUPTIONS_MAX
            ));
        }
        if self.priorities.is_empty() {
            return wrong("priorities: name at least one, or leave it out for all".to_owned());
        }
        if !(1..=QueueId::MAX).contains(&self.max_queues) {
            let (queues, most) = (self.max_queues, QueueId::MAX);
            return wrong(format!("max_queues: {queues} is out of range; use 1 to {most}"));
        }
        for (priority, ageing_ms) in self.ageing_ms.iter() {
            if *ageing_ms > AGEING_MS_MAX {
                return wrong(format!(
                    "ageing_ms of {priority}: {ageing_ms} is out of range; use 0 to {AGEING_MS_MAX}"
                ));
            }
        }
        for (name, value, most) in [
            ("result_ttl_ms", self.result_ttl_ms, RESULT_TTL_MS_MAX),
            ("dead_max_age_ms", self.dead_max_age_ms, DEAD_AGE_MS_MAX),
        ] {
            if value > most {
                return wrong(format!("{name}: {value} is out of range; use 0 to {most}"));
            }
        }
        self.retry
            .validate()
            .map_err(|reason| Error::new(ErrorKind::Configuration, reason.to_string()))
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("./pulk-data"),
            store: StoreKind::Sled,
            shard: 0,
            scheduler_enabled: true,
            priorities: Priority::ALL.to_vec(),
            ageing_ms: PerPriority::from_fn(|priority| match priority {
                Priority::Critical => 0,
                Priority::High => 60_000,
                Priority::Default => 120_000,
                Priority::Low => 300_000,
                Priority::Bulk => 600_000,
            }),
            max_attempts: PerPriority::from_fn(|priority| match priority {
                Priority::Critical => 5,
                _ => 3,
            }),
            max_interruptions: 5,
            retry: RetryPolicy::default(),
            queue_capacity: PerPriority::from_fn(|priority| match priority {
                Priority::Critical => 1_000,
                _ => 10_000,
            }),
            max_queues: 1_000,
            max_bytes: 0,
            disk_reserve_bytes: 64 << 20,
            result_ttl_ms: 3_600_000,
            dead_max_age_ms: 0,
            dead_max_per_queue: 0,
        }
    }
}
