//! What a run measured: the numbers of each workload, medians of its rounds. As `--json` prints
//! them, and as `--against` reads them again.

use serde::{Deserialize, Serialize};

use super::counters::Used;
use super::load::Load;
use super::workload::Plan;
use crate::clock::Timestamp;

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// The version of the program that ran it.
    pub(super) pulk: String,
    pub(super) started_at: Timestamp,
    /// `embedded`, or the node's address.
    pub(super) target: String,
    /// Where the limit was measured; `null` when it was not.
    pub(super) limit_directory: Option<String>,
    /// Of this machine.
    pub(super) processors: usize,
    pub(super) rounds: usize,
    pub(super) workloads: Vec<Measurement>,
}

/// The numbers of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) name: String,
    pub(super) clients: usize,
    pub(super) jobs_per_call: usize,
    pub(super) payload_bytes: usize,
    /// Jobs that waited in front.
    pub(super) backlog: usize,
    /// Of one round.
    pub(super) jobs: usize,
    pub(super) jobs_per_s: f64,
    /// How long a call took, in microseconds; in a cycle a claim.
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    /// The longest of all rounds.
    pub(super) max_us: u64,
    pub(super) jobs_per_commit: f64,
    /// `null` where it can't be told, as are the others.
    pub(super) written_bytes_per_job: Option<f64>,
    pub(super) cpu_us_per_job: Option<f64>,
    pub(super) limit_jobs_per_s: Option<f64>,
    /// `jobs_per_s` / `limit_jobs_per_s`.
    pub(super) ratio: Option<f64>,
}

/// What one round of a workload gave.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) load: Load,
    pub(super) used: Used,
    /// How long the same bytes took, in the same groups.
    pub(super) limit_seconds: Option<f64>,
}

impl Measurement {
    pub(super) fn new(plan: &Plan, mut rounds: Vec<Round>) -> Measurement {
        for round in &mut rounds {
            round.load.latencies_us.sort_unstable();
        }
        let jobs = plan.jobs as f64;
        let of_rounds = |number: &dyn Fn(&Round) -> Option<f64>| {
            rounds.iter().map(number).collect::<Option<Vec<f64>>>().and_then(median)
        };
        let latency_us = |per_mille: usize| {
            let each = |round: &Round| Some(quantile(&round.load.latencies_us, per_mille) as f64);
            of_rounds(&each).unwrap_or_default() as u64
        };
        let jobs_per_s = of_rounds(&|round| Some(jobs / round.load.seconds)).unwrap_or_default();
        let limit_jobs_per_s = of_rounds(&|round| Some(jobs / round.limit_seconds?));
        let longest = rounds.iter().filter_map(|round| round.load.latencies_us.last()).max();
        Measurement {
            name: plan.workload.name.to_owned(),
            clients: plan.workload.clients,
            jobs_per_call: plan.workload.jobs_per_call,
            payload_bytes: plan.payload_bytes,
            backlog: plan.backlog,
            jobs: plan.jobs,
            jobs_per_s,
            p50_us: latency_us(500),
            p99_us: latency_us(990),
            p999_us: latency_us(999),
            max_us: longest.copied().unwrap_or_default(),
            jobs_per_commit: of_rounds(&|round| Some(jobs / round.used.commits.max(1.0)))
                .unwrap_or_default(),
            written_bytes_per_job: of_rounds(&|round| Some(round.used.written_bytes? / jobs)),
            cpu_us_per_job: of_rounds(&|round| Some(round.used.cpu_seconds? * 1e6 / jobs)),
            limit_jobs_per_s,
            ratio: limit_jobs_per_s.map(|limit| jobs_per_s / limit),
        }
    }
}

/// `None` of nothing.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

/// Of sorted numbers; 0 of none.
fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * per_mille / 1_000).min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::workload::{Size, WORKLOADS};
    use super::*;

    fn round(seconds: f64, latencies_us: Vec<u64>, limit_seconds: Option<f64>) -> Round {
        let used = Used { commits: 50.0, cpu_seconds: Some(0.001), written_bytes: None };
        Round { load: Load { seconds, latencies_us }, used, limit_seconds }
    }

    fn measured(rounds: Vec<Round>) -> Measurement {
        let size = Size { jobs: 100, round_bytes_max: 1 << 20, payload_bytes: 10, backlog: 0 };
        Measurement::new(&Plan::new(&WORKLOADS[0], size).unwrap(), rounds)
    }

    #[test]
    fn the_median_of_the_rounds_counts_and_the_longest_call_of_all() {
        let latencies: Vec<u64> = (1..=1_000).rev().collect();
        let measured = measured(vec![
            round(1.0, latencies.clone(), Some(0.5)),
            round(4.0, vec![5_000], Some(0.25)),
            round(2.0, latencies, Some(1.0)),
        ]);
        assert_eq!((measured.jobs_per_s, measured.limit_jobs_per_s), (50.0, Some(200.0)));
        assert_eq!((measured.ratio, measured.jobs_per_commit), (Some(0.25), 2.0));
        assert_eq!((measured.p50_us, measured.p99_us, measured.p999_us), (501, 991, 1_000));
        assert_eq!(measured.max_us, 5_000);
        assert!((measured.cpu_us_per_job.unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(measured.written_bytes_per_job, None);
    }

    #[test]
    fn without_a_limit_there_is_no_ratio() {
        let measured = measured(vec![round(1.0, vec![1], None)]);
        assert_eq!((measured.limit_jobs_per_s, measured.ratio), (None, None));
        let text = serde_json::to_string(&measured).unwrap();
        let again: Measurement = serde_json::from_str(&text).unwrap();
        assert_eq!((again.jobs, again.ratio), (100, None));
    }
}
