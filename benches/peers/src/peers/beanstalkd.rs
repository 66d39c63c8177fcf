//! beanstalkd with its log synced at every write, over its own text protocol.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::peer::{Client, PAYLOAD_BYTES, Peer, Place, version_of};
use crate::process::Server;

pub(crate) struct Beanstalkd;

#[async_trait]
impl Peer for Beanstalkd {
    fn name(&self) -> &'static str {
        "beanstalkd"
    }

    fn version(&self) -> Result<String> {
        version_of("beanstalkd", &["-v"])
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        let mut command = Command::new("beanstalkd");
        command.args(["-l", "127.0.0.1", "-p", &place.port.to_string(), "-f", "0", "-b"]);
        command.arg(&place.dir);
        Server::start(command, &place.dir)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        // The tube `default` is there by itself.
        self.connect(place, 0).await?.waiting().await.map(|_| ())
    }

    async fn connect(&self, place: &Place, _: usize) -> Result<Box<dyn Client>> {
        let stream = TcpStream::connect(place.address()).await?;
        stream.set_nodelay(true)?;
        let put = format!("put 0 0 600 {PAYLOAD_BYTES}\r\n{}\r\n", "x".repeat(PAYLOAD_BYTES));
        let (line, taken) = (String::new(), Vec::new());
        Ok(Box::new(BeanstalkdClient { stream: BufReader::new(stream), put, line, taken }))
    }
}

struct BeanstalkdClient {
    stream: BufReader<TcpStream>,
    put: String,
    line: String,
    taken: Vec<u64>,
}

impl BeanstalkdClient {
    async fn line(&mut self) -> Result<&str> {
        self.line.clear();
        let length = self.stream.read_line(&mut self.line).await?;
        ensure!(length > 0, "beanstalkd closed the connection");
        Ok(self.line.trim_end())
    }

    async fn deleted(&mut self) -> Result<()> {
        for _ in 0..std::mem::take(&mut self.taken).len() {
            let line = self.line().await?;
            ensure!(line == "DELETED", "delete: {line}");
        }
        Ok(())
    }

    fn deletes(&self) -> String {
        self.taken.iter().map(|id| format!("delete {id}\r\n")).collect()
    }
}

#[async_trait]
impl Client for BeanstalkdClient {
    async fn enqueue(&mut self) -> Result<()> {
        self.enqueue_batch(1).await
    }

    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
        let request = self.put.repeat(jobs);
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        for _ in 0..jobs {
            let line = self.line().await?;
            ensure!(line.starts_with("INSERTED "), "put: {line}");
        }
        Ok(())
    }

    async fn take(&mut self, jobs: usize) -> Result<usize> {
        let request = self.deletes() + &"reserve-with-timeout 0\r\n".repeat(jobs);
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        self.deleted().await?;
        let mut body = [0; PAYLOAD_BYTES + 2];
        for _ in 0..jobs {
            let line = self.line().await?;
            if line == "TIMED_OUT" {
                continue;
            }
            let Some(rest) = line.strip_prefix("RESERVED ") else { bail!("reserve: {line}") };
            let id = rest.split(' ').next().unwrap_or_default().parse()?;
            self.stream.read_exact(&mut body).await?;
            self.taken.push(id);
        }
        Ok(self.taken.len())
    }

    async fn finish(&mut self) -> Result<()> {
        let request = self.deletes();
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        self.deleted().await
    }

    async fn waiting(&mut self) -> Result<u64> {
        self.stream.get_mut().write_all(b"stats-tube default\r\n").await?;
        let line = self.line().await?;
        let length = line.strip_prefix("OK ").context("stats-tube")?.parse::<usize>()? + 2;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let text = String::from_utf8(body)?;
        let ready = text.lines().find_map(|line| line.strip_prefix("current-jobs-ready: "));
        Ok(ready.context("no count of ready jobs")?.trim().parse()?)
    }
}
