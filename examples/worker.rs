//! Jobs run in the program that puts them in: handlers by kind, and a stop that loses nothing.
//!
//! Run it with `cargo run --example worker`. It runs letters of three sorts, waits until all of
//! them are where they belong, and stops.

use std::time::Duration;

use pulk::queue::DeadQuery;
use pulk::worker::{Job, Outcome, Worker};
use pulk::{Config, JobState, NewJob, Payload, Queue};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Letter {
    to: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?; // a real program names a directory that stays
    let queue = Queue::open(Config { data_dir: dir.path().into(), ..Config::default() }).await?;

    let (sent, mut letters) = mpsc::unbounded_channel();
    let worker = Worker::builder(queue.clone())
        .handle("letter", move |job: Job<Letter>| {
            let sent = sent.clone();
            async move {
                println!("{}, attempt {}: to {}", job.id, job.attempt, job.payload.to);
                let outcome = deliver(&job.payload).await;
                let _ = sent.send(());
                outcome
            }
        })
        .handle("ping", |_: Job<serde_json::Value>| async {})
        .concurrency(8)
        .build()?;
    let running = worker.start();

    let letter = |to: &str| {
        let payload = Payload::json(&Letter { to: to.to_owned() });
        payload.map(|payload| NewJob::new("letter").payload(payload))
    };
    let sent = queue.enqueue(letter("ann@example.org")?).await?.id;
    let put_off = queue.enqueue(letter("busy@example.org")?).await?.id;
    queue.enqueue(letter("nobody")?).await?;
    // Not a letter: it is rejected, and the handler never sees it.
    queue.enqueue(NewJob::new("letter").payload(Payload::json(&7)?)).await?;
    for _ in 0..3 {
        letters.recv().await;
    }

    // No new jobs; what runs may end within the grace, the rest is given back.
    let stopped = running.stop(Duration::from_secs(10)).await;
    println!("{} were given back", stopped.given_back);
    assert!(queue.job(sent).await.is_err(), "a letter that was delivered is gone");
    assert_eq!(queue.job(put_off).await?.state, JobState::Scheduled);
    for dead in queue.dead_letters(DeadQuery::default()).await?.jobs {
        let error = dead.errors.last().map_or("", |last| &last.error);
        println!("{} is dead: {error}", dead.id);
    }
    Ok(queue.close().await?)
}

/// Done, rejected or put off, by whom it is for.
async fn deliver(letter: &Letter) -> Outcome {
    match letter.to.as_str() {
        to if !to.contains('@') => Outcome::reject(format!("{to:?} is no address")),
        to if to.starts_with("busy") => Outcome::Snooze { delay_ms: 60_000 },
        _ => Outcome::Done,
    }
}
