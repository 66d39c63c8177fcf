//! The node's own worker: it pushes jobs to the targets of the configuration.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::time::Duration;

use tracing::info;

use crate::api::WorkerReport;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Queue;
use crate::priority::Priority;
use crate::worker::push::{Push, PushConfig};
use crate::worker::{RunningWorker, Worker};

/// What a node's own worker runs, and how much at once. Without a target there is none.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    /// Jobs at once; `None`: twice the processors.
    pub concurrency: Option<usize>,
    /// How many of these only critical and high jobs take; `None`: a quarter of four or more, and
    /// none where priorities are chosen.
    pub reserved: Option<usize>,
    /// Where jobs are pushed to.
    pub push: PushConfig,
}

/// The worker at work.
pub(super) struct NodeWorker {
    running: RunningWorker,
    push: Push,
}

impl WorkerOptions {
    /// Jobs at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        self.concurrency.unwrap_or(2 * processors)
    }

    /// How many of these only critical and high jobs take.
    #[must_use]
    pub fn reserved(&self, is_filtered: bool) -> usize {
        match self.reserved {
            Some(reserved) => reserved,
            None if is_filtered || self.concurrency() < 4 => 0,
            None => self.concurrency() / 4,
        }
    }

    /// Checks what can be checked without the queue.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the value.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::Configuration, message));
        if let Some(reserved) = self.reserved.filter(|reserved| *reserved >= self.concurrency()) {
            let concurrency = self.concurrency();
            return wrong(format!(
                "reserved: {reserved} of {concurrency} (concurrency) leave no slot for other jobs; \
                 use at most {}",
                concurrency - 1
            ));
        }
        self.push.validate()?;
        self.push.scope().map(drop)
    }
}

impl NodeWorker {
    /// Starts it on an open queue.
    pub(super) fn start(
        options: &WorkerOptions,
        config: &Config,
        queue: &Queue,
        push: Push,
    ) -> Result<NodeWorker> {
        push.counted_by(queue.metrics());
        let scope = options.push.scope()?;
        let mut worker = Worker::builder(queue.clone()).concurrency(options.concurrency());
        let is_filtered = is_filtered(config);
        if is_filtered {
            worker = worker.priorities(config.priorities.iter().copied());
        }
        worker = worker.reserved(options.reserved(is_filtered)).queues(scope.queues);
        worker = match scope.kinds.is_empty() {
            true => worker.fallback(push.clone()),
            false => {
                let kinds = scope.kinds.into_iter();
                kinds.fold(worker, |worker, kind| worker.handler(kind, push.clone()))
            }
        };
        let running = worker.build()?.start();
        for target in push.report() {
            info!(push = target.name, url = target.url, "Pushing jobs");
        }
        Ok(NodeWorker { running, push })
    }

    /// What it is doing.
    pub(super) fn report(&self) -> WorkerReport {
        let stats = self.running.stats();
        WorkerReport {
            concurrency: stats.concurrency,
            running: stats.running,
            targets: self.push.report(),
        }
    }

    /// Ends it: what is not finished within the grace is given back.
    pub(super) async fn stop(&self, grace: Duration) {
        let stopped = self.running.stop(grace).await;
        let (finished, given_back) = (stopped.finished, stopped.given_back);
        info!(finished, given_back, "The node's own worker has stopped");
    }
}

/// Whether only some priorities are handed out.
fn is_filtered(config: &Config) -> bool {
    let named: BTreeSet<Priority> = config.priorities.iter().copied().collect();
    named.len() < Priority::ALL.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_four_or_more_slots_is_reserved() {
        let reserved = |concurrency, is_filtered| {
            let concurrency = Some(concurrency);
            WorkerOptions { concurrency, ..WorkerOptions::default() }.reserved(is_filtered)
        };
        assert_eq!([1, 3, 4, 7, 8, 64].map(|n| reserved(n, false)), [0, 0, 1, 1, 2, 16]);
        assert_eq!(reserved(64, true), 0);
        let all = WorkerOptions { concurrency: Some(4), reserved: Some(4), ..Default::default() };
        let error = all.validate().unwrap_err().to_string();
        assert!(error.contains("reserved: 4 of 4"), "{error}");
    }
}
