//! What limits let through: so many jobs of a queue at a time, so many started in a time.

use pulk::queue::{Limited, Limits, Rate};
use pulk::{ErrorKind, JobState, Timestamp};

use super::{Checked, Named, QueueNumber, Truth, granted, hold, other_answer, refused};
use crate::command::{Answer, Told};

/// What was left of a rate when it was last changed: a token is `per_ms` of these, and each
/// millisecond brings `jobs`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    units: u128,
    as_of: Timestamp,
}

fn most(rate: Rate) -> u128 {
    u128::from(rate.per_ms) * u128::from(rate.burst)
}

impl Left {
    fn units(self, rate: Rate, now: Timestamp) -> u128 {
        let came = u128::from(now.ms_since(self.as_of)) * u128::from(rate.jobs);
        (self.units + came).min(most(rate))
    }
}

impl Named {
    pub(super) fn new(name: &str) -> Named {
        let (name, limits) = (name.to_owned(), Limits::default());
        Named { name, paused: false, limits, left: None, most_places: 1 }
    }

    fn tokens(&self, now: Timestamp) -> u64 {
        let tokens =
            self.rate().map(|(rate, left)| left.units(rate, now) / u128::from(rate.per_ms));
        tokens.map_or(u64::MAX, |tokens| u64::try_from(tokens).expect("a burst is a u32"))
    }

    fn rate(&self) -> Option<(Rate, Left)> {
        self.limits.rate.zip(self.left)
    }

    /// The clock stepped back: tokens count from now.
    pub(super) fn bring_tokens_back(&mut self, now: Timestamp) {
        if let Some(left) = &mut self.left {
            left.as_of = left.as_of.min(now);
        }
    }
}

impl Truth {
    fn running(&self, number: QueueNumber) -> u64 {
        let jobs = self.jobs.values().filter(|job| job.queue == number);
        jobs.filter(|job| job.state() == JobState::Running).count() as u64
    }

    /// How many more jobs of a queue may be started now.
    pub(super) fn startable(&self, number: QueueNumber) -> usize {
        let queue = &self.queues[&number];
        let slots = queue
            .limits
            .concurrency
            .map_or(u64::MAX, |most| u64::from(most).saturating_sub(self.running(number)));
        usize::try_from(slots.min(queue.tokens(self.limits_at))).unwrap_or(usize::MAX)
    }

    /// A job of this queue is started.
    pub(super) fn take_token(&mut self, number: QueueNumber) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(&number) else { return };
        if let Some((rate, left)) = queue.rate() {
            let units = left.units(rate, now) - u128::from(rate.per_ms);
            queue.left = Some(Left { units, as_of: now });
        }
    }

    pub(super) fn set_limits(
        &mut self,
        name: &str,
        limits: Limits,
        told: Option<&Told>,
    ) -> Checked {
        let now = self.now;
        let number = match self.number(name) {
            Some(number) => number,
            None if self.queues.len() as u64 >= u64::from(self.config.max_queues) => {
                return refused(told, ErrorKind::TooManyQueues);
            }
            None => self.new_queue(name),
        };
        let queue = self.queues.get_mut(&number).expect("it has a number");
        if queue.limits != limits {
            queue.left = limits.rate.map(|rate| {
                let units = queue.rate().map_or(most(rate), |(before, left)| {
                    left.units(before, now) * u128::from(rate.per_ms) / u128::from(before.per_ms)
                });
                Left { units: units.min(most(rate)), as_of: now }
            });
            queue.limits = limits;
            let places = limits.concurrency_per_key.map_or(1, |most| most as usize);
            queue.most_places = queue.most_places.max(places);
            self.look_through_lines(number);
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Queue(view)) => self.is_queue(number, view),
            Some(other) => Err(other_answer(other)),
        }
    }

    /// The limits of a queue, and which of them is reached, are told as they are.
    pub(super) fn is_limited(
        &self,
        number: QueueNumber,
        limits: Limits,
        limited: Option<Limited>,
    ) -> Checked {
        let queue = &self.queues[&number];
        let reached = match (self.startable(number), queue.rate()) {
            (1.., _) => None,
            (0, Some((rate, left)))
                if queue
                    .limits
                    .concurrency
                    .is_none_or(|most| self.running(number) < u64::from(most)) =>
            {
                let missing = u128::from(rate.per_ms) - left.units;
                let wait_ms = missing.div_ceil(u128::from(rate.jobs));
                let wait_ms = u64::try_from(wait_ms).expect("it is a day at most");
                Some(Limited::Rate { until: left.as_of.plus_ms(wait_ms) })
            }
            (0, _) => Some(Limited::Concurrency),
        };
        hold!(
            (limits, limited) == (queue.limits, reached),
            "queue {} has {:?} and is limited by {reached:?}, and tells {limits:?}, {limited:?}",
            queue.name,
            queue.limits
        );
        Ok(())
    }
}
