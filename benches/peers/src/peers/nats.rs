//! NATS JetStream: a work queue in files, synced at every write; explicit acks that are answered.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::{HeaderMap, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tokio::time::timeout;

use crate::peer::{Client, PAYLOAD_BYTES, Peer, Place, QUEUE, version_of};
use crate::process::Server;

const CONSUMER: &str = "workers";
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Nats;

fn program() -> PathBuf {
    std::env::var_os("NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

#[async_trait]
impl Peer for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn version(&self) -> Result<String> {
        version_of(program(), &["--version"])
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        let data = place.dir.join("data");
        let text = format!(
            "listen: \"{}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            place.address(),
            data.display(),
        );
        Ok(std::fs::write(place.dir.join("nats.conf"), text)?)
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        let mut command = Command::new(program());
        command.arg("-c").arg(place.dir.join("nats.conf"));
        Server::start(command, &place.dir)
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        let jetstream = async_nats::jetstream::new(open(place).await?);
        let config = Config {
            name: QUEUE.into(),
            subjects: vec![QUEUE.into()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            allow_atomic_publish: true,
            ..Config::default()
        };
        let stream = jetstream.create_stream(config).await?;
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(600),
            ..pull::Config::default()
        };
        stream.create_consumer(consumer).await?;
        Ok(())
    }

    async fn connect(&self, place: &Place, _: usize) -> Result<Box<dyn Client>> {
        let client = open(place).await?;
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await?;
        let batches = 0;
        let payload = Bytes::from_static(&[b'x'; PAYLOAD_BYTES]);
        Ok(Box::new(NatsClient { client, inbox, messages, payload, batches, taken: Vec::new() }))
    }
}

async fn open(place: &Place) -> Result<async_nats::Client> {
    let options = async_nats::ConnectOptions::new().request_timeout(Some(ANSWER_LIMIT));
    Ok(options.connect(place.address()).await?)
}

struct NatsClient {
    client: async_nats::Client,
    inbox: String,
    messages: Subscriber,
    payload: Bytes,
    batches: u64,
    /// Where to ack what it took.
    taken: Vec<String>,
}

fn stored(answer: &[u8]) -> Result<()> {
    let answer = std::str::from_utf8(answer)?;
    ensure!(answer.contains(r#""seq":"#) && !answer.contains(r#""error""#), "publish: {answer}");
    Ok(())
}

impl NatsClient {
    async fn acks(client: &async_nats::Client, taken: Vec<String>) -> Result<()> {
        let ack = Bytes::from_static(b"+ACK");
        try_join_all(taken.into_iter().map(|reply| client.request(reply, ack.clone()))).await?;
        Ok(())
    }

    /// Asks for so many and reads them; a message with a status instead of a reply ends it.
    async fn pull(&mut self, jobs: usize) -> Result<Vec<String>> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{QUEUE}.{CONSUMER}");
        let request = format!(r#"{{"batch":{jobs},"no_wait":true}}"#);
        self.client.publish_with_reply(subject, self.inbox.clone(), request.into()).await?;
        let mut taken = Vec::with_capacity(jobs);
        while taken.len() < jobs {
            let message = timeout(ANSWER_LIMIT, self.messages.next()).await.context("no answer")?;
            let message = message.context("the subscription ended")?;
            match (message.status, message.reply) {
                (None, Some(reply)) => taken.push(reply.to_string()),
                (Some(status), _) if [404, 408].contains(&status.as_u16()) => break,
                (status, _) => return Err(anyhow!("pull: {status:?} {:?}", message.description)),
            }
        }
        Ok(taken)
    }
}

#[async_trait]
impl Client for NatsClient {
    async fn enqueue(&mut self) -> Result<()> {
        stored(&self.client.request(QUEUE, self.payload.clone()).await?.payload)
    }

    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
        self.batches += 1;
        let id = format!("{}-{}", self.inbox.rsplit('.').next().unwrap_or_default(), self.batches);
        for number in 1..=jobs {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string().as_str());
            if number < jobs {
                self.client.publish_with_headers(QUEUE, headers, self.payload.clone()).await?;
                continue;
            }
            headers.insert("Nats-Batch-Commit", "1");
            let answer = self.client.request_with_headers(QUEUE, headers, self.payload.clone());
            stored(&answer.await?.payload)?;
        }
        Ok(())
    }

    async fn take(&mut self, jobs: usize) -> Result<usize> {
        let client = self.client.clone();
        let former = std::mem::take(&mut self.taken);
        let (acked, taken) = tokio::join!(Self::acks(&client, former), self.pull(jobs));
        acked?;
        self.taken = taken?;
        Ok(self.taken.len())
    }

    async fn finish(&mut self) -> Result<()> {
        Self::acks(&self.client, std::mem::take(&mut self.taken)).await
    }

    async fn waiting(&mut self) -> Result<u64> {
        let jetstream = async_nats::jetstream::new(self.client.clone());
        Ok(jetstream.get_stream(QUEUE).await?.get_info().await?.state.messages)
    }
}
