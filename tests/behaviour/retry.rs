//! Retries: when a failed job is tried again, and when it is given up.

use pulk::dead_letter::{DeadReason, ERROR_BYTES_MAX};
use pulk::queue::{ClaimedJob, Failed, Failure};
use pulk::retry::RetryPolicy;
use pulk::{ErrorKind, JobState, NewJob, Priority, Timestamp};

use crate::door::lease_in;
use crate::harness::Harness;
use crate::now;

fn with_policy(base_ms: u64, max_ms: u64, jitter: f64) -> NewJob {
    let retry = Some(RetryPolicy { base_ms, max_ms, jitter });
    NewJob { max_attempts: Some(1_000), retry, ..NewJob::new("mail") }
}

/// When the failed job runs again, and how long after its failure.
async fn fail_and_look(queue: &Harness, job: &ClaimedJob) -> (Timestamp, u64) {
    let Failed::Retrying { run_at } = queue.fail_once(job, None).await else {
        panic!("it was given up");
    };
    let seen = queue.job(job.id).await.unwrap();
    assert_eq!((seen.run_at, seen.attempt), (run_at, job.attempt + 1));
    assert!(seen.state == JobState::Retrying || run_at <= now());
    let failed_at = seen.errors.last().unwrap().failed_at;
    (run_at, run_at.ms_since(failed_at))
}

pub async fn delays_double_up_to_the_maximum(queue: &Harness) {
    let id = queue.put(with_policy(60, 200, 0.0)).await;
    for (attempt, expected_ms) in [(1, 60), (2, 120), (3, 200), (4, 200)] {
        let job = queue.take("default").await;
        assert_eq!((job.id, job.attempt), (id, attempt));
        let Failed::Retrying { run_at } = queue.fail_once(&job, None).await else { panic!() };
        let again = queue.job(id).await.unwrap();
        assert_eq!(run_at.ms_since(again.errors.last().unwrap().failed_at), expected_ms);
        assert_eq!(again.attempt, attempt + 1);
    }
    let job = queue.take("default").await;
    let last = queue.job(id).await.unwrap().errors.pop().unwrap();
    assert!(now() >= last.failed_at.plus_ms(200));
    assert_eq!(job.attempt, 5);
}

pub async fn jitter_takes_off_up_to_its_share(queue: &Harness) {
    let mut delays = Vec::new();
    for _ in 0..12 {
        queue.put(with_policy(600_000, 3_600_000, 0.5)).await;
        let job = queue.take("default").await;
        let (_, delay_ms) = fail_and_look(queue, &job).await;
        assert!((300_000..=600_000).contains(&delay_ms), "{delay_ms}");
        delays.push(delay_ms);
    }
    delays.dedup();
    assert!(delays.len() > 1, "chance has no part in {delays:?}");

    // A job without a policy has the configured one: 1 s, half of it jitter.
    queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    let (_, delay_ms) = fail_and_look(queue, &job).await;
    assert!((500..=1_000).contains(&delay_ms), "{delay_ms}");

    queue.put(with_policy(1, 1, 0.5).queue("quick")).await;
    for attempt in 1..=8 {
        let job = queue.take("quick").await;
        assert_eq!(job.attempt, attempt);
        let Failed::Retrying { run_at } = queue.fail_once(&job, None).await else { panic!() };
        assert!(run_at <= now().plus_ms(1));
    }
}

pub async fn the_worker_may_say_when(queue: &Harness) {
    queue.put(with_policy(60_000, 60_000, 0.0)).await;
    let job = queue.take("default").await;
    let before = now();
    let Failed::Retrying { run_at } = queue.fail_once(&job, Some(100)).await else { panic!() };
    assert!(before.plus_ms(100) <= run_at && run_at <= now().plus_ms(100));
    let job = queue.take("default").await;
    assert!(now() >= run_at);
    assert_eq!(job.attempt, 2);

    let month_ms = RetryPolicy::DELAY_MS_MAX;
    let failure = |retry_in_ms| Failure {
        token: job.token,
        error: String::new(),
        retry: true,
        retry_in_ms: Some(retry_in_ms),
    };
    let refused = queue.fail(failure(month_ms + 1)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("retry_in_ms")));
    let before = now();
    let Failed::Retrying { run_at } = queue.fail(failure(month_ms)).await.unwrap() else {
        panic!()
    };
    assert!(run_at >= before.plus_ms(month_ms));
    queue.assert_none_ready().await;
}

pub async fn a_critical_job_has_five_attempts_and_others_three(queue: &Harness) {
    for priority in Priority::ALL {
        let id = queue.put(NewJob::new("mail").priority(priority)).await;
        let attempts = if priority == Priority::Critical { 5 } else { 3 };
        exhaust(queue, id, attempts).await;
    }
}

pub async fn a_job_may_have_its_own_number_of_attempts(queue: &Harness) {
    for (attempts, priority) in
        [(1, Priority::Critical), (2, Priority::Default), (7, Priority::Low)]
    {
        let job = NewJob { max_attempts: Some(attempts), ..NewJob::new("mail").priority(priority) };
        let id = queue.put(job).await;
        exhaust(queue, id, attempts).await;
    }
}

/// Fails a job until it is dead, which must be after so many attempts.
async fn exhaust(queue: &Harness, id: pulk::JobId, attempts: u32) {
    for attempt in 1..=attempts {
        let job = queue.take("default").await;
        assert_eq!((job.id, job.attempt, job.max_attempts), (id, attempt, attempts));
        let failed = queue.fail_once(&job, Some(0)).await;
        let last = Failed::Dead { reason: DeadReason::Exhausted };
        assert_eq!(failed == last, attempt == attempts, "{failed:?}");
    }
    let dead = queue.dead_letter(id).await.unwrap();
    assert_eq!(dead.dead.unwrap().reason, DeadReason::Exhausted);
    assert_eq!((dead.attempt, dead.errors.len()), (attempts, attempts as usize));
    queue.assert_none_ready().await;
}

pub async fn the_last_eight_errors_are_kept_each_a_kilobyte_long(queue: &Harness) {
    let id = queue.put(with_policy(0, 0, 0.0)).await;
    for attempt in 1..=11_u32 {
        let job = queue.take("default").await;
        // Two bytes each, behind one: the cut must not go through a letter.
        let error = format!("{:x}{}", attempt, "é".repeat(ERROR_BYTES_MAX));
        let failure = Failure { token: job.token, error, retry: true, retry_in_ms: None };
        queue.fail(failure).await.unwrap();
    }
    let seen = queue.job(id).await.unwrap();
    let attempts: Vec<u32> = seen.errors.iter().map(|error| error.attempt).collect();
    assert_eq!(attempts, [4, 5, 6, 7, 8, 9, 10, 11]);
    assert!(seen.errors.is_sorted_by_key(|error| error.failed_at));
    for error in &seen.errors {
        let expected = format!("{:x}{}", error.attempt, "é".repeat((ERROR_BYTES_MAX - 1) / 2));
        assert_eq!(error.error, expected);
    }
}

pub async fn told_not_to_retry_a_job_is_dead_as_rejected(queue: &Harness) {
    let id = queue.put(with_policy(1, 1, 0.0)).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, Some(0)).await;
    let token = queue.take("default").await.token;
    let error = "bad payload".to_owned();
    let failure = Failure { token, error, retry: false, retry_in_ms: Some(0) };
    let failed = queue.fail(failure).await.unwrap();
    assert_eq!(failed, Failed::Dead { reason: DeadReason::Rejected });
    let dead = queue.dead_letter(id).await.unwrap();
    assert_eq!((dead.dead.unwrap().reason, dead.attempt), (DeadReason::Rejected, 2));
    let errors: Vec<&str> = dead.errors.iter().map(|one| one.error.as_str()).collect();
    assert_eq!(errors, ["no luck", "bad payload"]);
    queue.assert_none_ready().await;
}

pub async fn interruptions_are_kept_over_a_failure(queue: &Harness) {
    let id = queue.put(NewJob { max_interruptions: Some(1), ..with_policy(0, 0, 0.0) }).await;
    let job = queue.take_with(lease_in("default", 1)).await;
    queue.until(job.expires_at).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, None).await;
    let seen = queue.job(id).await.unwrap();
    assert_eq!((seen.attempt, seen.interruptions), (2, 1));
    let job = queue.take_with(lease_in("default", 1)).await;
    assert_eq!(job.attempt, 2);
    queue.until(job.expires_at).await;
    let dead = queue.dead_letter(id).await.unwrap();
    assert_eq!(dead.dead.unwrap().reason, DeadReason::Crashed);
    assert_eq!((dead.interruptions, dead.errors.len()), (2, 1));
}
