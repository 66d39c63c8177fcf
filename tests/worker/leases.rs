//! Leases, timeouts and cancellation while a handler runs.

use pulk::worker::{Job, RunningWorker};
use pulk::{JobState, NewJob};
use serde_json::{Value, json};

use crate::rig::{LONG, Rig, Signals, with_payload, within};

/// A worker whose handler never ends by itself; it says when its token fires.
fn stubborn(rig: &Rig, signals: &Signals) -> RunningWorker {
    let sender = signals.sender();
    let handler = move |job: Job<Value>| {
        let sender = sender.clone();
        let _ = sender.send("started");
        async move {
            let _guard = Signals::guard(&sender);
            job.set_progress(40);
            job.cancellation().cancelled().await;
            let _ = sender.send("told");
            std::future::pending::<()>().await;
        }
    };
    rig.worker().handle("mail", handler).build().unwrap().start()
}

fn mail() -> NewJob {
    with_payload("mail", json!({}))
}

#[tokio::test]
async fn a_lease_lives_as_long_as_its_handler() {
    let rig = Rig::new().await;
    let (end, ended) = tokio::sync::watch::channel(false);
    let mut signals = Signals::new();
    let sender = signals.sender();
    let handler = move |job: Job<Value>| {
        let (mut ended, sender) = (ended.clone(), sender.clone());
        async move {
            job.set_progress(140);
            let _ = sender.send("started");
            ended.wait_for(|ended| *ended).await.unwrap();
            let _ = sender.send("ended");
        }
    };
    let worker = rig.worker().handle("mail", handler).build().unwrap().start();
    let id = rig.enqueue(mail()).await;
    signals.expect("started").await;
    for _ in 0..20 {
        rig.advance(&worker, 10_000).await;
    }
    let job = rig.job(id).await;
    assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Running, 1, 0));
    let running = job.running.unwrap();
    assert_eq!((running.worker.as_deref(), running.progress), (Some("w"), Some(100)));
    end.send_replace(true);
    signals.expect("ended").await;
    assert_eq!(within(worker.stop(LONG)).await.given_back, 0);
    assert!(rig.queue.job(id).await.is_err(), "it is done");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_fails_once_and_its_future_is_dropped() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = stubborn(&rig, &signals);
    let mut job = mail();
    job.timeout_ms = Some(1_000);
    let id = rig.enqueue(job).await;
    signals.expect("started").await;
    rig.advance(&worker, 999).await;
    assert_eq!(rig.job(id).await.state, JobState::Running);
    signals.expect_silence();
    rig.advance(&worker, 1).await;
    signals.expect("dropped").await;
    within(worker.stop(LONG)).await;
    let job = rig.job(id).await;
    assert_eq!((job.state, job.attempt, job.errors.len()), (JobState::Retrying, 2, 1));
    assert_eq!(job.errors[0].error, "timed out: the attempt took longer than 1000 ms");
}

#[tokio::test]
async fn a_cancelled_job_is_told_and_dropped_after_five_seconds() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = stubborn(&rig, &signals);
    let id = rig.enqueue(mail()).await;
    signals.expect("started").await;
    rig.queue.cancel(id).await.unwrap();
    rig.advance(&worker, 9_999).await;
    signals.expect_silence();
    rig.advance(&worker, 1).await;
    signals.expect("told").await;
    rig.advance(&worker, 4_999).await;
    signals.expect_silence();
    rig.advance(&worker, 1).await;
    signals.expect("dropped").await;
    within(worker.stop(LONG)).await;
    assert!(rig.queue.job(id).await.is_err(), "it is gone");
}

#[tokio::test]
async fn a_lost_lease_is_told_too() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = stubborn(&rig, &signals);
    let id = rig.enqueue(mail()).await;
    signals.expect("started").await;
    // As if the process had been asleep: the queue ends the lease before the worker looks.
    rig.queue.pause("default").await.unwrap();
    rig.clock.advance_ms(40_000);
    rig.queue.tick().await.unwrap();
    rig.advance(&worker, 0).await;
    signals.expect("told").await;
    rig.advance(&worker, 5_000).await;
    signals.expect("dropped").await;
    let job = rig.job(id).await;
    assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Ready, 1, 1));
    assert_eq!(within(worker.stop(LONG)).await.given_back, 0);
}
