//! Limits of a queue: how many of its jobs run at once, and how many are started in a time.

use pulk::queue::{Ack, Claim, Limited, Limits, Rate, Settle};
use pulk::{ErrorKind, NewJob, Priority};

use crate::door::claim_in;
use crate::harness::Harness;
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
