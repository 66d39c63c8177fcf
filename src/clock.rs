//! Time as a value. The only place that reads the system's clock.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::error::Error;

/// A moment: milliseconds since 1970-01-01T00:00:00Z, from 0 to [`Timestamp::MAX`].
///
/// Shown and read as RFC 3339 with milliseconds: `2026-11-23T08:15:30.250Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    description = "A moment from 1970 to 9999, RFC 3339. Read with any offset, written in UTC with \
                   milliseconds.",
    value_type = String,
    format = DateTime,
    examples("2026-11-23T08:15:30.250Z")
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last moment: 9999-12-30T21:59:59.999Z, the last second that the time library can
    /// write. It fits in the 48 bits that a job id has for it.
    pub const MAX: Timestamp = Timestamp(253_402_207_199_999);

    /// The moment this many milliseconds after 1970, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Timestamp(ms.min(Self::MAX.0))
    }

    /// Milliseconds after 1970.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The moment `ms` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Timestamp::from_ms(self.0.saturating_add(ms))
    }

    /// The moment `ms` earlier, at least 1970.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Timestamp(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 when `earlier` is later.
    #[must_use]
    pub fn ms_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let moment = jiff::Timestamp::from_millisecond(ms).map_err(|_| fmt::Error)?;
        write!(formatter, "{moment:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let moment: jiff::Timestamp = text.parse().map_err(|reason| {
            Error::new(
                crate::error::ErrorKind::Invalid,
                format!(
                    "{text:?} is not a time; write it like 2026-11-23T08:15:30.250Z ({reason})"
                ),
            )
        })?;
        let ms = u64::try_from(moment.as_millisecond()).map_err(|_| {
            Error::new(
                crate::error::ErrorKind::Invalid,
                format!("{text:?} is before 1970; use a later time"),
            )
        })?;
        Ok(Timestamp::from_ms(ms))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where the engine gets the time from.
pub trait Clock: Send + Sync {
    /// The present moment. It may go backwards: nothing above relies on it not to.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_ms(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is told to move; for tests and simulation.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        ManualClock(Arc::new(AtomicU64::new(now.as_ms())))
    }

    /// Moves the clock, forwards or backwards. After it, call
    /// [`Queue::tick`](crate::Queue::tick): an engine asleep doesn't notice.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_ms(), Ordering::SeqCst);
    }

    /// Moves the clock forwards by `ms`.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_rfc_3339_with_milliseconds() {
        let moment: Timestamp = "2026-11-23T09:15:30.25+01:00".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-11-23T08:15:30.250Z");
        assert_eq!(Timestamp::from_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::MAX.to_string().parse::<Timestamp>().unwrap(), Timestamp::MAX);
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("tomorrow".parse::<Timestamp>().is_err());
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        assert_eq!(Timestamp::MAX.plus_ms(1), Timestamp::MAX);
        assert_eq!(Timestamp::from_ms(5).minus_ms(9), Timestamp::from_ms(0));
        assert_eq!(Timestamp::from_ms(5).ms_since(Timestamp::from_ms(9)), 0);
        assert!(Timestamp::MAX.as_ms() < 1 << 48);
    }
}
