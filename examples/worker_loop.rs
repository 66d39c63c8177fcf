//! A worker that needs one commit a round: what it finished rides along with its next claim.
//!
//! Run it with `cargo run --example worker_loop`. It puts a thousand jobs in, works until the
//! queue is empty, and says what became of them. One job in a hundred can't be done and is
//! rejected; those are dead letters at the end.

use pulk::queue::{Claim, ClaimedJob, DeadQuery, Failure, Settle};
use pulk::{Config, NewJob, Payload, Queue};

const JOBS: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let queue = Queue::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;

    let jobs = (0..JOBS).map(|number| Ok(NewJob::new("square").payload(Payload::json(&number)?)));
    queue.enqueue_many(jobs.collect::<pulk::Result<_>>()?).await?;

    let mut rounds = 0;
    let mut acked = 0;
    let mut finished = Settle::default();
    loop {
        let settle = std::mem::take(&mut finished);
        acked += settle.acks.len();
        let claim = Claim { limit: 100, settle, ..Claim::default() };
        let claimed = queue.claim(claim).await?;
        rounds += 1;
        // One outcome for each ack and each fail. An error here means that a lease was lost:
        // the job is somebody else's by now, and what was done for it must not count.
        for outcome in claimed.outcomes {
            outcome?;
        }
        if claimed.jobs.is_empty() {
            break;
        }
        for job in claimed.jobs {
            match handle(&job) {
                Ok(()) => finished.acks.push(job.token.into()),
                Err(error) => finished.fails.push(Failure {
                    token: job.token,
                    error,
                    retry: false,
                    retry_in_ms: None,
                }),
            }
        }
    }

    let dead = queue.dead_letters(DeadQuery::default()).await?.jobs.len();
    println!("{JOBS} jobs in {rounds} rounds: {acked} done, {dead} dead letters");
    assert_eq!((acked, dead), (JOBS - JOBS / 100, JOBS / 100));
    Ok(queue.close().await?)
}

/// What a worker is for. The error's text is kept with the job.
fn handle(job: &ClaimedJob) -> Result<(), String> {
    let number: u64 = serde_json::from_slice(job.payload.bytes()).map_err(|e| e.to_string())?;
    if number % 100 == 99 {
        return Err(format!("{number} is not to be squared"));
    }
    std::hint::black_box(number * number);
    Ok(())
}
