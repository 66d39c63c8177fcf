use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The slots between two moments, the first one left out, as the zone's clocks show them.
fn between(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let slots = Slots::new(cron, zone).unwrap();
    let (mut moment, end) = (at(from), at(to));
    let mut found = Vec::new();
    while let Some(slot) = slots.next_after(moment).filter(|slot| *slot <= end) {
        found.push(slots.local(slot).to_string());
        assert_eq!(slots.last_until(slot), Some(slot), "forwards and backwards agree");
        moment = slot;
    }
    found
}

#[test]
fn a_fixed_time_in_the_spring_gap_runs_once_right_after_it() {
    // Berlin: 02:00 becomes 03:00 on 2026-03-29.
    assert_eq!(
        between("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z"),
        ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    );
    // New York: 02:00 becomes 03:00 on 2026-03-08.
    assert_eq!(
        between("30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", "2026-03-09T12:00:00Z"),
        ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]
    );
}

#[test]
fn several_fixed_times_in_the_gap_run_once_together() {
    let night =
        |cron| between(cron, "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(night("0,30 2 * * *"), ["2026-03-29T03:00:00+02:00"]);
    assert_eq!(night("0 2,3 * * *"), ["2026-03-29T03:00:00+02:00"]);
    assert_eq!(night("30 2,3 * * *"), ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]);
    // The hour before the gap is not in it.
    assert_eq!(night("59 1 * * *"), ["2026-03-29T01:59:00+01:00"]);
    assert_eq!(night("0 3 * * *"), ["2026-03-29T03:00:00+02:00"]);
}

#[test]
fn a_fixed_time_that_comes_twice_runs_the_first_time() {
    // Berlin: 03:00 becomes 02:00 on 2026-10-25.
    assert_eq!(
        between("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
        ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    );
    assert_eq!(
        between("0 2,3,14 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T14:00:00Z"),
        ["2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00", "2026-10-25T14:00:00+01:00"]
    );
    // New York: 02:00 becomes 01:00 on 2026-11-01.
    assert_eq!(
        between("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", "2026-11-02T12:00:00Z"),
        ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]
    );
}

#[test]
fn an_interval_runs_in_each_real_hour() {
    let night = |cron, from, to| between(cron, "Europe/Berlin", from, to);
    assert_eq!(
        night("0 * * * *", "2026-03-28T23:30:00Z", "2026-03-29T02:00:00Z"),
        ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]
    );
    assert_eq!(
        night("@hourly", "2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z"),
        ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]
    );
    let quarters = night("*/15 * * * *", "2026-10-24T23:59:00Z", "2026-10-25T01:59:00Z");
    assert_eq!(quarters.len(), 8, "{quarters:?}");
    let quarters = night("*/15 * * * *", "2026-03-29T00:59:00Z", "2026-03-29T02:00:00Z");
    assert_eq!(quarters.first().unwrap(), "2026-03-29T03:00:00+02:00");
    assert_eq!(quarters.len(), 5, "{quarters:?}");
    // An interval in an hour that is left out has nothing that day, and twice in one that comes
    // twice.
    assert!(night("*/30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z").is_empty());
    let twice = night("*/30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
    assert_eq!(twice.len(), 4, "{twice:?}");
    let new_york =
        between("0 */1 * * *", "America/New_York", "2026-11-01T04:30:00Z", "2026-11-01T07:00:00Z");
    assert_eq!(
        new_york,
        ["2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"]
    );
}

#[test]
fn names_seconds_and_nicknames_are_read() {
    let from = "2026-11-23T12:00:00Z";
    let next = |cron: &str, zone: &str| {
        let slots = Slots::new(cron, zone).unwrap();
        slots.local(slots.next_after(at(from)).unwrap()).to_string()
    };
    assert_eq!(next("0 9 * * mon-fri", "UTC"), "2026-11-24T09:00:00+00:00");
    assert_eq!(next("0 9 1 JAN *", "utc"), "2027-01-01T09:00:00+00:00");
    assert_eq!(next("*/10 * * * * *", "UTC"), "2026-11-23T12:00:10+00:00");
    assert_eq!(next("@daily", "Asia/Kolkata"), "2026-11-24T00:00:00+05:30");
    assert_eq!(next("0 0 L * *", "UTC"), "2026-11-30T00:00:00+00:00");
    assert_eq!(next("0 0 * * FRI#1", "UTC"), "2026-12-04T00:00:00+00:00");
    assert_eq!(next("0 0 29 2 *", "UTC"), "2028-02-29T00:00:00+00:00");
    assert_eq!(Slots::new("@daily", "europe/berlin").unwrap().time_zone(), "Europe/Berlin");
}

#[test]
fn what_cannot_be_read_or_never_comes_is_refused_by_name() {
    let refused = |cron: &str, zone: &str| {
        let error = Slots::new(cron, zone).unwrap_err();
        (error.field().unwrap().to_owned(), error.to_string())
    };
    for cron in [
        "",
        "* * * *",
        "60 * * * *",
        "@reboot",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "0 0 * * * * 2027",
        "é * * * *",
        "0 0 * FOO *",
        "5/10 * * * *",
        "* * * * MON#6",
    ] {
        assert_eq!(refused(cron, "UTC").0, "cron", "{cron}");
    }
    assert_eq!(refused(&format!("{} * * * *", "0,".repeat(200)), "UTC").0, "cron");
    assert!(refused("0 0 30 2 *", "UTC").1.contains("never comes"));
    let (field, told) = refused("@daily", "Europe/Berln");
    assert_eq!(field, "time_zone");
    assert!(told.ends_with("did you mean \"Europe/Berlin\"?"), "{told}");
    for zone in ["", "+02:00", "CET-1CEST,M3.5.0,M10.5.0/3", "../UTC", "Etc/Unknown", "localtime"] {
        assert_eq!(refused("@daily", zone).0, "time_zone", "{zone}");
    }
}

#[test]
fn slots_end_at_the_end_of_time() {
    let slots = Slots::new("* * * * *", "UTC").unwrap();
    assert_eq!(slots.next_after(Timestamp::MAX), None);
    let fixed = Slots::new("0 0 1 1 *", "Pacific/Kiritimati").unwrap();
    assert_eq!(fixed.next_after(Timestamp::MAX), None);
    assert_eq!(fixed.last_until(Timestamp::from_ms(0)), None);
}

/// One value of a field, or several, or steps.
fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let one = move || least..=most;
    prop_oneof![
        2 => Just("*".to_owned()),
        4 => one().prop_map(|value| value.to_string()),
        2 => (one(), one()).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (one(), one()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (2u32..7).prop_map(|step| format!("*/{step}")),
    ]
}

/// Zones with gaps and folds of half an hour, one and two hours, some of them at midnight.
const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "UTC",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Africa/Casablanca",
];

/// All slots in a span, minute by minute, from what is said at the top of the module.
fn by_brute_force(slots: &Slots, from: Timestamp, minutes: u64) -> BTreeSet<Timestamp> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let local = |moment| slots.zoned(moment).unwrap().datetime();
    // Wall-clock times that came before the span come no second time in it.
    for minute in 1..=180 {
        seen.insert(local(from.minus_ms(minute * 60_000)));
    }
    let mut last = local(from.minus_ms(60_000));
    for minute in 0..minutes {
        let moment = from.plus_ms(minute * 60_000);
        let now = local(moment);
        let mut times = vec![now];
        if !slots.is_interval {
            // All that the clock passed over, and nothing that it showed before.
            let mut passed = last;
            while passed < now {
                passed = passed.checked_add(jiff::SignedDuration::from_mins(1)).unwrap();
                times.push(passed);
            }
            times.retain(|time| seen.insert(*time));
        }
        if times.iter().any(|time| slots.cron.is_time_matching(time).unwrap()) {
            found.insert(moment);
        }
        last = now;
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_what_the_clock_on_the_wall_shows(
        fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)),
        zone in prop::sample::select(ZONES.to_vec()),
        // Around a change of the clocks, or anywhere.
        near in prop::option::of(0usize..12),
        anywhere_h in 0u64..5 * 8_760,
        back_min in 0u64..2_000,
    ) {
        let (minute, hour, day, month, weekday) = fields;
        let slots = Slots::new(&format!("{minute} {hour} {day} {month} {weekday}"), zone);
        // One that never comes.
        let Ok(slots) = slots else { return Ok(()) };
        let start = Timestamp::from_ms(SOME_MOMENT_MS).plus_ms(anywhere_h * 3_600_000);
        let change = near.and_then(|number| {
            let start = slots.zoned(start).unwrap().timestamp();
            let change = slots.zone.following(start).nth(number)?.timestamp();
            Some(Timestamp::from_ms(change.as_millisecond() as u64))
        });
        let from = change.unwrap_or(start).minus_ms(back_min * 60_000);
        let expected = by_brute_force(&slots, from, 3_000);
        let last = from.plus_ms(2_999 * 60_000);
        let mut found = BTreeSet::new();
        let mut moment = from.minus_ms(1);
        while let Some(slot) = slots.next_after(moment).filter(|slot| *slot <= last) {
            prop_assert!(slot > moment);
            found.insert(slot);
            moment = slot;
        }
        prop_assert_eq!(&found, &expected);
        let mut backwards = BTreeSet::new();
        let mut moment = last.plus_ms(59_999);
        while let Some(slot) = slots.last_until(moment).filter(|slot| *slot >= from) {
            prop_assert!(slot <= moment);
            backwards.insert(slot);
            moment = slot.minus_ms(1);
        }
        prop_assert_eq!(&backwards, &expected, "backwards");
    }

    #[test]
    fn no_text_makes_it_panic(
        cron in "[0-9*/,#LW?+@a-zA-Z-]{0,6}( [0-9*/,#LW?+A-Z-]{0,6}){0,6}", other in ".{0,40}",
        zone in "[A-Za-z/_+-]{0,12}",
    ) {
        for cron in [&cron, &other] {
            if let Ok(slots) = Slots::new(cron, "Europe/Berlin") {
                let slot = slots.next_after(Timestamp::from_ms(SOME_MOMENT_MS)).unwrap();
                prop_assert_eq!(slots.last_until(slot), Some(slot));
            }
        }
        drop(Slots::new("@daily", &zone));
    }
}
