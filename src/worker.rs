//! Runs the jobs of a queue in this process.
//!
//! A driver like `api`: it speaks to the [`Queue`](crate::Queue) handle and to nothing below it.
//!
//! ```
//! use pulk::worker::{Job, Outcome, Worker};
//! use pulk::{Config, NewJob, Payload, Queue};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Welcome {
//!     to: String,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let dir = tempfile::tempdir()?; // a real program names a directory that stays
//!     let config = Config { data_dir: dir.path().into(), ..Config::default() };
//!     let queue = Queue::open(config).await?;
//!
//!     let worker = Worker::builder(queue.clone())
//!         .handle("mail.welcome", |job: Job<Welcome>| async move {
//!             println!("attempt {}: a letter to {}", job.attempt, job.payload.to);
//!             Outcome::done_with(&"sent")
//!         })
//!         .build()?;
//!     let running = worker.start();
//!
//!     let payload = Payload::json(&serde_json::json!({"to": "ann@example.org"}))?;
//!     queue.enqueue(NewJob::new("mail.welcome").payload(payload)).await?;
//!
//!     running.stop(std::time::Duration::from_secs(30)).await;
//!     Ok(queue.close().await?)
//! }
//! ```
//!
//! # What becomes of a job
//! A handler says it by its [`Outcome`]. A panic is a failure. So is an attempt that takes longer
//! than the job's `timeout_ms`: its future is dropped. A payload that the handler can't read
//! rejects the job. A handler's future that was told to end and does not is dropped, after 5 s when
//! its job was cancelled or its lease lost, after the grace of [`RunningWorker::stop`] when the
//! worker stops; then the job is given back, which costs it neither an attempt nor an interruption.
//!
//! A worker dies with its process, and the queue knows: when it is opened again, the jobs that ran
//! are ready at once, with an interruption counted.
//!
//! # Slots
//! A worker runs as many jobs at once as it has slots. Some are kept for critical and high jobs, so
//! that a long low one never fills the last of them.

mod attempt;
mod builder;
mod dispatcher;
mod handler;
mod job;
mod kinds;
mod leases;
mod outcome;
pub mod push;
mod running;
mod slots;
mod time;
mod words;

pub use builder::{CONCURRENCY_MAX, Worker, WorkerBuilder};
pub use handler::{Handler, Running, Waiting};
pub use job::{Job, TRACEPARENT};
pub use outcome::Outcome;
pub use running::{RunningWorker, Stopped, WorkerStats};
