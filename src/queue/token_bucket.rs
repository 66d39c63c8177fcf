//! A token bucket in whole numbers: so many starts in a time, exact however often it is asked.
//!
//! A token is `per_ms` units, and each millisecond brings `jobs` units, up to `burst` tokens. So
//! nothing is ever rounded. What lies in the bucket changes only when a token is taken, when the
//! rate is changed and when the clock steps back; what is there at a moment is told from that. Two
//! programs that do the same at the same moments have the same bucket.

use crate::clock::Timestamp;
use crate::queue::limits::Rate;

/// The tokens of a rate, as they were at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    rate: Rate,
    units: u64,
    as_of: Timestamp,
}

impl TokenBucket {
    /// As many tokens as there may be.
    pub(crate) fn full(rate: Rate, now: Timestamp) -> Self {
        TokenBucket { rate, units: capacity(rate), as_of: now }
    }

    /// What was written: units as of a moment.
    pub(crate) fn from_parts(rate: Rate, units: u64, as_of: Timestamp) -> Self {
        TokenBucket { rate, units: units.min(capacity(rate)), as_of }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// What is to be written.
    pub(crate) fn parts(&self) -> (u64, Timestamp) {
        (self.units, self.as_of)
    }

    /// How many tokens there are.
    pub(crate) fn tokens(&self, now: Timestamp) -> u64 {
        self.units_at(now) / self.rate.per_ms
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        let units = self.units_at(now);
        let Some(left) = units.checked_sub(self.rate.per_ms) else { return false };
        (self.units, self.as_of) = (left, now);
        true
    }

    /// When there is a token again; `None` when there is one.
    pub(crate) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.tokens(now) > 0 {
            return None;
        }
        let missing = self.rate.per_ms.saturating_sub(self.units);
        Some(self.as_of.plus_ms(missing.div_ceil(u64::from(self.rate.jobs))))
    }

    /// The time that was counted from is in the future: counting goes on from now. What came
    /// since then is lost, so nothing is given twice, and the next token is no further away than
    /// it ever is.
    pub(crate) fn clock_stepped_back(&mut self, now: Timestamp) {
        self.as_of = self.as_of.min(now);
    }

    /// The same tokens at another rate, as far as there is room for them.
    pub(crate) fn at_rate(&self, rate: Rate, now: Timestamp) -> Self {
        let units = u128::from(self.units_at(now)) * u128::from(rate.per_ms);
        let units = units / u128::from(self.rate.per_ms);
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        TokenBucket::from_parts(rate, units, now)
    }

    fn units_at(&self, now: Timestamp) -> u64 {
        let came = now.ms_since(self.as_of).saturating_mul(u64::from(self.rate.jobs));
        self.units.saturating_add(came).min(capacity(self.rate))
    }
}

fn capacity(rate: Rate) -> u64 {
    rate.per_ms.saturating_mul(u64::from(rate.burst))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::queue::limits::{RATE_JOBS_MAX, RATE_PER_MS_MAX};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000 + ms)
    }

    fn rate() -> impl Strategy<Value = Rate> {
        let few_or_many = prop_oneof![1..10u32, 1..=RATE_JOBS_MAX];
        let soon_or_late = prop_oneof![1..2_000u64, 1..=RATE_PER_MS_MAX];
        (few_or_many.clone(), soon_or_late, few_or_many).prop_map(|(jobs, per_ms, burst)| Rate {
            jobs,
            per_ms,
            burst,
        })
    }

    /// Takes as many tokens as there are.
    fn drain(bucket: &mut TokenBucket, now: Timestamp) -> u64 {
        (0..).take_while(|_| bucket.take(now)).count() as u64
    }

    #[test]
    fn a_burst_first_and_then_the_rate() {
        let mut bucket = TokenBucket::full(Rate { jobs: 2, per_ms: 1_000, burst: 3 }, at(0));
        assert_eq!(drain(&mut bucket, at(0)), 3);
        assert_eq!(bucket.next_at(at(0)), Some(at(500)));
        assert_eq!((bucket.tokens(at(499)), bucket.tokens(at(500))), (0, 1));
        assert_eq!(drain(&mut bucket, at(1_250)), 2);
        assert_eq!(bucket.next_at(at(1_250)), Some(at(1_500)), "what was left over counts");
        assert_eq!(drain(&mut bucket, at(900_000)), 3, "never more than the burst");
    }

    #[test]
    fn a_third_of_a_millisecond_is_not_rounded_away() {
        let mut bucket = TokenBucket::full(Rate { jobs: 3, per_ms: 10, burst: 1 }, at(0));
        let mut started = 0;
        for ms in 0..10_000 {
            started += drain(&mut bucket, at(ms));
        }
        // One at a time in the bucket: at 0, 4, 8, 12 …, as the token of 3.33 waits for 4 ms.
        assert_eq!(started, 2_500);
        let mut bucket = TokenBucket::full(Rate { jobs: 3, per_ms: 10, burst: 3 }, at(0));
        let started: u64 = (0..10_000).map(|ms| drain(&mut bucket, at(ms))).sum();
        assert_eq!(started, 3 + 2_999);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_and_blocks_for_one_token_at_most() {
        let rate = Rate { jobs: 1, per_ms: 60_000, burst: 5 };
        let mut bucket = TokenBucket::full(rate, at(3_600_000));
        assert_eq!(drain(&mut bucket, at(3_600_000)), 5);
        bucket.clock_stepped_back(at(0));
        assert_eq!(bucket.tokens(at(0)), 0);
        assert_eq!(bucket.next_at(at(0)), Some(at(60_000)));
    }

    #[test]
    fn another_rate_keeps_the_tokens_that_were_left() {
        let mut bucket = TokenBucket::full(Rate { jobs: 1, per_ms: 1_000, burst: 4 }, at(0));
        assert!(bucket.take(at(0)));
        let wider = bucket.at_rate(Rate { jobs: 9, per_ms: 7, burst: 100 }, at(0));
        assert_eq!(wider.tokens(at(0)), 3);
        let narrower = bucket.at_rate(Rate { jobs: 1, per_ms: 1_000, burst: 2 }, at(0));
        assert_eq!(narrower.tokens(at(0)), 2);
        let same = Rate { jobs: 1, per_ms: 1_000, burst: 4 };
        assert_eq!(bucket.at_rate(same, at(300)).next_at(at(300)), bucket.next_at(at(300)));
    }

    proptest! {
        /// In no span of time more than the burst and what the rate brings in it.
        #[test]
        fn a_span_never_starts_more_than_burst_and_rate(
            rate in rate(),
            steps in prop::collection::vec((0..5_000u64, 0..20u64), 1..60),
        ) {
            let mut bucket = TokenBucket::full(rate, at(0));
            let mut now_ms = 0;
            let mut started: Vec<u64> = Vec::new();
            for (step_ms, wanted) in steps {
                now_ms += step_ms;
                for _ in 0..wanted {
                    let there = bucket.tokens(at(now_ms));
                    prop_assert_eq!(bucket.take(at(now_ms)), there > 0);
                    let now = at(now_ms);
                    prop_assert_eq!(bucket.next_at(now).is_none(), bucket.tokens(now) > 0);
                    started.extend((there > 0).then_some(now_ms));
                }
            }
            for (number, first_ms) in started.iter().enumerate() {
                for (later, last_ms) in started.iter().enumerate().skip(number) {
                    let came = u128::from(last_ms - first_ms) * u128::from(rate.jobs);
                    let most = u128::from(rate.burst) + came / u128::from(rate.per_ms);
                    prop_assert!((later - number + 1) as u128 <= most);
                }
            }
        }

        /// The moment that it names is the first at which a token is there.
        #[test]
        fn the_next_token_comes_when_it_is_said_to(rate in rate(), left in any::<u64>()) {
            let bucket = TokenBucket::from_parts(rate, left % rate.per_ms, at(0));
            let next = bucket.next_at(at(0)).unwrap();
            prop_assert!(next > at(0));
            prop_assert!(bucket.tokens(next) > 0);
            prop_assert_eq!(bucket.tokens(next.minus_ms(1)), 0);
            let period_ms = rate.per_ms.div_ceil(u64::from(rate.jobs));
            prop_assert!(next.ms_since(at(0)) <= period_ms);
        }
    }
}
