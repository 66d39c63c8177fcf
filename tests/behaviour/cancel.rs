//! A cancelled job: gone at once when it waits or is dead; when it runs, its holder is told, and
//! it is gone when the lease ends, in whatever way.

use pulk::queue::{Cancelled, Claim, ClaimedJob, DeadQuery, Failure, Settle};
use pulk::{ErrorKind, JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::{claim_in, lease_in};
use crate::harness::Harness;
use crate::state_of;

/// It is gone: nobody can find it, cancel it or claim it, and no counter counts it.
async fn assert_gone(queue: &Harness, id: JobId) {
    assert_eq!(state_of(queue, id).await, None);
    assert_eq!(queue.cancel(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(queue.dead_letters(DeadQuery::default()).await.unwrap().jobs.is_empty());
    queue.assert_none_ready().await;
    for one in queue.queues().await.unwrap() {
        assert!(one.counts.iter().all(|(_, counts)| *counts == Default::default()), "{one:?}");
    }
}

/// A running job, cancelled.
async fn cancelled(queue: &Harness) -> ClaimedJob {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    assert_eq!(queue.cancel(job.id).await.unwrap(), Cancelled::Running);
    job
}

async fn assert_counted(queue: &Harness, jobs: u64) {
    let line = format!(r#"pulk_jobs_cancelled_total{{priority="default",queue="default"}} {jobs}"#);
    let text = queue.metrics().await;
    assert!(text.lines().any(|found| found == line), "no {line} in {text}");
}

pub async fn a_scheduled_job_is_gone_at_once(queue: &Harness) {
    let job = NewJob::new("mail").run_at(RunAt::DelayMs(1));
    let far = queue.enqueue(NewJob::new("mail").run_at(RunAt::DelayMs(60_000))).await.unwrap();
    assert_eq!(queue.cancel(far.id).await.unwrap(), Cancelled::Gone);
    assert_gone(queue, far.id).await;
    // One that comes due while it is cancelled is gone either way.
    let soon = queue.enqueue(job).await.unwrap();
    assert_eq!(queue.cancel(soon.id).await.unwrap(), Cancelled::Gone);
    queue.until(soon.run_at).await;
    assert_gone(queue, soon.id).await;
    assert_counted(queue, 2).await;
}

pub async fn a_ready_job_is_never_handed_out(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Gone);
    assert_gone(queue, id).await;
    // Nor one that was running before, or dead.
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    queue.release(job.token, None).await.unwrap();
    assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Gone);
    assert_gone(queue, id).await;
    let id = queue.put_dead(NewJob::new("mail")).await;
    queue.replay(id).await.unwrap();
    assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Gone);
    assert_gone(queue, id).await;
    assert_counted(queue, 3).await;
}

pub async fn a_retrying_job_is_gone_at_once(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, Some(60_000)).await;
    assert_eq!(state_of(queue, id).await, Some(JobState::Retrying));
    assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Gone);
    assert_gone(queue, id).await;
    assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

pub async fn a_dead_letter_is_gone_at_once(queue: &Harness) {
    let id = queue.put_dead(NewJob::new("mail")).await;
    assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Gone);
    assert_gone(queue, id).await;
    assert_eq!(queue.replay(id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub async fn the_holder_of_a_running_job_is_told_at_its_next_extend(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    assert!(!queue.extend(job.token, None, None).await.unwrap().cancelled);
    assert!(!queue.job(id).await.unwrap().running.unwrap().cancelled);
    assert_eq!(queue.cancel(id).await.unwrap(), Cancelled::Running);
    let seen = queue.job(id).await.unwrap();
    assert_eq!(seen.state, JobState::Running);
    assert!(seen.running.unwrap().cancelled);
    // It may go on as long as it needs to end well.
    for progress in [50, 60] {
        let extended = queue.extend(job.token, Some(60_000), Some(progress)).await.unwrap();
        assert!(extended.cancelled && extended.expires_at > job.expires_at);
        assert_eq!(queue.job(id).await.unwrap().running.unwrap().progress, Some(progress));
    }
    assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_gone(queue, id).await;
}

pub async fn an_ack_of_a_cancelled_job_is_refused_and_ends_it(queue: &Harness) {
    let job = cancelled(queue).await;
    assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_gone(queue, job.id).await;
    assert_counted(queue, 1).await;
}

pub async fn a_fail_of_a_cancelled_job_makes_no_retry_and_no_dead_letter(queue: &Harness) {
    for retry in [true, false] {
        let token = cancelled(queue).await.token;
        let failure = || Failure { token, error: "no".into(), retry, retry_in_ms: Some(0) };
        assert_eq!(queue.fail(failure()).await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(queue.fail(failure()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
        assert_gone(queue, token.job()).await;
    }
}

pub async fn a_release_of_a_cancelled_job_does_not_bring_it_back(queue: &Harness) {
    for delay_ms in [None, Some(60_000)] {
        let token = cancelled(queue).await.token;
        let refused = queue.release(token, delay_ms).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Cancelled);
        let refused = queue.release(token, delay_ms).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LeaseLost);
        assert_gone(queue, token.job()).await;
    }
}

pub async fn among_many_acks_the_cancelled_one_is_told(queue: &Harness) {
    queue.enqueue_many(vec![NewJob::new("mail"); 6]).await.unwrap();
    let jobs = queue.claim(Claim { limit: 6, ..claim_in("default") }).await.unwrap().jobs;
    for job in [&jobs[1], &jobs[2], &jobs[4]] {
        assert_eq!(queue.cancel(job.id).await.unwrap(), Cancelled::Running);
    }
    let failure = |job: &ClaimedJob| Failure {
        token: job.token,
        error: "no".into(),
        retry: false,
        retry_in_ms: None,
    };
    let words = |outcomes: Vec<pulk::queue::SettleOutcome>| -> Vec<Option<ErrorKind>> {
        outcomes.into_iter().map(|outcome| outcome.err().map(|error| error.kind())).collect()
    };
    let settle = Settle {
        acks: vec![jobs[0].token.into(), jobs[1].token.into()],
        fails: vec![failure(&jobs[2])],
    };
    let outcomes = queue.settle(settle).await.unwrap();
    assert_eq!(words(outcomes), [None, Some(ErrorKind::Cancelled), Some(ErrorKind::Cancelled)]);
    // And riding along with a claim.
    let settle = Settle {
        acks: vec![jobs[3].token.into(), jobs[4].token.into(), jobs[4].token.into()],
        fails: vec![],
    };
    let claimed = queue.claim(Claim { settle, ..Claim::default() }).await.unwrap();
    let (gone, lost) = (Some(ErrorKind::Cancelled), Some(ErrorKind::LeaseLost));
    assert_eq!(words(claimed.outcomes), [None, gone, lost]);
    queue.ack(jobs[5].token).await.unwrap();
    assert_gone(queue, jobs[4].id).await;
    assert_counted(queue, 3).await;
}

pub async fn a_lease_that_runs_out_ends_a_cancelled_job(queue: &Harness) {
    queue.put(NewJob { max_interruptions: Some(0), ..NewJob::new("mail") }).await;
    let job = queue.take_with(lease_in("default", 300)).await;
    assert_eq!(queue.cancel(job.id).await.unwrap(), Cancelled::Running);
    queue.until(job.expires_at).await;
    assert_gone(queue, job.id).await;
    assert_counted(queue, 1).await;
}

pub async fn a_timeout_ends_a_cancelled_job(queue: &Harness) {
    queue.put(NewJob { timeout_ms: Some(300), ..NewJob::new("mail") }).await;
    let job = queue.take("default").await;
    assert_eq!(queue.cancel(job.id).await.unwrap(), Cancelled::Running);
    queue.until(job.expires_at).await;
    assert_gone(queue, job.id).await;
    assert_counted(queue, 1).await;
}

pub async fn cancelled_twice_a_running_job_goes_once(queue: &Harness) {
    let job = cancelled(queue).await;
    assert_eq!(queue.cancel(job.id).await.unwrap(), Cancelled::Running);
    assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_gone(queue, job.id).await;
    assert_counted(queue, 1).await;
}

/// That no part stays in the store is checked when the queue is closed (I5).
pub async fn a_large_payload_goes_with_its_job(queue: &Harness) {
    let job = || NewJob::new("mail").payload(Payload::Binary(vec![7; 200_000].into()));
    let ready = queue.put(job()).await;
    queue.cancel(ready).await.unwrap();
    let scheduled = queue.enqueue(job().run_at(RunAt::DelayMs(60_000))).await.unwrap().id;
    queue.cancel(scheduled).await.unwrap();
    let dead = queue.put_dead(job()).await;
    queue.cancel(dead).await.unwrap();
    queue.put(job()).await;
    let running = queue.take("default").await;
    queue.cancel(running.id).await.unwrap();
    queue.ack(running.token).await.unwrap_err();
    for id in [ready, scheduled, dead, running.id] {
        assert_gone(queue, id).await;
    }
}

pub async fn one_job_out_of_the_middle_leaves_the_others(queue: &Harness) {
    let jobs =
        (0..10).map(|number| NewJob::new("mail").priority(Priority::ALL[number / 2]).queue("many"));
    let mut ids = queue.enqueue_many(jobs.collect()).await.unwrap();
    for place in [9, 4, 3, 0] {
        assert_eq!(queue.cancel(ids.remove(place)).await.unwrap(), Cancelled::Gone);
    }
    let claimed = queue.claim(Claim { limit: 10, ..claim_in("many") }).await.unwrap().jobs;
    assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
}

/// Both reach the queue at once, mostly in one commit; whichever is first, they agree.
pub async fn a_claim_and_a_cancel_at_once_agree(queue: &Harness) {
    for round in 0..20 {
        let id = queue.put(NewJob::new("mail")).await;
        let claim = queue.claim(Claim::default());
        let (claimed, cancelled) = if round % 2 == 0 {
            tokio::join!(claim, queue.cancel(id))
        } else {
            let (cancelled, claimed) = tokio::join!(queue.cancel(id), claim);
            (claimed, cancelled)
        };
        match (claimed.unwrap().jobs.first(), cancelled.unwrap()) {
            (None, Cancelled::Gone) => {}
            (Some(job), Cancelled::Running) => {
                let refused = queue.ack(job.token).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Cancelled);
            }
            (claimed, cancelled) => panic!("{claimed:?} and {cancelled:?}"),
        }
        assert_gone(queue, id).await;
    }
}

pub async fn a_job_that_is_done_is_not_found(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    queue.ack(job.token).await.unwrap();
    assert_gone(queue, job.id).await;
    let nobody = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    assert_eq!(queue.cancel(nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub async fn a_cancelled_job_stays_cancelled(queue: &mut Harness) {
    let waiting = queue.put(NewJob::new("mail").queue("other")).await;
    let acked = cancelled(queue).await;
    let ended = {
        queue.put(NewJob::new("mail")).await;
        let job = queue.take_with(lease_in("default", 1_000)).await;
        assert_eq!(queue.cancel(job.id).await.unwrap(), Cancelled::Running);
        job
    };
    queue.cancel(waiting).await.unwrap();
    queue.restart().await;
    assert_eq!(state_of(queue, waiting).await, None);
    assert!(queue.job(acked.id).await.unwrap().running.unwrap().cancelled);
    assert!(queue.extend(acked.token, None, None).await.unwrap().cancelled);
    assert_eq!(queue.ack(acked.token).await.unwrap_err().kind(), ErrorKind::Cancelled);
    // Its lease got some seconds more with the restart; shortened, it ends soon.
    let extended = queue.extend(ended.token, Some(1), None).await.unwrap();
    queue.until(extended.expires_at).await;
    assert_gone(queue, ended.id).await;
}
