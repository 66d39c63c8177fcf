//! Keys that jobs of a queue share: so many at a time, or one after the other.

use pulk::job::WaitsFor;
use pulk::queue::{Claim, JobQuery, Limits};
use pulk::{ErrorKind, JobState, NewJob};

use crate::door::claim_in;
use crate::harness::Harness;

fn ordered(kind: &str) -> NewJob {
    NewJob::new(kind).ordering_key("account 7")
}

fn limited(kind: &str) -> NewJob {
    NewJob::new(kind).concurrency_key("partner")
}

pub async fn jobs_of_an_ordering_key_run_one_after_the_other(queue: &Harness) {
    let ids = queue.enqueue_many(vec![ordered("a"), ordered("b"), ordered("c")]).await.unwrap();
    let other = queue.put(NewJob::new("other").ordering_key("account 8")).await;
    let all = Claim { limit: 9, ..claim_in("default") };
    let first = queue.claim(all).await.unwrap().jobs;
    assert_eq!(first.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[0], other]);
    let waiting = queue.parked(claim_in("default")).await;
    // It keeps its turn while it is tried again, and gives it up when it is done.
    queue.fail_once(&first[0], Some(0)).await;
    let again = waiting.await.unwrap().unwrap().jobs.remove(0);
    assert_eq!((again.id, again.attempt), (ids[0], 2));
    let seen = queue.job(ids[1]).await.unwrap();
    assert_eq!(seen.waits_for, Some(WaitsFor::OrderingKey("account 7".to_owned())));
    assert_eq!(seen.ordering_key.as_deref(), Some("account 7"));
    let waiting = queue.parked(claim_in("default")).await;
    queue.ack(again.token).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, ids[1]);
    assert!(queue.job(ids[2]).await.unwrap().waits_for.is_some());
}

pub async fn jobs_of_a_concurrency_key_run_as_many_as_may(queue: &Harness) {
    let ids = queue.enqueue_many(vec![limited("a"); 4]).await.unwrap();
    let all = || Claim { limit: 9, ..claim_in("default") };
    assert_eq!(queue.claim(all()).await.unwrap().jobs.len(), 1);
    let waiting = queue.parked(claim_in("default")).await;
    let limits = Limits { concurrency_per_key: Some(2), ..Limits::default() };
    queue.set_limits("default", limits).await.unwrap();
    let second = waiting.await.unwrap().unwrap().jobs.remove(0);
    assert_eq!(second.id, ids[1]);
    let ready = JobQuery { states: vec![JobState::Ready], limit: 1, ..JobQuery::default() };
    let page = queue.jobs(ready.clone()).await.unwrap();
    let key = Some(WaitsFor::ConcurrencyKey("partner".to_owned()));
    assert_eq!((page.jobs[0].id, &page.jobs[0].waits_for), (ids[2], &key));
    let next = queue.jobs(JobQuery { cursor: page.next_cursor, ..ready }).await.unwrap();
    assert_eq!(next.jobs[0].id, ids[3]);
    queue.cancel(ids[2]).await.unwrap();
    let waiting = queue.parked(claim_in("default")).await;
    queue.ack(second.token).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, ids[3]);
}

pub async fn a_bad_shared_key_names_the_field(queue: &Harness) {
    for (job, field) in [
        (NewJob::new("k").ordering_key(""), "ordering_key"),
        (NewJob::new("k").ordering_key("a\nb"), "ordering_key"),
        (NewJob::new("k").concurrency_key("k".repeat(257)), "concurrency_key"),
    ] {
        let refused = queue.enqueue(job).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
}

pub async fn turns_and_lines_live_on(queue: &mut Harness) {
    let ids = queue.enqueue_many(vec![ordered("a"), ordered("b")]).await.unwrap();
    let first = queue.take("default").await;
    queue.restart().await;
    queue.assert_none_ready().await;
    queue.ack(first.token).await.unwrap();
    assert_eq!(queue.take("default").await.id, ids[1]);
}
