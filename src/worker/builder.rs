//! Puts a worker together and starts it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::num::NonZero;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::handle::Queue;
use crate::job::NewJob;
use crate::lease::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN};
use crate::priority::Priority;
use crate::queue::{CLAIM_NAMES_MAX, CLAIM_WAIT_MS_MAX, Claim, WORKER_BYTES_MAX};
use crate::worker::dispatcher::Dispatcher;
use crate::worker::handler::{Handler, Typed};
use crate::worker::job::Job;
use crate::worker::kinds::Kinds;
use crate::worker::leases::{Keeper, Leases};
use crate::worker::outcome::Outcome;
use crate::worker::running::{Gauges, RunningWorker};
use crate::worker::slots::{Slots, is_urgent};
use crate::worker::time::Time;

/// Most jobs one worker may run at once.
pub const CONCURRENCY_MAX: usize = 10_000;

/// Runs jobs of a queue with the handlers it was given. See the [module](crate::worker).
pub struct Worker {
    queue: Queue,
    kinds: Kinds,
    slots: Slots,
    /// What all its claims have in common.
    claim: Claim,
}

/// A worker being put together. Nothing is checked before [`build`](Self::build).
#[must_use]
pub struct WorkerBuilder {
    queue: Queue,
    by_kind: Vec<(String, Arc<dyn Handler>)>,
    fallbacks: Vec<Arc<dyn Handler>>,
    queues: Vec<String>,
    priorities: Vec<Priority>,
    concurrency: usize,
    reserved: Option<usize>,
    name: Option<String>,
    lease_ms: u64,
}

impl Worker {
    /// Begins to put a worker together.
    pub fn builder(queue: Queue) -> WorkerBuilder {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        WorkerBuilder {
            queue,
            by_kind: Vec::new(),
            fallbacks: Vec::new(),
            queues: Vec::new(),
            priorities: Vec::new(),
            concurrency: (2 * cores).min(CONCURRENCY_MAX),
            reserved: None,
            name: None,
            lease_ms: LEASE_MS_DEFAULT,
        }
    }

    /// Starts it, in tasks of their own.
    ///
    /// # Panics
    /// Outside a tokio runtime with its time enabled.
    pub fn start(self) -> RunningWorker {
        let Worker { queue, kinds, slots, claim } = self;
        let time = Time::new(queue.clock());
        let name = claim.worker.clone().unwrap_or_default();
        let gauges = Arc::new(Gauges::new(name, slots));
        let (leases, abandon) = (Leases::default(), CancellationToken::new());
        let (ticks, ticked) = mpsc::channel(1);
        let stop = watch::Sender::new(None);
        let (end, ended) = watch::channel(None);
        let keeper = Keeper {
            leases: leases.clone(),
            queue: queue.clone(),
            time: time.clone(),
            lease_ms: claim.lease_ms,
            ticks: ticked,
            abandon: abandon.clone(),
        };
        let dispatcher = Dispatcher::new(
            queue,
            (kinds, slots, claim),
            (leases, abandon, gauges.clone()),
            time.clone(),
            stop.subscribe(),
        );
        tokio::spawn(async move {
            let keeper = tokio::spawn(keeper.run());
            let came_to = dispatcher.run().await;
            keeper.abort();
            end.send_replace(Some(came_to));
        });
        RunningWorker { gauges, time, stop, ended, ticks }
    }

    /// Runs it until the queue drains, is closed or fails. Dropped, it stops without a grace.
    ///
    /// # Errors
    /// [`Poisoned`](ErrorKind::Poisoned) when the queue failed.
    pub async fn run(self) -> Result<()> {
        self.start().ended().await
    }
}

impl WorkerBuilder {
    /// Runs the jobs of a kind with a function. It takes a [`Job`] whose payload is read as a `T`,
    /// and returns an [`Outcome`], nothing (done), or a `Result` of either, whose error is a
    /// failure. A payload that is no `T` rejects the job.
    pub fn handle<T, Fut>(
        self,
        kind: impl Into<String>,
        function: impl Fn(Job<T>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        Fut: Future<Output: Into<Outcome>> + Send + 'static,
    {
        self.handler(kind, Typed::new(function))
    }

    /// Runs the jobs of a kind with a handler.
    pub fn handler(mut self, kind: impl Into<String>, handler: impl Handler) -> Self {
        self.by_kind.push((kind.into(), Arc::new(handler)));
        self
    }

    /// Runs the jobs of every kind that has no handler of its own. Without it, only the kinds that
    /// have one are claimed. While a handler of one kind has no [room](Handler::room), it gets
    /// nothing: a claim names the kinds it wants, and can't leave one out.
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.fallbacks.push(Arc::new(handler));
        self
    }

    /// Only the jobs of these queues; all when none is named.
    pub fn queues<I: IntoIterator<Item: Into<String>>>(mut self, queues: I) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Only jobs of these priorities; all when none is named.
    pub fn priorities(mut self, priorities: impl IntoIterator<Item = Priority>) -> Self {
        self.priorities = priorities.into_iter().collect();
        self
    }

    /// How many jobs it runs at once, 1 to [`CONCURRENCY_MAX`]; twice the cores by default.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many of these slots only critical and high jobs take; less than all. By default a
    /// quarter of four or more, and none when priorities are named.
    pub fn reserved(mut self, reserved: usize) -> Self {
        self.reserved = Some(reserved);
        self
    }

    /// Its name in leases, 1 to 64 bytes; the name of the host by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long a lease lasts, in milliseconds; 30 s by default. It is extended every third of
    /// that while the handler lives.
    pub fn lease_ms(mut self, lease_ms: u64) -> Self {
        self.lease_ms = lease_ms;
        self
    }

    /// Checks all of it.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration): no handler, two for one kind, a kind or queue
    /// that can't be one, a number out of its range, a name that is too long.
    pub fn build(mut self) -> Result<Worker> {
        let kinds = self.take_kinds()?;
        let slots = self.slots()?;
        check_range("lease_ms", self.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)?;
        for queue in &self.queues {
            let job = NewJob { queue: queue.clone(), ..NewJob::new("any") };
            job.validate().map_err(|reason| refused(format!("a worker's {reason}")))?;
        }
        if self.queues.len() > CLAIM_NAMES_MAX {
            let number = self.queues.len();
            return Err(refused(format!(
                "{number} queues are too many for one worker; at most {CLAIM_NAMES_MAX}, or none \
                 to take them all"
            )));
        }
        let name = self.name.unwrap_or_else(host_name);
        if name.is_empty() || name.len() > WORKER_BYTES_MAX {
            return Err(refused(format!(
                "the worker's name {name:?} has {} bytes; use 1 to {WORKER_BYTES_MAX}",
                name.len()
            )));
        }
        let claim = Claim {
            queues: self.queues,
            priorities: self.priorities,
            wait_ms: CLAIM_WAIT_MS_MAX,
            lease_ms: self.lease_ms,
            worker: Some(name),
            in_process: true,
            ..Claim::default()
        };
        Ok(Worker { queue: self.queue, kinds, slots, claim })
    }

    fn take_kinds(&mut self) -> Result<Kinds> {
        let mut by_kind = BTreeMap::new();
        for (kind, handler) in self.by_kind.drain(..) {
            let job = NewJob::new(kind.clone());
            job.validate().map_err(|reason| refused(format!("a handler's {reason}")))?;
            if by_kind.insert(kind.clone(), handler).is_some() {
                return Err(refused(format!("kind {kind} has two handlers; give it one")));
            }
        }
        if self.fallbacks.len() > 1 {
            return Err(refused("a worker has two fallback handlers; give it one".to_owned()));
        }
        let fallback = self.fallbacks.pop();
        if by_kind.is_empty() && fallback.is_none() {
            return Err(refused("a worker without a handler runs nothing; give it one".to_owned()));
        }
        if by_kind.len() > CLAIM_NAMES_MAX {
            let number = by_kind.len();
            return Err(refused(format!(
                "{number} kinds are too many for one worker; at most {CLAIM_NAMES_MAX}, or one \
                 fallback for all"
            )));
        }
        Ok(Kinds { by_kind, fallback })
    }

    fn slots(&self) -> Result<Slots> {
        let concurrency = self.concurrency;
        check_range("concurrency", concurrency, 1, CONCURRENCY_MAX)?;
        let by_default = match self.priorities.is_empty() {
            true => Slots::reserved_by_default(concurrency),
            false => 0,
        };
        let reserved = self.reserved.unwrap_or(by_default);
        if reserved >= concurrency {
            return Err(refused(format!(
                "reserved: {reserved} of {concurrency} slots leave none for other jobs; use 0 to \
                 {}, or name the priorities",
                concurrency - 1
            )));
        }
        let takes_urgent =
            self.priorities.is_empty() || self.priorities.iter().any(|p| is_urgent(*p));
        if reserved > 0 && !takes_urgent {
            return Err(refused(format!(
                "reserved: {reserved} slots for critical and high jobs would stay empty, since \
                 the worker takes neither; use 0"
            )));
        }
        Ok(Slots { concurrency, reserved })
    }
}

fn refused(sentence: String) -> Error {
    Error::new(ErrorKind::Configuration, sentence)
}

fn check_range<T: PartialOrd + Display>(name: &str, value: T, least: T, most: T) -> Result<()> {
    if value < least || value > most {
        return Err(refused(format!("{name}: {value} is out of range; use {least} to {most}")));
    }
    Ok(())
}

/// The name of this host, as far as it fits; the name of a pod in Kubernetes.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().filter(char::is_ascii).take(WORKER_BYTES_MAX).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
