//! A queue whose clock stands still until it is moved, and handlers that tell what they do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pulk::clock::ManualClock;
use pulk::store::memory::MemoryStore;
use pulk::worker::{Handler, Job, Outcome, Running, RunningWorker, Worker, WorkerBuilder};
use pulk::{Config, JobId, JobView, NewJob, Payload, Queue, Timestamp};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Long enough for anything; only a test that hangs comes to it.
const PATIENCE: Duration = Duration::from_secs(120);
/// A grace that never ends, since the clock stands still.
pub const LONG: Duration = Duration::from_secs(3_600);

pub struct Rig {
    pub queue: Queue,
    pub store: MemoryStore,
    pub clock: ManualClock,
}

pub fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_ms(1_800_000_000_000))
}

impl Rig {
    pub async fn new() -> Rig {
        Rig::on(&MemoryStore::new(), &clock()).await
    }

    pub async fn on(store: &MemoryStore, clock: &ManualClock) -> Rig {
        let (store, clock) = (store.clone(), clock.clone());
        let behind = (Arc::new(store.clone()), Arc::new(clock.clone()));
        let queue = Queue::open_with(Config::default(), behind.0, behind.1).await.unwrap();
        Rig { queue, store, clock }
    }

    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(self.queue.clone()).name("w")
    }

    /// Moves the clock, and lets the worker and then the queue do what is due.
    pub async fn advance(&self, worker: &RunningWorker, ms: u64) {
        self.clock.advance_ms(ms);
        within(worker.tick()).await;
        self.queue.tick().await.unwrap();
    }

    pub async fn enqueue(&self, job: NewJob) -> JobId {
        self.queue.enqueue(job).await.unwrap().id
    }

    pub async fn job(&self, id: JobId) -> JobView {
        self.queue.job(id).await.unwrap()
    }

    /// Lets a worker of one slot run a job, and another one after it: what became of the first is
    /// on the disk when the second is started.
    pub async fn run(&self, builder: WorkerBuilder, job: NewJob) -> JobId {
        let (started, mut starts) = unbounded_channel();
        let builder = builder.handler("last", Last(started));
        let worker = builder.concurrency(1).build().unwrap().start();
        let id = self.enqueue(job).await;
        self.enqueue(NewJob::new("last")).await;
        within(starts.recv()).await.unwrap();
        within(worker.stop(LONG)).await;
        id
    }
}

/// Tells that a job was started, and is done with it, whatever it carries.
struct Last(UnboundedSender<()>);

impl Handler for Last {
    fn run(&self, _: Job) -> Running {
        self.0.send(()).unwrap();
        Box::pin(std::future::ready(Outcome::Done))
    }
}

/// What handlers tell of themselves.
pub struct Signals {
    sender: UnboundedSender<&'static str>,
    receiver: UnboundedReceiver<&'static str>,
}

/// Says `dropped` when it goes.
pub struct Guard(UnboundedSender<&'static str>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

impl Signals {
    pub fn new() -> Signals {
        let (sender, receiver) = unbounded_channel();
        Signals { sender, receiver }
    }

    pub fn sender(&self) -> UnboundedSender<&'static str> {
        self.sender.clone()
    }

    pub fn guard(sender: &UnboundedSender<&'static str>) -> Guard {
        Guard(sender.clone())
    }

    pub async fn expect(&mut self, what: &str) {
        assert_eq!(within(self.receiver.recv()).await.unwrap(), what);
    }

    /// Nothing more was said so far.
    pub fn expect_silence(&mut self) {
        assert!(self.receiver.try_recv().is_err());
    }
}

pub fn with_payload(kind: &str, payload: serde_json::Value) -> NewJob {
    NewJob::new(kind).payload(Payload::json(&payload).unwrap())
}

/// What this comes to. A test that hangs fails here.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}
