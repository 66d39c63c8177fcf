//! Redis streams, with every write synced: XADD; XREADGROUP, XACK and XDEL in one pipeline.

use std::path::Path;
use std::process::Command;

use ::redis::aio::MultiplexedConnection;
use ::redis::streams::StreamReadReply;
use ::redis::{Pipeline, Value, cmd, from_redis_value, pipe};
use anyhow::{Result, bail, ensure};
use async_trait::async_trait;

use crate::peer::{Client, PAYLOAD_BYTES, Peer, Place, QUEUE, version_of};
use crate::process::Server;

const GROUP: &str = "workers";

pub(crate) struct Redis;

/// The server as BullMQ uses it too.
pub(crate) fn launch(dir: &Path, port: u16) -> Result<Server> {
    let mut command = Command::new("redis-server");
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(dir);
    Server::start(command, dir)
}

pub(crate) async fn connection(place: &Place) -> Result<MultiplexedConnection> {
    let client = ::redis::Client::open(format!("redis://{}/", place.address()))?;
    let config = ::redis::AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

#[async_trait]
impl Peer for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn version(&self) -> Result<String> {
        version_of("redis-server", &["--version"])
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        launch(&place.dir, place.port)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        let mut connection = connection(place).await?;
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(QUEUE).arg(GROUP).arg("0").arg("MKSTREAM");
        Ok(create.query_async::<()>(&mut connection).await?)
    }

    async fn connect(&self, place: &Place, number: usize) -> Result<Box<dyn Client>> {
        let connection = connection(place).await?;
        let taken = Vec::new();
        Ok(Box::new(RedisClient { connection, name: format!("worker-{number}"), taken }))
    }
}

struct RedisClient {
    connection: MultiplexedConnection,
    name: String,
    taken: Vec<String>,
}

impl RedisClient {
    fn add(pipeline: &mut Pipeline) {
        let payload: &[u8] = &[b'x'; PAYLOAD_BYTES];
        pipeline.cmd("XADD").arg(QUEUE).arg("*").arg("p").arg(payload);
    }

    fn settle(&mut self, pipeline: &mut Pipeline) {
        if !self.taken.is_empty() {
            pipeline.cmd("XACK").arg(QUEUE).arg(GROUP).arg(&self.taken);
            pipeline.cmd("XDEL").arg(QUEUE).arg(&self.taken);
        }
    }

    /// The count of XDEL says whether the jobs were there.
    fn settled(&mut self, values: &[Value]) -> Result<()> {
        let (Some(acked), Some(deleted)) = (values.first(), values.get(1)) else {
            bail!("no answer to XACK and XDEL");
        };
        let acked: usize = from_redis_value(acked.clone())?;
        let deleted: usize = from_redis_value(deleted.clone())?;
        let taken = self.taken.len();
        ensure!(acked == taken && deleted == taken, "{acked} acked, {deleted} deleted of {taken}");
        self.taken.clear();
        Ok(())
    }
}

#[async_trait]
impl Client for RedisClient {
    async fn enqueue(&mut self) -> Result<()> {
        self.enqueue_batch(1).await
    }

    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
        let mut pipeline = pipe();
        (0..jobs).for_each(|_| Self::add(&mut pipeline));
        let ids: Vec<String> = pipeline.query_async(&mut self.connection).await?;
        ensure!(ids.len() == jobs, "{} of {jobs} were added", ids.len());
        Ok(())
    }

    async fn take(&mut self, jobs: usize) -> Result<usize> {
        let mut pipeline = pipe();
        self.settle(&mut pipeline);
        let read = pipeline.cmd("XREADGROUP").arg("GROUP").arg(GROUP).arg(&self.name);
        read.arg("COUNT").arg(jobs).arg("STREAMS").arg(QUEUE).arg(">");
        let mut values: Vec<Value> = pipeline.query_async(&mut self.connection).await?;
        let read = values.pop();
        if !self.taken.is_empty() {
            self.settled(&values)?;
        }
        let read: Option<StreamReadReply> = from_redis_value(read.unwrap_or(Value::Nil))?;
        for key in read.into_iter().flat_map(|reply| reply.keys) {
            self.taken.extend(key.ids.into_iter().map(|entry| entry.id));
        }
        Ok(self.taken.len())
    }

    async fn finish(&mut self) -> Result<()> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let mut pipeline = pipe();
        self.settle(&mut pipeline);
        let values: Vec<Value> = pipeline.query_async(&mut self.connection).await?;
        self.settled(&values)
    }

    async fn waiting(&mut self) -> Result<u64> {
        Ok(cmd("XLEN").arg(QUEUE).query_async(&mut self.connection).await?)
    }
}
