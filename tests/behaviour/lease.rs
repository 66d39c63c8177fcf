//! Leases: kept alive by their holders, given back, or run out.

use pulk::dead_letter::DeadReason;
use pulk::retry::RetryPolicy;
use pulk::{ErrorKind, JobState, NewJob, RunAt};

use crate::door::{claim_as, lease_in};
use crate::harness::Harness;
use crate::{now, state_of};

pub async fn extend_keeps_a_lease_beyond_its_first_deadline(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take_with(lease_in("default", 1_000)).await;
    let before = now();
    let extended = queue.extend(job.token, Some(60_000), None).await.unwrap();
    assert!(extended.expires_at >= before.plus_ms(60_000) && !extended.cancelled);
    queue.until(job.expires_at.plus_ms(1)).await;
    assert_eq!(state_of(queue, job.id).await, Some(JobState::Running));
    queue.assert_none_ready().await;
    queue.ack(job.token).await.unwrap();
}

pub async fn extend_can_shorten_a_lease(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take_with(lease_in("default", 60_000)).await;
    let extended = queue.extend(job.token, Some(1), None).await.unwrap();
    assert!(extended.expires_at < job.expires_at);
    assert_eq!(queue.take("default").await.id, job.id);
    // Without a length it is 30 s.
    queue.put(NewJob::new("mail").queue("other")).await;
    let job = queue.take_with(lease_in("other", 60_000)).await;
    let before = now();
    let extended = queue.extend(job.token, None, None).await.unwrap();
    assert!(extended.expires_at >= before.plus_ms(30_000));
    assert!(extended.expires_at <= now().plus_ms(30_000));
}

pub async fn a_running_job_shows_its_worker_and_its_progress(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    assert_eq!(queue.job(id).await.unwrap().running, None);
    let before = now();
    let job = queue.take_with(claim_as("default", "anna-1")).await;
    let running = queue.job(id).await.unwrap().running.unwrap();
    assert_eq!((running.worker.as_deref(), running.progress), (Some("anna-1"), None));
    assert_eq!(running.expires_at, job.expires_at);
    assert!(before <= running.started_at && running.started_at <= now());

    queue.extend(job.token, None, Some(40)).await.unwrap();
    // Not told again, it is as last told.
    let extended = queue.extend(job.token, Some(50_000), None).await.unwrap();
    let later = queue.job(id).await.unwrap().running.unwrap();
    assert_eq!((later.progress, later.expires_at), (Some(40), extended.expires_at));
    assert_eq!(later.started_at, running.started_at);

    queue.release(job.token, None).await.unwrap();
    assert_eq!(queue.job(id).await.unwrap().running, None);
    queue.take("default").await;
    let running = queue.job(id).await.unwrap().running.unwrap();
    assert_eq!((running.worker, running.progress), (None, None));
}

pub async fn a_release_costs_neither_attempt_nor_interruption(queue: &Harness) {
    let id = queue.put(NewJob { max_interruptions: Some(0), ..NewJob::new("mail") }).await;
    let mut tokens = Vec::new();
    for _ in 0..10 {
        let job = queue.take("default").await;
        assert_eq!((job.id, job.attempt), (id, 1));
        assert!(!tokens.contains(&job.token));
        tokens.push(job.token);
        let released = queue.release(job.token, None).await.unwrap();
        assert_eq!(released.state, JobState::Ready);
        let seen = queue.job(id).await.unwrap();
        assert_eq!((seen.state, seen.attempt, seen.interruptions), (JobState::Ready, 1, 0));
        assert!(seen.errors.is_empty());
    }
}

pub async fn a_release_with_delay_waits(queue: &Harness) {
    let id = queue.put(NewJob { max_interruptions: Some(0), ..NewJob::new("mail") }).await;
    let job = queue.take("default").await;
    let before = now();
    let released = queue.release(job.token, Some(300)).await.unwrap();
    assert_eq!(released.state, JobState::Scheduled);
    assert!(before.plus_ms(300) <= released.run_at && released.run_at <= now().plus_ms(300));
    let seen = queue.job(id).await.unwrap();
    assert_eq!((seen.run_at, seen.interruptions), (released.run_at, 0));
    let again = queue.take("default").await;
    assert!(now() >= released.run_at);
    assert_eq!((again.id, again.attempt), (id, 1));
    assert_ne!(again.token, job.token);
}

pub async fn a_lease_that_runs_out_costs_an_interruption_and_no_attempt(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let mut last = None;
    for interruptions in 0..4 {
        let job = queue.take_with(lease_in("default", 5)).await;
        assert_eq!((job.id, job.attempt), (id, 1));
        assert_ne!(last, Some(job.token));
        if let Some(last) = last {
            let lost = queue.ack(last).await.unwrap_err();
            assert_eq!(lost.kind(), ErrorKind::LeaseLost);
        }
        last = Some(job.token);
        queue.until(job.expires_at).await;
        let seen = queue.job(id).await.unwrap();
        assert_eq!((seen.state, seen.attempt), (JobState::Ready, 1));
        assert_eq!(seen.interruptions, interruptions + 1);
        assert!(seen.errors.is_empty());
    }
}

pub async fn interrupted_too_often_a_job_is_dead_as_crashed(queue: &Harness) {
    let job = NewJob { max_interruptions: Some(2), ..NewJob::new("mail") };
    let id = queue.put(job).await;
    for _ in 0..3 {
        assert_eq!(state_of(queue, id).await, Some(JobState::Ready));
        let job = queue.take_with(lease_in("default", 1)).await;
        queue.until(job.expires_at).await;
    }
    let dead = queue.dead_letter(id).await.unwrap();
    assert_eq!(dead.dead.unwrap().reason, DeadReason::Crashed);
    assert_eq!((dead.interruptions, dead.max_interruptions, dead.attempt), (3, 2, 1));
    queue.assert_none_ready().await;

    let id = queue.put(NewJob::new("mail").queue("by-default")).await;
    for _ in 0..6 {
        let job = queue.take_with(lease_in("by-default", 1)).await;
        queue.until(job.expires_at).await;
    }
    assert_eq!(queue.dead_letter(id).await.unwrap().dead.unwrap().reason, DeadReason::Crashed);
}

pub async fn a_timeout_is_a_failure_however_often_extended(queue: &Harness) {
    let id = queue
        .put(NewJob {
            timeout_ms: Some(1_000),
            retry: Some(RetryPolicy { base_ms: 0, max_ms: 0, jitter: 0.0 }),
            ..NewJob::new("mail")
        })
        .await;
    let job = queue.take_with(lease_in("default", 60_000)).await;
    assert_eq!(job.timeout_ms, Some(1_000));
    let extended = queue.extend(job.token, Some(60_000), None).await.unwrap();
    let started_at = queue.job(id).await.unwrap().running.unwrap().started_at;
    assert_eq!(extended.expires_at, started_at.plus_ms(1_000));

    let again = queue.take("default").await;
    assert!(now() >= extended.expires_at);
    assert_eq!((again.id, again.attempt), (id, 2));
    let seen = queue.job(id).await.unwrap();
    assert_eq!((seen.interruptions, seen.errors.len()), (0, 1));
    assert_eq!(seen.errors[0].attempt, 1);
    assert!(seen.errors[0].error.contains("1000 ms"), "{:?}", seen.errors);
    assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

pub async fn an_extend_beyond_its_limits_names_the_field(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    for (lease_ms, progress, field) in [
        (Some(0), None, "lease_ms"),
        (Some(24 * 3_600_000 + 1), None, "lease_ms"),
        (None, Some(101), "progress"),
    ] {
        let refused = queue.extend(job.token, lease_ms, progress).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    let refused = queue.release(job.token, Some(u64::MAX)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("delay_ms")));
    let running = queue.job(job.id).await.unwrap().running.unwrap();
    assert_eq!((running.progress, running.expires_at), (None, job.expires_at));

    let scheduled = NewJob::new("mail").run_at(RunAt::DelayMs(60_000));
    let id = queue.enqueue(scheduled).await.unwrap().id;
    assert_eq!(queue.job(id).await.unwrap().running, None);
}
