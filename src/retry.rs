//! When a failed job is tried again: exponential backoff with jitter.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How long to wait before each further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The delay before the second attempt, in milliseconds.
    pub base_ms: u64,
    /// No delay is longer than this, in milliseconds.
    pub max_ms: u64,
    /// The share of the delay, 0 to 1, that chance may take off.
    pub jitter: f64,
}

impl RetryPolicy {
    /// The longest delay that may be asked for: 30 days.
    pub const DELAY_MS_MAX: u64 = 30 * 24 * 3_600_000;

    /// The delay after failure number `failures` (1 is the first), in milliseconds.
    ///
    /// delay = min(max, base · 2^(failures − 1)), less a random part of up to the jitter share.
    /// The spread keeps jobs that failed together from coming back together ("Exponential Backoff
    /// And Jitter", AWS Architecture Blog, 2015); taking it off instead of adding it keeps `max`
    /// a true maximum.
    pub fn delay_ms(&self, failures: u32, random: &mut dyn Rng) -> u64 {
        let doublings = failures.saturating_sub(1).min(63);
        let delay_ms = self.base_ms.saturating_mul(1 << doublings).min(self.max_ms);
        let share = self.jitter.clamp(0.0, 1.0) * random.random::<f64>();
        // Delays are far below 2^53, so the way through f64 is exact enough and never above.
        delay_ms - ((delay_ms as f64 * share) as u64).min(delay_ms)
    }

    /// Checks that the three numbers make sense together.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) with the field that doesn't.
    pub fn validate(&self) -> Result<(), Error> {
        if self.max_ms > Self::DELAY_MS_MAX {
            let most = Self::DELAY_MS_MAX;
            return Err(Error::invalid(
                "retry.max_ms",
                format!("{} is too long; at most {most} (30 days)", self.max_ms),
            ));
        }
        if self.base_ms > self.max_ms {
            return Err(Error::invalid(
                "retry.base_ms",
                format!("{} is more than retry.max_ms, {}", self.base_ms, self.max_ms),
            ));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::invalid(
                "retry.jitter",
                format!("{} is not a share; use a number from 0 to 1", self.jitter),
            ));
        }
        Ok(())
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { base_ms: 1_000, max_ms: 3_600_000, jitter: 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    proptest! {
        #[test]
        fn delay_stays_between_its_bounds(
            base_ms in 0u64..10_000_000, extra_ms in 0u64..10_000_000, jitter in 0.0f64..=1.0,
            failures in 1u32..200, seed: u64,
        ) {
            let policy = RetryPolicy { base_ms, max_ms: base_ms + extra_ms, jitter };
            let full = (u128::from(base_ms) << (failures - 1).min(63)).min(policy.max_ms.into());
            let delay = u128::from(policy.delay_ms(failures, &mut SmallRng::seed_from_u64(seed)));
            prop_assert!(delay <= full);
            prop_assert!(delay as f64 >= (full as f64 * (1.0 - jitter)).floor());
        }
    }

    #[test]
    fn doubles_without_jitter() {
        let policy = RetryPolicy { base_ms: 100, max_ms: 1_000, jitter: 0.0 };
        let mut random = SmallRng::seed_from_u64(0);
        let delays: Vec<u64> = (1..=6).map(|n| policy.delay_ms(n, &mut random)).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let good = RetryPolicy::default();
        assert!(good.validate().is_ok());
        assert!(RetryPolicy { jitter: f64::NAN, ..good }.validate().is_err());
        assert!(RetryPolicy { jitter: 1.1, ..good }.validate().is_err());
        assert!(RetryPolicy { base_ms: 3_600_001, ..good }.validate().is_err());
        assert!(RetryPolicy { max_ms: u64::MAX, ..good }.validate().is_err());
    }
}
