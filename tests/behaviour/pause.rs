//! Pause and resume: claims of a queue stop and go on, nothing else does.

use pulk::queue::Claim;
use pulk::{ErrorKind, JobState, NewJob, RunAt};

use crate::door::claim_in;
use crate::harness::Harness;
use crate::{now, state_of};

pub async fn a_paused_queue_takes_jobs_and_hands_out_none(queue: &Harness) {
    let first = queue.put(NewJob::new("mail").queue("a")).await;
    assert!(queue.pause("a").await.unwrap().paused);
    assert!(queue.pause("a").await.unwrap().paused, "twice is once");
    let second = queue.put(NewJob::new("mail").queue("a")).await;
    queue.assert_none_ready().await;
    // Other queues go on, and a job that comes due waits with the others.
    let other = queue.put(NewJob::new("mail").queue("b")).await;
    assert_eq!(queue.take_with(Claim::default()).await.id, other);
    let due = now().plus_ms(1);
    let job = NewJob::new("mail").queue("a").run_at(RunAt::At(due));
    let third = queue.enqueue(job).await.unwrap().id;
    queue.until(due.plus_ms(1)).await;
    assert_eq!(state_of(queue, third).await, Some(JobState::Ready));
    queue.assert_none_ready().await;
    let seen = queue.queue("a").await.unwrap();
    assert!(seen.paused && seen.counts.iter().map(|(_, one)| one.ready).sum::<u64>() == 3);

    assert!(!queue.resume("a").await.unwrap().paused);
    let all = queue.claim(Claim { limit: 9, ..Claim::default() }).await.unwrap().jobs;
    assert_eq!(all.iter().map(|job| job.id).collect::<Vec<_>>(), [first, second, third]);
}

pub async fn running_jobs_of_a_paused_queue_go_on(queue: &Harness) {
    let ids = queue.enqueue_many(vec![NewJob::new("mail"); 3]).await.unwrap();
    let jobs = queue.claim(Claim { limit: 3, ..Claim::default() }).await.unwrap().jobs;
    queue.pause("default").await.unwrap();
    queue.ack(jobs[0].token).await.unwrap();
    queue.extend(jobs[1].token, Some(60_000), None).await.unwrap();
    queue.release(jobs[2].token, None).await.unwrap();
    queue.assert_none_ready().await;
    assert_eq!(state_of(queue, ids[2]).await, Some(JobState::Ready));
    queue.resume("default").await.unwrap();
    assert_eq!(queue.take("default").await.id, ids[2]);
}

pub async fn a_resumed_queue_wakes_a_waiting_claim(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    queue.pause("default").await.unwrap();
    let waiting = queue.parked(claim_in("default")).await;
    queue.resume("default").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, id);
}

pub async fn only_a_queue_that_is_there_can_be_paused(queue: &Harness) {
    for refused in [queue.pause("a").await, queue.resume("a").await] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
