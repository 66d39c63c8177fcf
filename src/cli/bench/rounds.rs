//! A workload, round after round: what it needs beforehand, the load, the limit, and room again.

use std::path::PathBuf;

use super::super::failed;
use super::counters::Counters;
use super::limit::append_and_sync;
use super::load;
use super::report::{Measurement, Round};
use super::target::Target;
use super::workload::{Plan, Work};
use crate::error::Result;

/// Where and how often to measure.
pub(super) struct Bench {
    pub(super) target: Target,
    /// The bench's own queue.
    pub(super) queue: String,
    /// On the disk of the target; `None`: no limit is measured.
    pub(super) limit_directory: Option<PathBuf>,
    pub(super) rounds: usize,
}

impl Bench {
    /// # Errors
    /// When the target does not answer, or the limit can't be measured: better told before all
    /// else.
    pub(super) async fn check(&self) -> Result<()> {
        Counters::of(&self.target).await?;
        self.limit_seconds(1, 1).await.map(drop)
    }

    /// Measures one workload after the other; `begun` is told each.
    ///
    /// # Errors
    /// As [`measure`](Self::measure).
    pub(super) async fn measure_all(
        &self,
        plans: &[Plan],
        begun: impl Fn(&'static str),
    ) -> Result<Vec<Measurement>> {
        let mut measured = Vec::new();
        for plan in plans {
            begun(plan.workload.name);
            measured.push(self.measure(plan).await?);
        }
        Ok(measured)
    }

    /// Takes the bench's queue away.
    ///
    /// # Errors
    /// When it stays; the sentence says how to remove it.
    pub(super) async fn remove_queue(&self) -> Result<()> {
        let queue = &self.queue;
        self.target.remove(queue).await.map_err(|reason| {
            failed(format!(
                "the queue {queue} could not be removed: {reason}; once its leases are over, \
                 after 30 s, do: pulk jobs purge {queue} --yes, pulk queues remove {queue}"
            ))
        })
    }

    /// Measures a workload. Afterwards no job of it is left.
    ///
    /// # Errors
    /// What the target said, or what the disk said to the limit.
    pub(super) async fn measure(&self, plan: &Plan) -> Result<Measurement> {
        load::fill(&self.target, plan, &self.queue, plan.backlog).await?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.round(plan).await?);
        }
        if plan.backlog > 0 {
            self.purge(plan.backlog).await?;
        }
        Ok(Measurement::new(plan, rounds))
    }

    async fn round(&self, plan: &Plan) -> Result<Round> {
        let work = plan.workload.work;
        if work == Work::Claim {
            load::fill(&self.target, plan, &self.queue, plan.jobs).await?;
        }
        let before = Counters::of(&self.target).await?;
        let load = load::run(&self.target, plan, &self.queue).await?;
        let used = Counters::of(&self.target).await?.since(&before);
        let bytes = (plan.jobs * plan.payload_bytes) as u64;
        let limit_seconds = self.limit_seconds(bytes, used.commits as u64).await?;
        if work == Work::Enqueue {
            self.purge(plan.jobs).await?;
        }
        Ok(Round { load, used, limit_seconds })
    }

    async fn limit_seconds(&self, bytes: u64, groups: u64) -> Result<Option<f64>> {
        let Some(directory) = self.limit_directory.clone() else { return Ok(None) };
        let told = directory.display().to_string();
        let appended =
            tokio::task::spawn_blocking(move || append_and_sync(&directory, bytes, groups));
        match appended.await {
            Ok(Ok(seconds)) => Ok(Some(seconds)),
            Ok(Err(reason)) => Err(failed(format!(
                "the limit can't be measured in {told}: {reason}; name a directory that can be \
                 written"
            ))),
            Err(reason) => Err(failed(format!("the limit was cut off: {reason}"))),
        }
    }

    /// Takes away what waits, which must be what the bench left there: a number that was made with
    /// somebody else's help would be no measurement.
    async fn purge(&self, jobs: usize) -> Result<()> {
        let (queue, removed) = (&self.queue, self.target.purge(&self.queue).await?);
        if removed == jobs as u64 {
            return Ok(());
        }
        Err(failed(format!(
            "{removed} jobs wait in the queue {queue} and not {jobs}: does another worker claim \
             from all queues, or does the node push jobs?"
        )))
    }
}
