//! A server in a process of its own, as the benches load it.
#![allow(dead_code, reason = "not every bench uses all of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

/// A running server; dropping it kills it.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts a server that tells its address on a line with `address=`.
    pub(crate) fn start(command: &mut Command) -> Server {
        Server::start_with_log(command, |_| {})
    }

    /// The same, with a look at each line of its log.
    pub(crate) fn start_with_log(
        command: &mut Command,
        mut log: impl FnMut(&str) + Send + 'static,
    ) -> Server {
        // The backlogs of benches are larger than a node takes by itself.
        command.env("JOBS_QUEUE_CAPACITY_DEFAULT", "0");
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok).inspect(move |line| log(line));
        let line = lines.find(|line| line.contains("address=")).unwrap();
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        let address = address.to_owned();
        std::thread::spawn(move || lines.count());
        Server { process, address }
    }
}

impl Server {
    /// Processor time it has used, in user and kernel mode; the kernel counts in hundredths.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).map(|field| field.parse().unwrap()).collect();
        ticks.iter().sum::<f64>() / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// The real binary on this data directory.
    pub(crate) fn pulk(data_dir: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
        Server::start(command.env("NO_COLOR", "1"))
    }

    /// Memory that it has resident, in MB.
    pub(crate) fn resident_mb(&self) -> f64 {
        self.status_mb("VmRSS")
    }

    /// Memory as the kernel counts it under this name, in MB.
    pub(crate) fn status_mb(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
    }
}

/// A connection to a server.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Connection {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection { sender, host: address.to_owned() }
    }

    /// Posts JSON and waits for the whole answer, which must have this status.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes, status: u16) -> Bytes {
        let request = Request::post(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(body))
            .unwrap();
        self.send(request, status).await
    }

    /// Gets the whole answer, which must have status 200.
    pub(crate) async fn get(&mut self, path: &str) -> Bytes {
        let request = Request::get(path).header("host", &self.host);
        self.send(request.body(Full::default()).unwrap(), 200).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>, status: u16) -> Bytes {
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        response.into_body().collect().await.unwrap().to_bytes()
    }
}
