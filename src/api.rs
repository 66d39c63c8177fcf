//! The HTTP interface, version 1: it reads a request, asks the queue, writes the answer.
//!
//! A handler decides nothing about jobs. [`body`] reads requests, [`error`] is the only place that
//! turns an [`Error`](crate::Error) into a status, [`openapi`] describes it all to programs, and
//! each other file is one group of calls.
#![expect(unused_qualifications, reason = "the parameters that utoipa::path names have it")]

mod batch;
mod body;
mod claim;
mod dead;
mod error;
mod explain;
mod health;
mod job_reply;
mod jobs;
mod limits;
mod list;
mod metrics;
mod openapi;
mod purge;
mod queues;
mod replays;
mod scaling;
mod schedules;
mod settle;
mod timed_body;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use axum::Router;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::handle::Queue;
use crate::metrics::Metrics;
use crate::worker::push::TargetReport;
pub(crate) use error::Problem;
use openapi::alias;
pub(crate) use timed_body::TimedBody;

/// The most bytes of one request's body.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// What every handler shares: the configuration, the clock and, once it is open, the queue.
#[derive(Clone)]
pub struct ApiState(Arc<Node>);

struct Node {
    config: Config,
    clock: Arc<dyn Clock>,
    opened: OnceLock<Opened>,
    worker: OnceLock<WorkerReporter>,
    draining: AtomicBool,
}

struct Opened {
    queue: Queue,
    metrics: Arc<Metrics>,
}

/// What the node's own worker is doing.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// Jobs it may run at once.
    pub concurrency: usize,
    /// Jobs that run.
    pub running: usize,
    /// What it pushes to.
    pub targets: Vec<TargetReport>,
}

/// Tells what the node's own worker is doing; never waits.
pub type WorkerReporter = Box<dyn Fn() -> WorkerReport + Send + Sync>;

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The queue is being opened: a large store takes its time.
    Starting,
    /// Everything works.
    Serving,
    /// The node was asked to stop: it finishes what it has.
    Draining,
}

impl ApiState {
    /// A node whose queue is being opened.
    #[must_use]
    pub fn starting(config: Config, clock: Arc<dyn Clock>) -> Self {
        let (opened, worker) = (OnceLock::new(), OnceLock::new());
        let draining = AtomicBool::new(false);
        ApiState(Arc::new(Node { config, clock, opened, worker, draining }))
    }

    /// The queue is open: from now on calls reach it. Only the first queue counts.
    pub fn opened(&self, queue: Queue) {
        let metrics = queue.metrics();
        self.0.opened.get_or_init(|| Opened { queue, metrics });
    }

    /// The node has a worker of its own. Only the first counts.
    pub fn works(&self, reporter: WorkerReporter) {
        self.0.worker.get_or_init(|| reporter);
    }

    /// What the node's own worker is doing, if it has one.
    fn worker(&self) -> Option<WorkerReport> {
        self.0.worker.get().map(|reporter| reporter())
    }

    /// The node was asked to stop: it is not ready any more. The queue itself says what it still
    /// takes.
    pub fn draining(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    fn phase(&self) -> Phase {
        if self.0.draining.load(Ordering::SeqCst) {
            Phase::Draining
        } else if self.0.opened.get().is_some() {
            Phase::Serving
        } else {
            Phase::Starting
        }
    }

    fn queue(&self) -> Result<&Queue, Problem> {
        self.0.opened.get().map(|opened| &opened.queue).ok_or_else(Problem::starting)
    }

    /// The metrics, once the queue is open: they are the queue's.
    fn metrics(&self) -> Option<&Metrics> {
        self.0.opened.get().map(|opened| &*opened.metrics)
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn config(&self) -> &Config {
        &self.0.config
    }
}

/// Every call, with its description for `/openapi.json`.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(list::list, jobs::enqueue))
        .routes(routes!(jobs::enqueue_many))
        .routes(routes!(jobs::show, jobs::cancel))
        .routes(routes!(claim::claim))
        .routes(routes!(settle::ack))
        .routes(routes!(settle::fail))
        .routes(routes!(settle::extend))
        .routes(routes!(settle::release))
        .routes(routes!(settle::settle))
        .routes(routes!(queues::list))
        .routes(routes!(queues::show, purge::remove))
        .routes(routes!(purge::purge))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(limits::set))
        .routes(routes!(dead::list))
        .routes(routes!(dead::show, dead::edit, dead::delete))
        .routes(routes!(dead::replay))
        .routes(routes!(dead::purge))
        .routes(routes!(replays::replay_many))
        .routes(routes!(replays::list))
        .routes(routes!(replays::show, replays::cancel))
        .routes(routes!(scaling::show))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::put, schedules::show, schedules::remove))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(health::whole))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::started))
        .routes(alias("/livez", routes!(health::live)))
        .routes(alias("/readyz", routes!(health::ready)))
        .routes(routes!(metrics::show))
        .routes(alias("/metrics", routes!(metrics::show)))
        .routes(routes!(openapi::show))
}

/// All routes.
pub fn router(state: ApiState) -> Router {
    // Made once: the descriptions cost more than many requests, and tests have many nodes.
    static ROUTES: LazyLock<Router<ApiState>> = LazyLock::new(|| routes().split_for_parts().0);
    layered(ROUTES.clone(), state)
}

/// Some routes with all that lies round every route: what unknown calls get, panics caught, each
/// request measured.
pub fn layered(routes: Router<ApiState>, state: ApiState) -> Router {
    routes
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn_with_state(state.clone(), metrics::measure))
        .with_state(state)
}

#[cfg(test)]
mod tests;
