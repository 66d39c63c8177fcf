//! Queues as a node tells them, read into the library's own view of a queue.

use std::collections::BTreeMap;

use pulk::priority::PerPriority;
use pulk::queue::{QueueView, StateCounts};
use pulk::{JobState, Priority};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct QueuesReply {
    pub queues: Vec<QueueReply>,
}

#[derive(Deserialize)]
pub struct QueueReply {
    name: String,
    paused: bool,
    counts: StateCounts,
    priorities: BTreeMap<String, PriorityReply>,
}

#[derive(Deserialize)]
struct PriorityReply {
    oldest_age_ms: Option<u64>,
    counts: StateCounts,
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
        QueueView { name: self.name, paused: self.paused, counts, oldest_ready_at }
    }
}
