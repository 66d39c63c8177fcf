//! The async handle that everybody holds: the same verbs for a program that embeds the queue and
//! for the HTTP server.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::error::Result;
use crate::job::{Enqueued, JobId, JobState, JobView, NewJob};
use crate::lease::LeaseToken;
use crate::queue::{
    Claim, Claimed, DeadPage, DeadQuery, Extended, Failed, Failure, QueueView, Released, Settle,
    SettleOutcome, Snapshot,
};
use crate::store::Store;

/// A queue that is open. Clones are cheap and share it.
#[derive(Clone)]
pub struct Queue {}

impl Queue {
    /// Opens (or creates) the queue described by `config`.
    pub async fn open(config: Config) -> Result<Queue> {
        unreachable!()
    }

    /// Opens a queue on a given store and clock.
    pub async fn open_with(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Queue> {
        unreachable!()
    }

    /// Puts a job in its queue.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        unreachable!()
    }

    /// Puts jobs in their queues, all or none. Errors name the field as `jobs[3].kind`.
    pub async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        unreachable!()
    }

    /// Applies the acks and fails riding along, then hands out jobs, waiting up to `wait_ms`
    /// for the first. Dropping the future gives back what it would have got.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed> {
        unreachable!()
    }

    /// The job is done: removes it.
    pub async fn ack(&self, token: LeaseToken) -> Result<()> {
        unreachable!()
    }

    /// The job failed.
    pub async fn fail(&self, failure: Failure) -> Result<Failed> {
        unreachable!()
    }

    /// Acks and fails in one commit, with one outcome each: first the acks, then the fails.
    pub async fn settle(&self, settle: Settle) -> Result<Vec<SettleOutcome>> {
        unreachable!()
    }

    /// Keeps a lease alive for `lease_ms` from now and stores the progress (0 to 100).
    pub async fn extend(
        &self,
        token: LeaseToken,
        lease_ms: Option<u64>,
        progress: Option<u8>,
    ) -> Result<Extended> {
        unreachable!()
    }

    /// Gives a job back, to run again after `delay_ms`.
    pub async fn release(&self, token: LeaseToken, delay_ms: Option<u64>) -> Result<Released> {
        unreachable!()
    }

    /// A job in any state; `NotFound` when it is done or never was.
    pub async fn job(&self, id: JobId) -> Result<JobView> {
        unreachable!()
    }

    /// A page of dead letters, oldest first within each queue.
    pub async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage> {
        unreachable!()
    }

    /// One dead letter.
    pub async fn dead_letter(&self, id: JobId) -> Result<JobView> {
        unreachable!()
    }

    /// Puts a dead letter back to work, with its attempts from 1 again and its errors kept.
    pub async fn replay(&self, id: JobId) -> Result<Enqueued> {
        unreachable!()
    }

    /// All queues with their counts, by name.
    pub async fn queues(&self) -> Result<Vec<QueueView>> {
        unreachable!()
    }

    /// One queue with its counts.
    pub async fn queue(&self, name: &str) -> Result<QueueView> {
        unreachable!()
    }

    /// What metrics and health show of the whole.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        unreachable!()
    }

    /// The counters and histograms of this queue, for a Prometheus registry.
    pub fn metrics(&self) -> Arc<crate::metrics::Metrics> {
        unreachable!()
    }

    /// `Ok` while the engine works; the error that stopped it otherwise. Never waits.
    pub fn health(&self) -> Result<()> {
        unreachable!()
    }

    /// Returns when the engine has stopped by itself, with the error that stopped it.
    pub async fn failed(&self) -> crate::error::Error {
        unreachable!()
    }

    /// Applies all that is due by the clock: lease ends and timers. An engine does so by itself;
    /// after moving a manual clock, call this.
    pub async fn tick(&self) -> Result<()> {
        unreachable!()
    }

    /// Answers waiting claims with no jobs and refuses new commands as `Draining`
    /// (acks, fails, extends, releases and reads still work until `close`).
    pub async fn drain(&self) -> Result<()> {
        unreachable!()
    }

    /// Finishes what was handed in, writes it and closes the store. Later calls get `Draining`.
    pub async fn close(&self) -> Result<()> {
        unreachable!()
    }
}
