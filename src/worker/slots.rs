//! How many jobs to ask for, and how urgent ones. Pure.

use crate::priority::Priority;
use crate::queue::claim::CLAIM_JOBS_MAX;

/// The places in which a worker runs jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) concurrency: usize,
    /// So many of them are never taken by jobs below high.
    pub(crate) reserved: usize,
}

/// The slots that are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// By critical and high jobs.
    pub(crate) urgent: usize,
    /// By the others.
    pub(crate) other: usize,
}

/// What to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// At most so many jobs, at least 1.
    pub(crate) limit: usize,
    /// Only critical and high ones.
    pub(crate) urgent_only: bool,
}

/// True for the priorities that slots are reserved for.
pub(crate) fn is_urgent(priority: Priority) -> bool {
    matches!(priority, Priority::Critical | Priority::High)
}

impl Slots {
    /// The slots that are reserved when nobody said how many: a quarter of four or more.
    pub(crate) fn reserved_by_default(concurrency: usize) -> usize {
        if concurrency < 4 { 0 } else { (concurrency / 4).max(1) }
    }

    /// What to claim when so many slots are taken and the handlers take `room` more jobs; `None`
    /// when nothing. Whatever the claim brings fits, and when it brings all it asked for, asking
    /// again fills what is left.
    pub(crate) fn ask(self, taken: Taken, room: usize) -> Option<Ask> {
        let free = self.concurrency.saturating_sub(taken.urgent + taken.other);
        let open = self.concurrency.saturating_sub(self.reserved);
        let free_for_all = open.saturating_sub(taken.other).min(free);
        let urgent_only = free_for_all == 0;
        let free = if urgent_only { free } else { free_for_all };
        let limit = free.min(room).min(CLAIM_JOBS_MAX);
        (limit > 0).then_some(Ask { limit, urgent_only })
    }
}

impl Taken {
    pub(crate) fn add(&mut self, priority: Priority) {
        *self.of(priority) += 1;
    }

    pub(crate) fn remove(&mut self, priority: Priority) {
        let taken = self.of(priority);
        *taken = taken.saturating_sub(1);
    }

    pub(crate) fn total(self) -> usize {
        self.urgent + self.other
    }

    fn of(&mut self, priority: Priority) -> &mut usize {
        if is_urgent(priority) { &mut self.urgent } else { &mut self.other }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quarter_of_four_or_more_slots_is_reserved() {
        let reserved: Vec<usize> =
            [1, 3, 4, 7, 8, 64].into_iter().map(Slots::reserved_by_default).collect();
        assert_eq!(reserved, [0, 0, 1, 1, 2, 16]);
    }

    #[test]
    fn what_is_free_is_asked_for() {
        let slots = Slots { concurrency: 8, reserved: 2 };
        let ask = |urgent, other, room| {
            slots.ask(Taken { urgent, other }, room).map(|ask| (ask.limit, ask.urgent_only))
        };
        assert_eq!(ask(0, 0, 100), Some((6, false)));
        assert_eq!(ask(0, 4, 100), Some((2, false)));
        assert_eq!(ask(0, 6, 100), Some((2, true)), "only reserved slots are free");
        assert_eq!(ask(5, 2, 100), Some((1, false)), "the urgent took of the open ones");
        assert_eq!(ask(8, 0, 100), None);
        assert_eq!(ask(2, 6, 100), None);
        assert_eq!(ask(0, 0, 3), Some((3, false)));
        assert_eq!(ask(0, 0, 0), None, "the handlers take none");
    }

    proptest! {
        #[test]
        fn jobs_below_high_never_hold_a_reserved_slot(
            concurrency in 1usize..50,
            reserved in 0usize..49,
            rounds in prop::collection::vec((any::<bool>(), 0usize..50, 0usize..9), 1..50),
        ) {
            let slots = Slots { concurrency, reserved: reserved.min(concurrency - 1) };
            let mut taken = Taken::default();
            for (others, brought, ended) in rounds {
                if let Some(ask) = slots.ask(taken, usize::MAX) {
                    // Whatever the claim brings of what it asked for.
                    let brought = brought.min(ask.limit);
                    let others = others && !ask.urgent_only;
                    *(if others { &mut taken.other } else { &mut taken.urgent }) += brought;
                } else {
                    prop_assert_eq!(taken.total(), concurrency, "free slots and nothing asked");
                }
                prop_assert!(taken.total() <= concurrency);
                prop_assert!(taken.other <= concurrency - slots.reserved);
                taken.other = taken.other.saturating_sub(ended);
                taken.urgent = taken.urgent.saturating_sub(ended / 2);
            }
        }
    }
}
