//! What a handler says of a job when it is through with it.

use std::fmt::Display;

use bytes::Bytes;
use serde::Serialize;

use crate::error::Result;
use crate::job::Payload;

/// What becomes of a job that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and never runs again.
    Done,
    /// So it is, and this came of it: the text of one JSON value, at most 16 KiB.
    DoneWith(Bytes),
    /// It failed: it costs an attempt, and is tried again after the delay of its retry policy,
    /// or is dead when that was the last one.
    Fail {
        /// Why, for the people who look at it.
        error: String,
        /// Tried again after so many milliseconds instead.
        retry_in_ms: Option<u64>,
    },
    /// It will never succeed: it is dead at once, whatever attempts are left.
    Reject {
        /// Why, for the people who look at it.
        error: String,
    },
    /// Not now: it runs again after so many milliseconds, and that costs it no attempt.
    Snooze {
        /// 0 to 10 years.
        delay_ms: u64,
    },
}

impl Outcome {
    /// Done, and this came of it.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the value has no JSON form.
    pub fn done_with<T: Serialize + ?Sized>(result: &T) -> Result<Self> {
        Payload::json(result).map(|json| Outcome::DoneWith(json.bytes().clone()))
    }

    /// Failed, to be tried again as the job's retry policy says.
    #[must_use]
    pub fn fail(error: impl Display) -> Self {
        Outcome::Fail { error: error.to_string(), retry_in_ms: None }
    }

    /// Failed, to be tried again after so many milliseconds.
    #[must_use]
    pub fn fail_at(error: impl Display, retry_in_ms: u64) -> Self {
        Outcome::Fail { error: error.to_string(), retry_in_ms: Some(retry_in_ms) }
    }

    /// Failed for good.
    #[must_use]
    pub fn reject(error: impl Display) -> Self {
        Outcome::Reject { error: error.to_string() }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::Done
    }
}

impl<E: Display> From<Result<(), E>> for Outcome {
    /// An error is a failure that is tried again.
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(Outcome::fail, |()| Outcome::Done)
    }
}

impl<E: Display> From<Result<Outcome, E>> for Outcome {
    /// An error is a failure that is tried again.
    fn from(result: Result<Outcome, E>) -> Self {
        result.unwrap_or_else(Outcome::fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_returns_is_an_outcome() {
        assert_eq!(Outcome::from(()), Outcome::Done);
        assert_eq!(Outcome::from(Ok::<(), String>(())), Outcome::Done);
        let failed = Outcome::Fail { error: "no route".to_owned(), retry_in_ms: None };
        assert_eq!(Outcome::from(Err::<(), _>("no route")), failed);
        let snoozed = Outcome::Snooze { delay_ms: 5 };
        assert_eq!(Outcome::from(Ok::<_, String>(snoozed.clone())), snoozed);
        assert_eq!(Outcome::from(Err::<Outcome, _>("no route")), failed);
    }

    #[test]
    fn a_result_is_kept_as_json() {
        let outcome = Outcome::done_with(&serde_json::json!({"pages": 3})).unwrap();
        assert_eq!(outcome, Outcome::DoneWith(Bytes::from_static(b"{\"pages\":3}")));
    }
}
