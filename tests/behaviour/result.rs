//! Results: what a worker gives back with its ack is there for a while.

use pulk::job::{Found, limits};
use pulk::queue::{Ack, Settle};
use pulk::{ErrorKind, JobState, NewJob, Priority};

use crate::door::claim_in;
use crate::harness::Harness;
use crate::now;

pub async fn a_result_is_kept_byte_for_byte(queue: &Harness) {
    let id = queue.put(NewJob::new("mail").priority(Priority::High)).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, Some(0)).await;
    let job = queue.take("default").await;
    let Found::Job(running) = queue.find(id).await.unwrap() else { panic!("it is not done") };
    assert_eq!(running.state, JobState::Running);
    let text = r#"{ "b" : 1 , "a":2, "b":3.50e+02, "c": "é\u00e9" }"#;
    let before = now();
    queue.ack_with_result(job.token, text.into()).await.unwrap();
    let Found::Done(done) = queue.find(id).await.unwrap() else { panic!("it is done") };
    assert_eq!(done.result, text.as_bytes());
    assert_eq!((done.id, done.queue.as_str(), done.kind.as_str()), (id, "default", "mail"));
    assert_eq!((done.priority, done.attempt), (Priority::High, 2));
    assert_eq!(done.enqueued_at, id.born_at());
    assert!(before <= done.finished_at && done.finished_at <= now());
    assert_eq!(done.expires_at, done.finished_at.plus_ms(3_600_000));
    // It is no job, and in nobody's counts.
    let counts = queue.queue("default").await.unwrap().counts;
    assert!(counts.iter().all(|(_, counts)| *counts == Default::default()), "{counts:?}");
}

pub async fn without_a_result_nothing_is_kept(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let token = queue.take("default").await.token;
    queue.ack(token).await.unwrap();
    assert_eq!(queue.find(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let id = queue.put(NewJob::new("mail")).await;
    let token = queue.take("default").await.token;
    queue.ack_with_result(token, "null".into()).await.unwrap();
    let Found::Done(done) = queue.find(id).await.unwrap() else { panic!("null is a result") };
    assert_eq!(done.result, "null");
}

pub async fn results_ride_along_with_many_acks(queue: &Harness) {
    let ids = queue.enqueue_many(vec![NewJob::new("mail"); 3]).await.unwrap();
    let mut claim = claim_in("default");
    claim.limit = 3;
    let jobs = queue.claim(claim).await.unwrap().jobs;
    let ack =
        |place: usize| Ack { token: jobs[place].token, result: Some(place.to_string().into()) };
    let outcomes = queue.settle(Settle { acks: vec![ack(1)], fails: vec![] }).await.unwrap();
    assert!(outcomes[0].is_ok());
    let settle = Settle { acks: vec![ack(0), jobs[2].token.into()], fails: vec![] };
    let claim = pulk::queue::Claim { settle, ..Default::default() };
    assert!(queue.claim(claim).await.unwrap().outcomes.iter().all(Result::is_ok));
    for (place, id) in ids.iter().enumerate() {
        match queue.find(*id).await {
            Ok(Found::Done(done)) => assert_eq!(done.result, place.to_string()),
            other => assert_eq!((place, other.unwrap_err().kind()), (2, ErrorKind::NotFound)),
        }
    }
}

pub async fn a_large_result_is_refused_and_the_job_runs_on(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let token = queue.take("default").await.token;
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let large = text(limits::RESULT_BYTES_MAX + 1);
    let refused = queue.ack_with_result(token, large.clone().into()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::TooLarge, Some("result")));
    let acks = vec![Ack { token, result: Some(large.into()) }];
    let refused = queue.settle(Settle { acks, fails: vec![] }).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::TooLarge, Some("acks[0].result")));
    assert_eq!(queue.job(id).await.unwrap().state, JobState::Running);
    let largest = text(limits::RESULT_BYTES_MAX);
    queue.ack_with_result(token, largest.clone().into()).await.unwrap();
    let Found::Done(done) = queue.find(id).await.unwrap() else { panic!("it is done") };
    assert_eq!(done.result, largest);
}

pub async fn a_lost_lease_gives_no_result(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let token = queue.take("default").await.token;
    queue.release(token, None).await.unwrap();
    let refused = queue.ack_with_result(token, "1".into()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    let Found::Job(job) = queue.find(id).await.unwrap() else { panic!("it is not done") };
    assert_eq!(job.state, JobState::Ready);
}

pub async fn a_result_lives_on(queue: &mut Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let token = queue.take("default").await.token;
    queue.ack_with_result(token, "[1]".into()).await.unwrap();
    let before = queue.find(id).await.unwrap();
    queue.restart().await;
    assert_eq!(queue.find(id).await.unwrap(), before);
}
