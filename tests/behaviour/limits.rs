//! Limits of a queue: how many of its jobs run at once, and how many are started in a time.

use std::sync::Arc;

use pulk::clock::ManualClock;
use pulk::queue::{Ack, Claim, Limited, Limits, Rate, Settle, Skipped};
use pulk::store::memory::MemoryStore;
use pulk::{Config, ErrorKind, NewJob, Priority, Queue, StoreKind, Timestamp};
use serde_json::json;

use crate::door::claim_in;
use crate::harness::Harness;
use crate::node::Node;
use crate::now;

fn at_once(concurrency: u32) -> Limits {
    Limits { concurrency: Some(concurrency), ..Limits::default() }
}

fn per_key(concurrency_per_key: u32) -> Limits {
    Limits { concurrency_per_key: Some(concurrency_per_key), ..Limits::default() }
}

fn rate(jobs: u32, per_ms: u64, burst: u32) -> Limits {
    Limits { rate: Some(Rate { jobs, per_ms, burst }), ..Limits::default() }
}

pub async fn no_more_jobs_run_at_once_than_the_queue_lets(queue: &Harness) {
    assert_eq!(queue.set_limits("default", at_once(2)).await.unwrap().limits, at_once(2));
    queue.enqueue_many(vec![NewJob::new("mail"); 2]).await.unwrap();
    queue.enqueue_many(vec![NewJob::new("mail").priority(Priority::Bulk); 2]).await.unwrap();
    let all = Claim { limit: 9, ..Claim::default() };
    let running = queue.claim(all.clone()).await.unwrap().jobs;
    assert_eq!(running.len(), 2);
    queue.assert_none_ready().await;
    assert_eq!(queue.queue("default").await.unwrap().limited, Some(Limited::Concurrency));
    // An ack, a failure and a release make room, and wake who waits.
    let waiting = queue.parked(claim_in("default")).await;
    queue.ack(running[0].token).await.unwrap();
    let third = waiting.await.unwrap().unwrap().jobs.remove(0);
    let waiting = queue.parked(claim_in("default")).await;
    queue.fail_once(&running[1], Some(3_600_000)).await;
    let fourth = waiting.await.unwrap().unwrap().jobs.remove(0);
    let waiting = queue.parked(claim_in("default")).await;
    queue.release(fourth.token, None).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, fourth.id);
    // So does a limit that is lifted.
    queue.enqueue_many(vec![NewJob::new("mail"); 2]).await.unwrap();
    let waiting = queue.parked(claim_in("default")).await;
    queue.set_limits("default", at_once(3)).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs.len(), 1);
    queue.assert_none_ready().await;
    queue.ack(third.token).await.unwrap();
    queue.take("default").await;
}

pub async fn an_ack_that_rides_along_wakes_an_earlier_claim(queue: &Harness) {
    queue.set_limits("default", at_once(1)).await.unwrap();
    let ids = queue.enqueue_many(vec![NewJob::new("mail"); 2]).await.unwrap();
    let job = queue.take("default").await;
    let waiting = queue.parked(claim_in("default")).await;
    let settle = Settle { acks: vec![Ack::from(job.token)], fails: Vec::new() };
    let other = Claim { settle, ..claim_in("other") };
    let claimed = queue.claim(Claim { wait_ms: 0, ..other }).await.unwrap();
    assert!(claimed.jobs.is_empty() && claimed.outcomes[0].is_ok(), "{claimed:?}");
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, ids[1]);
}

pub async fn a_rate_lets_a_burst_through_and_then_wakes_a_claim_for_each_token(queue: &Harness) {
    queue.set_limits("default", rate(1, 700, 2)).await.unwrap();
    queue.enqueue_many(vec![NewJob::new("mail"); 4]).await.unwrap();
    let before = now();
    let all = Claim { limit: 9, ..claim_in("default") };
    assert_eq!(queue.claim(all).await.unwrap().jobs.len(), 2);
    for token in 1..=2 {
        // It waits for the token, and for nothing else.
        queue.take("default").await;
        assert!(now() >= before.plus_ms(700 * token), "it came before its token");
    }
    let seen = queue.queue("default").await.unwrap();
    assert_eq!(seen.limits, rate(1, 700, 2));
}

pub async fn limits_of_a_new_queue_make_it_and_others_are_not_limited(queue: &Harness) {
    let made = queue.set_limits("new", rate(1, 3_600_000, 1)).await.unwrap();
    assert_eq!((made.name.as_str(), made.limited), ("new", None));
    queue.enqueue_many(vec![NewJob::new("mail").queue("new"); 2]).await.unwrap();
    queue.enqueue_many(vec![NewJob::new("mail"); 5]).await.unwrap();
    let all = queue.claim(Claim { limit: 9, ..Claim::default() }).await.unwrap().jobs;
    let of_new = all.iter().filter(|job| job.queue == "new");
    assert_eq!((all.len(), of_new.count()), (6, 1));
    let seen = queue.queue("new").await.unwrap();
    let Some(Limited::Rate { until }) = seen.limited else { panic!("{seen:?}") };
    assert!(until > now());
    // Without limits, at once.
    let waiting = queue.parked(claim_in("new")).await;
    queue.set_limits("new", Limits::default()).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs.len(), 1);
}

pub async fn a_limit_that_makes_no_sense_names_the_field(queue: &Harness) {
    for (limits, field) in [
        (at_once(0), "concurrency"),
        (at_once(1_000_001), "concurrency"),
        (per_key(0), "concurrency_per_key"),
        (per_key(10_001), "concurrency_per_key"),
        (rate(0, 1_000, 1), "rate.jobs"),
        (rate(1, 0, 1), "rate.per_ms"),
        (rate(1, 86_400_001, 1), "rate.per_ms"),
        (rate(1, 1_000, 10_001), "rate.burst"),
    ] {
        let refused = queue.set_limits("default", limits).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    let refused = queue.set_limits("a b", at_once(1)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("queue")));
    assert!(queue.queues().await.unwrap().is_empty());
}

// ---- what is told of who is next ----

#[tokio::test]
async fn who_is_at_a_limit_is_told_with_the_limit_and_its_end() {
    let start = Timestamp::from_ms(1_800_000_000_000);
    let clock = ManualClock::new(start);
    let config = Config { store: StoreKind::Memory, ..Config::default() };
    let store = Arc::new(MemoryStore::new());
    let queue = Queue::open_with(config, store, Arc::new(clock.clone())).await.unwrap();
    for (name, limits) in [("rate", rate(1, 10_000, 1)), ("slots", at_once(1))] {
        queue.set_limits(name, limits).await.unwrap();
        queue.enqueue_many(vec![NewJob::new("mail").queue(name); 3]).await.unwrap();
    }
    let told = async || {
        let (_, next) = queue.explain_next().await.unwrap();
        let candidates = next.candidates.into_iter();
        let candidates = candidates.map(|one| (one.queue, one.ready, one.skipped, one.until));
        (candidates.collect::<Vec<_>>(), next.job.map(|job| job.queue), next.why)
    };
    let named = |name: &str| name.to_owned();
    let (candidates, job, _) = told().await;
    let open = [(named("rate"), 3, None, None), (named("slots"), 3, None, None)];
    assert_eq!((&candidates[..], job), (&open[..], Some(named("rate"))));

    let taken = queue.claim(Claim { limit: 9, ..Claim::default() }).await.unwrap().jobs;
    assert_eq!(taken.len(), 2);
    let until = start.plus_ms(10_000);
    let (candidates, job, why) = told().await;
    let limited = (named("rate"), 2, Some(Skipped::RateLimited), Some(until));
    let full = (named("slots"), 2, Some(Skipped::ConcurrencyReached), None);
    assert_eq!((candidates, job), (vec![limited.clone(), full.clone()], None));
    assert_eq!(why, "Every queue with ready jobs is at its limit.");

    // Each comes back by itself, and is what the next claim gets.
    let of_slots = taken.iter().find(|job| job.queue == "slots").unwrap();
    queue.ack(of_slots.token).await.unwrap();
    let (candidates, job, _) = told().await;
    assert_eq!(candidates, [(named("slots"), 2, None, None), limited]);
    assert_eq!(job, Some(named("slots")));
    let taken = queue.claim(Claim { limit: 9, ..Claim::default() }).await.unwrap().jobs;
    assert_eq!(taken.iter().map(|job| &*job.queue).collect::<Vec<_>>(), ["slots"]);
    clock.set(until);
    queue.tick().await.unwrap();
    let (candidates, job, _) = told().await;
    let full = (named("slots"), 1, Some(Skipped::ConcurrencyReached), None);
    assert_eq!(candidates, [(named("rate"), 2, None, None), full]);
    assert_eq!(job, Some(named("rate")));
}

#[tokio::test]
async fn over_http_too() {
    let node = Node::start_with(["--store", "memory"]).await;
    for (name, limits) in [
        ("rate", json!({"rate": {"jobs": 1, "per_ms": 3_600_000}})),
        ("slots", json!({"concurrency": 1, "concurrency_per_key": 2})),
    ] {
        let path = format!("/v1/queues/{name}/limits");
        let limited = node.http.put(&path, limits.to_string()).await;
        assert_eq!(limited.status, 200);
        let told = limited.json()["limits"].take();
        assert_eq!(told["concurrency_per_key"], limits["concurrency_per_key"]);
        for _ in 0..2 {
            let job = json!({"kind": "mail", "queue": name}).to_string();
            assert_eq!(node.http.post("/v1/jobs", job).await.status, 201);
        }
    }
    let claimed = node.http.post("/v1/claim", r#"{"limit":9}"#).await.json();
    assert_eq!(claimed["jobs"].as_array().unwrap().len(), 2);
    let queues = node.http.get("/v1/queues?explain=next").await.json();
    let [rate, slots] = &queues["next"]["candidates"].as_array().unwrap()[..] else {
        panic!("{queues}")
    };
    let queue = node.http.get("/v1/queues/rate").await.json();
    assert!(queue["limited"]["until"].is_string(), "{queue}");
    assert_eq!(
        (&rate["queue"], &rate["skipped"], &rate["until"]),
        (&json!("rate"), &json!("rate_limited"), &queue["limited"]["until"])
    );
    assert_eq!(
        (&slots["queue"], &slots["skipped"], &slots["until"]),
        (&json!("slots"), &json!("concurrency_reached"), &json!(null))
    );
    for (limits, field) in [
        (json!({"rate": {"jobs": 0, "per_ms": 1}}), "rate.jobs"),
        (json!({"rate": {"jobs": 1, "per_ms": 86_400_001}}), "rate.per_ms"),
        (json!({"concurrency_per_key": 10_001}), "concurrency_per_key"),
        (json!({"concurency": 1}), "concurency"),
    ] {
        let refused = node.http.put("/v1/queues/rate/limits", limits.to_string()).await;
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!(field)), "{limits}");
    }
    let (status, log) = node.stop().await;
    assert!(status.success(), "{log}");
}
