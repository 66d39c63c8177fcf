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
//! A scheduled or ready job that no worker has started in time is dead too (`expired`).
//! [`JobState::after`] is this picture as a table; the queue refuses every other move.

mod counts;
mod id;
mod new_job;
mod schedule;
mod state;
mod unique;
mod view;

pub use counts::StateCounts;
pub use id::{JobId, QueueId};
pub use new_job::{NewJob, Payload, RunAt, limits};
pub(crate) use new_job::{validate_name, validate_range};
pub use schedule::{CatchUp, NewSchedule, SCHEDULE_HEADER, SCHEDULED_AT_HEADER};
pub use state::{JobState, Move};
pub(crate) use unique::validate_idempotency_key;
pub use unique::{OnConflict, Unique};
pub use view::{DeadView, Enqueued, Found, JobResult, JobView, RunningView, WaitsFor};
