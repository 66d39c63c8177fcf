//! What a job is: its id, its states, what a producer hands in and what a reader sees.
//!
//! ```text
//!            enqueue             claim
//! (nothing) ────────▶ ready ──────────────▶ running ──ack──▶ (gone)
//!     │                ▲ ▲ ▲                 │ │ │
//!     │ delay, run_at  │ │ └─release, lease──┘ │ │ fail, attempts left
//!     ▼           due  │ │   lost             │ ▼
//!  scheduled ──────────┘ └────── due ── retrying │ fail, none left · rejected · crashed
//!     ▲                                          ▼
//!     └── release with delay (from running)     dead ──replay──▶ ready
//! ```
//!
//! [`JobState::after`] is this picture as a table; the queue refuses every other move.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, FailedAttempt};
use crate::error::{Error, ErrorKind, Result};
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
    /// Most bytes in one batch: payloads, names and headers together.
    pub const BATCH_BYTES_MAX: usize = 4 << 20;
}

/// The number of a queue, given at its first job and never given again. 17 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub(crate) u32);

impl QueueId {
    /// The largest number that fits in a job id.
    pub const MAX: u32 = (1 << 17) - 1;
}

/// Identifies a job for ever, and says where it was born.
///
/// 128 bits, most significant first: 48 of milliseconds since 1970, 16 of shard, 17 of queue
/// number, 3 of priority, 44 of sequence. Shown as 26 Crockford base-32 characters like a
/// [ULID](https://github.com/ulid/spec), which sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u128);

impl JobId {
    /// The largest sequence: 44 bits, 17 million million jobs.
    pub const SEQUENCE_MAX: u64 = (1 << 44) - 1;

    pub(crate) fn new(
        born_at: Timestamp,
        shard: u16,
        queue: QueueId,
        priority: Priority,
        sequence: u64,
    ) -> Self {
        assert!(queue.0 <= QueueId::MAX, "a queue number has 17 bits");
        assert!(sequence <= Self::SEQUENCE_MAX, "a sequence has 44 bits");
        JobId(
            u128::from(born_at.as_ms()) << 80
                | u128::from(shard) << 64
                | u128::from(queue.0) << 47
                | u128::from(priority.number()) << 44
                | u128::from(sequence),
        )
    }

    /// When the job was enqueued.
    #[must_use]
    pub fn born_at(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> 80) as u64)
    }

    /// The shard (the ordinal of the pod) whose queue the job was enqueued in.
    #[must_use]
    pub fn shard(self) -> u16 {
        (self.0 >> 64) as u16
    }

    pub(crate) fn queue(self) -> QueueId {
        QueueId((self.0 >> 47) as u32 & QueueId::MAX)
    }

    /// The priority it was born with; `None` for an id that no queue made.
    pub(crate) fn birth_priority(self) -> Option<Priority> {
        Priority::from_number((self.0 >> 44) as u8 & 0b111)
    }

    pub(crate) fn sequence(self) -> u64 {
        self.0 as u64 & Self::SEQUENCE_MAX
    }

    pub(crate) fn as_u128(self) -> u128 {
        self.0
    }

    pub(crate) fn from_u128(number: u128) -> Self {
        JobId(number)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = [0; ulid::ULID_LEN];
        formatter.pad(ulid::Ulid(self.0).array_to_str(&mut characters))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Reads the 26 characters, in any letter case.
    fn from_str(text: &str) -> Result<Self> {
        ulid::Ulid::from_string(text)
            .ok()
            .map(|ulid| JobId(ulid.0))
            // Crockford's alphabet reads O as 0; an id that differs from its own text is not one.
            .filter(|id| id.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::invalid("id", format!("{text:?} is not a job id: 26 base-32 characters"))
            })
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a job is in its life. A job that is done has no state: it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for its time, given by the producer or by a release with delay.
    Scheduled,
    /// Can be claimed now.
    Ready,
    /// Claimed: somebody holds a lease on it.
    Running,
    /// Failed, and waits for its next attempt.
    Retrying,
    /// A dead letter: nothing happens to it until somebody replays it.
    Dead,
}

/// What moves a job from one state to another. `None` as a state is "not there".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Enqueued to run now.
    Enqueue,
    /// Enqueued to run later.
    Schedule,
    /// Its time has come.
    Due,
    /// Claimed by a worker.
    Claim,
    /// Finished by its worker.
    Ack,
    /// Failed, with attempts left.
    Retry,
    /// Failed for the last time, rejected, interrupted too often, or unreadable.
    Bury,
    /// Given back by its worker, or taken from a worker whose lease ran out.
    GiveBack,
    /// Given back by its worker for later.
    GiveBackLater,
    /// A dead letter put back to work.
    Replay,
}

impl JobState {
    /// All states, in the order a job usually sees them.
    pub const ALL: [JobState; 5] = [
        JobState::Scheduled,
        JobState::Ready,
        JobState::Running,
        JobState::Retrying,
        JobState::Dead,
    ];

    /// The lower-case name used in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            JobState::Scheduled => "scheduled",
            JobState::Ready => "ready",
            JobState::Running => "running",
            JobState::Retrying => "retrying",
            JobState::Dead => "dead",
        }
    }

    /// The legal moves: from, by, to.
    pub const LEGAL_MOVES: [(Option<JobState>, Move, Option<JobState>); 12] = [
        (None, Move::Enqueue, Some(JobState::Ready)),
        (None, Move::Schedule, Some(JobState::Scheduled)),
        (Some(JobState::Scheduled), Move::Due, Some(JobState::Ready)),
        (Some(JobState::Retrying), Move::Due, Some(JobState::Ready)),
        (Some(JobState::Ready), Move::Claim, Some(JobState::Running)),
        (Some(JobState::Ready), Move::Bury, Some(JobState::Dead)),
        (Some(JobState::Running), Move::Ack, None),
        (Some(JobState::Running), Move::Retry, Some(JobState::Retrying)),
        (Some(JobState::Running), Move::Bury, Some(JobState::Dead)),
        (Some(JobState::Running), Move::GiveBack, Some(JobState::Ready)),
        (Some(JobState::Running), Move::GiveBackLater, Some(JobState::Scheduled)),
        (Some(JobState::Dead), Move::Replay, Some(JobState::Ready)),
    ];

    /// The state after a move, or a [`Conflict`](ErrorKind::Conflict) where the move is not legal.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict), naming the state and the move.
    pub fn after(from: Option<JobState>, by: Move) -> Result<Option<JobState>> {
        Self::LEGAL_MOVES
            .iter()
            .find(|(legal_from, legal_by, _)| *legal_from == from && *legal_by == by)
            .map(|(_, _, to)| *to)
            .ok_or_else(|| {
                let state = from.map_or("gone", JobState::as_str);
                let attempted = format!("{by:?}").to_lowercase();
                Error::new(
                    ErrorKind::Conflict,
                    format!("the job is {state}; {attempted} is not possible from there"),
                )
            })
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

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
    /// [`Invalid`](ErrorKind::Invalid) when the value has no JSON form.
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

    /// Bytes that count against a batch's limit and the engine's memory.
    pub(crate) fn weight_bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.bytes().len() + self.queue.len() + self.kind.len() + headers
    }

    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) or [`TooLarge`](ErrorKind::TooLarge) with the first field
    /// that can't be taken.
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
        }
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::validate)
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

/// What the producer gets back: the job is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// The job's id.
    pub id: JobId,
    /// [`Ready`](JobState::Ready) or [`Scheduled`](JobState::Scheduled).
    pub state: JobState,
    /// The queue it is in.
    pub queue: String,
    /// Its priority.
    pub priority: Priority,
    /// When it may run.
    pub run_at: Timestamp,
}

/// A job as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The job's id.
    pub id: JobId,
    /// Where it is in its life.
    pub state: JobState,
    /// The queue it is in.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What the handler gets.
    pub payload: Payload,
    /// Names and values beside the payload.
    pub headers: BTreeMap<String, String>,
    /// The attempt it is at, from 1. Goes up after a failure, never after an interruption.
    pub attempt: u32,
    /// How often it may fail in all.
    pub max_attempts: u32,
    /// How often it was interrupted: its lease ran out, or its worker went away.
    pub interruptions: u32,
    /// How often it may be interrupted.
    pub max_interruptions: u32,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it may run (scheduled, retrying) or since when it could (ready, running).
    pub run_at: Timestamp,
    /// Who has it, while it runs.
    pub running: Option<RunningView>,
    /// Why and when it died, if it did.
    pub dead: Option<DeadView>,
    /// The last failures, oldest first.
    pub errors: Vec<FailedAttempt>,
}

/// Who holds a running job. The token is not shown: it is for the holder alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningView {
    /// The worker's name, if it gave one.
    pub worker: Option<String>,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When the lease runs out unless it is extended.
    pub expires_at: Timestamp,
    /// How far it is, 0 to 100, as last told.
    pub progress: Option<u8>,
}

/// Why and when a job died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeadView {
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub died_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_keeps_its_parts(
            ms in 0..=Timestamp::MAX.as_ms(), shard: u16, queue in 0..=QueueId::MAX,
            priority in 0u8..5, sequence in 0..=JobId::SEQUENCE_MAX,
        ) {
            let (born_at, queue) = (Timestamp::from_ms(ms), QueueId(queue));
            let priority = Priority::from_number(priority).unwrap();
            let id = JobId::new(born_at, shard, queue, priority, sequence);
            prop_assert_eq!(id.born_at(), born_at);
            prop_assert_eq!(id.shard(), shard);
            prop_assert_eq!(id.queue(), queue);
            prop_assert_eq!(id.birth_priority(), Some(priority));
            prop_assert_eq!(id.sequence(), sequence);
            let text = id.to_string();
            prop_assert_eq!(text.len(), 26);
            prop_assert_eq!(text.to_lowercase().parse::<JobId>().unwrap(), id);
        }

        #[test]
        fn ids_sort_as_their_texts(a: u128, b: u128) {
            let (a, b) = (JobId(a), JobId(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".{0,30}") {
            if let Ok(id) = text.parse::<JobId>() {
                prop_assert!(id.to_string().eq_ignore_ascii_case(&text));
            }
        }
    }

    #[test]
    fn an_id_beyond_128_bits_is_refused() {
        assert!("8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<JobId>().is_err());
        assert!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<JobId>().is_ok());
    }

    #[test]
    fn every_move_from_every_state_is_legal_or_refused() {
        let states = JobState::ALL.map(Some).into_iter().chain([None]);
        let moves = [
            Move::Enqueue,
            Move::Schedule,
            Move::Due,
            Move::Claim,
            Move::Ack,
            Move::Retry,
            Move::Bury,
            Move::GiveBack,
            Move::GiveBackLater,
            Move::Replay,
        ];
        let mut legal = 0;
        for from in states {
            for by in moves {
                match JobState::after(from, by) {
                    Ok(to) => {
                        legal += 1;
                        assert_ne!(from, to);
                    }
                    Err(refused) => assert_eq!(refused.kind(), ErrorKind::Conflict),
                }
            }
        }
        assert_eq!(legal, JobState::LEGAL_MOVES.len(), "a move is listed twice or unreachable");
    }

    #[test]
    fn a_field_beyond_its_limit_is_named() {
        let good = NewJob::new("mail");
        assert!(good.validate().is_ok());
        let field = |job: NewJob| job.validate().unwrap_err().field().unwrap().to_owned();
        assert_eq!(field(NewJob { kind: String::new(), ..good.clone() }), "kind");
        assert_eq!(field(NewJob { queue: "a b".into(), ..good.clone() }), "queue");
        assert_eq!(field(NewJob { queue: "q".repeat(129), ..good.clone() }), "queue");
        assert_eq!(field(NewJob { max_attempts: Some(0), ..good.clone() }), "max_attempts");
        assert_eq!(field(NewJob { timeout_ms: Some(0), ..good.clone() }), "timeout_ms");
        let late = RunAt::DelayMs(limits::DELAY_MS_MAX + 1);
        assert_eq!(field(NewJob { run_at: late, ..good.clone() }), "delay_ms");
        let big = Payload::Binary(vec![0; limits::PAYLOAD_BYTES_MAX + 1].into());
        let refused = good.clone().payload(big).validate().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        let headers = [("h".to_owned(), "v".repeat(limits::HEADERS_BYTES_MAX))].into();
        assert_eq!(field(NewJob { headers, ..good }), "headers");
    }
}
