//! What `pulk bench` is asked for, and how large that makes each workload.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser};

use super::super::client::{Address, address};
use super::workload::{PAYLOAD_BYTES, Plan, Size, WORKLOADS};
use crate::error::Result;

/// Jobs of a round, and what all of them may carry in any case.
const JOBS: usize = 10_000;
const ROUND_BYTES: usize = 64 << 20;
const QUICK_JOBS: usize = 1_000;
const QUICK_ROUND_BYTES: usize = 16 << 20;
/// What a job is reckoned to carry.
const PAYLOAD_BYTES_DEFAULT: usize = 256;
/// Jobs that wait in front: a node takes 10,000 in all, unless its settings say otherwise.
const BACKLOG: usize = 100_000;
const NODE_BACKLOG: usize = 5_000;
const QUICK_BACKLOG: usize = 1_000;
const ROUNDS: usize = 3;

const MORE_HELP: &str = "\
Workloads:
  enqueue-1, enqueue-16, enqueue-64, enqueue-256
                    one job a call, over so many connections
  batch-10, batch-100, batch-1000
                    so many jobs a call, over 8 connections
  claim-1, claim-10, claim-100
                    so many jobs a claim, the acks in the next one, over 8 connections
  cycle             64 workers, one job a claim, the ack in the next; 64 more connections enqueue
  priorities        the cycle with the five priorities in turn
  backlog           the cycle behind --backlog jobs that wait
  delayed           100 jobs a call for later, over 8 connections
  payload-256, payload-1k, payload-16k, payload-256k
                    such payloads, one job a call, over 16 connections

The times are those of a call; in a cycle, of a claim. BYTES/JOB is what was written to the disk,
CPU US/JOB the processor time; embedded, with that of the clients.
LIMIT/S is what the disk allows: the same payloads, appended to a file and synced in as many groups.
Where there is little room, some columns are left out; --json has all.

On a node, a queue pulk-bench-… of its own is used and removed. Workers that claim from all queues,
and targets that the node pushes all jobs to, would get its jobs: stop them before.

Examples:
  pulk bench
  pulk bench --only cycle,batch-100 --jobs 100000 --data-dir /mnt/volume/new
  pulk bench --url http://127.0.0.1:8080 --limit-dir /mnt/volume
  pulk bench --json > before.json
  pulk bench --against before.json";

/// What to load, with what, how often.
#[derive(Debug, Args)]
#[command(after_help = MORE_HELP)]
pub(in crate::cli) struct BenchArguments {
    /// Load a running node instead of a queue in this process. PULK_URL is not read.
    #[arg(long, value_name = "URL", value_parser = address, conflicts_with = "data_dir")]
    pub(super) url: Option<Address>,
    /// A new directory for the queue in this process, removed at the end; by default one below
    /// the current directory.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// A directory on the node's disk, to measure the limit in.
    #[arg(long, value_name = "DIR", requires = "url")]
    pub(super) limit_dir: Option<PathBuf>,
    /// Only these workloads, with commas between them.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(WORKLOADS.iter().map(|workload| workload.name))
    )]
    only: Vec<String>,
    /// One round, 1,000 jobs, a backlog of 1,000: shows that all works, and little else.
    #[arg(long)]
    quick: bool,
    /// Jobs of a round, 10,000 by default; fewer of large ones: as many as are 64 MiB, or 256 bytes
    /// for each of these jobs if that is more.
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000_000)
    )]
    jobs: Option<usize>,
    /// Bytes of a job's payload, 2 to 1048576, but for the workloads that have a size of their own.
    #[arg(
        long,
        value_name = "N",
        default_value = "256",
        value_parser = RangedU64ValueParser::<usize>::new().range(PAYLOAD_BYTES)
    )]
    payload_bytes: usize,
    /// Jobs that wait in front in the workload backlog: 100,000 by default, 5,000 with --url.
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000_000)
    )]
    backlog: Option<usize>,
    /// Rounds, of which the medians count; 3 by default.
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000)
    )]
    rounds: Option<usize>,
    /// Show this run beside one that --json wrote to a file.
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
    /// Print the numbers as JSON.
    #[arg(long, conflicts_with = "against")]
    pub(super) json: bool,
}

impl BenchArguments {
    /// The workloads that are wanted.
    ///
    /// # Errors
    /// When one is larger than a queue takes.
    pub(super) fn plans(&self) -> Result<Vec<Plan>> {
        let backlog = match (self.quick, &self.url) {
            (true, _) => QUICK_BACKLOG,
            (false, Some(_)) => NODE_BACKLOG,
            (false, None) => BACKLOG,
        };
        let jobs = self.jobs.unwrap_or(if self.quick { QUICK_JOBS } else { JOBS });
        let round_bytes = if self.quick { QUICK_ROUND_BYTES } else { ROUND_BYTES };
        let size = Size {
            jobs,
            round_bytes_max: round_bytes.max(jobs * PAYLOAD_BYTES_DEFAULT),
            payload_bytes: self.payload_bytes,
            backlog: self.backlog.unwrap_or(backlog),
        };
        let is_wanted =
            |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        let wanted = WORKLOADS.iter().filter(|workload| is_wanted(workload.name));
        wanted.map(|workload| Plan::new(workload, size)).collect()
    }

    /// How often each is measured.
    pub(super) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { ROUNDS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_tells_every_workload() {
        let told = |name: &str| MORE_HELP.split([' ', ',', '\n']).any(|word| word == name);
        for workload in &WORKLOADS {
            assert!(told(workload.name), "{}", workload.name);
        }
    }
}
