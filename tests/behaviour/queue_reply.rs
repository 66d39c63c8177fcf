//! Queues as a node tells them, read into the library's own view of a queue.

use std::collections::BTreeMap;

use pulk::priority::PerPriority;
use pulk::queue::{Limited, Limits, QueueView, Rate, Rates, StateCounts};
use pulk::{JobState, Priority, Timestamp};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct QueuesReply {
    pub queues: Vec<QueueReply>,
}

#[derive(Deserialize)]
pub struct QueueReply {
    name: String,
    paused: bool,
    limits: Option<LimitsReply>,
    limited: Option<LimitedReply>,
    counts: StateCounts,
    priorities: BTreeMap<String, PriorityReply>,
}

#[derive(Deserialize)]
struct LimitsReply {
    concurrency: Option<u32>,
    rate: Option<RateReply>,
    concurrency_per_key: Option<u32>,
}

#[derive(Deserialize)]
struct RateReply {
    jobs: u32,
    per_ms: u64,
    burst: u32,
}

#[derive(Deserialize)]
struct LimitedReply {
    by: String,
    until: Option<Timestamp>,
}

impl From<LimitsReply> for Limits {
    fn from(reply: LimitsReply) -> Self {
        let LimitsReply { concurrency, rate, concurrency_per_key } = reply;
        let rate = rate.map(|RateReply { jobs, per_ms, burst }| Rate { jobs, per_ms, burst });
        Limits { concurrency, rate, concurrency_per_key }
    }
}

impl From<LimitedReply> for Limited {
    fn from(LimitedReply { by, until }: LimitedReply) -> Self {
        match (by.as_str(), until) {
            ("concurrency_reached", None) => Limited::Concurrency,
            ("rate_limited", Some(until)) => Limited::Rate { until },
            other => panic!("limited by {other:?}"),
        }
    }
}

#[derive(Deserialize)]
struct PriorityReply {
    oldest_age_ms: Option<u64>,
    counts: StateCounts,
    rates: RatesReply,
}

#[derive(Deserialize)]
struct RatesReply {
    enqueued_per_s: f64,
    started_per_s: f64,
    completed_per_s: f64,
    failed_per_s: f64,
}

impl From<&RatesReply> for Rates {
    fn from(reply: &RatesReply) -> Self {
        Rates {
            enqueued_per_s: reply.enqueued_per_s,
            started_per_s: reply.started_per_s,
            completed_per_s: reply.completed_per_s,
            failed_per_s: reply.failed_per_s,
        }
    }
}

impl QueueReply {
    pub fn into_view(self) -> QueueView {
        let now = crate::now();
        let of = |priority: Priority| &self.priorities[priority.as_str()];
        let counts = PerPriority::from_fn(|priority| of(priority).counts);
        for state in JobState::ALL {
            let sum: u64 = counts.iter().map(|(_, one)| one.of(state)).sum();
            assert_eq!(self.counts.of(state), sum, "{state} of {}", self.name);
        }
        let oldest_ready_at = PerPriority::from_fn(|priority| {
            of(priority).oldest_age_ms.map(|age_ms| now.minus_ms(age_ms))
        });
        let rates = PerPriority::from_fn(|priority| Rates::from(&of(priority).rates));
        QueueView {
            name: self.name,
            paused: self.paused,
            limits: self.limits.map(Limits::from).unwrap_or_default(),
            limited: self.limited.map(Limited::from),
            counts,
            in_lines: PerPriority::default(),
            oldest_ready_at,
            rates,
        }
    }
}
