//! The library in twenty lines: open a queue, put a job in, take it out, finish it.
//!
//! Run it with `cargo run --example embedded`. The README shows the same lines.

use pulk::queue::Claim;
use pulk::{Config, NewJob, Payload, Queue};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?; // a real program names a directory that stays
    let queue = Queue::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;

    let payload = Payload::json(&serde_json::json!({"to": "ann@example.org"}))?;
    let enqueued = queue.enqueue(NewJob::new("mail.welcome").payload(payload)).await?;
    println!("{} is on the disk", enqueued.id);

    let claimed = queue.claim(Claim { wait_ms: 1_000, ..Claim::default() }).await?;
    for job in claimed.jobs {
        println!("{}: attempt {} of {}", job.kind, job.attempt, job.max_attempts);
        queue.ack(job.token).await?;
    }
    Ok(queue.close().await?)
}
