//! The one loop that takes connections, and ends when the node stops.
//!
//! # Failure handling
//! A connection that can't be taken costs itself at most. When the process or the system has no
//! files left, an idle connection is closed for the new one, and the loop goes on when one has
//! left, or after a pause: it neither spins nor ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::connections::Connections;
use super::limits::ConnectionLimits;
use super::requests;

/// How many connections may be told at once that there is no place for them. Above it they are
/// closed without a word.
pub(super) const REFUSALS_MAX: usize = 64;
/// How many connections the kernel keeps until they are taken, if it allows so many
/// (net.core.somaxconn). One above it is lost, and its client tries again a second later.
const BACKLOG: i32 = 4096;
/// How long to wait after a connection could not be taken, if none leaves before.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the log tells of the same trouble.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Serves a router on every connection to the listener until `stop` is done, and all requests
/// under way then are answered.
///
/// Idle connections are closed at once when it is; those with a request after its answer.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
) {
    if let Err(reason) = rustix::net::listen(&listener, BACKLOG) {
        warn!(%reason, "A burst of new connections may have to wait: the backlog stays short");
    }
    let connections = Connections::new(limits);
    let mut door = Door { connections, router, refusals: JoinSet::new(), log: Log::default() };
    tokio::select! {
        () = door.take(&listener) => {}
        () = stop => {}
    }
    drop(listener);
    door.connections.finish().await;
}

struct Door {
    connections: Arc<Connections>,
    router: Router,
    refusals: JoinSet<()>,
    log: Log,
}

impl Door {
    /// Takes connections for ever.
    async fn take(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.taken(stream).await,
                Err(reason) if is_of_one_connection(&reason) => {}
                Err(reason) => self.failed(&reason).await,
            }
        }
    }

    async fn taken(&mut self, stream: TcpStream) {
        match self.connections.place().await {
            Some(place) => {
                let served = requests::serve_requests(place, stream, self.router.clone());
                tokio::spawn(served);
            }
            None => self.refused(stream),
        }
    }

    fn refused(&mut self, stream: TcpStream) {
        let most = self.connections.limits.max_connections;
        self.log.tell(|times| {
            warn!(
                times,
                "All {most} connections have a request under way: new ones were refused; raise \
                 PULK_MAX_CONNECTIONS, or let clients reuse theirs"
            );
        });
        while self.refusals.try_join_next().is_some() {}
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.spawn(requests::refuse(stream));
        }
    }

    async fn failed(&mut self, reason: &io::Error) {
        self.log.tell(|times| {
            warn!(
                %reason,
                times,
                "New connections can't be taken; raise the limit of open files (ulimit -n), or \
                 lower PULK_MAX_CONNECTIONS"
            );
        });
        let connections = self.connections.clone();
        let left = connections.one_left();
        self.connections.evict();
        let _ = timeout(PAUSE, left).await;
    }
}

/// True for what is wrong with the one connection that was to be taken.
fn is_of_one_connection(reason: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(reason.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Tells of trouble that comes in numbers only now and then, with how often it came.
#[derive(Default)]
struct Log {
    told: Option<Instant>,
    times: u64,
}

impl Log {
    fn tell(&mut self, line: impl FnOnce(u64)) {
        self.times += 1;
        if self.told.is_none_or(|told| told.elapsed() >= LOG_PERIOD) {
            line(self.times);
            *self = Log { told: Some(Instant::now()), times: 0 };
        }
    }
}
