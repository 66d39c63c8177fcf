//! Which level a job counts as: its own priority, or a more urgent one when it has waited long.
//!
//! A job that has been ready for the limit of its level counts one level up; then the limit of
//! that level begins. Never above critical, and a level whose limit is 0 never ages.

use crate::clock::Timestamp;
use crate::priority::{PerPriority, Priority};

/// How long a job may wait at each level before it counts one level up, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ageing(PerPriority<u64>);

/// What a job counts as at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) level: Priority,
    /// When it counts one level up; `None` when it never does.
    pub(crate) rises_at: Option<Timestamp>,
}

impl Ageing {
    pub(crate) fn new(ageing_ms: PerPriority<u64>) -> Self {
        Ageing(ageing_ms)
    }

    /// True when a job of this priority ever counts as more than that.
    pub(crate) fn ages(&self, priority: Priority) -> bool {
        priority != Priority::Critical && self.0[priority] > 0
    }

    /// What a job counts as that has been ready since then. One that is ready only in the future,
    /// because the clock stepped back, has waited for no time.
    pub(crate) fn standing(
        &self,
        priority: Priority,
        ready_at: Timestamp,
        now: Timestamp,
    ) -> Standing {
        let mut level = priority;
        let mut rises_at = ready_at;
        while let Some(above) = level.one_up().filter(|_| self.ages(level)) {
            rises_at = rises_at.plus_ms(self.0[level]);
            if rises_at > now {
                return Standing { level, rises_at: Some(rises_at) };
            }
            level = above;
        }
        Standing { level, rises_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(limits_ms: [u64; 5], priority: Priority, waited_ms: i64) -> Standing {
        let limits = PerPriority::from_fn(|priority| limits_ms[usize::from(priority.number())]);
        let ready_at = Timestamp::from_ms(1_000_000);
        let now = Timestamp::from_ms(1_000_000_u64.saturating_add_signed(waited_ms));
        let at_ms = |moment: Timestamp| Timestamp::from_ms(moment.ms_since(ready_at));
        let Standing { level, rises_at } = Ageing::new(limits).standing(priority, ready_at, now);
        Standing { level, rises_at: rises_at.map(at_ms) }
    }

    #[test]
    fn a_job_counts_one_level_up_after_each_limit() {
        let limits_ms = [7, 10, 20, 30, 40];
        for (waited_ms, level, rises_at) in [
            (-5_000, Priority::Bulk, Some(40)),
            (0, Priority::Bulk, Some(40)),
            (39, Priority::Bulk, Some(40)),
            (40, Priority::Low, Some(70)),
            (69, Priority::Low, Some(70)),
            (70, Priority::Default, Some(90)),
            (90, Priority::High, Some(100)),
            (100, Priority::Critical, None),
            (900_000_000, Priority::Critical, None),
        ] {
            let rises_at = rises_at.map(Timestamp::from_ms);
            let expected = Standing { level, rises_at };
            assert_eq!(standing(limits_ms, Priority::Bulk, waited_ms), expected, "{waited_ms}");
        }
        let critical = Standing { level: Priority::Critical, rises_at: None };
        assert_eq!(standing(limits_ms, Priority::Critical, 900), critical);
    }

    #[test]
    fn a_level_whose_limit_is_0_is_the_end() {
        let none = Standing { level: Priority::Bulk, rises_at: None };
        assert_eq!(standing([0; 5], Priority::Bulk, 900_000_000), none);
        let low = Standing { level: Priority::Low, rises_at: None };
        assert_eq!(standing([0, 10, 20, 0, 40], Priority::Bulk, 900_000_000), low);
    }
}
