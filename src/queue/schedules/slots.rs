//! Slots: the moments at which a schedule is to make a job, from its cron expression and its time
//! zone.
//!
//! croner reads the expression and finds wall-clock times that match; the zones are jiff's, built
//! into the binary. What happens when a clock is put forward or back is decided here:
//!
//! - An **interval** has `*` or `/` among its seconds, minutes or hours (`*/15 * * * *`,
//!   `0 * * * *`): it goes by the wall clock as it really shows. What a gap leaves out does not
//!   run, what comes twice runs twice: so there is a run in each real hour.
//! - **Fixed times** have neither (`30 2 * * *`, `0 2,14 * * *`): each runs once. One that falls
//!   into a gap runs at the gap's end, once if several do; one that comes twice runs the first
//!   time.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// Longest cron expression, in bytes.
const CRON_BYTES_MAX: usize = 256;
/// From this moment on it is looked whether an expression ever matches: it names no years.
const SOME_MOMENT_MS: u64 = 1_767_225_600_000;
/// How alike a name must be to be meant, from 0 to 1.
const ALIKE: f64 = 0.75;

/// The moments of one schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slots {
    cron: Cron,
    zone: TimeZone,
    is_interval: bool,
}

impl Slots {
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming `cron` or `time_zone`.
    pub(crate) fn new(cron: &str, time_zone: &str) -> Result<Slots> {
        let zone = zone(time_zone)?;
        if cron.len() > CRON_BYTES_MAX {
            let bytes = cron.len();
            let message = format!("{bytes} bytes are too many; at most {CRON_BYTES_MAX}");
            return Err(Error::invalid("cron", message));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed);
        let parsed = parser.build().parse(cron).map_err(|reason| {
            Error::invalid(
                "cron",
                format!(
                    "{cron:?} can't be read: {reason}; write minute, hour, day of the month, month \
                     and day of the week, like \"30 2 * * MON-FRI\", or @daily"
                ),
            )
        })?;
        let is_interval = is_interval(parsed.pattern.as_str());
        let slots = Slots { cron: parsed, zone, is_interval };
        match slots.next_after(Timestamp::from_ms(SOME_MOMENT_MS)) {
            Some(_) => Ok(slots),
            None => {
                let message = format!("{cron:?} never comes: no day is like that; change it");
                Err(Error::invalid("cron", message))
            }
        }
    }

    /// The zone's name, as the time zone database writes it.
    pub(crate) fn time_zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The first slot after a moment.
    pub(crate) fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = self.zoned(moment)?;
        if self.is_interval {
            return timestamp(&self.cron.find_next_occurrence(&from, false).ok()?);
        }
        let mut local = from.datetime();
        loop {
            local = self.cron.find_next_occurrence(&local, false).ok()?;
            let slot = self.moment_of(local)?;
            if slot > moment {
                return Some(slot);
            }
        }
    }

    /// The last slot that is not after a moment.
    pub(crate) fn last_until(&self, moment: Timestamp) -> Option<Timestamp> {
        let from = self.zoned(moment)?;
        if self.is_interval {
            return timestamp(&self.cron.find_previous_occurrence(&from, true).ok()?);
        }
        let mut local = from.datetime();
        if let AmbiguousOffset::Fold { before, after } =
            self.zone.to_ambiguous_timestamp(local).offset()
            && from.offset() == after
        {
            // The clock was put back: later wall-clock times have been before this moment.
            local = local.checked_add(before.duration_since(after)).ok()?;
        }
        let mut inclusive = true;
        loop {
            local = self.cron.find_previous_occurrence(&local, inclusive).ok()?;
            let slot = self.moment_of(local)?;
            if slot <= moment {
                return Some(slot);
            }
            inclusive = false;
        }
    }

    /// A moment with the zone's offset from UTC then.
    pub(crate) fn local(&self, moment: Timestamp) -> LocalTime {
        let offset = self.zoned(moment).map_or(Offset::UTC, |zoned| zoned.offset());
        LocalTime { at: moment, offset_seconds: offset.seconds() }
    }

    /// When a wall-clock time is: for the first time, or at the end of the gap that it falls into.
    fn moment_of(&self, local: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let moment = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
            AmbiguousOffset::Gap { after, .. } => {
                let before_it = after.to_timestamp(local).ok()?;
                self.zone.following(before_it).next()?.timestamp()
            }
        };
        Some(Timestamp::from_ms(u64::try_from(moment.as_millisecond()).ok()?))
    }

    fn zoned(&self, moment: Timestamp) -> Option<Zoned> {
        let ms = i64::try_from(moment.as_ms()).ok()?;
        Some(jiff::Timestamp::from_millisecond(ms).ok()?.to_zoned(self.zone.clone()))
    }
}

/// A moment as a clock on the wall shows it: written as RFC 3339 with the offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The moment.
    pub at: Timestamp,
    /// What the wall clock is ahead of UTC, in seconds.
    pub offset_seconds: i32,
}

impl std::fmt::Display for LocalTime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = i64::try_from(self.at.as_ms()).map_err(|_| std::fmt::Error)?;
        let moment = jiff::Timestamp::from_millisecond(ms).map_err(|_| std::fmt::Error)?;
        let offset = Offset::from_seconds(self.offset_seconds).map_err(|_| std::fmt::Error)?;
        write!(formatter, "{}", moment.display_with_offset(offset))
    }
}

fn timestamp(zoned: &Zoned) -> Option<Timestamp> {
    let ms = u64::try_from(zoned.timestamp().as_millisecond()).ok()?;
    Some(Timestamp::from_ms(ms))
}

/// True when there is `*` or a step among the seconds, minutes and hours.
fn is_interval(pattern: &str) -> bool {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let times = fields.len().saturating_sub(3);
    fields.iter().take(times).any(|field| field.contains(['*', '/']))
}

fn zone(name: &str) -> Result<TimeZone> {
    let zones = TimeZoneDatabase::bundled();
    if let Ok(zone) = zones.get(name)
        && zone.iana_name().is_some()
    {
        return Ok(zone);
    }
    let alike = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
    let closest = zones.available().map(|known| (alike(known.as_str()), known.to_string()));
    let closest = closest.max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = match closest {
        Some((likeness, known)) if likeness >= ALIKE => format!("did you mean {known:?}?"),
        _ => "use an IANA name like \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    Err(Error::invalid("time_zone", format!("there is no time zone {name:?}; {hint}")))
}

#[cfg(test)]
mod tests;
