//! The one error type: a kind that says what the caller should do, and a sentence for a person.

use std::fmt;

/// What the caller should do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The call itself is wrong. Fix the named field; repeating it unchanged fails again.
    Invalid,
    /// No such job, dead letter or queue (any more). Nothing was changed.
    NotFound,
    /// The thing is not in a state in which this can be done. Look at it again.
    Conflict,
    /// The lease has ended; somebody else may have the job. Drop the result; nothing was changed.
    LeaseLost,
    /// The job was cancelled while it ran. Drop the result; the job is gone now.
    Cancelled,
    /// More bytes or items than a limit allows. Send less in one call.
    TooLarge,
    /// The queue takes no more of this for now. Try again later.
    Full,
    /// A new queue would be one too many. Use one that is there, or remove an empty one.
    TooManyQueues,
    /// The disk has no room for more jobs; what is left is kept for finishing those there are.
    DiskFull,
    /// The queue is shutting down. Try again after the restart.
    Draining,
    /// The store failed. The process must end and reopen; what was not acknowledged may be tried
    /// again then.
    Poisoned,
    /// Stored bytes are not what was written. Restore or run `pulk doctor`.
    Corrupt,
    /// The data directory can't be used as it is (a file, read-only, a newer format, an I/O
    /// error while opening).
    Storage,
    /// Another process holds the data directory. Stop it or use another directory.
    Locked,
    /// The configuration is wrong. Fix the named setting.
    Configuration,
}

/// An error as a sentence: what happened, to what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    field: Option<String>,
    message: String,
    retry_after_ms: Option<u64>,
    job: Option<String>,
}

impl Error {
    /// An error of any kind with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, field: None, message: message.into(), retry_after_ms: None, job: None }
    }

    /// A field of the call that can't be used, and why.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error { field: Some(field.into()), ..Error::new(ErrorKind::Invalid, message) }
    }

    /// A field of the call that is larger than its limit.
    pub fn too_large(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error { field: Some(field.into()), ..Error::new(ErrorKind::TooLarge, message) }
    }

    /// The same error with the field of the call that it is about.
    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same error, its field placed inside `outer`: `kind` becomes `jobs[3].kind`.
    #[must_use]
    pub fn inside(mut self, outer: &str) -> Self {
        if let Some(field) = self.field.take() {
            self.field = Some(format!("{outer}.{field}"));
        }
        self
    }

    /// The same error about another field, with another sentence.
    #[must_use]
    pub(crate) fn retold(mut self, field: String, message: impl FnOnce(&str) -> String) -> Self {
        (self.message, self.field) = (message(&self.message), Some(field));
        self
    }

    /// The same error with the time after which the call may be tried again, in milliseconds.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// The same error with the id of the job that stands in the way.
    #[must_use]
    pub fn about_job(mut self, id: impl fmt::Display) -> Self {
        self.job = Some(id.to_string());
        self
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field of the call that is at fault, as the caller would write it.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// When the call may be tried again, in milliseconds from now, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after_ms
    }

    /// The id of the job that stands in the way, if one does.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(formatter, "{field}: {}", self.message),
            None => formatter.write_str(&self.message),
        }
    }
}

/// A result whose error is a sentence.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_with_its_place() {
        let error = Error::invalid("kind", "must not be empty").inside("jobs[3]");
        assert_eq!(error.to_string(), "jobs[3].kind: must not be empty");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.field(), Some("jobs[3].kind"));
    }
}
