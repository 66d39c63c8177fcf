//! pulk over HTTP/1.1 with keep-alive: `pulk serve` without a limit of a queue's jobs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::peer::{Client, PAYLOAD_BYTES, Peer, Place, QUEUE, version_of};
use crate::process::Server;

pub(crate) struct Pulk;

fn program() -> PathBuf {
    std::env::var_os("PULK").map_or_else(|| "../../target/release/pulk".into(), PathBuf::from)
}

#[async_trait]
impl Peer for Pulk {
    fn name(&self) -> &'static str {
        "pulk"
    }

    fn version(&self) -> Result<String> {
        version_of(program(), &["--version"])
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", &place.address(), "--data-dir"]);
        command.arg(place.dir.join("data")).env("JOBS_QUEUE_CAPACITY_DEFAULT", "0");
        Server::start(command, &place.dir)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        // The first job makes the queue; here the node only has to be ready.
        HttpClient::open(place).await?.get("/readyz").await.map(|_| ())
    }

    async fn connect(&self, place: &Place, _: usize) -> Result<Box<dyn Client>> {
        Ok(Box::new(HttpClient::open(place).await?))
    }
}

#[derive(Deserialize, Serialize)]
struct Ack<'a> {
    id: &'a str,
    token: &'a str,
}

#[derive(Deserialize)]
struct Claimed<'a> {
    #[serde(borrow)]
    jobs: Vec<Job<'a>>,
    #[serde(default, borrow)]
    outcomes: Vec<Outcome<'a>>,
}

#[derive(Deserialize)]
struct Job<'a> {
    #[serde(borrow)]
    id: &'a str,
    #[serde(borrow)]
    lease: Lease<'a>,
}

#[derive(Deserialize)]
struct Lease<'a> {
    token: &'a str,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    outcome: &'a str,
}

#[derive(Deserialize)]
struct State {
    counts: Counts,
}

#[derive(Deserialize)]
struct Counts {
    ready: u64,
}

/// One connection; also to the server with the empty handler.
pub(crate) struct HttpClient {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    job: Bytes,
    batch: (usize, Bytes),
    /// Ids and tokens of what it took.
    taken: Vec<(String, String)>,
}

impl HttpClient {
    pub(crate) async fn open(place: &Place) -> Result<HttpClient> {
        let stream = TcpStream::connect(place.address()).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        // With its quotes the payload has 256 bytes.
        let payload = "x".repeat(PAYLOAD_BYTES - 2);
        let job = format!(r#"{{"queue":"{QUEUE}","kind":"bench","payload":"{payload}"}}"#);
        let (host, batch) = (place.address(), (0, Bytes::new()));
        Ok(HttpClient { sender, host, job: job.into(), batch, taken: Vec::new() })
    }

    async fn post(&mut self, path: &str, body: Bytes, status: u16) -> Result<Bytes> {
        let request = Request::post(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        self.send(request, status).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let request = Request::get(path).header("host", &self.host).body(Full::default())?;
        self.send(request, 200).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>, status: u16) -> Result<Bytes> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let got = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(got == status, "status {got}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    fn acks(&self) -> Result<String> {
        let acks = self.taken.iter().map(|(id, token)| Ack { id, token });
        Ok(serde_json::to_string(&acks.collect::<Vec<_>>())?)
    }

    fn acked(&mut self, outcomes: &[Outcome<'_>]) -> Result<()> {
        let acked = outcomes.iter().filter(|outcome| outcome.outcome == "acked").count();
        ensure!(acked == self.taken.len(), "{acked} of {} were acked", self.taken.len());
        self.taken.clear();
        Ok(())
    }
}

#[async_trait]
impl Client for HttpClient {
    async fn enqueue(&mut self) -> Result<()> {
        self.post("/v1/jobs", self.job.clone(), 201).await.map(|_| ())
    }

    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
        if self.batch.0 != jobs {
            let job = std::str::from_utf8(&self.job)?;
            let body = format!(r#"{{"jobs":[{}]}}"#, vec![job; jobs].join(","));
            self.batch = (jobs, body.into());
        }
        self.post("/v1/jobs/batch", self.batch.1.clone(), 201).await.map(|_| ())
    }

    async fn take(&mut self, jobs: usize) -> Result<usize> {
        let acks = self.acks()?;
        let body = format!(r#"{{"queues":["{QUEUE}"],"limit":{jobs},"acks":{acks}}}"#);
        let reply = self.post("/v1/claim", body.into(), 200).await?;
        let claimed: Claimed<'_> = serde_json::from_slice(&reply)?;
        self.acked(&claimed.outcomes)?;
        let taken = claimed.jobs.iter().map(|job| (job.id.into(), job.lease.token.into()));
        self.taken.extend(taken);
        Ok(self.taken.len())
    }

    async fn finish(&mut self) -> Result<()> {
        if self.taken.is_empty() {
            return Ok(());
        }
        #[derive(Deserialize)]
        struct Settled<'a> {
            #[serde(borrow)]
            outcomes: Vec<Outcome<'a>>,
        }
        let body = format!(r#"{{"acks":{}}}"#, self.acks()?);
        let reply = self.post("/v1/settle", body.into(), 200).await?;
        let settled: Settled<'_> = serde_json::from_slice(&reply).context("settle")?;
        self.acked(&settled.outcomes)
    }

    async fn waiting(&mut self) -> Result<u64> {
        let reply = self.get(&format!("/v1/queues/{QUEUE}")).await?;
        Ok(serde_json::from_slice::<State>(&reply)?.counts.ready)
    }
}
