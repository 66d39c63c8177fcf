//! What a queue brings along to be measured, and what its clients do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use tokio::time::timeout;

use crate::load::{Load, Measured, drive};
use crate::process::Server;

/// Payloads are of so many bytes.
pub(crate) const PAYLOAD_BYTES: usize = 256;
/// The one queue of every workload.
pub(crate) const QUEUE: &str = "bench";
/// One try to reach a server that may still be starting.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// Where a server keeps its data, and the ports that are free for it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) second_port: u16,
    pub(crate) third_port: u16,
}

impl Place {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A queue that is measured: how its server is run, and how its clients speak to it.
#[async_trait]
pub(crate) trait Peer: Send + Sync {
    fn name(&self) -> &'static str;

    /// The installed version; an error says what is missing.
    fn version(&self) -> Result<String>;

    /// The workloads that it has at all.
    fn has_only_enqueues(&self) -> bool {
        false
    }

    /// What is needed once in a fresh directory, before the first launch.
    fn prepare(&self, _place: &Place) -> Result<()> {
        Ok(())
    }

    /// Starts the server; it need not be ready when this is done.
    fn launch(&self, place: &Place) -> Result<Server>;

    /// Makes the queue; fails while the server is not ready.
    async fn create_queue(&self, place: &Place) -> Result<()>;

    /// A client with a connection of its own; `number` tells it from others.
    async fn connect(&self, place: &Place, number: usize) -> Result<Box<dyn Client>>;

    /// Runs one workload.
    async fn run(&self, place: &Place, load: &Load) -> Result<Measured> {
        let mut clients = Vec::with_capacity(load.clients);
        for number in 0..load.clients {
            clients.push(self.connect(place, number).await?);
        }
        drive(clients, load).await
    }

    /// How many jobs wait to be taken.
    async fn waiting(&self, place: &Place) -> Result<u64> {
        self.connect(place, 0).await?.waiting().await
    }

    /// What asks for the first job after a restart, made before the server is killed; `None` for a
    /// new connection at every try.
    fn claimer(&self, _place: &Place) -> Result<Option<Box<dyn Claimer>>> {
        Ok(None)
    }
}

/// A client; each does one thing after the other.
#[async_trait]
pub(crate) trait Client: Send {
    /// Enqueues one job and waits until the server says that it is kept.
    async fn enqueue(&mut self) -> Result<()>;

    /// Enqueues so many at once and waits for the same of all.
    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()>;

    /// Finishes what it took before and takes up to so many; tells how many it got.
    async fn take(&mut self, jobs: usize) -> Result<usize>;

    /// Finishes what it took last.
    async fn finish(&mut self) -> Result<()>;

    /// How many jobs wait to be taken.
    async fn waiting(&mut self) -> Result<u64>;
}

/// Tries to take a job from a server that may not be back yet.
#[async_trait]
pub(crate) trait Claimer: Send {
    async fn claims(&mut self) -> Result<bool>;
}

/// Opens a connection for every try.
pub(crate) struct FreshClient<'a> {
    pub(crate) peer: &'a dyn Peer,
    pub(crate) place: &'a Place,
}

#[async_trait]
impl Claimer for FreshClient<'_> {
    async fn claims(&mut self) -> Result<bool> {
        let attempt = async {
            let mut client = self.peer.connect(self.place, 0).await?;
            Ok(client.take(1).await? == 1)
        };
        timeout(TRY_LIMIT, attempt).await.context("no answer")?
    }
}

/// The first line that a program prints, of which only the version is kept.
pub(crate) fn version_of(program: impl AsRef<Path>, arguments: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let output = Command::new(program).args(arguments).output().with_context(|| {
        format!("{} is not installed; benches/peers/run does", program.display())
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version_in(&text) {
        Some(version) => Ok(version),
        None => bail!("{} tells no version: {text}", program.display()),
    }
}

/// The first word with digits and a dot in it.
fn version_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || "=,()\"".contains(c));
    let mut versions = words.map(|word| word.trim_start_matches('v'));
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains('.')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c))
    };
    versions.find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_version_is_found_among_words() {
        let of = |text| version_in(text).unwrap_or_default();
        assert_eq!(of("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1"), "7.0.15");
        assert_eq!(of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), "15.18");
        assert_eq!(of("nats-server: v2.15.1"), "2.15.1");
        assert_eq!(of("beanstalkd 1.12"), "1.12");
        assert_eq!(of("no version here."), "");
    }
}
