//! What readers see of queues.

use crate::clock::Timestamp;
use crate::job::StateCounts;
use crate::priority::PerPriority;
use crate::queue::limits::{Limited, Limits};
use crate::queue::rates::Rates;
use crate::store::DiskSpace;

/// A queue as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// True when claims are stopped.
    pub paused: bool,
    /// What of it may run at a time, and be started in a time.
    pub limits: Limits,
    /// Which of these limits is reached.
    pub limited: Option<Limited>,
    /// Jobs by priority and state.
    pub counts: PerPriority<StateCounts>,
    /// Of the ready ones, by priority: those that wait for another job with the same key.
    pub in_lines: PerPriority<u64>,
    /// Since when the oldest ready job of each priority has been ready.
    pub oldest_ready_at: PerPriority<Option<Timestamp>>,
    /// What happened a second in the last minute, by priority.
    pub rates: PerPriority<Rates>,
}

/// What metrics and health show of the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The engine's time.
    pub now: Timestamp,
    /// Every queue.
    pub queues: Vec<QueueView>,
    /// Bytes of records alive.
    pub live_bytes: u64,
    /// Bytes that the store takes on the disk.
    pub disk_bytes: u64,
    /// The volume it lies on; `None` for a store without one.
    pub disk: Option<DiskSpace>,
    /// Records set aside because their checksum failed.
    pub damaged_records: u64,
    /// Schedules.
    pub schedules: u64,
}
