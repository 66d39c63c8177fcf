//! The states of a job and the legal moves between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};

/// Where a job is in its life. A job that is done has no state: it is gone.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
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
    /// Failed for the last time, rejected, interrupted too often, not started in time, unreadable.
    Bury,
    /// Given back by its worker, or taken from a worker whose lease ran out.
    GiveBack,
    /// Given back by its worker for later.
    GiveBackLater,
    /// A dead letter put back to work.
    Replay,
    /// Cancelled, replaced or purged.
    Cancel,
    /// A dead letter whose priority is changed leaves its lane,
    LeaveLane,
    /// and enters another.
    EnterLane,
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
    pub const LEGAL_MOVES: [(Option<JobState>, Move, Option<JobState>); 20] = [
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
        (Some(JobState::Scheduled), Move::Bury, Some(JobState::Dead)),
        (Some(JobState::Scheduled), Move::Cancel, None),
        (Some(JobState::Ready), Move::Cancel, None),
        (Some(JobState::Running), Move::Cancel, None),
        (Some(JobState::Retrying), Move::Cancel, None),
        (Some(JobState::Dead), Move::Cancel, None),
        (Some(JobState::Dead), Move::LeaveLane, None),
        (None, Move::EnterLane, Some(JobState::Dead)),
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

impl FromStr for JobState {
    type Err = Error;

    /// Reads the name of a state in any letter case.
    fn from_str(text: &str) -> Result<Self, Error> {
        JobState::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let states = "scheduled, ready, running, retrying or dead";
                Error::invalid("state", format!("{text:?} is not a state; use {states}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_goes_there_and_back() {
        for state in JobState::ALL {
            assert_eq!(state.to_string().to_uppercase().parse::<JobState>().unwrap(), state);
        }
        let refused = "done".parse::<JobState>().unwrap_err();
        assert_eq!(refused.field(), Some("state"));
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
            Move::Cancel,
            Move::LeaveLane,
            Move::EnterLane,
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
}
