//! A worker dies with its process: what that costs the jobs that ran.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pulk::clock::ManualClock;
use pulk::dead_letter::DeadReason;
use pulk::queue::Claim;
use pulk::store::{self, memory::MemoryStore};
use pulk::worker::Job;
use pulk::{Config, JobState, NewJob, Queue, StoreKind};
use serde_json::{Value, json};

use crate::rig::{Rig, Signals, clock, with_payload, within};

const MINUTE_MS: u64 = 60_000;

/// A life of a process: it opens the queue, and is gone at the end, with all its tasks.
fn life<T>(of: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let came_to = runtime.block_on(of);
    runtime.shutdown_background();
    came_to
}

async fn open(directory: &Path, clock: &ManualClock) -> Queue {
    let config = Config { data_dir: directory.into(), ..Config::default() };
    let store = store::open(StoreKind::Sled, directory, 0).unwrap();
    Queue::open_with(config, store, Arc::new(clock.clone())).await.unwrap()
}

/// A job of ten minutes, begun anew by each process, finished by the last one.
#[test]
fn a_hundred_rolling_restarts_leave_a_job_at_its_first_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let id = life(async {
        let queue = open(directory.path(), &clock).await;
        let id = queue.enqueue(with_payload("long", json!({}))).await.unwrap().id;
        queue.close().await.unwrap();
        id
    });
    for life_number in 1..=100 {
        life(async {
            let rolled = run_for(directory.path(), &clock, MINUTE_MS).await;
            assert_eq!(rolled, None, "life {life_number}");
        });
    }
    life(async {
        let attempt = run_for(directory.path(), &clock, 10 * MINUTE_MS).await;
        assert_eq!(attempt, Some(1));
        let queue = open(directory.path(), &clock).await;
        assert!(queue.job(id).await.is_err(), "it is done");
        queue.close().await.unwrap();
    });
}

/// Opens the queue, lets the job run for so long, stops as a node does on SIGTERM. Gives the
/// attempt when the job came to its end.
async fn run_for(directory: &Path, clock: &ManualClock, ms: u64) -> Option<u32> {
    let queue = open(directory, clock).await;
    let mut signals = Signals::new();
    let sender = signals.sender();
    let (time, passed) = tokio::sync::watch::channel(0);
    let (finished, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |job: Job<Value>| {
        let (sender, mut passed, finished) = (sender.clone(), passed.clone(), finished.clone());
        async move {
            let _ = sender.send("started");
            passed.wait_for(|ms| *ms >= 10 * MINUTE_MS).await.unwrap();
            let _ = finished.send(job.attempt);
        }
    };
    let builder = pulk::worker::Worker::builder(queue.clone()).handle("long", handler);
    let worker = builder.build().unwrap().start();
    signals.expect("started").await;
    let jobs = queue.queue("default").await.unwrap().counts;
    assert_eq!(jobs[pulk::Priority::Default].running, 1);
    for step in 1..=ms / 10_000 {
        clock.advance_ms(10_000);
        within(worker.tick()).await;
        queue.tick().await.unwrap();
        time.send_replace(step * 10_000);
    }
    let attempt = match ms >= 10 * MINUTE_MS {
        true => within(ends.recv()).await,
        false => None,
    };
    let stopped = within(worker.stop(Duration::ZERO)).await;
    if attempt.is_none() {
        assert_eq!(stopped.given_back, 1);
    }
    queue.close().await.unwrap();
    attempt
}

/// The same with processes that die: no attempt is counted, but interruptions, up to the last.
#[test]
fn crashes_are_counted_apart_until_there_were_too_many() {
    let (store, clock) = (MemoryStore::new(), clock());
    let id = life(async {
        let rig = Rig::on(&store, &clock).await;
        let mut job = with_payload("long", json!({}));
        job.max_interruptions = Some(3);
        rig.enqueue(job).await
    });
    for crashes in 0..=3 {
        life(async {
            let rig = Rig::on(&store, &clock).await;
            let mut signals = Signals::new();
            let sender = signals.sender();
            let handler = move |job: Job<Value>| {
                assert_eq!(job.attempt, 1);
                let _ = sender.send("started");
                std::future::pending::<()>()
            };
            let worker = rig.worker().handle("long", handler).build().unwrap().start();
            signals.expect("started").await;
            let job = rig.job(id).await;
            assert_eq!((job.state, job.interruptions), (JobState::Running, crashes));
            std::mem::forget(worker);
        });
    }
    life(async {
        let rig = Rig::on(&store, &clock).await;
        let job = rig.job(id).await;
        assert_eq!(job.dead.unwrap().reason, DeadReason::Crashed);
        assert_eq!((job.attempt, job.interruptions, job.errors.len()), (1, 4, 0));
    });
}

/// The first group after opening ends such leases, in whatever direction the clock went; those of
/// workers elsewhere go on.
#[test]
fn a_crash_ends_what_ran_and_counts_an_interruption() {
    for clock_moves_ms in [0, -3_600_000, 3_600_000] {
        let (store, clock) = (MemoryStore::new(), clock());
        let (ids, elsewhere) = life(async {
            let rig = Rig::on(&store, &clock).await;
            let mut ids = Vec::new();
            for _ in 0..4 {
                let mut job = NewJob::new("long");
                job.timeout_ms = Some(MINUTE_MS);
                ids.push(rig.enqueue(job).await);
            }
            let claim = |in_process| Claim { in_process, lease_ms: MINUTE_MS, ..Claim::default() };
            let here = rig.queue.claim(Claim { limit: 2, ..claim(true) }).await.unwrap().jobs;
            assert_eq!((here[0].id, here[1].id), (ids[0], ids[1]));
            rig.queue.cancel(ids[1]).await.unwrap();
            let elsewhere = rig.queue.claim(claim(false)).await.unwrap().jobs.remove(0);
            (ids, elsewhere)
        });
        let moved = 1_800_000_000_000_u64.saturating_add_signed(clock_moves_ms);
        clock.set(pulk::Timestamp::from_ms(moved));
        life(async {
            let rig = Rig::on(&store, &clock).await;
            let job = rig.job(ids[0]).await;
            assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Ready, 1, 1));
            assert!(rig.queue.job(ids[1]).await.is_err(), "it was cancelled, and is gone");
            let acked = rig.queue.ack(elsewhere.token).await;
            assert_eq!(acked.is_ok(), clock_moves_ms <= 0, "{acked:?}");
            let next = rig.queue.claim(Claim { limit: 2, ..Claim::default() }).await.unwrap().jobs;
            let next: Vec<_> = next.iter().map(|job| job.id).collect();
            assert_eq!(next, [ids[0], ids[3]], "it has its old place");
            assert_eq!(rig.job(ids[0]).await.interruptions, 1, "counted once");
        });
    }
}

/// What a process did before its death was on the disk is counted once, however often the next
/// ones die before they do anything.
#[test]
fn a_crash_right_after_opening_counts_nothing_twice() {
    let (store, clock) = (MemoryStore::new(), clock());
    let id = life(async {
        let rig = Rig::on(&store, &clock).await;
        let id = rig.enqueue(NewJob::new("long")).await;
        let claim = Claim { in_process: true, ..Claim::default() };
        rig.queue.claim(claim).await.unwrap();
        id
    });
    let open = |seed| {
        let behind = (Arc::new(store.clone()), Arc::new(clock.clone()));
        Queue::open_stepped(Config::default(), behind.0, behind.1, seed).unwrap()
    };
    for seed in 0..3 {
        drop(open(seed));
    }
    for seed in 3..6 {
        let (queue, mut stepper) = open(seed);
        stepper.step();
        drop(queue);
    }
    life(async {
        let job = Rig::on(&store, &clock).await.job(id).await;
        assert_eq!((job.state, job.interruptions), (JobState::Ready, 1));
    });
}
