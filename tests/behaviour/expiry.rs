//! Expiry: a job that no worker starts in time is dead, and one that was started never expires.

use pulk::dead_letter::DeadReason;
use pulk::queue::Claim;
use pulk::{JobId, JobState, NewJob, RunAt};

use crate::harness::Harness;
use crate::{now, state_of};

async fn assert_expired(queue: &Harness, id: JobId) {
    let dead = queue.dead_letter(id).await.unwrap();
    assert_eq!(dead.dead.unwrap().reason, DeadReason::Expired);
    assert_eq!((dead.expires_at, dead.errors.len()), (None, 0));
}

pub async fn a_job_that_nobody_starts_in_time_is_dead(queue: &Harness) {
    let before = now();
    let ready = queue.put(NewJob::new("mail").expires_in_ms(300)).await;
    let scheduled = NewJob::new("mail").run_at(RunAt::DelayMs(250)).expires_in_ms(300);
    let scheduled = queue.enqueue(scheduled).await.unwrap().id;
    let kept = queue.put(NewJob::new("mail").expires_in_ms(60_000)).await;
    let expires_at = queue.job(kept).await.unwrap().expires_at.unwrap();
    assert!(before.plus_ms(60_000) <= expires_at && expires_at <= now().plus_ms(60_000));
    assert_eq!(expires_at, kept.born_at().plus_ms(60_000));
    queue.until(scheduled.born_at().plus_ms(301)).await;
    assert_expired(queue, ready).await;
    assert_expired(queue, scheduled).await;
    assert_eq!(queue.take("default").await.id, kept);
    assert_eq!(queue.job(kept).await.unwrap().state, JobState::Running);
}

pub async fn a_job_that_was_started_never_expires(queue: &Harness) {
    let ids = queue.enqueue_many(vec![NewJob::new("mail").expires_in_ms(2_000); 4]).await.unwrap();
    let mut tokens = Vec::new();
    for id in &ids {
        let job = queue.take("default").await;
        assert_eq!(job.id, *id);
        tokens.push(job.token);
    }
    queue.release(tokens[0], None).await.unwrap();
    queue.release(tokens[1], Some(100)).await.unwrap();
    let again = queue.take("default").await;
    queue.fail_once(&again, Some(100)).await;
    queue.until(ids[3].born_at().plus_ms(2_001)).await;
    for id in [ids[0], ids[1]] {
        assert_eq!(queue.job(id).await.unwrap().expires_at, None);
        assert_eq!(state_of(queue, id).await, Some(JobState::Ready), "{id}");
    }
    assert_eq!(state_of(queue, ids[2]).await, Some(JobState::Running));
    queue.ack(tokens[3]).await.unwrap();
}

pub async fn a_replayed_job_that_expired_expires_no_more(queue: &Harness) {
    let id = queue.put(NewJob::new("mail").expires_in_ms(1)).await;
    queue.until(id.born_at().plus_ms(2)).await;
    assert_expired(queue, id).await;
    queue.replay(id).await.unwrap();
    queue.until(now().plus_ms(5)).await;
    assert_eq!(queue.job(id).await.unwrap().expires_at, None);
    assert_eq!(queue.take("default").await.id, id);
}

pub async fn what_expired_meanwhile_is_dead_when_opened(queue: &mut Harness) {
    let ids = queue.enqueue_many(vec![NewJob::new("mail").expires_in_ms(2_500); 3]).await.unwrap();
    let token = queue.take("default").await.token;
    let kept = queue.put(NewJob::new("mail").queue("kept").expires_in_ms(60_000)).await;
    queue.restart_after(ids[2].born_at().plus_ms(2_501)).await;
    for id in &ids[1..] {
        assert_expired(queue, *id).await;
    }
    queue.ack(token).await.unwrap();
    let claim = Claim { queues: vec!["default".into()], ..Claim::default() };
    assert!(queue.claim(claim).await.unwrap().jobs.is_empty());
    assert_eq!(queue.job(kept).await.unwrap().expires_at, Some(kept.born_at().plus_ms(60_000)));
}
