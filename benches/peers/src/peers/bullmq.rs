//! BullMQ on the same Redis; its clients are Node's, in one process that does a whole workload.

use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::load::{Load, Measured};
use crate::peer::{Claimer, Client, Peer, Place, version_of};
use crate::peers::redis;
use crate::process::Server;

pub(crate) struct BullMq;

/// Where `client.mjs` and its modules are.
fn directory() -> PathBuf {
    std::env::var_os("PEERS_NODE").map_or_else(|| "node".into(), PathBuf::from)
}

fn node(place: &Place, work: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(directory().join("client.mjs")).arg(place.port.to_string()).arg(work);
    command.kill_on_drop(true).stdout(Stdio::piped());
    command
}

#[async_trait]
impl Peer for BullMq {
    fn name(&self) -> &'static str {
        "bullmq"
    }

    fn version(&self) -> Result<String> {
        let path = directory().join("node_modules/bullmq/package.json");
        let text =
            std::fs::read(&path).context("BullMQ is not installed; benches/peers/run does")?;
        let package: serde_json::Value = serde_json::from_slice(&text)?;
        let version = package.get("version").and_then(|version| version.as_str());
        let node = StdCommand::new("node").arg("--version").output()?;
        let node = String::from_utf8_lossy(&node.stdout).trim().to_owned();
        let redis = version_of("redis-server", &["--version"])?;
        Ok(format!("{} (Node {node}, Redis {redis})", version.context("no version")?))
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        redis::launch(&place.dir, place.port)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        let mut connection = redis::connection(place).await?;
        let answer: String = ::redis::cmd("PING").query_async(&mut connection).await?;
        ensure!(answer == "PONG", "PING: {answer}");
        Ok(())
    }

    async fn connect(&self, _: &Place, _: usize) -> Result<Box<dyn Client>> {
        bail!("its clients are Node's");
    }

    async fn run(&self, place: &Place, load: &Load) -> Result<Measured> {
        let mut process = node(place, &serde_json::to_string(load)?);
        let output = process.stderr(Stdio::piped()).spawn()?.wait_with_output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "client.mjs: {told}");
        serde_json::from_slice(&output.stdout).context("client.mjs tells no result")
    }

    async fn waiting(&self, place: &Place) -> Result<u64> {
        let mut connection = redis::connection(place).await?;
        Ok(::redis::cmd("LLEN").arg("bull:bench:wait").query_async(&mut connection).await?)
    }

    fn claimer(&self, place: &Place) -> Result<Option<Box<dyn Claimer>>> {
        let mut process =
            node(place, "claim").stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let asks = process.stdin.take().context("no stdin")?;
        let answers = BufReader::new(process.stdout.take().context("no stdout")?).lines();
        Ok(Some(Box::new(NodeClaimer { _process: process, asks, answers })))
    }
}

/// A client that has been started before, and claims when it is told to.
struct NodeClaimer {
    _process: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

#[async_trait]
impl Claimer for NodeClaimer {
    async fn claims(&mut self) -> Result<bool> {
        self.asks.write_all(b"claim\n").await?;
        let limit = Duration::from_secs(10);
        let answer = tokio::time::timeout(limit, self.answers.next_line()).await??;
        Ok(answer.as_deref() == Some("1"))
    }
}
