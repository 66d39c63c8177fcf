//! A quorum queue of RabbitMQ: persistent messages, publisher confirms, a consumer that acks.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    PublisherConfirm,
};
use tokio::time::timeout;

use crate::peer::{Client, PAYLOAD_BYTES, Peer, Place, QUEUE};
use crate::process::Server;

/// The script without the wrapper that changes to the user `rabbitmq`.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// No message for so long: the queue is empty.
const EMPTY_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct RabbitMq;

#[async_trait]
impl Peer for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn version(&self) -> Result<String> {
        let places = std::fs::read_dir("/usr/lib/rabbitmq/lib");
        let places = places.context("RabbitMQ is not installed; benches/peers/run does")?;
        let names = places.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let version =
            names.filter_map(|name| Some(name.strip_prefix("rabbitmq_server-")?.to_owned())).next();
        version.context("RabbitMQ is not installed; benches/peers/run does")
    }

    fn launch(&self, place: &Place) -> Result<Server> {
        let names = place.second_port.to_string();
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &names, "-address", "127.0.0.1"]);
        let epmd = Server::start(epmd, &place.dir)?;
        let mut command = Command::new(PROGRAM);
        command
            .env("HOME", &place.dir)
            .env("ERL_EPMD_PORT", &names)
            .env("RABBITMQ_NODENAME", "pulk-peers@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", place.port.to_string())
            .env("RABBITMQ_DIST_PORT", place.third_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", place.dir.join("data"))
            .env("RABBITMQ_LOG_BASE", place.dir.join("log"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", place.dir.join("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place.dir.join("plugins"));
        Ok(Server::start(command, &place.dir)?.with(epmd))
    }

    async fn create_queue(&self, place: &Place) -> Result<()> {
        let (_connection, channel) = open(place).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
        Ok(())
    }

    async fn connect(&self, place: &Place, _: usize) -> Result<Box<dyn Client>> {
        let (connection, channel) = open(place).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Box::new(RabbitMqClient {
            _connection: connection,
            channel,
            consumer: None,
            last: None,
        }))
    }
}

async fn open(place: &Place) -> Result<(Connection, Channel)> {
    let address = format!("amqp://guest:guest@{}/%2f", place.address());
    let connection = Connection::connect(&address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

struct RabbitMqClient {
    _connection: Connection,
    channel: Channel,
    consumer: Option<Consumer>,
    /// The last message that it took and did not ack.
    last: Option<u64>,
}

impl RabbitMqClient {
    async fn publish(&self) -> Result<PublisherConfirm> {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let payload = &[b'x'; PAYLOAD_BYTES];
        Ok(self
            .channel
            .basic_publish("".into(), QUEUE.into(), options, payload, properties)
            .await?)
    }

    /// Acks that and all before.
    async fn ack_taken(&mut self) -> Result<()> {
        if let Some(tag) = self.last.take() {
            self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }
}

async fn confirmed(confirm: PublisherConfirm) -> Result<()> {
    let confirmation = confirm.await?;
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "not confirmed: {confirmation:?}");
    Ok(())
}

#[async_trait]
impl Client for RabbitMqClient {
    async fn enqueue(&mut self) -> Result<()> {
        confirmed(self.publish().await?).await
    }

    async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
        let mut confirms = Vec::with_capacity(jobs);
        for _ in 0..jobs {
            confirms.push(self.publish().await?);
        }
        for confirm in confirms {
            confirmed(confirm).await?;
        }
        Ok(())
    }

    async fn take(&mut self, jobs: usize) -> Result<usize> {
        self.ack_taken().await?;
        if self.consumer.is_none() {
            self.channel.basic_qos(u16::try_from(jobs)?, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            let table = FieldTable::default();
            let consumer = self.channel.basic_consume(QUEUE.into(), "".into(), options, table);
            self.consumer = Some(consumer.await?);
        }
        let consumer = self.consumer.as_mut().context("no consumer")?;
        let mut taken = 0;
        while taken < jobs {
            let Ok(delivery) = timeout(EMPTY_AFTER, consumer.next()).await else { break };
            let delivery = delivery.context("the consumer was cancelled")??;
            self.last = Some(delivery.delivery_tag);
            taken += 1;
        }
        Ok(taken)
    }

    async fn finish(&mut self) -> Result<()> {
        self.ack_taken().await?;
        // A call on the same channel is answered after the ack was read; what it holds goes back.
        Ok(self.channel.close(200, "done".into()).await?)
    }

    async fn waiting(&mut self) -> Result<u64> {
        let options = QueueDeclareOptions::durable().passive();
        let queue = self.channel.queue_declare(QUEUE.into(), options, FieldTable::default());
        Ok(queue.await?.message_count().into())
    }
}
