//! What runs jobs: a trait, and the typed functions that most programs give instead.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::worker::{Job, Outcome};

/// A job being run. Dropped when the attempt has taken too long, or when it was told to end and
/// did not: it must be safe to drop wherever it waits.
pub type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Waiting until a handler takes jobs again.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs jobs. One is shared by all jobs of its kinds, and runs many at once.
pub trait Handler: Send + Sync + 'static {
    /// Begins to run a job; returns at once, the work is done in the future. A panic, here or
    /// while it runs, is a failure of the job.
    fn run(&self, job: Job) -> Running;

    /// How many more jobs it takes right now. Asked before each claim, so that what can't be run
    /// is not claimed; [`run`](Self::run) is called for what was claimed before it is asked again.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// Ends when [`room`](Self::room) may have grown since it was 0.
    fn wait_for_room(&self) -> Waiting<'_> {
        Box::pin(std::future::ready(()))
    }
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn run(&self, job: Job) -> Running {
        (**self).run(job)
    }

    fn room(&self) -> usize {
        (**self).room()
    }

    fn wait_for_room(&self) -> Waiting<'_> {
        (**self).wait_for_room()
    }
}

/// A function that takes a job whose payload is a `T`.
pub(crate) struct Typed<F, T> {
    function: Arc<F>,
    payload: PhantomData<fn() -> T>,
}

impl<F, T> Typed<F, T> {
    pub(crate) fn new(function: F) -> Self {
        Typed { function: Arc::new(function), payload: PhantomData }
    }
}

impl<F, T, Fut> Handler for Typed<F, T>
where
    F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
    T: DeserializeOwned + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
{
    fn run(&self, job: Job) -> Running {
        let function = self.function.clone();
        Box::pin(async move {
            let running = match job.read() {
                Ok(job) => function(job),
                Err(outcome) => return outcome,
            };
            running.await.into()
        })
    }
}
