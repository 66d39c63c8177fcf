//! How many jobs are in each state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::JobState;

/// How many jobs of one priority are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
