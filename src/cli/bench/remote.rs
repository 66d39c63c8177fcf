//! A running node, over connections that are kept: one a client, so that the client costs little.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::client::{Address, Failure, Refusal, Reply};
use super::super::failed;
use crate::error::{Error, Result};

/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: a purge of a large backlog takes long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A node that can be connected to.
#[derive(Clone)]
pub(super) struct Remote {
    /// As a person would write it, without the user's secret.
    pub(super) name: String,
    /// As the `Host` header has it.
    host: String,
    /// Where to connect to.
    address: String,
    /// In front of every path.
    prefix: String,
    authorization: Option<String>,
}

/// A connection to a node.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    remote: Remote,
}

impl Remote {
    /// # Errors
    /// None for an address that was read as one.
    pub(super) fn new(address: &Address) -> Result<Remote> {
        let base: Uri = address.base().parse().map_err(|reason| {
            failed(format!("{} is no address of a node: {reason}", address.shown()))
        })?;
        let host = base.authority().map(ToString::to_string).unwrap_or_default();
        let port = base.port_u16().unwrap_or(80);
        let address_of_host = format!("{}:{port}", base.host().unwrap_or_default());
        Ok(Remote {
            name: address.shown(),
            host,
            address: address_of_host,
            prefix: base.path().trim_end_matches('/').to_owned(),
            authorization: address.authorization(),
        })
    }

    /// # Errors
    /// When nobody is there.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await {
            Ok(connected) => connected.map_err(|reason| self.unreachable(&reason.to_string()))?,
            Err(_) => return Err(self.unreachable("it takes too long")),
        };
        // Small requests are sent at once then; a socket that refuses works all the same.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|reason| self.unreachable(&reason.to_string()))?;
        // Its error comes out of the call that it cuts off.
        tokio::spawn(connection);
        Ok(Connection { sender, remote: self.clone() })
    }

    /// One call over a connection of its own: one that is kept may be closed as idle.
    ///
    /// # Errors
    /// As [`Connection::call`], and when nobody is there.
    pub(super) async fn call(&self, method: Method, path: &str) -> Result<Bytes> {
        self.connect().await?.call(method, path, Bytes::new()).await
    }

    fn unreachable(&self, reason: &str) -> Error {
        failed(format!("{} can't be reached: {reason}; is a node running there?", self.name))
    }
}

impl Connection {
    /// Sends JSON, and waits for the whole answer.
    ///
    /// # Errors
    /// When the node refuses it, with the node's own sentence, or does not answer.
    pub(super) async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        let Remote { name, host, prefix, authorization, .. } = &self.remote;
        let lost = |reason: &str| failed(format!("{name} did not answer to the end: {reason}"));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header("host", host)
            .header("content-type", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::new(body)).map_err(|reason| lost(&reason.to_string()))?;
        let sender = &mut self.sender;
        let answered = async {
            // It may still be busy with the end of the call before.
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            hyper::Result::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let answered = timeout(ANSWER_TIMEOUT, answered).await;
        let (status, body) = answered
            .map_err(|_| lost("it takes too long"))?
            .map_err(|reason| lost(&reason.to_string()))?;
        match status {
            200..=299 => Ok(body),
            _ => {
                let reply = Reply { status, retry_after_s: None, body: body.to_vec() };
                Err(refused(Refusal::read(name, &reply)))
            }
        }
    }
}

/// What the node said, and what to do where that is not the same for a bench.
fn refused(mut refusal: Refusal) -> Error {
    if refusal.code == "queue_full" {
        refusal.sentence += "; take fewer --jobs or a smaller --backlog, or start the node with \
                             JOBS_QUEUE_CAPACITY_DEFAULT=0 and JOBS_QUEUE_CAPACITY_CRITICAL=0";
    }
    Failure::Refused(refusal).into()
}
