//! Keys that a producer gives a job, so that the same work is not taken in twice.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::job::{limits, validate_range};

/// A key that at most one job of a queue holds: from its enqueue until it is done, cancelled or
/// dead, or until `ttl_ms` are over, whichever is first.
///
/// ```
/// use pulk::job::{OnConflict, Unique};
///
/// let daily = Unique::new("report-2026-11-23").on_conflict(OnConflict::Return);
/// let job = pulk::NewJob::new("report").unique(daily);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// 1 to 256 bytes of visible text.
    pub key: String,
    /// How long it is held at most, in milliseconds from the enqueue: 1 ms to 10 years.
    pub ttl_ms: Option<u64>,
    /// What happens when another job holds it.
    pub on_conflict: OnConflict,
}

/// What becomes of a new job whose unique key another job holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It is refused, and told which job holds the key.
    #[default]
    Reject,
    /// It is not taken in; the answer describes the holder.
    Return,
    /// The holder is cancelled and the new job is taken in. A holder that runs can't be replaced.
    Replace,
}

impl Unique {
    /// This key, held as long as the job lives, refused while another job holds it.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Unique { key: key.into(), ttl_ms: None, on_conflict: OnConflict::Reject }
    }

    /// Frees it after so many milliseconds, whatever the job does.
    #[must_use]
    pub fn ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.ttl_ms = Some(ttl_ms);
        self
    }

    /// What happens when another job holds it.
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        validate_visible_text("unique.key", &self.key)?;
        validate_range("unique.ttl_ms", self.ttl_ms, 1, limits::DELAY_MS_MAX)
    }
}

/// Checks a key that is text: 1 to 256 bytes, visible.
pub(crate) fn validate_visible_text(field: &str, key: &str) -> Result<()> {
    const { assert!(limits::UNIQUE_KEY_BYTES_MAX == limits::SHARED_KEY_BYTES_MAX) };
    validate_length(field, key, limits::UNIQUE_KEY_BYTES_MAX)?;
    if let Some(odd) = key.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(field, format!("has {odd:?} in it; use text")));
    }
    if key.trim().is_empty() {
        return Err(Error::invalid(field, "is only blanks; use visible text"));
    }
    Ok(())
}

/// Checks an idempotency key: 1 to 256 bytes of visible ASCII.
pub(crate) fn validate_idempotency_key(field: &str, key: &str) -> Result<()> {
    validate_length(field, key, limits::IDEMPOTENCY_KEY_BYTES_MAX)?;
    match key.chars().find(|c| !c.is_ascii_graphic()) {
        Some(odd) => {
            Err(Error::invalid(field, format!("has {odd:?} in it; use visible ASCII, no blanks")))
        }
        None => Ok(()),
    }
}

fn validate_length(field: &str, key: &str, most: usize) -> Result<()> {
    match key.len() {
        0 => Err(Error::invalid(field, "must not be empty")),
        bytes if bytes > most => {
            Err(Error::invalid(field, format!("{bytes} bytes are too many; at most {most}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_text_of_at_most_256_bytes() {
        let field = |key: &str| {
            Unique::new(key).validate().map_err(|error| error.field().unwrap().to_owned())
        };
        assert_eq!(field("order 17 · é"), Ok(()));
        assert_eq!(field(&"k".repeat(256)), Ok(()));
        for bad in ["", " ", "a\nb", "a\u{7f}", &"k".repeat(257)] {
            assert_eq!(field(bad).unwrap_err(), "unique.key", "{bad:?}");
        }
        let ttl = |ms| Unique::new("k").ttl_ms(ms).validate().is_ok();
        assert!(ttl(1) && ttl(limits::DELAY_MS_MAX));
        assert!(!ttl(0) && !ttl(limits::DELAY_MS_MAX + 1));
    }

    #[test]
    fn an_idempotency_key_is_visible_ascii() {
        let valid = |key: &str| validate_idempotency_key("Idempotency-Key", key).is_ok();
        assert!(valid("\"8e03978e-40d5\"") && valid(&"k".repeat(256)));
        assert!(!valid("") && !valid("a b") && !valid("é") && !valid(&"k".repeat(257)));
    }
}
