//! Queues: the counts that the queue keeps are what a full count finds.

use std::collections::BTreeMap;

use pulk::dead_letter::DeadReason;
use pulk::queue::{Claim, Failed, StateCounts};
use pulk::{JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::{claim_in, lease_in};
use crate::harness::Harness;
use crate::{now, state_of};

/// Compares the counts of all queues with what each job says of itself.
async fn assert_counts(queue: &Harness, ids: &[JobId]) {
    let mut counted = BTreeMap::<(String, Priority, JobState), u64>::new();
    for id in ids {
        if let Ok(job) = queue.job(*id).await {
            *counted.entry((job.queue, job.priority, job.state)).or_default() += 1;
        }
    }
    for one in queue.queues().await.unwrap() {
        assert_eq!(queue.queue(&one.name).await.unwrap().counts, one.counts);
        for (priority, counts) in one.counts.iter() {
            for state in JobState::ALL {
                let found = counted.remove(&(one.name.clone(), priority, state)).unwrap_or(0);
                assert_eq!(counts.of(state), found, "{state} {priority} of {}", one.name);
            }
        }
    }
    assert!(counted.is_empty(), "not in any queue: {counted:?}");
}

pub async fn counts_equal_a_full_count_through_a_whole_life(queue: &Harness) {
    let mut ids = Vec::new();
    for number in 0..20 {
        let job = NewJob::new("mail").queue(["a", "b"][number % 2]);
        let run_at = if number % 4 == 3 { RunAt::DelayMs(60_000) } else { RunAt::Now };
        let job = job.priority(Priority::ALL[number % 5]).run_at(run_at);
        ids.push(queue.enqueue(job).await.unwrap().id);
    }
    assert_counts(queue, &ids).await;
    let claim = Claim { limit: 12, ..Claim::default() };
    let jobs = queue.claim(claim).await.unwrap().jobs;
    assert_eq!(jobs.len(), 12);
    assert_counts(queue, &ids).await;

    queue.ack(jobs[0].token).await.unwrap();
    queue.release(jobs[1].token, None).await.unwrap();
    queue.release(jobs[2].token, Some(60_000)).await.unwrap();
    queue.fail_once(&jobs[3], Some(60_000)).await;
    queue.fail_once(&jobs[4], Some(0)).await;
    queue.extend(jobs[5].token, Some(1), Some(5)).await.unwrap();
    queue.until(now().plus_ms(2)).await;
    assert_counts(queue, &ids).await;

    for job in &jobs[6..9] {
        let failure = pulk::queue::Failure {
            token: job.token,
            error: String::new(),
            retry: false,
            retry_in_ms: None,
        };
        let dead = Failed::Dead { reason: DeadReason::Rejected };
        assert_eq!(queue.fail(failure).await.unwrap(), dead);
    }
    assert_counts(queue, &ids).await;
    queue.replay(jobs[6].id).await.unwrap();
    assert_counts(queue, &ids).await;

    let mut left = queue.claim(Claim { limit: 100, ..Claim::default() }).await.unwrap().jobs;
    left.extend(jobs[9..].iter().cloned());
    for job in left {
        queue.ack(job.token).await.unwrap();
    }
    assert_counts(queue, &ids).await;
    let mut states = Vec::new();
    for id in ids {
        states.extend(state_of(queue, id).await);
    }
    states.sort_unstable();
    // Five were never due, one was released for later; one is retried later; two stay dead.
    let (later, retrying, dead) = (JobState::Scheduled, JobState::Retrying, JobState::Dead);
    assert_eq!(states, [later, later, later, later, later, later, retrying, dead, dead]);
}

pub async fn queues_are_listed_by_name(queue: &Harness) {
    assert_eq!(queue.queues().await.unwrap(), []);
    for name in ["b", "a/1", "B", "a", "a-1"] {
        queue.put(NewJob::new("mail").queue(name)).await;
    }
    let queues = queue.queues().await.unwrap();
    let names: Vec<&str> = queues.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["B", "a", "a-1", "a/1", "b"]);
    for one in queues {
        assert!(!one.paused);
        let ready = StateCounts { ready: 1, ..StateCounts::default() };
        assert_eq!(one.counts[Priority::Default], ready);
        assert_eq!(one.counts[Priority::Bulk], StateCounts::default());
    }
    // A queue that ran empty is still there.
    let job = queue.take("a").await;
    queue.ack(job.token).await.unwrap();
    assert_eq!(queue.queue("a").await.unwrap().counts.iter().map(|(_, c)| c.ready).sum::<u64>(), 0);
}

pub async fn a_queue_of_odd_name_can_be_asked_for(queue: &Harness) {
    for name in ["a/b", "...", "a.b:c_d-e", "/", "v1/jobs"] {
        queue.put(NewJob::new("mail").queue(name)).await;
        let seen = queue.queue(name).await.unwrap();
        assert_eq!((seen.name.as_str(), seen.counts[Priority::Default].ready), (name, 1));
        assert_eq!(queue.take(name).await.queue, name);
    }
}

pub async fn the_oldest_ready_job_tells_the_age(queue: &Harness) {
    let payload = Payload::default();
    let before = now();
    queue.put(NewJob::new("mail").payload(payload)).await;
    let after = now();
    queue.until(after.plus_ms(200)).await;
    queue.put(NewJob::new("mail")).await;
    let seen = queue.queue("default").await.unwrap();
    // Over HTTP the age was told a moment before it is read here.
    let slack_ms = if queue.way.is_embedded() { 0 } else { 150 };
    let since = seen.oldest_ready_at[Priority::Default].unwrap();
    assert!(before <= since && since <= after.plus_ms(slack_ms), "{since}");
    assert_eq!(seen.oldest_ready_at[Priority::High], None);

    // The oldest that waits counts, not one that is leased; one that comes back counts again.
    let old = queue.take_with(lease_in("default", 60_000)).await;
    let younger = queue.queue("default").await.unwrap().oldest_ready_at[Priority::Default];
    assert!(younger.unwrap() > after.plus_ms(slack_ms));
    queue.take_with(claim_in("default")).await;
    assert_eq!(queue.queue("default").await.unwrap().oldest_ready_at, Default::default());
    queue.release(old.token, None).await.unwrap();
    assert!(queue.queue("default").await.unwrap().oldest_ready_at[Priority::Default].is_some());
}

pub async fn what_happened_in_the_last_minute_is_told(queue: &Harness) {
    for _ in 0..4 {
        queue.put(NewJob::new("mail").priority(Priority::High)).await;
    }
    let jobs = queue.claim(Claim { limit: 3, ..Claim::default() }).await.unwrap().jobs;
    queue.ack(jobs[0].token).await.unwrap();
    queue.ack(jobs[1].token).await.unwrap();
    queue.fail_once(&jobs[2], Some(60_000)).await;
    let rates = queue.queue("default").await.unwrap().rates;
    let high = rates[Priority::High];
    // By how many seconds the four were divided is not known here, but they are all divided alike.
    assert!(high.enqueued_per_s > 0.0);
    let share = |rate: f64| (rate / high.enqueued_per_s * 4.0).round();
    let counted = [high.started_per_s, high.completed_per_s, high.failed_per_s].map(share);
    assert_eq!(counted, [3.0, 2.0, 1.0]);
    assert_eq!(rates[Priority::Low], Default::default());
}
