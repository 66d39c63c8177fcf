//! How much may be done by now at a steady rate: exact in the long run, without bursts.

use crate::clock::Timestamp;

/// Less than this is nothing: what sums of fractions are off by.
const NOTHING: f64 = 1e-9;
/// After so many the sums begin anew, so that they stay small and exact.
const SUMS_MAX: u64 = 1 << 20;
/// What could not be done for longer than this is not caught up with.
const CATCH_UP_MS: f64 = 1_000.0;

/// A rate, and what was done of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    per_ms: f64,
    since: Timestamp,
    /// What was owed at that moment already.
    carried: f64,
    /// What was done since then.
    taken: u64,
}

impl Pace {
    /// Begins now: the first is due when a whole one has come together.
    pub(crate) fn begin(rate_per_s: f64, now: Timestamp) -> Self {
        Pace { per_ms: rate_per_s / 1_000.0, since: now, carried: 0.0, taken: 0 }
    }

    /// Goes on with the next one due at this moment; when that has passed, with one due now; when
    /// it is further away than it can be, because the clock stepped back, with the whole wait.
    pub(crate) fn resume(rate_per_s: f64, due: Timestamp, now: Timestamp) -> Self {
        let begun = Self::begin(rate_per_s, now);
        let missing = (due.ms_since(now) as f64 * begun.per_ms).min(1.0);
        Pace { carried: 1.0 - missing, ..begun }
    }

    /// When the next one is due.
    pub(crate) fn due(&self) -> Timestamp {
        let missing = self.taken as f64 + 1.0 - self.carried;
        self.since.plus_ms(((missing - NOTHING) / self.per_ms).ceil().max(0.0) as u64)
    }

    /// How many may be done now.
    pub(crate) fn owed(&mut self, now: Timestamp) -> u64 {
        if now < self.since {
            return 0;
        }
        let earned = now.ms_since(self.since) as f64 * self.per_ms + self.carried;
        if self.taken > SUMS_MAX {
            let carried = earned - self.taken as f64;
            *self = Pace { since: now, carried, taken: 0, ..*self };
            return self.owed(now);
        }
        let owed = (earned + NOTHING - self.taken as f64).floor().max(0.0);
        let most = (CATCH_UP_MS * self.per_ms).ceil().max(1.0);
        if owed > most {
            *self = Pace { since: now, carried: most, taken: 0, ..*self };
        }
        owed.min(most) as u64
    }

    /// One was done.
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    /// The clock stepped back to this moment.
    pub(crate) fn clock_stepped_back(&mut self, now: Timestamp) {
        *self = Self::resume(self.per_ms * 1_000.0, self.due(), now);
    }

    /// Nothing is due before this moment, and then one.
    pub(crate) fn put_off(&mut self, until: Timestamp) {
        *self = Pace { since: until, carried: 1.0, taken: 0, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::MAX;

    fn start() -> Timestamp {
        START.minus_ms(1 << 40)
    }

    proptest! {
        #[test]
        fn what_is_done_is_the_rate_times_the_time(
            rate_per_s in 0.001..10_000.0f64,
            steps in prop::collection::vec(0..1_000u64, 1..60),
        ) {
            let mut pace = Pace::begin(rate_per_s, start());
            let (mut now, mut done) = (start(), 0u64);
            for ms in steps {
                now = now.plus_ms(ms);
                let owed = pace.owed(now);
                prop_assert_eq!(owed > 0, pace.due() <= now, "it is due when it is owed");
                (0..owed).for_each(|_| pace.take());
                done += owed;
                prop_assert!(pace.due() > now);
            }
            let exact = now.ms_since(start()) as f64 * rate_per_s / 1_000.0;
            let bounds = exact - 1.0 - 1e-3..=exact + 1e-3;
            prop_assert!(bounds.contains(&(done as f64)), "{} of {}", done, exact);
        }

        #[test]
        fn a_restart_at_any_moment_neither_bursts_nor_loses_more_than_a_millisecond(
            rate_per_s in 0.001..500.0f64, before_ms in 0..100_000u64, down_ms in 0..100_000_000u64,
        ) {
            let mut pace = Pace::begin(rate_per_s, start());
            let stopped = start().plus_ms(before_ms);
            (0..pace.owed(stopped)).for_each(|_| pace.take());
            let due = pace.due();
            let opened = stopped.plus_ms(down_ms);
            let mut pace = Pace::resume(rate_per_s, due, opened);
            prop_assert!(pace.owed(opened) <= 1);
            prop_assert!(pace.due() <= due.max(opened).plus_ms(1));
        }

        #[test]
        fn a_clock_that_steps_back_costs_at_most_one_wait(
            rate_per_s in 0.001..10_000.0f64,
            before_ms in 0..100_000u64,
            back_ms in 1..1_000_000_000u64,
        ) {
            let mut pace = Pace::begin(rate_per_s, start());
            let late = start().plus_ms(before_ms);
            (0..pace.owed(late)).for_each(|_| pace.take());
            let now = late.minus_ms(back_ms);
            pace.clock_stepped_back(now);
            prop_assert!(pace.owed(now) <= 1);
            prop_assert!(pace.due().ms_since(now) as f64 <= 1_000.0 / rate_per_s + 1.0);
        }
    }

    #[test]
    fn what_was_missed_for_long_is_not_caught_up_with() {
        let mut pace = Pace::begin(5.0, start());
        let late = start().plus_ms(3_600_000);
        assert_eq!(pace.owed(late), 5);
        (0..5).for_each(|_| pace.take());
        assert_eq!(pace.owed(late), 0);
        assert_eq!(pace.due(), late.plus_ms(200));
        let mut slow = Pace::begin(0.001, start());
        assert_eq!(slow.due(), start().plus_ms(1_000_000));
        assert_eq!(slow.owed(start().plus_ms(9_000_000)), 1);
        slow.put_off(late);
        assert_eq!((slow.due(), slow.owed(start()), slow.owed(late)), (late, 0, 1));
    }
}
