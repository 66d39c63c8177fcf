//! `pulk serve`: the settings of a node, from flags, the environment and a file.

mod arguments;
mod worker_arguments;

use std::ffi::OsString;

use clap::{ArgMatches, Command, FromArgMatches};

pub(super) use self::arguments::{PriorityFilter, ServeArguments};
use super::settings::{Settings, Source};
use super::{log, output, sentence};
use crate::config::{Config, StoreKind};
use crate::error::{Error, ErrorKind, Result};
use crate::priority::{PerPriority, Priority};
use crate::retry::RetryPolicy;
use crate::server::{self, ConnectionLimits, ServeOptions, WorkerOptions};

/// Runs a node; `matches` is what the program was given, but for the file.
pub(super) fn run(command: &Command, given: &[OsString], matches: &ArgMatches) -> Result<()> {
    let (matches, settings) = Settings::read(command, given, matches)?;
    let arguments = ServeArguments::from_arg_matches(&matches)
        .map_err(|usage| Error::new(ErrorKind::Configuration, sentence(&usage.to_string())))?;
    arguments.refuse_contradictions(&settings)?;
    let worker = arguments.worker.options(&settings)?;
    worker.validate()?;
    if arguments.print_config {
        return output::print(&settings.to_toml());
    }
    log::start(&arguments.log, arguments.log_format)?;
    let options = ServeOptions { worker, ..arguments.options() };
    options.config.validate()?;
    options.connections.validate()?;
    let runtime = server::runtime()?;
    let served = runtime.block_on(server::serve(options));
    // A store that is still being opened must not hold up the end.
    runtime.shutdown_background();
    served
}

impl ServeArguments {
    /// Values that are right alone and wrong together.
    fn refuse_contradictions(&self, settings: &Settings) -> Result<()> {
        let wrong = |sentence: String| Err(Error::new(ErrorKind::Configuration, sentence));
        let called = |key: &str| settings.blame(key).to_owned();
        if self.retry_base_ms > self.retry_max_ms {
            return wrong(format!(
                "{}: {} is more than the longest delay, {} of {}; lower the first or raise the \
                 second",
                called("retry_base_ms"),
                self.retry_base_ms,
                self.retry_max_ms,
                called("retry_max_ms"),
            ));
        }
        // Said of a directory where, or above where, memory was asked for, it is meant to last.
        let (directory, store) = (settings.source("data_dir"), settings.source("store"));
        let is_meant = *directory != Source::Default && directory.rank() >= store.rank();
        if self.store == StoreKind::Memory && is_meant {
            return wrong(format!(
                "{}: memory keeps nothing, but {} names a directory; leave out one of them",
                called("store"),
                called("data_dir"),
            ));
        }
        Ok(())
    }

    fn options(self) -> ServeOptions {
        let attempts = self.max_attempts_default;
        let max_attempts = PerPriority::from_fn(|priority| match priority {
            Priority::Critical => self.max_attempts_critical,
            Priority::High => self.max_attempts_high.unwrap_or(attempts),
            Priority::Default => attempts,
            Priority::Low => self.max_attempts_low.unwrap_or(attempts),
            Priority::Bulk => self.max_attempts_bulk.unwrap_or(attempts),
        });
        let ageing_ms = PerPriority::from_fn(|priority| match priority {
            Priority::Critical => 0,
            Priority::High => self.ageing_ms_high,
            Priority::Default => self.ageing_ms_default,
            Priority::Low => self.ageing_ms_low,
            Priority::Bulk => self.ageing_ms_bulk,
        });
        let capacity = self.queue_capacity_default;
        let queue_capacity = PerPriority::from_fn(|priority| match priority {
            Priority::Critical => self.queue_capacity_critical,
            Priority::High => self.queue_capacity_high.unwrap_or(capacity),
            Priority::Default => capacity,
            Priority::Low => self.queue_capacity_low.unwrap_or(capacity),
            Priority::Bulk => self.queue_capacity_bulk.unwrap_or(capacity),
        });
        let config = Config {
            data_dir: self.data_dir,
            store: self.store,
            shard: self.shard,
            scheduler_enabled: self.scheduler_enabled,
            priorities: self.priorities.map_or_else(|| Priority::ALL.to_vec(), |filter| filter.0),
            ageing_ms,
            max_attempts,
            max_interruptions: self.max_interruptions,
            retry: RetryPolicy {
                base_ms: self.retry_base_ms,
                max_ms: self.retry_max_ms,
                jitter: self.retry_jitter,
            },
            queue_capacity,
            max_queues: self.max_queues,
            max_bytes: self.max_bytes,
            disk_reserve_bytes: self.disk_reserve_bytes,
            result_ttl_ms: self.result_ttl_ms,
            dead_max_age_ms: self.dead_max_age_ms,
            dead_max_per_queue: self.dead_max_per_queue,
        };
        let (listen, shutdown_grace_ms) = (self.listen, self.shutdown_grace_ms);
        let connections = ConnectionLimits {
            max_connections: self.max_connections as usize,
            read_timeout_ms: self.read_timeout_ms,
            idle_timeout_ms: self.idle_timeout_ms,
        };
        let worker = WorkerOptions::default();
        ServeOptions { config, listen, shutdown_grace_ms, connections, worker }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Command};
    use super::{Config, ConnectionLimits, Priority, PriorityFilter, ServeOptions, StoreKind};

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
        assert_eq!(options.connections, ConnectionLimits::default());
    }

    #[test]
    fn every_priority_has_its_attempts() {
        let config = options(&["--max-attempts-default=7", "--max-attempts-bulk=9"]).config;
        let attempts: Vec<u32> = config.max_attempts.iter().map(|(_, count)| *count).collect();
        assert_eq!(attempts, [5, 7, 7, 7, 9]);
    }

    #[test]
    fn every_priority_has_its_capacity() {
        let config = options(&["--queue-capacity-default=7", "--queue-capacity-low=0"]).config;
        let most: Vec<u64> = config.queue_capacity.iter().map(|(_, most)| *most).collect();
        assert_eq!(most, [1_000, 7, 7, 0, 7]);
    }

    #[test]
    fn every_priority_but_critical_has_its_limit_of_ageing() {
        let flags = ["--ageing-ms-high=1", "--ageing-ms-default=2", "--ageing-ms-low=0"];
        let config = options(&flags).config;
        let limits: Vec<u64> = config.ageing_ms.iter().map(|(_, limit)| *limit).collect();
        assert_eq!(limits, [0, 1, 2, 0, 600_000]);
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
