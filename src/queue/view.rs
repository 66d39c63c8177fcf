//! What readers see of queues.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::job::JobState;
use crate::priority::PerPriority;

/// How many jobs of one priority are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCounts {
    /// Waiting for their time.
    pub scheduled: u64,
    /// Claimable.
    pub ready: u64,
    /// Leased.
    pub running: u64,
    /// Waiting for their next attempt.
    pub retrying: u64,
    /// Dead letters.
    pub dead: u64,
}

/// A queue as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// True when claims are stopped.
    pub paused: bool,
    /// Jobs by priority and state.
    pub counts: PerPriority<StateCounts>,
    /// Since when the oldest ready job of each priority has been ready.
    pub oldest_ready_at: PerPriority<Option<Timestamp>>,
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
    /// Records set aside because their checksum failed.
    pub damaged_records: u64,
}

impl StateCounts {
    /// The count of one state.
    #[must_use]
    pub fn of(&self, state: JobState) -> u64 {
        match state {
            JobState::Scheduled => self.scheduled,
            JobState::Ready => self.ready,
            JobState::Running => self.running,
            JobState::Retrying => self.retrying,
            JobState::Dead => self.dead,
        }
    }

    pub(crate) fn of_mut(&mut self, state: JobState) -> &mut u64 {
        match state {
            JobState::Scheduled => &mut self.scheduled,
            JobState::Ready => &mut self.ready,
            JobState::Running => &mut self.running,
            JobState::Retrying => &mut self.retrying,
            JobState::Dead => &mut self.dead,
        }
    }
}
