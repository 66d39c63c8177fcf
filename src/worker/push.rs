//! Runs jobs by sending them to an HTTP endpoint: a POST of the payload for each.
//!
//! # Overview
//! The first target whose filter takes a job gets it. `push/request.rs` says what is sent,
//! `push/answer.rs` what an answer means, `push/breaker.rs` when a target is left alone.
//!
//! # What costs an attempt
//! Only what a target that was reached did not do, and the one request by which it is found out
//! that nobody is there. While a breaker is open nothing is claimed ([`Handler::room`]); when it is
//! half open and the probe finds nobody, its job goes back as it was. So a target that is away for
//! an hour costs a job one attempt at most.

mod answer;
mod breaker;
mod client;
mod exchange;
mod request;
mod scope;
mod signature;
mod statuses;
mod target;
mod url;

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::worker::{Handler, Job, Outcome, Running, Waiting};

pub use breaker::{BreakerLimits, BreakerState};
pub use scope::Scope;
pub use signature::Secret;
pub use statuses::{AnswerRules, Statuses};
pub use target::{TARGET_NAME_BYTES_MAX, TargetConfig, TargetReport};
pub use url::TargetUrl;

use exchange::Exchange;
use target::{Presence, Target, rounded_ms};

/// How long a job waits that no target takes.
const NO_TARGET_MS: u64 = 60_000;

/// Where to push to, and how answers are taken.
#[derive(Clone, Debug, Default)]
pub struct PushConfig {
    /// The first that takes a job gets it.
    pub targets: Vec<TargetConfig>,
    /// What answers mean.
    pub answers: AnswerRules,
    /// When a target is left alone.
    pub breaker: BreakerLimits,
}

/// A handler that pushes. Clones share it.
#[derive(Clone)]
pub struct Push(Arc<Shared>);

struct Shared {
    targets: Vec<Arc<Target>>,
    answers: AnswerRules,
    clock: Arc<dyn Clock>,
    metrics: OnceLock<Arc<Metrics>>,
    changed: Arc<Notify>,
}

impl PushConfig {
    /// Checks the targets' names and the rules.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming what is wrong.
    pub fn validate(&self) -> Result<()> {
        self.answers.validate()?;
        for (number, target) in self.targets.iter().enumerate() {
            target.validate()?;
            let before = self.targets.iter().take(number);
            if before.into_iter().any(|other| other.name == target.name) {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!(
                        "two push targets are called {:?}; give each its own name",
                        target.name
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Push {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the target: as
    /// [`PushConfig::validate`] says, and when there are no certificates to trust for https.
    pub fn new(config: PushConfig, clock: Arc<dyn Clock>) -> Result<Push> {
        config.validate()?;
        let changed = Arc::new(Notify::new());
        let target = |target| Target::new(target, config.breaker, changed.clone()).map(Arc::new);
        let targets = config.targets.into_iter().map(target).collect::<Result<_>>()?;
        let (answers, metrics) = (config.answers, OnceLock::new());
        Ok(Push(Arc::new(Shared { targets, answers, clock, metrics, changed })))
    }

    /// Counts every request from now on in these metrics.
    pub fn counted_by(&self, metrics: Arc<Metrics>) {
        self.0.metrics.get_or_init(|| metrics);
    }

    /// What the targets are doing.
    #[must_use]
    pub fn report(&self) -> Vec<TargetReport> {
        self.0.targets.iter().map(|target| target.report()).collect()
    }
}

impl Handler for Push {
    fn run(&self, job: Job) -> Running {
        let Some(target) = self.0.targets.iter().find(|target| target.config.takes(&job)) else {
            return Box::pin(std::future::ready(Outcome::Snooze { delay_ms: NO_TARGET_MS }));
        };
        let (shared, target) = (self.0.clone(), target.clone());
        let presence = Presence::enter(&target);
        // Asked for here, and not when the future is first polled: `room` must know of it.
        let begin = move |place| (place, Exchange::begin(&shared, &target, job.deadline));
        let begun = presence.free_place().map(|place| begin(Some(place)));
        Box::pin(async move {
            let (_place, exchange) = match begun {
                Some(begun) => begun,
                None => begin(presence.place().await),
            };
            match exchange {
                Ok(exchange) => exchange.run(job).await,
                Err(delay) => Outcome::Snooze { delay_ms: rounded_ms(delay) },
            }
        })
    }

    fn room(&self) -> usize {
        let rooms = self.0.targets.iter().map(|target| target.room());
        rooms.fold(0, usize::saturating_add)
    }

    fn wait_for_room(&self) -> Waiting<'_> {
        Box::pin(async {
            loop {
                let mut changed = pin!(self.0.changed.notified());
                // From here on no change is missed.
                changed.as_mut().enable();
                if self.room() > 0 {
                    return;
                }
                match self.0.targets.iter().filter_map(|target| target.probe_at()).min() {
                    Some(at) => drop(timeout_at(at, changed).await),
                    None => changed.await,
                }
            }
        })
    }
}
