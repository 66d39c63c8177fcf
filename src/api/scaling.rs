//! What an autoscaler asks: how much work waits, how old it is, how fast it goes away.
//!
//! Made from what the engine counts anyway: no job is looked at, so it may be asked every second.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::error::Problem;
use super::openapi::NotReady;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::priority::Priority;
use crate::queue::QueueView;

/// Ask how much work waits.
///
/// For autoscalers: cheap enough to be asked every second. `depth` and `oldest_age_ms` are always
/// numbers, and count only jobs that this node would hand out; the others are `held`.
#[utoipa::path(
    get, path = "/v1/scaling", operation_id = "scaling", tag = "node",
    responses((status = 200, description = "The work that waits.", body = ScalingReply), NotReady),
)]
pub(super) async fn show(State(api): State<ApiState>) -> Result<Response, Problem> {
    let queues = api.queue()?.queues().await?;
    Ok(Json(ScalingReply::new(&queues, api.config(), api.now())).into_response())
}

/// The work that waits in all queues.
#[derive(Serialize, ToSchema)]
#[schema(as = Scaling)]
struct ScalingReply {
    /// All priorities together.
    #[serde(flatten)]
    all: Work,
    /// The same for each priority.
    priorities: BTreeMap<Priority, Work>,
}

/// Work that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
struct Work {
    /// Ready jobs that a claim may get, where their queue is at a limit as soon as that lets it.
    depth: u64,
    /// Ready jobs that no claim gets: their queue is paused, or this node does not hand out their
    /// priority, or hands out nothing.
    held: u64,
    /// Jobs that a worker has.
    running: u64,
    /// How long the oldest job of `depth` has been ready, in milliseconds; 0 when there is none.
    oldest_age_ms: u64,
    /// Jobs acked a second, on average over the last minute.
    completed_per_s: f64,
    /// In how many seconds `depth` is done at that rate; 0 when it is empty, null when nothing was
    /// acked in the last minute.
    #[schema(required)]
    drain_s: Option<f64>,
}

impl Work {
    /// Both together.
    fn plus(self, other: Work) -> Work {
        Work {
            depth: self.depth + other.depth,
            held: self.held + other.held,
            running: self.running + other.running,
            oldest_age_ms: self.oldest_age_ms.max(other.oldest_age_ms),
            completed_per_s: self.completed_per_s + other.completed_per_s,
            drain_s: None,
        }
    }

    /// With the time that it takes.
    fn timed(self) -> Work {
        let drain_s = match self.depth {
            0 => Some(0.0),
            depth => (self.completed_per_s > 0.0).then(|| depth as f64 / self.completed_per_s),
        };
        Work { drain_s, ..self }
    }
}

impl ScalingReply {
    fn new(queues: &[QueueView], config: &Config, now: Timestamp) -> Self {
        let of = |priority: Priority| {
            let is_served = config.scheduler_enabled && config.priorities.contains(&priority);
            let works = queues.iter().map(|queue| work(queue, priority, is_served, now));
            works.fold(Work::default(), Work::plus)
        };
        let works = Priority::ALL.map(|priority| (priority, of(priority)));
        let all = works.iter().fold(Work::default(), |sum, (_, work)| sum.plus(*work)).timed();
        let priorities = works.into_iter().map(|(priority, work)| (priority, work.timed()));
        ScalingReply { all, priorities: priorities.collect() }
    }
}

/// The work of one queue and priority.
fn work(queue: &QueueView, priority: Priority, is_served: bool, now: Timestamp) -> Work {
    let counts = &queue.counts[priority];
    let may_be_claimed = is_served && !queue.paused;
    // Who waits for another job with the same key is of no use to more workers.
    let in_lines = queue.in_lines[priority].min(counts.ready);
    let held = if may_be_claimed { in_lines } else { counts.ready };
    let depth = counts.ready - held;
    let oldest = queue.oldest_ready_at[priority].filter(|_| may_be_claimed);
    Work {
        depth,
        held,
        running: counts.running,
        oldest_age_ms: oldest.map_or(0, |since| now.ms_since(since)),
        completed_per_s: queue.rates[priority].completed_per_s,
        drain_s: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::StateCounts;
    use crate::priority::PerPriority;
    use crate::queue::{Limited, Limits, Rates};

    /// A queue with ready jobs of one priority, the oldest for 40 s.
    fn queue(priority: Priority, ready: u64, completed_per_s: f64) -> QueueView {
        let mut counts = PerPriority::<StateCounts>::default();
        counts[priority] = StateCounts { ready, running: 1, retrying: 7, ..StateCounts::default() };
        let mut oldest_ready_at = PerPriority::default();
        oldest_ready_at[priority] = (ready > 0).then(|| Timestamp::from_ms(60_000));
        let mut rates = PerPriority::<Rates>::default();
        rates[priority].completed_per_s = completed_per_s;
        QueueView {
            name: "a".to_owned(),
            paused: false,
            limits: Limits::default(),
            limited: None,
            counts,
            in_lines: PerPriority::default(),
            oldest_ready_at,
            rates,
        }
    }

    fn told(queues: &[QueueView], config: &Config) -> ScalingReply {
        ScalingReply::new(queues, config, Timestamp::from_ms(100_000))
    }

    #[test]
    fn jobs_that_wait_for_their_key_are_held() {
        let mut queue = queue(Priority::Low, 30, 0.0);
        queue.in_lines[Priority::Low] = 20;
        let low = told(&[queue], &Config::default()).priorities[&Priority::Low];
        assert_eq!((low.depth, low.held), (10, 20));
    }

    #[test]
    fn the_work_of_all_queues_is_added_up() {
        let queues = [
            queue(Priority::Critical, 30, 2.0),
            queue(Priority::Critical, 10, 2.0),
            queue(Priority::Bulk, 60, 0.0),
        ];
        let reply = told(&queues, &Config::default());
        let critical = reply.priorities[&Priority::Critical];
        assert_eq!((critical.depth, critical.running, critical.held), (40, 2, 0));
        assert_eq!((critical.oldest_age_ms, critical.drain_s), (40_000, Some(10.0)));
        assert_eq!(reply.priorities[&Priority::Bulk].drain_s, None);
        assert_eq!(reply.priorities[&Priority::Low], Work::default().timed());
        assert_eq!((reply.all.depth, reply.all.completed_per_s), (100, 4.0));
        assert_eq!(reply.all.drain_s, Some(25.0));
    }

    #[test]
    fn nothing_waits_in_an_empty_node() {
        let reply = serde_json::to_value(told(&[], &Config::default())).unwrap();
        assert_eq!(reply["depth"], 0);
        assert_eq!(reply["oldest_age_ms"], 0);
        assert_eq!(reply["drain_s"], 0.0);
        assert_eq!(reply["priorities"].as_object().unwrap().len(), 5);
    }

    #[test]
    fn jobs_of_a_queue_at_a_limit_are_depth() {
        // Else its workers would be taken away between two tokens.
        let limited = Some(Limited::Rate { until: Timestamp::from_ms(100_001) });
        let all =
            told(&[QueueView { limited, ..queue(Priority::Low, 6, 2.0) }], &Config::default());
        assert_eq!((all.all.depth, all.all.held, all.all.drain_s), (6, 0, Some(3.0)));
    }

    #[test]
    fn what_nobody_gets_is_held_and_not_depth() {
        let bulk = queue(Priority::Bulk, 60, 1.0);
        let paused = QueueView { paused: true, ..bulk.clone() };
        let filtered = Config { priorities: vec![Priority::Critical], ..Config::default() };
        let off = Config { scheduler_enabled: false, ..Config::default() };
        for (queue, config) in [(&paused, &Config::default()), (&bulk, &filtered), (&bulk, &off)] {
            let all = told(std::slice::from_ref(queue), config).all;
            assert_eq!((all.depth, all.held, all.running), (0, 60, 1));
            assert_eq!((all.oldest_age_ms, all.drain_s), (0, Some(0.0)));
        }
    }
}
