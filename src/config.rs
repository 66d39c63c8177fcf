//! What a queue needs to know before it opens.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::job::limits;
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
    /// How often a job may fail, where it does not say so itself.
    pub max_attempts: PerPriority<u32>,
    /// How often a job may be interrupted, where it does not say so itself.
    pub max_interruptions: u32,
    /// How long to wait between attempts, where a job does not say so itself.
    pub retry: RetryPolicy,
    /// Bytes of the volume that are kept for acks, fails and the like: jobs are taken in only
    /// while more is left.
    pub disk_reserve_bytes: u64,
}

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
            max_attempts: PerPriority::from_fn(|priority| match priority {
                Priority::Critical => 5,
                _ => 3,
            }),
            max_interruptions: 5,
            retry: RetryPolicy::default(),
            disk_reserve_bytes: 64 << 20,
        }
    }
}
