//! A token proves one delivery. Once that lease has ended, however it ended, every verb refuses
//! it, and the job and the counts are as they were.

use pulk::queue::{Claim, Failure, Settle};
use pulk::{ErrorKind, LeaseToken, NewJob};

use crate::door::{claim_in, lease_in};
use crate::harness::Harness;

async fn assert_dead(queue: &Harness, token: LeaseToken) {
    let seen = async || {
        let job = queue.job(token.job()).await.map_err(|error| error.kind());
        let counts: Vec<_> =
            queue.queues().await.unwrap().into_iter().map(|one| one.counts).collect();
        (job, counts)
    };
    let failure = || Failure { token, error: "late".into(), retry: true, retry_in_ms: None };
    let settle = || Settle { acks: vec![token.into()], fails: vec![failure()] };
    let before = seen().await;
    let refused = [
        queue.ack(token).await.unwrap_err().kind(),
        queue.fail(failure()).await.unwrap_err().kind(),
        queue.fail(Failure { retry: false, ..failure() }).await.unwrap_err().kind(),
        queue.extend(token, Some(60_000), Some(99)).await.unwrap_err().kind(),
        queue.release(token, None).await.unwrap_err().kind(),
        queue.release(token, Some(1_000)).await.unwrap_err().kind(),
    ];
    assert_eq!(refused, [ErrorKind::LeaseLost; 6]);
    let riding = Claim { kinds: vec!["nothing".into()], settle: settle(), ..Claim::default() };
    let outcomes = queue.settle(settle()).await.unwrap();
    for outcome in outcomes.into_iter().chain(queue.claim(riding).await.unwrap().outcomes) {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::LeaseLost);
    }
    assert_eq!(seen().await, before);
}

async fn leased(queue: &Harness) -> LeaseToken {
    queue.put(NewJob::new("mail")).await;
    queue.take("default").await.token
}

pub async fn after_an_ack_the_token_is_dead(queue: &Harness) {
    let token = leased(queue).await;
    queue.ack(token).await.unwrap();
    assert_dead(queue, token).await;
}

pub async fn after_a_fail_the_token_is_dead(queue: &Harness) {
    let token = leased(queue).await;
    let failure = Failure { token, error: String::new(), retry: true, retry_in_ms: Some(60_000) };
    queue.fail(failure).await.unwrap();
    assert_dead(queue, token).await;
}

pub async fn after_the_last_fail_the_token_is_dead(queue: &Harness) {
    let token = leased(queue).await;
    let failure = Failure { token, error: String::new(), retry: false, retry_in_ms: None };
    queue.fail(failure).await.unwrap();
    assert_dead(queue, token).await;
    // Nor does a replay bring it back to life.
    queue.replay(token.job()).await.unwrap();
    assert_dead(queue, token).await;
    assert_ne!(queue.take("default").await.token, token);
    assert_dead(queue, token).await;
}

pub async fn after_a_release_the_token_is_dead(queue: &Harness) {
    let token = leased(queue).await;
    queue.release(token, None).await.unwrap();
    assert_dead(queue, token).await;
}

pub async fn after_a_release_with_delay_the_token_is_dead(queue: &Harness) {
    let token = leased(queue).await;
    queue.release(token, Some(60_000)).await.unwrap();
    assert_dead(queue, token).await;
}

pub async fn after_the_lease_ran_out_the_token_is_dead(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take_with(lease_in("default", 1)).await;
    queue.until(job.expires_at).await;
    assert_dead(queue, job.token).await;
}

pub async fn after_a_new_claim_the_old_token_is_dead(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let mut old = queue.take_with(lease_in("default", 1)).await.token;
    for lease_ms in [1, 1, 60_000] {
        let new = queue.take_with(lease_in("default", lease_ms)).await.token;
        assert_ne!(new, old);
        old = new;
        if lease_ms > 1 {
            let first: LeaseToken = format!("{}-1", new.job()).parse().unwrap();
            assert_dead(queue, first).await;
            queue.ack(new).await.unwrap();
            assert_dead(queue, first).await;
        }
    }
}

pub async fn a_token_that_was_never_handed_out_is_dead(queue: &Harness) {
    let token = leased(queue).await;
    for delivery in ["0", "2", "4294967295"] {
        let made_up: LeaseToken = format!("{}-{delivery}", token.job()).parse().unwrap();
        assert_dead(queue, made_up).await;
    }
    let nobody: LeaseToken = "00000000000000000000000000-1".parse().unwrap();
    assert_dead(queue, nobody).await;
    queue.put(NewJob::new("mail").queue("waiting")).await;
    let unclaimed = queue.put(NewJob::new("mail").queue("waiting")).await;
    assert_dead(queue, format!("{unclaimed}-1").parse().unwrap()).await;
    assert_dead(queue, format!("{unclaimed}-0").parse().unwrap()).await;
    queue.ack(token).await.unwrap();
    assert_eq!(queue.claim(claim_in("waiting")).await.unwrap().jobs.len(), 1);
}
