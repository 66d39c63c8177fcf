//! How much happened in the last minute: kept in memory only, in steps of five seconds.

use std::collections::VecDeque;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::queue::event::Happened;
use crate::queue::state::QueueState;
use crate::store::key::LaneId;

/// How far back a rate looks, in milliseconds.
const WINDOW_MS: u64 = 60_000;
/// What happened within so many milliseconds is one number.
const STEP_MS: u64 = 5_000;

/// What happened a second, on average over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Rates {
    /// Jobs taken in.
    pub enqueued_per_s: f64,
    /// Jobs handed to a worker.
    pub started_per_s: f64,
    /// Jobs acked.
    pub completed_per_s: f64,
    /// Attempts that failed.
    pub failed_per_s: f64,
}

impl Rates {
    /// The rates of two lanes together.
    #[must_use]
    pub fn plus(self, other: Rates) -> Rates {
        Rates {
            enqueued_per_s: self.enqueued_per_s + other.enqueued_per_s,
            started_per_s: self.started_per_s + other.started_per_s,
            completed_per_s: self.completed_per_s + other.completed_per_s,
            failed_per_s: self.failed_per_s + other.failed_per_s,
        }
    }
}

impl QueueState {
    /// Counts what happened to jobs of a lane, if it is one of the things that have a rate.
    pub(crate) fn rate(&mut self, lane: LaneId, what: &Happened) {
        let (which, how_many) = match what {
            Happened::Enqueued { jobs, .. } => (0, *jobs),
            Happened::Started { .. } => (1, 1),
            Happened::Completed { .. } => (2, 1),
            Happened::Failed { .. } => (3, 1),
            _ => return,
        };
        if let Some(entry) = self.queues.by_id.get_mut(&lane.queue) {
            entry.happened[lane.priority].add(self.last_now, which, how_many);
        }
    }

    /// What happened a second in a lane.
    pub(crate) fn rates(&mut self, lane: LaneId, now: Timestamp) -> Rates {
        let opened_at = self.opened_at;
        let Some(entry) = self.queues.by_id.get_mut(&lane.queue) else { return Rates::default() };
        let counted = entry.happened[lane.priority].per_second(now, opened_at);
        let [enqueued_per_s, started_per_s, completed_per_s, failed_per_s] = counted;
        Rates { enqueued_per_s, started_per_s, completed_per_s, failed_per_s }
    }
}

/// Sums over the last minute of `N` things that are counted together.
#[derive(Clone, Debug)]
pub(crate) struct LastMinute<const N: usize> {
    /// The number of the step and what happened in it, oldest first; at most one minute of them.
    steps: VecDeque<(u64, [u64; N])>,
}

impl<const N: usize> Default for LastMinute<N> {
    fn default() -> Self {
        LastMinute { steps: VecDeque::new() }
    }
}

impl<const N: usize> LastMinute<N> {
    /// Counts `how_many` of thing number `which`.
    pub(crate) fn add(&mut self, now: Timestamp, which: usize, how_many: u64) {
        self.forget_what_is_over(now);
        let step = now.as_ms() / STEP_MS;
        if self.steps.back().is_none_or(|(last, _)| *last != step) {
            self.steps.push_back((step, [0; N]));
        }
        if let Some(count) = self.steps.back_mut().and_then(|(_, counts)| counts.get_mut(which)) {
            *count += how_many;
        }
    }

    /// How many of each happened a second, in the last minute or, when that is shorter, since
    /// `counting_since`.
    pub(crate) fn per_second(&mut self, now: Timestamp, counting_since: Timestamp) -> [f64; N] {
        self.forget_what_is_over(now);
        let window_ms = now.ms_since(counting_since).clamp(1_000, WINDOW_MS);
        std::array::from_fn(|which| {
            let counts = self.steps.iter().filter_map(|(_, counts)| counts.get(which));
            counts.sum::<u64>() as f64 * 1_000.0 / window_ms as f64
        })
    }

    /// Steps of more than a minute ago, and those of the future, which a clock that stepped back
    /// leaves behind.
    fn forget_what_is_over(&mut self, now: Timestamp) {
        let step = now.as_ms() / STEP_MS;
        let first = step.saturating_sub(WINDOW_MS / STEP_MS - 1);
        while self.steps.front().is_some_and(|(oldest, _)| *oldest < first) {
            self.steps.pop_front();
        }
        while self.steps.back().is_some_and(|(last, _)| *last > step) {
            self.steps.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000 + ms)
    }

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let mut counted = LastMinute::<2>::default();
        for second in 0..600 {
            counted.add(at(second * 1_000), 0, 3);
        }
        let [first, second] = counted.per_second(at(599_999), at(0));
        assert_eq!((first, second), (3.0, 0.0));
        assert!(counted.steps.len() <= 12, "{}", counted.steps.len());
        assert_eq!(counted.per_second(at(599_999 + 30_000), at(0))[0], 1.5);
        assert_eq!(counted.per_second(at(700_000), at(0)), [0.0, 0.0]);
        assert!(counted.steps.is_empty());
    }

    #[test]
    fn in_its_first_minute_a_node_divides_by_its_age() {
        let mut counted = LastMinute::<1>::default();
        counted.add(at(0), 0, 100);
        assert_eq!(counted.per_second(at(0), at(0)), [100.0]);
        assert_eq!(counted.per_second(at(10_000), at(0)), [10.0]);
    }

    #[test]
    fn a_clock_that_steps_back_leaves_nothing_of_the_future() {
        let mut counted = LastMinute::<1>::default();
        counted.add(at(100_000), 0, 6_000);
        counted.add(at(0), 0, 60);
        assert_eq!(counted.per_second(at(0), Timestamp::default()), [1.0]);
    }
}
