//! The queue itself: a deterministic state machine, one file per command.
//!
//! A command is a function from the state, its input and a [`Context`](state::Context) (the time
//! and a source of chance) to its outcome. It reads through the [`draft`] and leaves its writes
//! there; nothing here knows of threads, clocks, sockets or files.

pub(crate) mod admit;
pub(crate) mod ageing;
pub(crate) mod cancel;
pub(crate) mod capacity;
pub(crate) mod census;
pub(crate) mod chunk;
pub(crate) mod claim;
pub(crate) mod damage;
pub(crate) mod dead;
pub(crate) mod dead_walk;
pub(crate) mod draft;
pub(crate) mod edit;
pub(crate) mod enqueue;
pub(crate) mod event;
pub(crate) mod expire;
pub(crate) mod explain;
pub(crate) mod extend;
pub(crate) mod gate;
pub(crate) mod heads;
pub(crate) mod idempotency;
pub(crate) mod inspect;
#[cfg(test)]
mod key_model;
pub(crate) mod lane;
pub(crate) mod limits;
pub(crate) mod line;
pub(crate) mod list;
pub(crate) mod locate;
#[cfg(test)]
mod many_queues;
#[doc(hidden)]
pub mod measured;
pub(crate) mod merge;
#[cfg(test)]
mod model;
pub(crate) mod pace;
pub(crate) mod pause;
pub(crate) mod payload;
pub(crate) mod pick;
pub(crate) mod plan;
pub(crate) mod purge;
pub(crate) mod rates;
pub(crate) mod recovery;
pub(crate) mod refile;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod replays;
pub(crate) mod result;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod settle;
pub(crate) mod state;
pub(crate) mod tick;
pub(crate) mod token_bucket;
pub(crate) mod unique;
pub(crate) mod view;
pub(crate) mod walk;

pub use crate::job::StateCounts;
pub use cancel::Cancelled;
pub use census::{Report, doctor, examine};
pub use claim::{
    CLAIM_BYTES_MAX, CLAIM_JOBS_MAX, CLAIM_NAMES_MAX, CLAIM_WAIT_MS_MAX, Claim, Claimed,
    ClaimedJob, WORKER_BYTES_MAX,
};
pub use dead::{DeadPage, DeadQuery, PAGE_MAX};
pub use dead_walk::{DEAD_IDS_MAX, DeadChoice, DeadFilter};
pub use edit::DeadEdit;
pub use event::{Event, Happened, JobDetail};
pub use explain::{CANDIDATES_MAX, Candidate, Next, NextJob, Skipped};
pub use extend::{Extended, Released};
pub use limits::{
    CONCURRENCY_MAX, CONCURRENCY_PER_KEY_MAX, Limited, Limits, RATE_JOBS_MAX, RATE_PER_MS_MAX, Rate,
};
pub use list::{JobPage, JobQuery};
pub use purge::{Purge, Purged};
pub use rates::Rates;
pub use repair::{INVARIANTS, Invariant, Recounted, Repair, repair};
pub use replay::{ManyReplayed, REPLAY_JOBS_MAX, ReplayMany};
pub use replays::{
    RATE_PER_S_MAX, RATE_PER_S_MIN, REPLAYS_KEPT_MAX, REPLAYS_RUNNING_MAX, ReplayCounts,
    ReplayState, ReplayView,
};
pub use result::Ack;
pub use retention::{DeadPurged, PurgeDead};
pub use schedules::slots::LocalTime;
pub use schedules::view::{LastRun, SchedulePage, SchedulePut, ScheduleQuery, ScheduleView};
pub use schedules::{SCHEDULE_PAGE_MAX, SCHEDULES_MAX, Skipping};
pub use settle::{Failed, Failure, SETTLE_MAX, Settle, SettleOutcome};
pub use view::{QueueView, Snapshot};
