//! Which slots fire, and which are skipped: what was seen in time, and what catching up says of
//! the rest.

use crate::clock::Timestamp;
use crate::job::CatchUp;
use crate::queue::schedules::slots::Slots;

/// A slot that is seen no later than this after its moment is on time; otherwise it was missed.
pub(crate) const ON_TIME_MS: u64 = 60_000;
/// Most missed slots that are made up for.
pub(crate) const CATCH_UP_MAX: usize = 1_000;
/// Skipped slots are counted up to this number at once; further ones are skipped uncounted.
pub(crate) const SKIPPED_COUNTED_MAX: u64 = 10_000;

/// What is to be done about the slots that have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// These were missed for good.
    pub(crate) skipped: u64,
    /// The last of those.
    pub(crate) skipped_through: Option<Timestamp>,
    /// These fire, in this order.
    pub(crate) fire: Vec<Timestamp>,
}

impl Due {
    /// The slots after one moment and up to another.
    pub(crate) fn of(slots: &Slots, after: Timestamp, now: Timestamp, catch_up: CatchUp) -> Due {
        let missed_through = now.minus_ms(ON_TIME_MS + 1);
        let made_up_for = match catch_up {
            CatchUp::None => 0,
            CatchUp::One => 1,
            CatchUp::All => CATCH_UP_MAX,
        };
        let mut due =
            Due { fire: last_slots(slots, after, missed_through, made_up_for), ..Due::default() };
        let skip_before = due.fire.first().copied().unwrap_or(missed_through.plus_ms(1));
        let mut moment = after;
        let skip = |moment| slots.next_after(moment).filter(|slot| *slot < skip_before);
        while let Some(slot) = skip(moment) {
            if due.skipped == SKIPPED_COUNTED_MAX {
                due.skipped_through = slots.last_until(skip_before.minus_ms(1));
                break;
            }
            due.skipped += 1;
            due.skipped_through = Some(slot);
            moment = slot;
        }
        let mut moment = after.max(missed_through);
        while let Some(slot) = slots.next_after(moment).filter(|slot| *slot <= now) {
            due.fire.push(slot);
            moment = slot;
        }
        due
    }

    /// About how many slots were looked at.
    pub(crate) fn looked_at(&self) -> u64 {
        1 + self.skipped + self.fire.len() as u64
    }
}

/// The last slots after one moment and up to another, in their order.
fn last_slots(slots: &Slots, after: Timestamp, until: Timestamp, most: usize) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let mut moment = until;
    while found.len() < most
        && let Some(slot) = slots.last_until(moment).filter(|slot| *slot > after)
    {
        found.push(slot);
        moment = slot.minus_ms(1);
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000)
    }

    fn due(cron: &str, after_ms: u64, now_ms: u64, catch_up: CatchUp) -> Due {
        let slots = Slots::new(cron, "UTC").unwrap();
        Due::of(&slots, start().plus_ms(after_ms), start().plus_ms(now_ms), catch_up)
    }

    const MINUTE: u64 = 60_000;

    #[test]
    fn a_slot_is_on_time_for_a_minute() {
        for catch_up in [CatchUp::None, CatchUp::One, CatchUp::All] {
            let seen = due("* * * * *", 0, 2 * MINUTE, catch_up);
            assert_eq!(seen.fire, [start().plus_ms(MINUTE), start().plus_ms(2 * MINUTE)]);
            assert_eq!((seen.skipped, seen.skipped_through), (0, None));
        }
        let late = due("*/5 * * * *", 0, 6 * MINUTE + 1, CatchUp::None);
        assert_eq!(late.fire, []);
        assert_eq!((late.skipped, late.skipped_through), (1, Some(start().plus_ms(5 * MINUTE))));
        let early = due("*/5 * * * *", 0, 5 * MINUTE - 1, CatchUp::All);
        assert_eq!(early, Due::default());
    }

    #[test]
    fn what_was_missed_is_skipped_made_up_for_once_or_made_up_for() {
        let after_an_hour = |catch_up| due("*/10 * * * *", 0, 65 * MINUTE, catch_up);
        let last = start().plus_ms(60 * MINUTE);
        let none = after_an_hour(CatchUp::None);
        assert_eq!((none.fire, none.skipped, none.skipped_through), (vec![], 6, Some(last)));
        let one = after_an_hour(CatchUp::One);
        assert_eq!((one.fire, one.skipped), (vec![last], 5));
        let all = after_an_hour(CatchUp::All);
        assert_eq!((all.fire.len(), all.skipped, all.skipped_through), (6, 0, None));
    }

    #[test]
    fn the_last_thousand_are_made_up_for_at_most() {
        let seconds = 5_000;
        let all = due("* * * * * *", 0, seconds * 1_000, CatchUp::All);
        // The last minute is on time, its first second among it.
        assert_eq!(all.fire.len() as u64, 1_000 + 61);
        assert_eq!(all.skipped, seconds - 1_061);
        assert_eq!(all.fire.last(), Some(&start().plus_ms(seconds * 1_000)));
        let year = due("* * * * * *", 0, 366 * 24 * 60 * MINUTE, CatchUp::None);
        assert_eq!(year.skipped, SKIPPED_COUNTED_MAX);
        let on_time = year.fire.first().unwrap().minus_ms(1_000);
        assert_eq!(year.skipped_through, Some(on_time), "uncounted ones are skipped as well");
    }

    proptest! {
        #[test]
        fn each_slot_fires_or_is_skipped_once(
            step in 1u64..30, after_ms in 0..10 * MINUTE,
            waits_ms in prop::collection::vec(0..40 * MINUTE, 1..20),
            catch_up in prop::sample::select(vec![CatchUp::None, CatchUp::One, CatchUp::All]),
        ) {
            let slots = Slots::new(&format!("*/{step} * * * *"), "Europe/Berlin").unwrap();
            let first = start().plus_ms(after_ms);
            let (mut done, mut now, mut seen) = (first, first, 0);
            for wait_ms in waits_ms {
                now = now.plus_ms(wait_ms);
                let due = Due::of(&slots, done, now, catch_up);
                seen += due.skipped + due.fire.len() as u64;
                let all = due.skipped_through.iter().chain(&due.fire);
                prop_assert!(all.clone().is_sorted());
                prop_assert!(all.clone().all(|slot| *slot > done && *slot <= now));
                done = all.copied().max().unwrap_or(done);
            }
            let mut moment = first;
            while let Some(slot) = slots.next_after(moment).filter(|slot| *slot <= now) {
                seen -= 1;
                moment = slot;
            }
            prop_assert_eq!(seen, 0);
        }
    }
}
