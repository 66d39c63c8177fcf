//! One request to a target and its answer, over connections that are kept.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::answer::Answer;
use super::url::TargetUrl;
use crate::error::{Error, ErrorKind, Result};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept without a request: less than the 5 s after which common servers
/// close theirs, so that hardly a request meets a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Without a sign of life for so long, the other end is asked; after three of them it is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What is read of an answer's body; of a longer one the connection is not used again.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The connections to one target.
pub(super) enum Client {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Tls(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// There was no connection: nothing of the request was sent.
    Unreachable(String),
    /// It broke before the answer was there whole.
    Broken(String),
}

impl Client {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) when there are no certificates to trust, which
    /// https needs.
    pub(super) fn new(url: &TargetUrl) -> Result<Client> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_keepalive_interval(Some(KEEP_ALIVE));
        tcp.set_keepalive_retries(Some(3));
        if !url.is_https() {
            return Ok(Client::Plain(pool(tcp)));
        }
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|reason| {
            Error::new(
                ErrorKind::Configuration,
                format!(
                    "{url} can't be pushed to: there are no certificates to trust ({reason}); \
                     install ca-certificates, or name a file in SSL_CERT_FILE"
                ),
            )
        })?;
        Ok(Client::Tls(pool(tls.https_only().enable_http1().wrap_connector(tcp))))
    }

    /// Sends a POST and reads the answer. Dropping the future ends the connection.
    pub(super) async fn post(
        &self,
        url: &TargetUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.uri().clone();
        *request.headers_mut() = headers;
        let answer = match self {
            Client::Plain(pool) => pool.request(request),
            Client::Tls(pool) => pool.request(request),
        };
        let answer = answer.await.map_err(|reason| match reason.is_connect() {
            true => NoAnswer::Unreachable(root(&reason)),
            false => NoAnswer::Broken(root(&reason)),
        })?;
        let (head, body) = answer.into_parts();
        let body = read(body).await.map_err(|reason| NoAnswer::Broken(root(&reason)))?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

fn pool<C: Connect + Clone>(connector: C) -> Pool<C, Full<Bytes>> {
    Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

/// The body, if it is no longer than what is read.
async fn read(mut body: Incoming) -> hyper::Result<Option<Bytes>> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
}

/// What lies at the bottom of an error: "Connection refused", not "client error".
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
