//! Why a job was given up, and what went wrong on the way there.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;

/// How many failures of a job are kept; older ones make room.
pub const ERRORS_KEPT_MAX: usize = 8;
/// How much of one error's text is kept, in bytes.
pub const ERROR_BYTES_MAX: usize = 1_024;

/// Why a job is a dead letter.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DeadReason {
    /// It failed as often as it may.
    Exhausted,
    /// Its worker said that it must not be tried again.
    Rejected,
    /// It was interrupted more often than it may be: it probably kills its workers.
    Crashed,
    /// A part of its payload was damaged on the disk.
    Damaged,
    /// No worker started it in time.
    Expired,
}

impl DeadReason {
    /// All reasons.
    pub const ALL: [DeadReason; 5] = [
        DeadReason::Exhausted,
        DeadReason::Rejected,
        DeadReason::Crashed,
        DeadReason::Damaged,
        DeadReason::Expired,
    ];

    /// The lower-case name used in JSON and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Rejected => "rejected",
            DeadReason::Crashed => "crashed",
            DeadReason::Damaged => "damaged",
            DeadReason::Expired => "expired",
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a dead letter was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Removal {
    /// Somebody deleted it.
    Deleted,
    /// Somebody purged it, with all others that matched.
    Purged,
    /// It was older than dead letters are kept.
    Age,
    /// It was the oldest of more than are kept for a queue.
    Number,
}

impl Removal {
    /// The lower-case name used in logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Removal::Deleted => "deleted",
            Removal::Purged => "purged",
            Removal::Age => "age",
            Removal::Number => "number",
        }
    }
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FailedAttempt {
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// When it failed.
    pub failed_at: Timestamp,
    /// What the worker said, its first kilobyte.
    pub error: String,
}

/// The first kilobyte of an error's text, cut between characters.
pub(crate) fn shorten(error: &str) -> &str {
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(shorten("short"), "short");
        let long = "é".repeat(ERROR_BYTES_MAX);
        let long = format!("x{long}");
        let kept = shorten(&long);
        assert_eq!(kept.len(), ERROR_BYTES_MAX - 1);
        assert!(kept.ends_with('é'));
    }
}
