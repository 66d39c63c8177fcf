//! pulk: an embedded, persistent job queue.
//!
//! ```
//! use pulk::queue::Claim;
//! use pulk::{Config, NewJob, Payload, Queue};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let dir = tempfile::tempdir()?; // a real program names a directory that stays
//!     let config = Config { data_dir: dir.path().into(), ..Config::default() };
//!     let queue = Queue::open(config).await?;
//!
//!     let payload = Payload::json(&serde_json::json!({"to": "ann@example.org"}))?;
//!     let enqueued = queue.enqueue(NewJob::new("mail.welcome").payload(payload)).await?;
//!     println!("{} is on the disk", enqueued.id);
//!
//!     let claimed = queue.claim(Claim { wait_ms: 1_000, ..Claim::default() }).await?;
//!     for job in claimed.jobs {
//!         println!("{}: attempt {} of {}", job.kind, job.attempt, job.max_attempts);
//!         queue.ack(job.token).await?;
//!     }
//!     Ok(queue.close().await?)
//! }
//! ```
//!
//! # The promise
//! An answer that says "done" is given after what it says is on the disk. A job is handed out at
//! least once; after its ack never again. See [`Queue`] for the calls, [`lease`] for who may
//! finish a job, [`error`] for what to do when a call fails.
//!
//! # The modules
//! A module imports only from the rows above it and from its own row; `tests/tidy.rs` sees to it.
//! `docs/ARCHITECTURE.md` shows the way of a call through them.
//!
//! | row | modules | what they are |
//! |---|---|---|
//! | 0 | [`clock`] [`error`] [`priority`] | time, failure and urgency as values |
//! | 1 | [`job`] [`retry`] [`lease`] [`dead_letter`] [`config`] | the domain's values and limits |
//! | 2 | [`store`] | named ordered trees with one atomic, durable commit |
//! | 3 | [`queue`] | the queue as a deterministic state machine, a file per command |
//! | 4 | `engine` [`metrics`] [`handle`] | the one writer, what it counts, the async way in |
//! | 5 | [`api`] | HTTP: reads a request, asks the queue, writes the answer |
//! | 5 | [`worker`] | runs jobs in this process |
//! | 6 | [`server`] | a node from start to stop; knows every part |
//! | 7 | [`cli`] | arguments in, a sentence and an exit code out |

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dead_letter;
mod engine;
pub mod error;
pub mod handle;
pub mod job;
pub mod lease;
pub mod metrics;
pub mod priority;
pub mod queue;
pub mod retry;
pub mod server;
pub mod store;
pub mod worker;

pub use clock::Timestamp;
pub use config::{Config, StoreKind};
pub use error::{Error, ErrorKind, Result};
pub use handle::Queue;
pub use job::{JobId, JobState, JobView, NewJob, Payload, RunAt};
pub use lease::LeaseToken;
pub use priority::Priority;
pub use worker::Worker;
