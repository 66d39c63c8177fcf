//! The end of a worker: by order, with its queue, with its holder.

use std::time::Duration;

use pulk::worker::{Job, RunningWorker, Stopped};
use pulk::{ErrorKind, JobState, NewJob};
use serde_json::{Value, json};

use crate::rig::{LONG, Rig, Signals, with_payload, within};

/// Jobs with the payload `true` end when they are told to; others never do.
fn start(rig: &Rig, signals: &Signals) -> RunningWorker {
    let sender = signals.sender();
    let handler = move |job: Job<bool>| {
        let sender = sender.clone();
        let _ = sender.send("started");
        async move {
            let _guard = (!job.payload).then(|| Signals::guard(&sender));
            job.cancellation().cancelled().await;
            if !job.payload {
                let _ = sender.send("told");
                std::future::pending::<()>().await;
            }
        }
    };
    rig.worker().handle("mail", handler).concurrency(2).reserved(0).build().unwrap().start()
}

fn mail(obeys: bool) -> NewJob {
    with_payload("mail", json!(obeys))
}

#[tokio::test]
async fn what_ends_within_the_grace_is_settled_and_the_rest_given_back() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = start(&rig, &signals);
    let [obeys, stays, waits] = [
        rig.enqueue(mail(true)).await,
        rig.enqueue(mail(false)).await,
        rig.enqueue(mail(true)).await,
    ];
    signals.expect("started").await;
    signals.expect("started").await;
    let stopped = async {
        signals.expect("told").await;
        rig.clock.advance_ms(4_999);
        within(worker.tick()).await;
        signals.expect_silence();
        rig.clock.advance_ms(1);
        within(worker.tick()).await;
        signals.expect("dropped").await;
    };
    let (stopped, ()) = tokio::join!(within(worker.stop(Duration::from_secs(5))), stopped);
    assert_eq!(stopped, Stopped { finished: 1, given_back: 1 });
    assert!(rig.queue.job(obeys).await.is_err(), "it is done");
    for id in [stays, waits] {
        let job = rig.job(id).await;
        assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Ready, 1, 0));
    }
    let next = rig.queue.claim(pulk::queue::Claim::default()).await.unwrap().jobs;
    assert_eq!(next[0].id, stays, "it has its old place");
    assert!(worker.stats().stopping);
}

#[tokio::test]
async fn a_second_stop_may_shorten_the_grace() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = start(&rig, &signals);
    rig.enqueue(mail(false)).await;
    signals.expect("started").await;
    let second = async {
        signals.expect("told").await;
        within(worker.stop(Duration::ZERO)).await
    };
    let (first, second) = tokio::join!(within(worker.stop(LONG)), second);
    assert_eq!(first, Stopped { finished: 0, given_back: 1 });
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_worker_that_is_dropped_stops() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = start(&rig, &signals);
    let id = rig.enqueue(mail(false)).await;
    signals.expect("started").await;
    drop(worker);
    signals.expect("told").await;
    signals.expect("dropped").await;
    rig.queue.tick().await.unwrap();
    let job = rig.job(id).await;
    assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Ready, 1, 0));
}

#[tokio::test]
async fn it_ends_when_its_queue_drains() {
    let rig = Rig::new().await;
    let worker = rig.worker().handle("mail", |_: Job<Value>| async {}).build().unwrap();
    let (ended, drained) = tokio::join!(within(worker.run()), rig.queue.drain());
    ended.unwrap();
    drained.unwrap();
}

#[tokio::test]
async fn it_ends_with_the_error_of_a_queue_that_failed() {
    let rig = Rig::new().await;
    let mut signals = Signals::new();
    let worker = start(&rig, &signals);
    rig.enqueue(mail(false)).await;
    signals.expect("started").await;
    rig.store.fail_commit(1);
    assert!(rig.queue.enqueue(mail(true)).await.is_err());
    assert_eq!(within(worker.ended()).await.unwrap_err().kind(), ErrorKind::Poisoned);
    signals.expect("told").await;
    signals.expect("dropped").await;
}
