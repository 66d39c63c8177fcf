//! Settle: many acks and fails in one call, or riding along with a claim.

use pulk::dead_letter::DeadReason;
use pulk::queue::{Claim, ClaimedJob, Failed, Failure, Settle, SettleOutcome};
use pulk::{ErrorKind, JobState, LeaseToken, NewJob};

use crate::door::claim_in;
use crate::harness::Harness;
use crate::state_of;

async fn take_many(queue: &Harness, count: usize) -> Vec<ClaimedJob> {
    queue.enqueue_many(vec![NewJob::new("mail"); count]).await.unwrap();
    let claimed = queue.claim(Claim { limit: count, ..claim_in("default") }).await.unwrap();
    assert_eq!(claimed.jobs.len(), count);
    claimed.jobs
}

fn failure(token: LeaseToken, retry: bool) -> Failure {
    Failure { token, error: "no luck".to_owned(), retry, retry_in_ms: Some(60_000) }
}

/// Each outcome as a word.
fn words(outcomes: &[SettleOutcome]) -> Vec<String> {
    let word = |outcome: &SettleOutcome| match outcome {
        Ok(None) => "acked".to_owned(),
        Ok(Some(Failed::Retrying { .. })) => "retrying".to_owned(),
        Ok(Some(Failed::Dead { reason })) => reason.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    };
    outcomes.iter().map(word).collect()
}

pub async fn acks_and_fails_have_outcomes_in_their_order(queue: &Harness) {
    let jobs = take_many(queue, 5).await;
    let settle = Settle {
        acks: vec![jobs[3].token.into(), jobs[0].token.into()],
        fails: vec![failure(jobs[4].token, true), failure(jobs[1].token, false)],
    };
    let outcomes = queue.settle(settle).await.unwrap();
    assert_eq!(words(&outcomes), ["acked", "acked", "retrying", "rejected"]);
    let states = [None, Some(JobState::Dead), Some(JobState::Running), None];
    for (job, state) in jobs.iter().zip(states) {
        assert_eq!(state_of(queue, job.id).await, state);
    }
    let retrying = queue.job(jobs[4].id).await.unwrap();
    assert_eq!((retrying.state, retrying.attempt), (JobState::Retrying, 2));
    assert_eq!(outcomes[2], Ok(Some(Failed::Retrying { run_at: retrying.run_at })));
    assert_eq!(outcomes[3], Ok(Some(Failed::Dead { reason: DeadReason::Rejected })));
    assert_eq!(queue.settle(Settle::default()).await.unwrap(), []);
}

pub async fn what_rides_along_is_settled_before_the_claim(queue: &Harness) {
    let done = take_many(queue, 3).await;
    // Failed to be tried again at once, the job is there for the claim it came with.
    let again = Failure { retry_in_ms: Some(0), ..failure(done[1].token, true) };
    let settle = Settle { acks: vec![done[0].token.into()], fails: vec![again] };
    let claimed = queue.claim(Claim { settle, ..claim_in("default") }).await.unwrap();
    assert_eq!(words(&claimed.outcomes), ["acked", "retrying"]);
    assert_eq!((claimed.jobs[0].id, claimed.jobs[0].attempt), (done[1].id, 2));
    assert_eq!(state_of(queue, done[0].id).await, None);
    assert_eq!(state_of(queue, done[2].id).await, Some(JobState::Running));
}

pub async fn what_rides_along_is_settled_even_if_no_job_comes(queue: &Harness) {
    let done = take_many(queue, 1).await;
    let settle = Settle { acks: vec![done[0].token.into()], fails: vec![] };
    let claim = Claim { settle, ..Claim::default() };
    let claimed = queue.claim(claim.clone()).await.unwrap();
    assert!(claimed.jobs.is_empty());
    assert_eq!(words(&claimed.outcomes), ["acked"]);
    assert_eq!(state_of(queue, done[0].id).await, None);
    assert_eq!(words(&queue.claim(claim).await.unwrap().outcomes), ["LeaseLost"]);
}

pub async fn one_bad_lease_does_not_stop_the_others(queue: &Harness) {
    let jobs = take_many(queue, 4).await;
    queue.release(jobs[1].token, Some(60_000)).await.unwrap();
    let settle = Settle {
        acks: jobs[..3].iter().map(|job| job.token.into()).collect(),
        fails: vec![failure(jobs[1].token, true), failure(jobs[3].token, true)],
    };
    let outcomes = queue.settle(settle).await.unwrap();
    assert_eq!(words(&outcomes), ["acked", "LeaseLost", "acked", "LeaseLost", "retrying"]);
    let left = queue.job(jobs[1].id).await.unwrap();
    assert_eq!((left.state, left.attempt, left.errors.len()), (JobState::Scheduled, 1, 0));
}

pub async fn the_same_ack_twice_in_one_call_is_lost_the_second_time(queue: &Harness) {
    let jobs = take_many(queue, 2).await;
    let settle = Settle {
        acks: [0, 0, 1].map(|place: usize| jobs[place].token.into()).into(),
        fails: vec![failure(jobs[1].token, true)],
    };
    let outcomes = queue.settle(settle).await.unwrap();
    assert_eq!(words(&outcomes), ["acked", "LeaseLost", "acked", "LeaseLost"]);
}

pub async fn a_thousand_acks_in_one_call(queue: &Harness) {
    let jobs = take_many(queue, 1_000).await;
    let acks = jobs.iter().map(|job| job.token.into()).collect();
    let outcomes = queue.settle(Settle { acks, fails: vec![] }).await.unwrap();
    assert!(outcomes.len() == 1_000 && outcomes.iter().all(|outcome| *outcome == Ok(None)));
    let counts = queue.queue("default").await.unwrap().counts;
    assert!(counts.iter().all(|(_, counts)| *counts == Default::default()));
}

pub async fn more_than_a_thousand_are_too_many(queue: &Harness) {
    let job = take_many(queue, 1).await.remove(0);
    let settle =
        Settle { acks: vec![job.token.into(); 501], fails: vec![failure(job.token, true); 500] };
    let refused = queue.settle(settle.clone()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("acks")));
    let refused = queue.claim(Claim { settle, ..Claim::default() }).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("acks")));
    queue.ack(job.token).await.unwrap();
}
