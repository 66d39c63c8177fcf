//! The requests of one connection: each goes to the router, its body timed, its answer watched.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower_service::Service;
use tracing::debug;

use super::connection::Connection;
use super::connections::Place;
use super::socket::Socket;
use crate::api::{Problem, TimedBody};

/// The most bytes of a request's head. hyper answers a longer one with 431, and one of more than
/// 100 fields too.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How much is read and written ahead, in bytes. A buffer may grow to twice of it.
const BUFFER_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// How long a client may take to hear that there is no place for it.
const REFUSAL: Duration = Duration::from_secs(1);

/// The place of this connection was given to another.
#[derive(Debug, thiserror::Error)]
#[error("the connection was idle, and another took its place")]
struct Evicted;

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    // Our own timers know an idle connection from a slow head.
    http.header_read_timeout(None);
    http.max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX);
    http
}

/// Serves a connection to its end.
pub(super) async fn serve_requests(place: Place, stream: TcpStream, router: Router) {
    let connection = &place.0;
    let read_timeout_ms = connection.connections.limits.read_timeout_ms;
    let service = service_fn(|request: Request<Incoming>| {
        let begun = connection.begins();
        let (connection, mut router) = (connection.clone(), router.clone());
        async move {
            if !begun {
                return Err(Evicted);
            }
            let body = |body| Body::new(TimedBody::new(body, read_timeout_ms));
            match router.call(request.map(body)).await {
                Ok(response) => Ok(response.map(|body| Answer { body, connection })),
                Err(never) => match never {},
            }
        }
    });
    let socket = TokioIo::new(Socket::new(stream, Some(connection.clone())));
    let mut served = pin!(http().serve_connection(socket, service));
    let mut timer =
        pin!(sleep_until(Instant::now() + connection.connections.limits.idle_timeout()));
    let mut is_finishing = false;
    poll_fn(|context| {
        loop {
            if connection.is_evicted(context.waker()) {
                return Poll::Ready(());
            }
            if let Poll::Ready(ended) = served.as_mut().poll(context) {
                if let Err(reason) = ended {
                    debug!(%reason, "A connection broke off");
                }
                return Poll::Ready(());
            }
            if is_finishing || !connection.is_finishing() {
                return overdue(connection, timer.as_mut(), context);
            }
            is_finishing = true;
            served.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Ready when the connection has taken too long for what it is doing. The timer is set anew only
/// when it ran out or is too late, not at every request.
fn overdue(
    connection: &Connection,
    mut timer: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<()> {
    while let Some(due) = connection.due() {
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if due <= timer.deadline() {
            debug!("A connection was ended: it took too long");
            return Poll::Ready(());
        }
        timer.as_mut().reset(due);
    }
    Poll::Pending
}

/// The body of an answer. It is dropped when all of it is in the hands of the one who writes it.
struct Answer {
    body: Body,
    connection: Arc<Connection>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.answered();
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers the first request of a connection for which there is no place, and closes it.
pub(super) async fn refuse(stream: TcpStream) {
    let answer = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Problem::too_many_connections().into_response())
    });
    let socket = TokioIo::new(Socket::new(stream, None));
    let refused = http().keep_alive(false).serve_connection(socket, answer);
    // Who does not ask, or does not take the answer, goes without.
    let _ = timeout(REFUSAL, refused).await;
}
