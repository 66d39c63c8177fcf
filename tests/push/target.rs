//! A push target in the test's own process: a real server whose every answer the test decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;

use crate::node::within;

type Reply = Response<Full<Bytes>>;

/// A server that is there until it is dropped, with its connections.
pub struct Target {
    pub address: SocketAddr,
    arrived: mpsc::UnboundedReceiver<Delivery>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// A request that waits for its answer. Dropped, its connection breaks.
pub struct Delivery {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    reply: oneshot::Sender<Reply>,
}

/// A port that is taken and refuses connections.
pub struct Refusing {
    socket: TcpSocket,
    pub address: SocketAddr,
}

impl Refusing {
    pub fn new() -> Refusing {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Refusing { socket, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}/jobs", self.address)
    }

    /// From now on there is somebody.
    pub fn listen(self) -> Target {
        Target::on(self.socket.listen(1_024).unwrap(), None)
    }
}

impl Target {
    pub fn start() -> Target {
        Refusing::new().listen()
    }

    pub fn start_tls(tls: TlsAcceptor) -> Target {
        Target::on(Refusing::new().socket.listen(1_024).unwrap(), Some(tls))
    }

    fn on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Target {
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (sender, tls) = (sender.clone(), tls.clone());
                open.spawn(async move {
                    match tls {
                        None => serve(stream, sender).await,
                        // A client that does not trust us goes away.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, sender).await;
                            }
                        }
                    }
                });
            }
        });
        Target { address, arrived, connections, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/jobs?a=b", self.address)
    }

    /// The next request.
    pub async fn next(&mut self) -> Delivery {
        within("a push", self.arrived.recv()).await.unwrap()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    sender: mpsc::UnboundedSender<Delivery>,
) {
    let answer = service_fn(|request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            let (reply, answer) = oneshot::channel();
            let path = head.uri.to_string();
            let delivery =
                Delivery { method: head.method, path, headers: head.headers, body, reply };
            // A test that has seen enough does not look any more.
            drop(sender.send(delivery));
            answer.await.map_err(std::io::Error::other)
        }
    });
    // It breaks when the test wants it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

impl Delivery {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap()
    }

    pub fn id(&self) -> &str {
        self.header("ce-id")
    }

    pub fn answer(self, status: u16) {
        self.answer_with(status, &[], "");
    }

    pub fn answer_with(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut reply = Response::builder().status(status);
        for (name, value) in headers {
            reply = reply.header(*name, *value);
        }
        let reply = reply.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.reply.send(reply).unwrap();
    }

    /// Returns when the node has ended the connection.
    pub async fn given_up(mut self) {
        within("the end of the connection", self.reply.closed()).await;
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {:?}", self.method, self.path, self.headers)
    }
}
