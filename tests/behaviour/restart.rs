//! What was acknowledged is there after a restart: a handle that was closed and opened again, or
//! a process that was stopped and started.

use pulk::dead_letter::DeadReason;
use pulk::queue::{Claim, DeadEdit, DeadQuery, Limited, Limits, Rate, ReplayMany, ReplayState};
use pulk::{ErrorKind, JobState, NewJob, Payload, Priority, RunAt};

use crate::dead::bury;
use crate::door::{claim_as, claim_in, lease_in};
use crate::harness::Harness;
use crate::{now, state_of};

pub async fn a_lease_and_its_token_live_on(queue: &mut Harness) {
    queue.enqueue_many(vec![NewJob::new("mail"); 3]).await.unwrap();
    let jobs = queue.claim(Claim { limit: 3, ..Claim::default() }).await.unwrap().jobs;
    queue.restart().await;
    queue.assert_none_ready().await;
    queue.ack(jobs[0].token).await.unwrap();
    queue.restart().await;
    assert_eq!(state_of(queue, jobs[0].id).await, None);
    assert_eq!(queue.ack(jobs[0].token).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let extended = queue.extend(jobs[1].token, Some(60_000), None).await.unwrap();
    assert!(extended.expires_at > jobs[1].expires_at);
    queue.fail_once(&jobs[1], Some(60_000)).await;
    queue.release(jobs[2].token, None).await.unwrap();
    let again = queue.take("default").await;
    assert_eq!((again.id, again.attempt), (jobs[2].id, 1));
    assert_ne!(again.token, jobs[2].token);
}

pub async fn progress_and_worker_are_kept(queue: &mut Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take_with(claim_as("default", "anna")).await;
    queue.extend(job.token, Some(50_000), Some(70)).await.unwrap();
    let before = queue.job(id).await.unwrap();
    queue.restart().await;
    assert_eq!(queue.job(id).await.unwrap(), before);
    let running = before.running.unwrap();
    assert_eq!((running.worker.as_deref(), running.progress), (Some("anna"), Some(70)));
}

pub async fn waiting_jobs_keep_their_order(queue: &mut Harness) {
    let mut ids = Vec::new();
    for number in 0..40 {
        let job = NewJob::new("mail").priority(Priority::ALL[4 - number / 8]);
        ids.push(queue.put(job).await);
        if number == 20 {
            queue.restart().await;
        }
    }
    let mut got = Vec::new();
    for limit in [3, 10, 1, 26] {
        let claimed = queue.claim(Claim { limit, ..Claim::default() }).await.unwrap();
        got.extend(claimed.jobs.iter().map(|job| job.id));
        queue.restart().await;
    }
    let by_priority: Vec<_> = ids.chunks(8).rev().flatten().copied().collect();
    assert_eq!(got, by_priority);
    queue.assert_none_ready().await;
}

pub async fn a_timer_that_came_due_meanwhile_fires(queue: &mut Harness) {
    let scheduled = NewJob::new("mail").run_at(RunAt::DelayMs(700));
    let scheduled = queue.enqueue(scheduled).await.unwrap();
    let retried = queue.put(NewJob::new("mail").queue("other")).await;
    let job = queue.take("other").await;
    queue.fail_once(&job, Some(700)).await;
    let due = queue.job(retried).await.unwrap().run_at;
    queue.restart_after(due.max(scheduled.run_at).plus_ms(1)).await;
    assert_eq!(queue.take("default").await.id, scheduled.id);
    let again = queue.take("other").await;
    assert_eq!((again.id, again.attempt), (retried, 2));
}

pub async fn a_timer_still_to_come_is_kept(queue: &mut Harness) {
    let job = NewJob::new("mail").run_at(RunAt::DelayMs(1_500));
    let answer = queue.enqueue(job).await.unwrap();
    let far = queue.enqueue(NewJob::new("mail").run_at(RunAt::DelayMs(60_000))).await.unwrap();
    queue.restart().await;
    assert_eq!(queue.take("default").await.id, answer.id);
    assert!(now() >= answer.run_at);
    let kept = queue.job(far.id).await.unwrap();
    assert_eq!((kept.state, kept.run_at), (JobState::Scheduled, far.run_at));
}

pub async fn dead_letters_are_kept(queue: &mut Harness) {
    let headers = [("a".to_owned(), "b".to_owned())].into();
    let id = queue.put_dead(NewJob { headers, ..NewJob::new("mail") }).await;
    let before = queue.dead_letters(DeadQuery::default()).await.unwrap();
    assert_eq!(before.jobs[0].dead.unwrap().reason, DeadReason::Rejected);
    queue.restart().await;
    assert_eq!(queue.dead_letters(DeadQuery::default()).await.unwrap(), before);
    queue.replay(id).await.unwrap();
    queue.restart().await;
    assert!(queue.dead_letters(DeadQuery::default()).await.unwrap().jobs.is_empty());
    let job = queue.take("default").await;
    assert_eq!((job.id, job.attempt), (id, 1));
    assert_eq!(queue.job(id).await.unwrap().errors.len(), 1);
}

pub async fn interruptions_and_attempts_are_kept(queue: &mut Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, Some(0)).await;
    for _ in 0..2 {
        let job = queue.take_with(lease_in("default", 1)).await;
        queue.until(job.expires_at).await;
    }
    queue.restart().await;
    let seen = queue.job(id).await.unwrap();
    assert_eq!((seen.attempt, seen.interruptions, seen.errors.len()), (2, 2, 1));
    assert_eq!(queue.take("default").await.attempt, 2);
    queue.restart().await;
    let seen = queue.job(id).await.unwrap();
    assert_eq!((seen.state, seen.interruptions), (JobState::Running, 2));
}

pub async fn an_old_token_stays_dead(queue: &mut Harness) {
    queue.put(NewJob::new("mail")).await;
    let old = queue.take("default").await.token;
    queue.release(old, None).await.unwrap();
    queue.restart().await;
    assert_eq!(queue.ack(old).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let new = queue.take("default").await.token;
    assert_ne!(new, old);
    queue.restart().await;
    assert_eq!(queue.ack(old).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    queue.ack(new).await.unwrap();
}

pub async fn ids_go_on_rising(queue: &mut Harness) {
    let mut last = queue.put(NewJob::new("mail")).await;
    for _ in 0..4 {
        queue.restart().await;
        // Also when nothing is left that could tell which numbers were given.
        let job = queue.take("default").await;
        queue.ack(job.token).await.unwrap();
        queue.restart().await;
        let id = queue.put(NewJob::new("mail")).await;
        assert!(id > last);
        last = id;
    }
}

pub async fn counts_and_large_payloads_are_kept(queue: &mut Harness) {
    let payload = Payload::Binary((0..300_000_u32).map(|n| (n >> 7) as u8).collect());
    let ids =
        queue.enqueue_many(vec![NewJob::new("mail").payload(payload.clone()); 3]).await.unwrap();
    queue.take("default").await;
    let before = queue.queue("default").await.unwrap().counts;
    assert_eq!((before[Priority::Default].ready, before[Priority::Default].running), (2, 1));
    queue.restart().await;
    assert_eq!(queue.queue("default").await.unwrap().counts, before);
    for id in &ids {
        assert!(queue.job(*id).await.unwrap().payload == payload);
    }
    let claimed = queue.claim(Claim { limit: 3, ..claim_in("default") }).await.unwrap().jobs;
    assert!(claimed.len() == 2 && claimed.iter().all(|job| job.payload == payload));
}

pub async fn a_paused_queue_stays_paused(queue: &mut Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    queue.pause("default").await.unwrap();
    queue.restart().await;
    queue.assert_none_ready().await;
    assert!(queue.queue("default").await.unwrap().paused);
    queue.resume("default").await.unwrap();
    queue.restart().await;
    assert_eq!(queue.take("default").await.id, id);
}

pub async fn limits_stay_and_give_no_second_burst(queue: &mut Harness) {
    let rate = Some(Rate { jobs: 1, per_ms: 3_600_000, burst: 2 });
    let limits = Limits { concurrency: Some(3), rate, concurrency_per_key: Some(4) };
    queue.set_limits("default", limits).await.unwrap();
    queue.enqueue_many(vec![NewJob::new("mail"); 9]).await.unwrap();
    queue.take("default").await;
    queue.restart().await;
    assert_eq!(queue.queue("default").await.unwrap().limits, limits);
    queue.take("default").await;
    queue.restart().await;
    queue.assert_none_ready().await;
    let seen = queue.queue("default").await.unwrap();
    assert!(matches!(seen.limited, Some(Limited::Rate { .. })), "{seen:?}");
    queue.set_limits("default", Limits::default()).await.unwrap();
    queue.restart().await;
    let seen = queue.queue("default").await.unwrap();
    assert_eq!((seen.limits, seen.limited), (Limits::default(), None));
    queue.take("default").await;
}

pub async fn an_edited_letter_is_kept(queue: &mut Harness) {
    let id = queue.put_dead(NewJob::new("mail")).await;
    let payload = Some(Payload::Binary(vec![9; 50_000].into()));
    let edit = DeadEdit { payload, priority: Some(Priority::High), ..DeadEdit::default() };
    let edited = queue.edit_dead_letter(id, edit).await.unwrap();
    queue.restart().await;
    assert_eq!(queue.dead_letter(id).await.unwrap(), edited);
    queue.replay(id).await.unwrap();
    let job = queue.take("default").await;
    assert_eq!((job.id, job.priority, &job.payload), (id, Priority::High, &edited.payload));
}

pub async fn a_background_replay_goes_on(queue: &mut Harness) {
    bury(queue, "mails", 3).await;
    let slow = ReplayMany { rate_per_s: Some(0.001), ..ReplayMany::default() };
    let slow = queue.replay_many(slow).await.unwrap().replay.unwrap();
    let few = ReplayMany { rate_per_s: Some(4.0), limit: Some(2), ..ReplayMany::default() };
    let few = queue.replay_many(few).await.unwrap().replay.unwrap();
    assert_eq!((few.state, few.counts.matched), (ReplayState::Running, 2));
    queue.restart().await;
    assert_eq!(queue.replay_status(slow.id).await.unwrap(), slow);
    // Both come, each in its time, without anybody asking.
    for _ in 0..2 {
        let job = queue.take("mails").await;
        queue.ack(job.token).await.unwrap();
    }
    queue.restart().await;
    let ended = queue.replay_status(few.id).await.unwrap();
    assert_eq!((ended.state, ended.counts.replayed), (ReplayState::Done, 2));
    assert!(ended.ended_at.unwrap() >= ended.started_at);
    let last = queue.cancel_replay(slow.id).await.unwrap();
    assert_eq!(last.state, ReplayState::Cancelled);
    queue.restart().await;
    assert_eq!(queue.replays().await.unwrap(), [ended, last]);
    assert_eq!(queue.queue("mails").await.unwrap().counts[Priority::Default].dead, 1);
}
