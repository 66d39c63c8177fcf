//! Every record on the disk: what its key is, what it holds, and which of them is the truth.
//!
//! | tree | key | record | |
//! |---|---|---|---|
//! | meta | `"meta"` | [`MetaRecord`] | truth |
//! | meta | `"live_bytes"` | u64 big-endian | a sum, checked by `doctor` |
//! | queues | queue | [`QueueRecord`] | name, paused: truth; counters: a sum |
//! | ready.* | queue · first place | [`ChunkRecord`] | truth |
//! | progress | priority · queue · first place | [`ProgressRecord`] | truth |
//! | timers | due · job | [`TimerRecord`] | truth |
//! | dead | queue · died at · job | [`DeadRecord`] | truth |
//! | location | job | [`LocationRecord`] | an index |
//! | payload | job · part | raw bytes, kind [`PAYLOAD_PART_KIND`] | truth |
//! | unique | 0 · queue · key | [`UniqueRecord`] | an index |
//! | unique | 1 · queue · key | [`IdempotencyRecord`] | truth |
//! | expiry | moment · what · job, or queue and key | empty, or 1: re-filed | an index |
//! | results | job | [`ResultRecord`] | truth |
//! | replays | number | [`ReplayRecord`] | truth |
//! | schedules | 0 · name | [`ScheduleRecord`] | truth |
//! | schedules | 1 · name | [`ScheduleProgressRecord`] | truth |
//! | limits | queue | [`LimitsRecord`] | truth |
//! | lines | queue · kind · key · urgency · order | [`LineRecord`] | truth |
//! | places | 0 · queue | [`QueueLinesRecord`] | a sum |
//! | places | 1 · queue · kind · key | [`PlacesRecord`] | a sum |
//! | damaged | tree · key | the bytes as found | |
//!
//! A job lies in exactly one of: a ready slot that is not gone, a line, a timer, a dead letter
//! (I1).
//! A *place* is a sequence number given to a slot; a chunk's key is the place of its first slot,
//! so the chunk of a place is the last one at or before it. A job born in a chunk has its own
//! sequence as its place, and its id alone finds it.
//!
//! To change a record: copy the struct, give the copy the new shape and a new
//! [`FORMAT_VERSION`](super::codec::FORMAT_VERSION), decode by the version found, add golden bytes
//! of the new version to the tests below, leave the old ones, and say it in docs/FORMAT.md.

mod lines;
mod seldom;

pub(crate) use lines::{LineRecord, PlacesRecord, QueueLinesRecord};
pub(crate) use seldom::{SeldomRecord, UniqueKeyRecord};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadReason;
use crate::job::{CatchUp, JobState, OnConflict, StateCounts};
use crate::priority::PerPriority;
use crate::retry::RetryPolicy;
use crate::store::codec::Record;
use crate::store::key::KeyKind;

/// Most jobs in one chunk.
pub(crate) const CHUNK_SLOTS_MAX: usize = 256;
/// A payload up to this many bytes lies in its job's record, a larger one in parts.
pub(crate) const INLINE_PAYLOAD_BYTES_MAX: usize = 8 << 10;
/// Bytes of one part of a large payload.
pub(crate) const PAYLOAD_PART_BYTES: usize = 16 << 10;
/// The record kind of a part of a payload.
pub(crate) const PAYLOAD_PART_KIND: u8 = 8;

/// What the store as a whole knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetaRecord {
    /// Drawn at random when the store was created.
    pub(crate) store_id: u128,
    /// The next sequence (I6): never given to anything yet.
    pub(crate) next_sequence: u64,
    /// The next queue number.
    pub(crate) next_queue: u32,
    /// How many records were ever set aside as damaged.
    pub(crate) damaged_records: u64,
    /// The clock at the last commit, to notice at opening that it stepped back.
    pub(crate) last_commit_ms: u64,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueueRecord {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) counts: PerPriority<StateCounts>,
}

/// What one commit added to one lane, or several such chunks merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChunkRecord {
    /// The shard in the ids of the jobs born here.
    pub(crate) shard: u16,
    /// The earliest birth; the births of the slots are told from it.
    pub(crate) base_ms: u64,
    pub(crate) slots: Vec<SlotRecord>,
}

/// One job of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotRecord {
    /// The place, told from the chunk's first place.
    pub(crate) place_offset: u64,
    pub(crate) origin: Origin,
    pub(crate) job: JobRecord,
}

/// Where a job in a slot came from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// It was enqueued here: its id is made of the chunk and the place.
    Born {
        /// Milliseconds after the chunk's base.
        offset_ms: u64,
    },
    /// It was elsewhere before: a timer, a dead letter.
    Moved { id: u128, ready_at_ms: u64 },
}

/// A job, whatever tree it lies in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) kind: String,
    pub(crate) payload: PayloadRecord,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) max_attempts: u32,
    pub(crate) max_interruptions: u32,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeout_ms: Option<u64>,
    /// Attempts that failed.
    pub(crate) failures: u32,
    pub(crate) interruptions: u32,
    /// Leases that were ever handed out.
    pub(crate) deliveries: u32,
    /// The last failures, oldest first.
    pub(crate) errors: Vec<ErrorRecord>,
    /// What few jobs have; the others pay one byte for it.
    #[serde(with = "seldom")]
    pub(crate) seldom: Option<Box<SeldomRecord>>,
}

/// What a job carries, or how much of it lies in parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum PayloadRecord {
    Json(Bytes),
    Binary(Bytes),
    JsonParts { bytes: u32 },
    BinaryParts { bytes: u32 },
}

impl Default for PayloadRecord {
    fn default() -> Self {
        PayloadRecord::Json(Bytes::new())
    }
}

impl PayloadRecord {
    /// How many parts lie in the payload tree.
    pub(crate) fn parts(&self) -> u16 {
        match self {
            PayloadRecord::Json(_) | PayloadRecord::Binary(_) => 0,
            PayloadRecord::JsonParts { bytes } | PayloadRecord::BinaryParts { bytes } => {
                (*bytes as usize).div_ceil(PAYLOAD_PART_BYTES) as u16
            }
        }
    }
}

/// A failure that is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ErrorRecord {
    pub(crate) attempt: u32,
    pub(crate) failed_at_ms: u64,
    pub(crate) error: String,
}

/// What became of the jobs of a chunk that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgressRecord {
    pub(crate) slots: Vec<SlotProgress>,
}

/// What became of one job of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum SlotProgress {
    /// As the chunk says.
    Waiting,
    /// Was leased, and can be claimed again.
    Returned { deliveries: u32, interruptions: u32 },
    /// Somebody has it.
    Leased(LeaseRecord),
    /// Done, or moved to another tree.
    Gone,
    /// Somebody has it who dies with the process: the lease ends at the next opening. Since
    /// format 2.
    LeasedInProcess(LeaseRecord),
}

impl SlotProgress {
    pub(crate) fn lease(&self) -> Option<&LeaseRecord> {
        match self {
            SlotProgress::Leased(lease) | SlotProgress::LeasedInProcess(lease) => Some(lease),
            SlotProgress::Waiting | SlotProgress::Returned { .. } | SlotProgress::Gone => None,
        }
    }

    pub(crate) fn lease_mut(&mut self) -> Option<&mut LeaseRecord> {
        match self {
            SlotProgress::Leased(lease) | SlotProgress::LeasedInProcess(lease) => Some(lease),
            SlotProgress::Waiting | SlotProgress::Returned { .. } | SlotProgress::Gone => None,
        }
    }
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    /// The number in its token.
    pub(crate) delivery: u32,
    pub(crate) interruptions: u32,
    pub(crate) started_ms: u64,
    pub(crate) deadline_ms: u64,
    /// How long it was last granted for: bounds the deadline when the clock steps back.
    pub(crate) lease_ms: u64,
    /// When the attempt counts as failed however often the lease is extended.
    pub(crate) timeout_at_ms: Option<u64>,
    pub(crate) worker: Option<String>,
    pub(crate) progress: Option<u8>,
    /// Somebody cancelled the job: it is gone when the lease ends, in whatever way.
    pub(crate) cancelled: bool,
}

/// A job that waits for a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimerRecord {
    pub(crate) priority: u8,
    pub(crate) wait: Wait,
    pub(crate) job: JobRecord,
}

/// Why a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// For a moment that the producer named.
    At,
    /// For some time after this moment, by delay or release: steps back with the clock.
    After { since_ms: u64 },
    /// For its next attempt, some time after it failed: steps back with the clock.
    Retry { since_ms: u64 },
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeadRecord {
    pub(crate) priority: u8,
    pub(crate) reason: DeadReason,
    /// The sequence that was next when it died: what began with a later one does not mean it.
    pub(crate) sequence: u64,
    pub(crate) job: JobRecord,
}

/// Where a job is that left the chunk it was born in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum LocationRecord {
    Ready {
        priority: u8,
        place: u64,
    },
    Timer {
        due_ms: u64,
    },
    Dead {
        died_at_ms: u64,
    },
    /// It waits for a key. Since format 2.
    Line {
        kind: KeyKind,
        text: String,
        urgency: u8,
        order: u64,
    },
}

/// Who holds a unique key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UniqueRecord {
    pub(crate) job: u128,
    /// From when `ttl_ms` counts: the job's birth. Steps back with the clock.
    pub(crate) since_ms: u64,
    pub(crate) ttl_ms: Option<u64>,
}

/// The answer that an idempotency key stands for. Its queue is in the key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdempotencyRecord {
    pub(crate) job: u128,
    pub(crate) state: JobState,
    pub(crate) priority: u8,
    pub(crate) run_at_ms: u64,
    pub(crate) replaced: Option<u128>,
    pub(crate) until_ms: u64,
}

/// What an acked job gave back. Its birth is in its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResultRecord {
    /// The queue's name: the queue may be removed while its results are kept.
    pub(crate) queue: String,
    pub(crate) kind: String,
    pub(crate) priority: u8,
    pub(crate) attempt: u32,
    pub(crate) finished_ms: u64,
    pub(crate) until_ms: u64,
    /// The text of one JSON value.
    pub(crate) result: Bytes,
}

/// A replay of many dead letters, a few at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplayRecord {
    pub(crate) queue: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) reason: Option<DeadReason>,
    pub(crate) error: Option<String>,
    /// The letters still to look at, the next one last; none when the filter alone chooses.
    pub(crate) ids: Option<Vec<u128>>,
    pub(crate) limit: Option<u64>,
    pub(crate) rate_per_s: f64,
    pub(crate) max_error_share: Option<f64>,
    pub(crate) matched: u64,
    pub(crate) replayed: u64,
    pub(crate) skipped: u64,
    pub(crate) died_again: u64,
    pub(crate) started_ms: u64,
    /// Only letters whose sequence is not above this one are meant.
    pub(crate) died_by: u64,
    /// When the next letter is due.
    pub(crate) next_ms: u64,
    pub(crate) end: Option<ReplayEnd>,
    /// Dead letters up to this key have been looked at.
    pub(crate) after: Option<Bytes>,
}

/// How and when a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ReplayEnd {
    Done { ended_ms: u64 },
    Stopped { ended_ms: u64 },
    Cancelled { ended_ms: u64 },
}

/// What limits a queue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LimitsRecord {
    /// Most of its jobs that run at once.
    pub(crate) concurrency: Option<u32>,
    pub(crate) rate: Option<RateRecord>,
    /// Most of its jobs of one concurrency key that run at once; one when there is no number.
    pub(crate) concurrency_per_key: Option<u32>,
}

/// How many jobs of a queue may be started in a time, and what is left of that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateRecord {
    pub(crate) jobs: u32,
    pub(crate) per_ms: u64,
    pub(crate) burst: u32,
    /// What was in the bucket; `per_ms` of them are a token, and each millisecond brings `jobs`.
    pub(crate) units: u64,
    /// When that was. Steps back with the clock.
    pub(crate) as_of_ms: u64,
}

/// A schedule, as it was handed in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScheduleRecord {
    pub(crate) cron: String,
    pub(crate) time_zone: String,
    pub(crate) catch_up: CatchUp,
    pub(crate) queue: String,
    pub(crate) kind: String,
    /// Never in parts.
    pub(crate) payload: PayloadRecord,
    pub(crate) priority: u8,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_interruptions: Option<u32>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) unique: Option<(UniqueKeyRecord, OnConflict)>,
    pub(crate) expires_in_ms: Option<u64>,
}

/// How far a schedule has come. Written in the commit of each job that it makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScheduleProgressRecord {
    pub(crate) paused: bool,
    /// Slots up to this moment are none of it. Steps back with the clock.
    pub(crate) since_ms: u64,
    /// Slots up to this one have been fired or skipped. Never steps back.
    pub(crate) done_ms: Option<u64>,
    pub(crate) last_run: Option<LastRunRecord>,
    /// Slots that were skipped.
    pub(crate) skipped: u64,
}

/// The last slot that made a job.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastRunRecord {
    pub(crate) slot_ms: u64,
    pub(crate) job: u128,
}

impl Record for MetaRecord {
    const KIND: u8 = 1;
}
impl Record for QueueRecord {
    const KIND: u8 = 2;
}
impl Record for ChunkRecord {
    const KIND: u8 = 3;
}
impl Record for ProgressRecord {
    const KIND: u8 = 4;
}
impl Record for TimerRecord {
    const KIND: u8 = 5;
}
impl Record for DeadRecord {
    const KIND: u8 = 6;
}
impl Record for LocationRecord {
    const KIND: u8 = 7;
}
impl Record for UniqueRecord {
    const KIND: u8 = 9;
}
impl Record for IdempotencyRecord {
    const KIND: u8 = 10;
}
impl Record for ResultRecord {
    const KIND: u8 = 11;
}
impl Record for ReplayRecord {
    const KIND: u8 = 12;
}
impl Record for ScheduleRecord {
    const KIND: u8 = 13;
}
impl Record for ScheduleProgressRecord {
    const KIND: u8 = 14;
}
impl Record for LimitsRecord {
    const KIND: u8 = 15;
}

#[cfg(test)]
mod golden;
