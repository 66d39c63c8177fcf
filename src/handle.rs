//! The async handle that everybody holds: the same verbs for a program that embeds the queue and
//! for the HTTP server.

mod dead_letters;
mod operators;
mod schedules;
mod stepped;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::engine::{Call, ClaimCall, Engine, Link, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{Enqueued, Found, JobId, JobView, NewJob};
use crate::lease::LeaseToken;
use crate::metrics::Metrics;
use crate::queue::enqueue::validate_batch;
use crate::queue::extend::{validate_extend, validate_release};
use crate::queue::state::{Context, QueueState};
use crate::queue::{
    Ack, Cancelled, Claim, Claimed, Extended, Failed, Failure, QueueView, Released, Settle,
    SettleOutcome, Snapshot,
};
use crate::store::{self, Store};

pub use stepped::{Stepped, Stepper};

/// Bytes of commands that may be under way at once; further callers wait their turn.
const COMMANDS_BYTES_MAX: usize = 64 << 20;
/// What a command weighs beside the jobs it carries.
const COMMAND_BYTES: usize = 1 << 10;

/// A queue that is open. Clones are cheap and share it.
///
/// Every answer that says "done" is on the disk before it is given. All methods may be called
/// from any task; what is cancelled half way either happened wholly or not at all.
///
/// # Errors
/// Beside those each method names: [`Draining`](ErrorKind::Draining) once [`drain`](Self::drain)
/// or [`close`](Self::close) was called, and [`Poisoned`](ErrorKind::Poisoned) when the store
/// failed; then the process must end and open the queue again.
#[derive(Clone)]
pub struct Queue {
    messages: mpsc::Sender<Message>,
    budget: Arc<Semaphore>,
    link: Arc<Link>,
    draining: Arc<AtomicBool>,
    opened: Opened,
    clock: Arc<dyn Clock>,
}

/// What was found at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Jobs that were waiting to be claimed.
    pub ready_jobs: u64,
    /// When.
    pub at: Timestamp,
}

impl Queue {
    /// Opens (or creates) the queue described by `config`.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), [`Locked`](ErrorKind::Locked) when another
    /// process holds the data directory, [`Storage`](ErrorKind::Storage) when it can't be used.
    pub async fn open(config: Config) -> Result<Queue> {
        config.validate()?;
        let (kind, data_dir) = (config.store, config.data_dir.clone());
        let reserve_bytes = config.disk_reserve_bytes;
        let store = blocking(move || store::open(kind, &data_dir, reserve_bytes)).await?;
        Self::open_with(config, store, Arc::new(SystemClock)).await
    }

    /// Opens a queue on a given store and clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Queue> {
        config.validate()?;
        #[expect(clippy::disallowed_methods, reason = "where chance enters the queue")]
        let random: StdRng = rand::make_rng();
        let (queue, engine) =
            blocking(move || Self::assemble(config, store, clock, random)).await?;
        std::thread::Builder::new()
            .name("pulk-writer".to_owned())
            .spawn(move || engine.run())
            .map_err(|reason| {
                Error::new(ErrorKind::Storage, format!("no thread for the writer: {reason}"))
            })?;
        Ok(queue)
    }

    /// The handle and the engine, which does nothing yet.
    fn assemble(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        mut random: StdRng,
    ) -> Result<(Queue, Engine)> {
        let metrics = Arc::new(Metrics::new(config.store.as_str(), config.max_queues as usize)?);
        let now = clock.now();
        let mut state = QueueState::open(store.clone(), config, now, &mut random)?;
        state.tells_details = crate::metrics::wants_details();
        let opened = Opened { ready_jobs: state.ready_jobs(), at: now };
        let (messages, inbox) = mpsc::channel();
        let link = Arc::new(Link { failure: watch::Sender::new(None), metrics });
        let engine = Engine::new(state, store, clock.clone(), random, inbox, link.clone());
        let budget = Arc::new(Semaphore::new(COMMANDS_BYTES_MAX));
        let draining = Arc::default();
        Ok((Queue { messages, budget, link, draining, opened, clock }, engine))
    }

    /// What was found at opening.
    #[must_use]
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// The clock that the queue goes by.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    // ---- producers ----

    /// Puts a job in its queue.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) or [`TooLarge`](ErrorKind::TooLarge), naming the field;
    /// [`Conflict`](ErrorKind::Conflict) when another job, which it names, holds its unique key;
    /// [`Full`](ErrorKind::Full), [`TooManyQueues`](ErrorKind::TooManyQueues) or
    /// [`DiskFull`](ErrorKind::DiskFull) when there is no room for it.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        job.validate()?;
        self.refuse_while_draining()?;
        let weight = job.weight_bytes();
        let mut job = Some(job);
        self.call(weight, move |state, context| {
            state.enqueue_one(job.take().unwrap_or_default(), context).map(Some)
        })
        .await
    }

    /// Puts jobs in their queues, all or none; the answers are in their order.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), the field named as `jobs[3].kind`.
    pub async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        validate_batch(&jobs)?;
        self.refuse_while_draining()?;
        let weight = jobs.iter().map(NewJob::weight_bytes).sum();
        let mut jobs = Some(jobs);
        self.call(weight, move |state, context| {
            state.enqueue(jobs.take().unwrap_or_default(), context).map(Some)
        })
        .await
    }

    // ---- workers ----

    /// Hands out jobs, waiting up to [`wait_ms`](Claim::wait_ms) for the first. What rides along
    /// in [`settle`](Claim::settle) is applied first, in the same commit.
    ///
    /// Dropping the future gives back what it would have got; what rode along may be applied.
    /// While draining, what rides along is still applied, and no job is handed out.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field; [`Full`](ErrorKind::Full) when 10,000
    /// claims wait already.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed> {
        claim.validate()?;
        if claim.settle.is_empty() {
            self.refuse_while_draining()?;
        }
        let permit = self.permit(claim.settle.weight_bytes()).await?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Claim(Box::new(ClaimCall::new(claim, reply, permit))))?;
        let mut pending = PendingClaim { answer, queue: self };
        match (&mut pending.answer).await {
            Ok(claimed) => claimed,
            Err(_) => Err(self.stopped()),
        }
    }

    /// The job is done: it is removed, and never runs again.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) when the token holds no lease (any more).
    pub async fn ack(&self, token: LeaseToken) -> Result<()> {
        self.call(0, move |state, context| state.ack(token, context).map(Some)).await
    }

    /// The job is done, and this came of it: the text of one JSON value, at most 16 KiB. It is
    /// kept for [`result_ttl_ms`](Config::result_ttl_ms) and found by [`find`](Self::find).
    ///
    /// # Errors
    /// As [`ack`](Self::ack); [`TooLarge`](ErrorKind::TooLarge) or [`Invalid`](ErrorKind::Invalid),
    /// naming `result`.
    pub async fn ack_with_result(&self, token: LeaseToken, result: Bytes) -> Result<()> {
        let ack = Ack { token, result: Some(result) };
        ack.validate()?;
        let weight = ack.result.as_ref().map_or(0, Bytes::len);
        self.call(weight, move |state, context| state.ack(ack.clone(), context).map(Some)).await
    }

    /// The job failed: it is tried again later, or it is a dead letter.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) as for [`ack`](Self::ack);
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub async fn fail(&self, failure: Failure) -> Result<Failed> {
        failure.validate()?;
        self.call(failure.error.len(), move |state, context| {
            state.fail(&failure, context).map(Some)
        })
        .await
    }

    /// Acks and fails together, with one outcome each: first the acks, then the fails.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) or [`TooLarge`](ErrorKind::TooLarge), naming the field; a
    /// lost lease is an outcome of its own.
    pub async fn settle(&self, settle: Settle) -> Result<Vec<SettleOutcome>> {
        settle.validate()?;
        let weight = settle.weight_bytes();
        let mut outcomes = Vec::new();
        self.call(weight, move |state, context| {
            let all = state.settle(&settle, &mut outcomes, context)?;
            Ok(all.then(|| std::mem::take(&mut outcomes)))
        })
        .await
    }

    /// Lets a lease end `lease_ms` from now (30 s when `None`), and keeps the progress (0 to 100).
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost); [`Invalid`](ErrorKind::Invalid), naming the field.
    pub async fn extend(
        &self,
        token: LeaseToken,
        lease_ms: Option<u64>,
        progress: Option<u8>,
    ) -> Result<Extended> {
        validate_extend(lease_ms, progress)?;
        self.call(0, move |state, context| {
            state.extend(token, lease_ms, progress, context).map(Some)
        })
        .await
    }

    /// Gives a job back, to run again at once or after `delay_ms`. Costs it nothing.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost); [`Invalid`](ErrorKind::Invalid), naming the field.
    pub async fn release(&self, token: LeaseToken, delay_ms: Option<u64>) -> Result<Released> {
        validate_release(delay_ms)?;
        self.call(0, move |state, context| state.release(token, delay_ms, context).map(Some)).await
    }

    // ---- readers and operators ----

    /// A job, wherever it is in its life.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when it is done, or never was.
    pub async fn job(&self, id: JobId) -> Result<JobView> {
        self.call(0, move |state, _| state.job(id).map(Some)).await
    }

    /// A job, or the result of one that is done, while it is kept.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when it is done and no result is kept, or never was.
    pub async fn find(&self, id: JobId) -> Result<Found> {
        self.call(0, move |state, context| state.find(id, context).map(Some)).await
    }

    /// Cancels a job. One that waits or is dead is gone; one that runs is gone when its lease
    /// ends, and its holder learns it at its next extend, or by
    /// [`Cancelled`](ErrorKind::Cancelled) at its ack, fail or release.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when it is done, or never was.
    pub async fn cancel(&self, id: JobId) -> Result<Cancelled> {
        self.call(0, move |state, _| state.cancel(id).map(Some)).await
    }

    /// All queues with their counts, by name.
    ///
    /// # Errors
    /// None of its own.
    pub async fn queues(&self) -> Result<Vec<QueueView>> {
        self.call(0, |state, context| state.queues(context.now).map(Some)).await
    }

    /// One queue with its counts.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when no job was ever put in a queue of this name.
    pub async fn queue(&self, name: &str) -> Result<QueueView> {
        let name = name.to_owned();
        self.call(0, move |state, context| state.queue(&name, context.now).map(Some)).await
    }

    /// Stops handing out the jobs of a queue. Everything else goes on, and it survives restarts.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) as for [`queue`](Self::queue).
    pub async fn pause(&self, name: &str) -> Result<QueueView> {
        self.set_paused(name, true).await
    }

    /// Hands out the jobs of a queue again.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, name: &str) -> Result<QueueView> {
        self.set_paused(name, false).await
    }

    async fn set_paused(&self, name: &str, paused: bool) -> Result<QueueView> {
        let name = name.to_owned();
        self.call(0, move |state, context| {
            state.set_paused(&name, paused)?;
            state.queue(&name, context.now).map(Some)
        })
        .await
    }

    /// What metrics and health show of the whole.
    ///
    /// # Errors
    /// None of its own.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        self.call(0, |state, context| state.snapshot(context).map(Some)).await
    }

    /// The counters and histograms of this queue.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        self.link.metrics.clone()
    }

    /// Whether the engine works. Never waits.
    ///
    /// # Errors
    /// The error that stopped it.
    pub fn health(&self) -> Result<()> {
        match &*self.link.failure.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Returns when the engine has stopped by itself, with the error that stopped it.
    pub async fn failed(&self) -> Error {
        let mut failure = self.link.failure.subscribe();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(error)) => error,
            // The sender lives in `self.link`.
            _ => self.stopped(),
        }
    }

    // ---- the end ----

    /// Applies all that is due by the clock: lease ends and timers. The engine does so by itself
    /// when the time comes; after moving a manual clock, call this.
    ///
    /// # Errors
    /// None of its own.
    pub async fn tick(&self) -> Result<()> {
        self.call(0, |state, context| Ok((!state.tick(context)?).then_some(()))).await
    }

    /// Answers waiting claims with no jobs, and refuses new jobs and claims from now on. Acks,
    /// fails, extends, releases and questions still work, until [`close`](Self::close).
    ///
    /// # Errors
    /// None of its own.
    pub async fn drain(&self) -> Result<()> {
        self.draining.store(true, Ordering::SeqCst);
        let (reply, answer) = oneshot::channel();
        self.send(Message::Drain(reply))?;
        answer.await.map_err(|_| self.stopped())
    }

    /// Finishes what was handed in, and closes the store so that it can be opened again.
    ///
    /// # Errors
    /// [`Poisoned`](ErrorKind::Poisoned) when the store failed; what was acknowledged is safe.
    pub async fn close(&self) -> Result<()> {
        self.draining.store(true, Ordering::SeqCst);
        let (reply, answer) = oneshot::channel();
        self.send(Message::Close(reply))?;
        answer.await.map_err(|_| self.stopped())?
    }

    // ---- the way to the engine ----

    /// Sends a command and waits for its answer. `run` gives `None` to be applied again.
    async fn call<T: Send + 'static>(
        &self,
        weight_bytes: usize,
        run: impl FnMut(&mut QueueState, &mut Context<'_>) -> Result<Option<T>> + Send + 'static,
    ) -> Result<T> {
        let permit = self.permit(weight_bytes).await?;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Work(Box::new(Call::new(run, weight_bytes, reply, permit))))?;
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    async fn permit(&self, weight_bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let weight = (COMMAND_BYTES + weight_bytes).min(COMMANDS_BYTES_MAX);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.budget.clone().acquire_many_owned(weight).await.map_err(|_| self.stopped())
    }

    fn send(&self, message: Message) -> Result<()> {
        self.messages.send(message).map_err(|_| self.stopped())
    }

    fn refuse_while_draining(&self) -> Result<()> {
        if self.draining.load(Ordering::SeqCst) { Err(draining()) } else { Ok(()) }
    }

    /// Why there is no engine to answer.
    fn stopped(&self) -> Error {
        self.health().err().unwrap_or_else(draining)
    }
}

fn draining() -> Error {
    Error::new(ErrorKind::Draining, "the queue is shutting down; try again after its restart")
}

/// A claim under way. Dropped before its answer was taken, it gives the jobs in it back.
struct PendingClaim<'a> {
    answer: oneshot::Receiver<Result<Claimed>>,
    queue: &'a Queue,
}

impl Drop for PendingClaim<'_> {
    fn drop(&mut self) {
        // Closed first: what the engine sends later stays with the engine, which gives it back.
        self.answer.close();
        if let Ok(Ok(unheard)) = self.answer.try_recv() {
            for job in unheard.jobs {
                let give_back =
                    Message::Work(Box::new(crate::engine::GiveBack { token: job.token }));
                drop(self.queue.messages.send(give_back));
            }
        }
    }
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(reason) => {
            Err(Error::new(ErrorKind::Storage, format!("opening the queue was cut off: {reason}")))
        }
    }
}
