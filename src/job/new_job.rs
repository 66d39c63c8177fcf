//! What a producer hands in, and the limits it is held to.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::Unique;
use crate::job::unique::{validate_idempotency_key, validate_visible_text};
use crate::priority::Priority;
use crate::retry::RetryPolicy;

/// The limits that every job is held to. A call above one gets an error that names the field.
pub mod limits {
    /// Longest name of a queue or a kind, in bytes.
    pub const NAME_BYTES_MAX: usize = 128;
    /// Largest payload, in bytes.
    pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
    /// Most headers of one job.
    pub const HEADERS_MAX: usize = 32;
    /// All names and values of a job's headers together, in bytes.
    pub const HEADERS_BYTES_MAX: usize = 4 << 10;
    /// Most attempts of one job.
    pub const ATTEMPTS_MAX: u32 = 1_000;
    /// Most interruptions of one job.
    pub const INTERRUPTIONS_MAX: u32 = 1_000;
    /// Longest time one attempt may be given, in milliseconds: 7 days.
    pub const TIMEOUT_MS_MAX: u64 = 7 * 24 * 3_600_000;
    /// Longest delay before a job may run, in milliseconds: 10 years.
    pub const DELAY_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;
    /// Most jobs in one batch.
    pub const BATCH_JOBS_MAX: usize = 10_000;
    /// Most bytes in one batch: payloads, names and headers together, for each unique key,
    /// idempotency key and expiry about 100 bytes and twice the key, and for each concurrency key
    /// and ordering key about 100 bytes and four times the key.
    pub const BATCH_BYTES_MAX: usize = 4 << 20;
    /// Longest unique key, in bytes.
    pub const UNIQUE_KEY_BYTES_MAX: usize = 256;
    /// Longest concurrency key or ordering key, in bytes.
    pub const SHARED_KEY_BYTES_MAX: usize = 256;
    /// Longest idempotency key, in bytes.
    pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
    /// How long an idempotency key is remembered, in milliseconds: 24 hours.
    pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 3_600_000;
    /// Largest result of a job, in bytes.
    pub const RESULT_BYTES_MAX: usize = 16 << 10;
    /// Largest payload of the job of a schedule, in bytes.
    pub const SCHEDULE_PAYLOAD_BYTES_MAX: usize = 16 << 10;
}

/// About what the index entries of a key or an expiry take beside the key itself, which is written
/// twice.
const INDEX_BYTES: usize = 96;

/// What a job carries. The queue keeps the bytes as they came and never looks inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The text of one JSON value, byte for byte.
    Json(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

impl Payload {
    /// The bytes, whatever they are.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Payload::Json(bytes) | Payload::Binary(bytes) => bytes,
        }
    }

    /// The JSON text of a serializable value.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the value has no JSON form.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_vec(value)
            .map(|text| Payload::Json(text.into()))
            .map_err(|reason| Error::invalid("payload", format!("has no JSON form: {reason}")))
    }
}

impl Default for Payload {
    /// JSON `null`.
    fn default() -> Self {
        Payload::Json(Bytes::from_static(b"null"))
    }
}

/// When a new job may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunAt {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// So many milliseconds after it was enqueued.
    DelayMs(u64),
    /// At this moment, or at once when it is past.
    At(Timestamp),
}

/// What a producer hands in.
///
/// ```
/// let job = pulk::NewJob::new("mail.welcome")
///     .queue("mails")
///     .priority(pulk::Priority::High)
///     .payload(pulk::Payload::json(&serde_json::json!({"to": "ann@example.org"}))?);
/// # Ok::<(), pulk::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewJob {
    /// The queue, created by its first job; `default` when empty.
    pub queue: String,
    /// What is to be done: the name of the handler, 1 to 128 bytes.
    pub kind: String,
    /// What the handler gets; at most 1 MiB.
    pub payload: Payload,
    /// How urgent it is.
    pub priority: Priority,
    /// When it may run.
    pub run_at: RunAt,
    /// How often it may fail in all; the configured number of its priority when `None`.
    pub max_attempts: Option<u32>,
    /// How often it may be interrupted before it is put to the dead letters as `crashed`.
    pub max_interruptions: Option<u32>,
    /// How long to wait between attempts; the configured policy when `None`.
    pub retry: Option<RetryPolicy>,
    /// How long one attempt may take in all, in milliseconds; longer counts as a failure.
    pub timeout_ms: Option<u64>,
    /// Names and values handed to the worker beside the payload.
    pub headers: BTreeMap<String, String>,
    /// A key that no other job of the queue may hold.
    pub unique: Option<Unique>,
    /// Jobs of the queue with the same key run one at a time, or as many as the queue's limit
    /// `concurrency_per_key` says. 1 to 256 bytes of visible text.
    pub concurrency_key: Option<String>,
    /// Jobs of the queue with the same key run one after the other, in the order in which they
    /// were enqueued; one for later counts from when it is due. The next one starts when the one
    /// before is done, dead or cancelled: while it is retried, they wait. 1 to 256 bytes of
    /// visible text.
    pub ordering_key: Option<String>,
    /// A job that no worker has started so many milliseconds after its enqueue is a dead letter,
    /// reason `expired`. More than its delay, at most 10 years.
    pub expires_in_ms: Option<u64>,
    /// Names this call, 1 to 256 bytes of visible ASCII: whoever makes it again within 24 hours
    /// gets the first answer, and no second job, even when the first is done.
    pub idempotency_key: Option<String>,
}

impl NewJob {
    /// The queue of a job that names none.
    pub const DEFAULT_QUEUE: &str = "default";

    /// A job of this kind in the default queue, to run now, with payload `null`.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        NewJob { queue: Self::DEFAULT_QUEUE.to_owned(), kind: kind.into(), ..NewJob::default() }
    }

    /// Puts it in this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Gives it this payload.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Gives it this priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Lets it run no earlier than this.
    #[must_use]
    pub fn run_at(mut self, run_at: RunAt) -> Self {
        self.run_at = run_at;
        self
    }

    /// Lets no other job of its queue hold this key.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// Lets it run beside few others of its queue with this key, one at a time if nothing else is
    /// set.
    #[must_use]
    pub fn concurrency_key(mut self, key: impl Into<String>) -> Self {
        self.concurrency_key = Some(key.into());
        self
    }

    /// Lets it run after those before it in its queue with this key.
    #[must_use]
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Makes it a dead letter when no worker has started it by then.
    #[must_use]
    pub fn expires_in_ms(mut self, expires_in_ms: u64) -> Self {
        self.expires_in_ms = Some(expires_in_ms);
        self
    }

    /// Gives whoever repeats this call the first answer.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Bytes that count against a batch's limit and the engine's memory.
    pub(crate) fn weight_bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let unique = self.unique.as_ref().map(|unique| 2 * unique.key.len());
        let idempotency = self.idempotency_key.as_ref().map(|key| 2 * key.len());
        let expiry = self.expires_in_ms.map(|_| 0);
        let shared = [&self.concurrency_key, &self.ordering_key];
        let shared = shared.map(|key| key.as_ref().map(|key| 4 * key.len()));
        let indexed = [unique, idempotency, expiry].into_iter().chain(shared).flatten();
        let indexed: usize = indexed.map(|bytes| bytes + INDEX_BYTES).sum();
        self.payload.bytes().len() + self.queue.len() + self.kind.len() + headers + indexed
    }

    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) or [`TooLarge`](crate::ErrorKind::TooLarge) with the
    /// first field that can't be taken.
    pub fn validate(&self) -> Result<()> {
        validate_name("queue", &self.queue)?;
        validate_name("kind", &self.kind)?;
        if self.payload.bytes().len() > limits::PAYLOAD_BYTES_MAX {
            return Err(Error::too_large(
                "payload",
                format!(
                    "{} bytes are too many; at most {} (store large data elsewhere and enqueue \
                     where it is)",
                    self.payload.bytes().len(),
                    limits::PAYLOAD_BYTES_MAX
                ),
            ));
        }
        self.validate_headers()?;
        validate_range("max_attempts", self.max_attempts, 1, limits::ATTEMPTS_MAX)?;
        validate_range("max_interruptions", self.max_interruptions, 0, limits::INTERRUPTIONS_MAX)?;
        validate_range("timeout_ms", self.timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
        if let RunAt::DelayMs(delay_ms) = self.run_at {
            validate_range("delay_ms", Some(delay_ms), 0, limits::DELAY_MS_MAX)?;
            self.validate_expiry(delay_ms)?;
        }
        validate_range("expires_in_ms", self.expires_in_ms, 1, limits::DELAY_MS_MAX)?;
        self.unique.as_ref().map_or(Ok(()), Unique::validate)?;
        for (field, key) in
            [("concurrency_key", &self.concurrency_key), ("ordering_key", &self.ordering_key)]
        {
            key.as_ref().map_or(Ok(()), |key| validate_visible_text(field, key))?;
        }
        if let Some(key) = &self.idempotency_key {
            validate_idempotency_key("idempotency_key", key)?;
        }
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::validate)
    }

    /// Checks that a job which may run so many milliseconds from now can be started in time.
    pub(crate) fn validate_expiry(&self, delay_ms: u64) -> Result<()> {
        match self.expires_in_ms {
            Some(expires_in_ms) if expires_in_ms <= delay_ms => Err(Error::invalid(
                "expires_in_ms",
                format!("{expires_in_ms} must be more than the delay of {delay_ms} ms"),
            )),
            _ => Ok(()),
        }
    }

    fn validate_headers(&self) -> Result<()> {
        if self.headers.len() > limits::HEADERS_MAX {
            return Err(Error::invalid(
                "headers",
                format!("{} are too many; at most {}", self.headers.len(), limits::HEADERS_MAX),
            ));
        }
        if self.headers.keys().any(String::is_empty) {
            return Err(Error::invalid("headers", "a header's name must not be empty"));
        }
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > limits::HEADERS_BYTES_MAX {
            return Err(Error::invalid(
                "headers",
                format!("{bytes} bytes are too many; at most {}", limits::HEADERS_BYTES_MAX),
            ));
        }
        Ok(())
    }
}

/// Checks the name of a queue or a kind: 1 to 128 bytes of ASCII letters, digits and `. _ - : /`.
pub(crate) fn validate_name(field: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(Error::invalid(
            field,
            format!("{} bytes are too many; at most {}", name.len(), limits::NAME_BYTES_MAX),
        ));
    }
    if name == "." || name == ".." {
        // In a URL these two are directories, and clients fold them away.
        return Err(Error::invalid(field, format!("{name:?} can't be a part of a URL")));
    }
    let odd = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-:/".contains(*c));
    match odd {
        Some(odd) => Err(Error::invalid(
            field,
            format!("{name:?} has {odd:?} in it; use ASCII letters, digits and . _ - : /"),
        )),
        None => Ok(()),
    }
}

/// Checks an optional number against its range.
pub(crate) fn validate_range<T: PartialOrd + fmt::Display>(
    field: &str,
    value: Option<T>,
    least: T,
    most: T,
) -> Result<()> {
    match value {
        Some(value) if value < least || value > most => {
            Err(Error::invalid(field, format!("{value} is out of range; use {least} to {most}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_beyond_its_limit_is_named() {
        let good = NewJob::new("mail");
        assert!(good.validate().is_ok());
        let field = |job: NewJob| job.validate().unwrap_err().field().unwrap().to_owned();
        assert_eq!(field(NewJob { kind: String::new(), ..good.clone() }), "kind");
        assert_eq!(field(NewJob { queue: "a b".into(), ..good.clone() }), "queue");
        assert_eq!(field(NewJob { queue: "..".into(), ..good.clone() }), "queue");
        assert_eq!(field(NewJob { queue: "q".repeat(129), ..good.clone() }), "queue");
        assert_eq!(field(NewJob { max_attempts: Some(0), ..good.clone() }), "max_attempts");
        assert_eq!(field(NewJob { timeout_ms: Some(0), ..good.clone() }), "timeout_ms");
        let late = RunAt::DelayMs(limits::DELAY_MS_MAX + 1);
        assert_eq!(field(NewJob { run_at: late, ..good.clone() }), "delay_ms");
        let big = Payload::Binary(vec![0; limits::PAYLOAD_BYTES_MAX + 1].into());
        let refused = good.clone().payload(big).validate().unwrap_err();
        assert_eq!(refused.kind(), crate::ErrorKind::TooLarge);
        let headers = [("h".to_owned(), "v".repeat(limits::HEADERS_BYTES_MAX))].into();
        assert_eq!(field(NewJob { headers, ..good.clone() }), "headers");
        assert_eq!(field(good.clone().expires_in_ms(0)), "expires_in_ms");
        assert_eq!(field(good.clone().expires_in_ms(limits::DELAY_MS_MAX + 1)), "expires_in_ms");
        let in_a_second = good.clone().run_at(RunAt::DelayMs(1_000));
        assert_eq!(field(in_a_second.clone().expires_in_ms(1_000)), "expires_in_ms");
        assert!(in_a_second.expires_in_ms(1_001).validate().is_ok());
        assert_eq!(field(good.clone().unique(Unique::new(""))), "unique.key");
        assert_eq!(field(good.clone().concurrency_key("")), "concurrency_key");
        assert_eq!(field(good.clone().concurrency_key("k".repeat(257))), "concurrency_key");
        assert_eq!(field(good.clone().ordering_key("a\nb")), "ordering_key");
        assert!(good.clone().ordering_key("account 7 · é").validate().is_ok());
        assert_eq!(field(good.idempotency_key("a b")), "idempotency_key");
    }
}
