//! A node from start to stop: the only file that knows every part. Its connections are in the
//! modules below it.
//!
//! Start: check the configuration, bind the address, answer probes, open the queue, serve, begin to
//! push. Stop, at SIGTERM or SIGINT: not ready, long polls answered, own jobs finished or given
//! back; no new connections, idle ones closed, requests finished, all within the grace time; store
//! closed. A second signal ends the process
//! at once.
//!
//! # Failure handling
//! When the engine fails, what it holds in memory is worthless: [`serve`] returns the error, so
//! that the process ends and finds out by reopening what is on the disk.

mod accept;
mod connection;
mod connections;
mod limits;
mod requests;
mod socket;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{self, timeout_at};
use tracing::{error, info, warn};

use crate::api::{self, ApiState};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Queue;
use crate::worker::push::Push;

pub use accept::serve_router;
pub use limits::ConnectionLimits;
use worker::NodeWorker;
pub use worker::WorkerOptions;

/// How long requests may take to learn that the engine has failed.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// What of the grace time is left to requests when own jobs take all the rest: a tenth, at most
/// this.
const FINISHING_MAX: Duration = Duration::from_secs(1);
/// The exit code after a second signal.
const EXIT_INTERRUPTED: i32 = 1;

/// What a node needs to run.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The queue.
    pub config: Config,
    /// The address to listen on, as `host:port`.
    pub listen: String,
    /// How long requests may finish after a signal to stop, in milliseconds.
    pub shutdown_grace_ms: u64,
    /// How many connections, and how long to wait for each.
    pub connections: ConnectionLimits,
    /// The node's own worker.
    pub worker: WorkerOptions,
}

/// The threads that serve requests: one for each processor.
///
/// # Errors
/// [`Conflict`](ErrorKind::Conflict) when the system gives the process no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|reason| {
        Error::new(ErrorKind::Conflict, format!("the process gets no threads: {reason}"))
    })
}

/// Runs a node until a signal stops it or its store fails.
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration) and [`Conflict`](ErrorKind::Conflict) (the address
/// is taken) before anything is touched; then what opening the queue said, or what stopped it.
pub async fn serve(options: ServeOptions) -> Result<()> {
    options.config.validate()?;
    options.connections.validate()?;
    options.worker.validate()?;
    let clock = Arc::new(SystemClock);
    let push = Push::new(options.worker.push.clone(), clock.clone())?;
    let limits = options.connections.fitted(accept::REFUSALS_MAX);
    let listener = bind(&options.listen).await?;
    let mut signals = Signals::listen()?;
    let api = ApiState::starting(options.config.clone(), clock);
    let http = HttpServer::start(listener, api.clone(), limits)?;
    let (queue, found) = tokio::select! {
        opened = open(&options.config) => opened?,
        () = signals.next() => {
            info!("Stopped before the queue was open");
            return Ok(());
        }
    };
    api.opened(queue.clone());
    let worker = work(&options, &queue, push, &api)?;
    found.log(&options.config, http.address);
    tokio::select! {
        () = signals.next() => {}
        failure = queue.failed() => {
            error!(%failure, "The engine has failed; the process ends");
            http.finish(time::Instant::now() + FAILURE_GRACE).await;
            return Err(failure);
        }
    }
    tokio::spawn(signals.exit_at_next());
    let grace = Duration::from_millis(options.shutdown_grace_ms);
    stop(&api, &queue, worker.as_deref(), http, grace).await
}

/// Starts the node's own worker, if there is something for it to do.
fn work(
    options: &ServeOptions,
    queue: &Queue,
    push: Push,
    api: &ApiState,
) -> Result<Option<Arc<NodeWorker>>> {
    if options.worker.push.targets.is_empty() || !options.config.scheduler_enabled {
        return Ok(None);
    }
    let worker = Arc::new(NodeWorker::start(&options.worker, &options.config, queue, push)?);
    let told = worker.clone();
    api.works(Box::new(move || told.report()));
    Ok(Some(worker))
}

async fn bind(listen: &str) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|reason| match reason.kind() {
        io::ErrorKind::InvalidInput => Error::new(
            ErrorKind::Configuration,
            format!("--listen: {listen:?} is not an address; write it like 127.0.0.1:8080"),
        ),
        io::ErrorKind::AddrInUse => Error::new(
            ErrorKind::Conflict,
            format!("{listen} is taken by another program; stop it or give another --listen"),
        ),
        _ => Error::new(
            ErrorKind::Conflict,
            format!("can't listen on {listen}: {reason}; give another --listen"),
        ),
    })
}

/// What there was to say about opening the queue.
struct Found {
    jobs_waiting: u64,
    opening_ms: u64,
}

impl Found {
    /// Says that the node serves. Called when it does: who reads this may send calls at once.
    fn log(&self, config: &Config, address: SocketAddr) {
        info!(
            %address,
            data_dir = %config.data_dir.display(),
            store = config.store.as_str(),
            version = env!("CARGO_PKG_VERSION"),
            jobs_waiting = self.jobs_waiting,
            opening_ms = self.opening_ms,
            "Serving"
        );
    }
}

/// Opens the queue on a task of its own, so that probes are answered meanwhile.
#[expect(clippy::disallowed_methods, reason = "measures a duration, decides nothing by it")]
async fn open(config: &Config) -> Result<(Queue, Found)> {
    let began = Instant::now();
    let queue = tokio::spawn(Queue::open(config.clone())).await.map_err(|reason| {
        Error::new(ErrorKind::Storage, format!("opening the queue met a defect: {reason}"))
    })??;
    let opening_ms = began.elapsed().as_millis() as u64;
    let snapshot = queue.snapshot().await?;
    let counts = snapshot.queues.iter().flat_map(|queue| queue.counts.iter());
    let jobs_waiting = counts.map(|(_, one)| one.ready + one.scheduled + one.retrying).sum();
    Ok((queue, Found { jobs_waiting, opening_ms }))
}

/// Not ready, waiting claims answered, own jobs finished, requests finished, store closed: in this
/// order. Connections are taken while own jobs are finished, so that others can still ack theirs.
async fn stop(
    api: &ApiState,
    queue: &Queue,
    worker: Option<&NodeWorker>,
    http: HttpServer,
    grace: Duration,
) -> Result<()> {
    // Said when it is so: whoever reads the line finds the node not ready.
    api.draining();
    info!(grace_ms = grace.as_millis() as u64, "Draining");
    let deadline = time::Instant::now() + grace;
    let own_jobs = async {
        if let Some(worker) = worker {
            worker.stop(grace - (grace / 10).min(FINISHING_MAX)).await;
        }
    };
    let drain = async {
        match timeout_at(deadline, queue.drain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "Waiting claims could not be answered"),
            Err(_) => warn!("Waiting claims were not answered within the grace time"),
        }
    };
    // The worker is told first: of a drain alone it would think that the queue ends at once.
    tokio::join!(biased; own_jobs, drain);
    if http.finish(deadline).await {
        info!("All requests are finished");
    } else {
        warn!("Requests were cut off at the end of the grace time");
    }
    queue.close().await?;
    info!("Stopped");
    Ok(())
}

/// The task that accepts connections.
struct HttpServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl HttpServer {
    fn start(listener: TcpListener, api: ApiState, limits: ConnectionLimits) -> Result<Self> {
        let address = listener.local_addr().map_err(|reason| {
            Error::new(ErrorKind::Conflict, format!("the listening socket has failed: {reason}"))
        })?;
        let (stop, stopped) = oneshot::channel();
        let served = serve_router(listener, api::router(api), limits, async {
            // A dropped sender means that the node ends without stopping: nobody waits then.
            let _ = stopped.await;
        });
        Ok(HttpServer { address, stop, task: tokio::spawn(served) })
    }

    /// Takes no more connections and waits for the requests under way; true when all were done
    /// before the deadline.
    async fn finish(self, deadline: time::Instant) -> bool {
        // The receiver is gone only when the server already is.
        let _ = self.stop.send(());
        timeout_at(deadline, self.task).await.is_ok()
    }
}

/// The signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind: SignalKind| {
            signal(kind).map_err(|reason| {
                Error::new(ErrorKind::Conflict, format!("signals can't be received: {reason}"))
            })
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn exit_at_next(mut self) {
        self.next().await;
        warn!("Stopped at once by a second signal");
        std::process::exit(EXIT_INTERRUPTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_named() {
        let taken = bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind(&address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().starts_with(&format!("{address} is taken")), "{error}");
        let error = bind("nonsense").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }

    #[tokio::test]
    async fn probes_are_answered_while_the_queue_is_opened() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let api = ApiState::starting(Config::default(), Arc::new(SystemClock));
        let http = HttpServer::start(listener, api, ConnectionLimits::default()).unwrap();
        let status = async |path: &str| {
            reqwest::get(format!("http://{}{path}", http.address)).await.unwrap().status().as_u16()
        };
        assert_eq!(status("/livez").await, 200);
        assert_eq!(status("/readyz").await, 503);
        assert!(http.finish(time::Instant::now() + Duration::from_secs(5)).await);
    }
}
