//! A queue that is driven step by step, with a clock that stands still, on a store that says how
//! long its commits took.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pulk::clock::{Clock, ManualClock};
use pulk::handle::{Stepped, Stepper};
use pulk::priority::PerPriority;
use pulk::queue::{Claim, ClaimedJob};
use pulk::store::{Direction, DiskSpace, KeyRange, Scan, Store, Tree, WriteSet};
use pulk::{Config, NewJob, Payload, Queue, Result, Timestamp};

pub(crate) const PAYLOAD_BYTES: usize = 256;
/// Where its clock begins.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// A queue without a thread.
pub(crate) struct Rig {
    pub(crate) queue: Queue,
    pub(crate) clock: ManualClock,
    stepper: Stepper,
    store: Arc<Timed>,
}

/// How long something took: in all, and of that in commits of the store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) all: Duration,
    pub(crate) commit: Duration,
}

impl Took {
    /// What the queue itself took, its reads of the store among it.
    pub(crate) fn queue(self) -> Duration {
        self.all - self.commit
    }
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Took) {
        self.all += other.all;
        self.commit += other.commit;
    }
}

impl Rig {
    pub(crate) fn on(store: impl Store + 'static) -> Rig {
        let store = Arc::new(Timed { store: Box::new(store), spent: Mutex::default() });
        let clock = ManualClock::new(Timestamp::from_ms(START_MS));
        let config = Config { queue_capacity: PerPriority::default(), ..Config::default() };
        let (queue, stepper) =
            Queue::open_stepped(config, store.clone(), Arc::new(clock.clone()), 7).unwrap();
        let mut rig = Rig { queue, clock, stepper, store };
        rig.settle_down();
        rig
    }

    /// One group of what was handed in.
    pub(crate) fn step(&mut self) -> Took {
        let before = self.store.spent().0;
        let started = Instant::now();
        let stepped = self.stepper.step();
        let all = started.elapsed();
        assert_eq!(stepped, Stepped::Done);
        Took { all, commit: self.store.spent().0 - before }
    }

    /// All that is due by the clock.
    pub(crate) fn settle_down(&mut self) -> Took {
        let mut took = Took::default();
        while self.stepper.next_due().is_some_and(|due| due <= self.clock.now()) {
            took += self.step();
        }
        took
    }

    /// Hands in these calls together and takes the steps until all are answered. Only the steps
    /// are timed: not the making of the calls, nor what becomes of the answers.
    pub(crate) fn calls<T, F>(&mut self, calls: Vec<F>) -> (Took, Vec<T>)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.clock.advance_ms(1);
        let mut calls: Vec<Pin<Box<F>>> = calls.into_iter().map(Box::pin).collect();
        let mut answers: Vec<Option<T>> = calls.iter_mut().map(poll).collect();
        let mut took = Took::default();
        while answers.iter().any(Option::is_none) {
            took += self.step();
            for (call, answer) in calls.iter_mut().zip(&mut answers) {
                if answer.is_none() {
                    *answer = poll(call);
                }
            }
        }
        (took, answers.into_iter().flatten().collect())
    }

    /// One call alone.
    pub(crate) fn call<T, F>(&mut self, call: impl FnOnce(Queue) -> F) -> (Took, T)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let call = call(self.queue.clone());
        let (took, mut answers) = self.calls(vec![call]);
        (took, answers.remove(0))
    }

    /// The same call for each of these, all in one group.
    pub(crate) fn each<I, T, F>(
        &mut self,
        items: impl IntoIterator<Item = I>,
        call: impl Fn(Queue, I) -> F,
    ) -> (Took, Vec<T>)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let calls = items.into_iter().map(|item| call(self.queue.clone(), item)).collect();
        self.calls(calls)
    }

    /// Enqueues so many jobs in one batch.
    pub(crate) fn enqueue(&mut self, jobs: usize) -> Took {
        self.call(|queue| async move { queue.enqueue_many(vec![job(); jobs]).await }).0
    }

    /// Enqueues many jobs, in batches of 10,000.
    pub(crate) fn fill(&mut self, jobs: usize, make: impl Fn(usize) -> NewJob) {
        for first in (0..jobs).step_by(10_000) {
            let batch: Vec<NewJob> = (first..jobs.min(first + 10_000)).map(&make).collect();
            self.call(|queue| async move { queue.enqueue_many(batch).await });
        }
    }

    /// Claims so many jobs in one call.
    pub(crate) fn claim(&mut self, limit: usize) -> (Took, Vec<ClaimedJob>) {
        let claim = Claim { limit, ..Claim::default() };
        let (took, claimed) = self.call(|queue| async move { queue.claim(claim).await });
        assert_eq!(claimed.jobs.len(), limit);
        (took, claimed.jobs)
    }

    /// Keys and values that were committed so far, in bytes.
    pub(crate) fn committed_bytes(&self) -> usize {
        self.store.spent().1
    }
}

/// A job as most are.
pub(crate) fn job() -> NewJob {
    NewJob::new("bench").payload(Payload::Binary(vec![b'x'; PAYLOAD_BYTES].into()))
}

/// A number from the environment.
pub(crate) fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// True when the bench is only to show that it runs.
pub(crate) fn is_trial() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Where what lies on the disk goes.
pub(crate) fn directory() -> tempfile::TempDir {
    let root = std::env::var_os("PULK_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    tempfile::tempdir_in(root).unwrap()
}

fn poll<T, F: Future<Output = Result<T>>>(call: &mut Pin<Box<F>>) -> Option<T> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer.unwrap()),
        Poll::Pending => None,
    }
}

/// A store, and how long it took to commit how many bytes.
struct Timed {
    store: Box<dyn Store>,
    spent: Mutex<(Duration, usize)>,
}

impl Timed {
    fn spent(&self) -> (Duration, usize) {
        *self.spent.lock().unwrap()
    }
}

impl Store for Timed {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.store.scan(tree, range, direction)
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        let bytes = writes.bytes();
        let started = Instant::now();
        let committed = self.store.commit(writes);
        let took = started.elapsed();
        let mut spent = self.spent.lock().unwrap();
        *spent = (spent.0 + took, spent.1 + bytes);
        committed
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.store.disk_bytes()
    }

    fn disk_space(&self) -> Result<Option<DiskSpace>> {
        self.store.disk_space()
    }

    fn disk_room_bytes(&self) -> Result<Option<u64>> {
        self.store.disk_room_bytes()
    }

    fn problems(&self) -> Result<Vec<String>> {
        self.store.problems()
    }

    fn mended(&self) -> u64 {
        self.store.mended()
    }

    fn wants_count(&self) -> bool {
        self.store.wants_count()
    }

    fn counted(&self) -> Result<()> {
        self.store.counted()
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}
