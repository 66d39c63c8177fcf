//! Long polls: a claim that waits is woken by whatever makes a job ready, and by nothing else;
//! one whose caller goes away strands no job.

use pulk::{JobState, NewJob, RunAt};

use crate::door::{claim_in, lease_in};
use crate::harness::Harness;
use crate::now;

pub async fn an_enqueue_wakes_a_waiting_claim(queue: &Harness) {
    let waiting = queue.parked(claim_in("default")).await;
    let id = queue.put(NewJob::new("mail")).await;
    let claimed = waiting.await.unwrap().unwrap();
    assert_eq!(claimed.jobs[0].id, id);
    // Longer than the test waits for anything: nothing but the enqueue can have ended it.
    assert!(now().ms_since(id.born_at()) < 30_000);
}

pub async fn a_due_job_wakes_a_waiting_claim(queue: &Harness) {
    let before = queue.enqueue(NewJob::new("a").run_at(RunAt::DelayMs(1_000))).await.unwrap();
    let waiting = queue.parked(claim_in("default")).await;
    let sooner = queue.enqueue(NewJob::new("b").run_at(RunAt::DelayMs(10))).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, sooner.id);
    assert_eq!(queue.take("default").await.id, before.id);
    assert!(now() >= before.run_at);
}

pub async fn a_due_retry_wakes_a_waiting_claim(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    let waiting = queue.parked(claim_in("default")).await;
    queue.fail_once(&job, Some(200)).await;
    let again = waiting.await.unwrap().unwrap().jobs.remove(0);
    assert_eq!((again.id, again.attempt), (id, 2));
}

pub async fn a_release_wakes_a_waiting_claim(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    let waiting = queue.parked(claim_in("default")).await;
    queue.release(job.token, None).await.unwrap();
    let again = waiting.await.unwrap().unwrap().jobs.remove(0);
    assert_eq!((again.id, again.attempt), (job.id, 1));
    assert_ne!(again.token, job.token);
}

pub async fn a_lease_that_ends_wakes_a_waiting_claim(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take_with(lease_in("default", 700)).await;
    let waiting = queue.parked(claim_in("default")).await;
    let again = waiting.await.unwrap().unwrap().jobs.remove(0);
    assert_eq!(again.id, job.id);
    assert!(now() >= job.expires_at);
}

pub async fn a_replay_wakes_a_waiting_claim(queue: &Harness) {
    let id = queue.put_dead(NewJob::new("mail")).await;
    let waiting = queue.parked(claim_in("default")).await;
    assert_eq!(queue.replay(id).await.unwrap().state, JobState::Ready);
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, id);
}

pub async fn the_first_to_wait_is_the_first_served(queue: &Harness) {
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(queue.parked(claim_in("default")).await);
    }
    for claim in waiting {
        let id = queue.put(NewJob::new("mail")).await;
        assert_eq!(claim.await.unwrap().unwrap().jobs[0].id, id);
    }
}

pub async fn a_waiting_claim_is_woken_only_by_what_it_wants(queue: &Harness) {
    let mut claim = claim_in("default");
    claim.kinds = vec!["mail".into()];
    claim.priorities = vec![pulk::Priority::Low];
    let waiting = queue.parked(claim).await;
    let low = |kind: &str| NewJob::new(kind).priority(pulk::Priority::Low);
    queue.put(low("print")).await;
    queue.put(low("mail").queue("other")).await;
    queue.put(NewJob::new("mail")).await;
    let wanted = queue.put(low("mail")).await;
    assert_eq!(waiting.await.unwrap().unwrap().jobs[0].id, wanted);
    let queues = queue.queues().await.unwrap();
    let ready: u64 = queues.iter().flat_map(|one| one.counts.iter()).map(|(_, c)| c.ready).sum();
    assert_eq!(ready, 3);
}

pub async fn a_claimer_that_goes_away_strands_no_job(queue: &Harness) {
    queue.abandoned(claim_in("default")).await;
    queue.abandoned(claim_in("default")).await;
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    assert_eq!((job.id, job.attempt), (id, 1));
    assert!(now().ms_since(id.born_at()) < 30_000);
    assert_eq!(queue.job(id).await.unwrap().interruptions, 0);
    queue.ack(job.token).await.unwrap();
}

/// The caller goes away while its job is on the way. Inside the program the job is given back
/// unharmed; over a network a reply may be lost with the connection, and the lease runs out.
pub async fn a_claimer_that_goes_away_at_the_wrong_moment_strands_no_job(queue: &Harness) {
    for round in 0..20 {
        let waiting = queue.parked(lease_in("default", 1_000)).await;
        let id = if round % 6 == 0 {
            // Both answers come out of one commit. This task is woken by the first, and ends the
            // other before that one sees what it got.
            queue.put(NewJob::new("mail")).await
        } else {
            let door = (**queue).clone();
            let enqueued = tokio::spawn(async move { door.put(NewJob::new("mail")).await });
            for _ in 0..round % 6 {
                tokio::task::yield_now().await;
            }
            waiting.abort();
            enqueued.await.unwrap()
        };
        waiting.abort();
        let token = match waiting.await {
            Ok(claimed) => claimed.unwrap().jobs[0].token,
            Err(_) => {
                let job = queue.take("default").await;
                let view = queue.job(id).await.unwrap();
                assert_eq!((job.id, job.attempt), (id, 1));
                assert!(view.interruptions == 0 || !queue.way.is_embedded(), "{view:?}");
                job.token
            }
        };
        assert_eq!(token.job(), id);
        queue.ack(token).await.unwrap();
    }
}
