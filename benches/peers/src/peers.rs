//! The queues that are measured, each in a file of its own.

pub(crate) mod beanstalkd;
pub(crate) mod bullmq;
pub(crate) mod http;
pub(crate) mod nats;
pub(crate) mod postgresql;
pub(crate) mod pulk;
pub(crate) mod rabbitmq;
pub(crate) mod redis;

use crate::peer::Peer;

/// All of them; pulk first, for the ratios are to it.
pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(pulk::Pulk),
        Box::new(http::EmptyHttp),
        Box::new(redis::Redis),
        Box::new(bullmq::BullMq),
        Box::new(beanstalkd::Beanstalkd),
        Box::new(postgresql::PostgreSql),
        Box::new(rabbitmq::RabbitMq),
        Box::new(nats::Nats),
    ]
}
