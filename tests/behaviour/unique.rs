//! Unique keys: one job of a queue holds a key, as long as it lives and its time is not over.

use pulk::job::{OnConflict, Unique};
use pulk::queue::{Claim, DeadQuery, Failure, ReplayMany};
use pulk::{ErrorKind, JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::{Door, claim_in};
use crate::harness::Harness;
use crate::{now, state_of};

fn job(key: &str, on_conflict: OnConflict) -> NewJob {
    NewJob::new("report").unique(Unique::new(key).on_conflict(on_conflict))
}

fn reject(key: &str) -> NewJob {
    job(key, OnConflict::Reject)
}

/// The holder that stands in the way of this job.
async fn refused(queue: &Harness, job: NewJob) -> JobId {
    let refused = queue.enqueue(job).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Conflict, Some("unique")));
    refused.job().unwrap().parse().unwrap()
}

pub async fn a_second_job_with_the_key_is_refused_and_told_the_holder(queue: &Harness) {
    let holder = queue.put(reject("a")).await;
    assert_eq!(refused(queue, reject("a")).await, holder);
    assert_eq!(queue.job(holder).await.unwrap().unique_key.as_deref(), Some("a"));
    // Another key, and the same key in another queue, are free.
    queue.put(reject("b")).await;
    queue.put(reject("a").queue("other")).await;
    queue.put(NewJob::new("report")).await;
    let token = queue.take("default").await.token;
    assert_eq!(token.job(), holder);
    assert_eq!(refused(queue, reject("a")).await, holder);
    queue.ack(token).await.unwrap();
    let next = queue.put(reject("a")).await;
    assert_eq!(refused(queue, reject("a")).await, next);
}

pub async fn the_holder_is_returned_as_it_is_now(queue: &Harness) {
    let delayed = job("a", OnConflict::Return).run_at(RunAt::DelayMs(60_000));
    let first = queue.enqueue(delayed.priority(Priority::High)).await.unwrap();
    assert!(first.is_new && first.state == JobState::Scheduled);
    let second = queue.enqueue(job("a", OnConflict::Return).priority(Priority::Bulk)).await;
    let second = second.unwrap();
    assert!(!second.is_new);
    assert_eq!((second.id, second.state), (first.id, JobState::Scheduled));
    assert_eq!((second.priority, second.run_at), (Priority::High, first.run_at));

    let ready = queue.put(job("b", OnConflict::Return)).await;
    let token = queue.take("default").await.token;
    let third = queue.enqueue(job("b", OnConflict::Return)).await.unwrap();
    assert_eq!((third.id, third.state, third.is_new), (ready, JobState::Running, false));
    let error = "no".to_owned();
    queue.fail(Failure { token, error, retry: true, retry_in_ms: Some(60_000) }).await.unwrap();
    let fourth = queue.enqueue(job("b", OnConflict::Return)).await.unwrap();
    assert_eq!((fourth.id, fourth.state), (ready, JobState::Retrying));
    assert_eq!(fourth.run_at, queue.job(ready).await.unwrap().run_at);
    queue.assert_none_ready().await;
}

pub async fn a_waiting_holder_is_replaced_and_a_running_one_is_not(queue: &Harness) {
    let replace = || job("a", OnConflict::Replace);
    let scheduled = replace().run_at(RunAt::DelayMs(60_000));
    let scheduled = queue.enqueue(scheduled).await.unwrap().id;
    let large = Payload::Binary(vec![7; 100_000].into());
    let ready = queue.enqueue(replace().payload(large)).await.unwrap();
    assert!(ready.is_new && ready.state == JobState::Ready);
    assert_eq!(ready.replaced, Some(scheduled));
    assert_eq!(state_of(queue, scheduled).await, None);
    let next = queue.enqueue(replace()).await.unwrap();
    assert_eq!(next.replaced, Some(ready.id));
    assert_eq!(state_of(queue, ready.id).await, None);
    let running = queue.take("default").await;
    assert_eq!(running.id, next.id);
    assert_eq!(refused(queue, replace()).await, running.id);
    queue.fail_once(&running, Some(60_000)).await;
    let last = queue.enqueue(replace()).await.unwrap();
    assert_eq!(last.replaced, Some(running.id));
    assert_eq!(queue.take("default").await.id, last.id);
    queue.assert_none_ready().await;
}

pub async fn a_key_is_free_when_its_job_is_dead_or_its_time_is_over(queue: &Harness) {
    let dead = queue.put_dead(reject("a")).await;
    let next = queue.put(reject("a")).await;
    // The dead one gets it back only when it is free.
    let refused = queue.replay(dead).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(refused.job(), Some(next.to_string().as_str()));
    let token = queue.take("default").await.token;
    queue.ack(token).await.unwrap();
    queue.replay(dead).await.unwrap();
    assert_eq!(self::refused(queue, reject("a")).await, dead);

    let short = NewJob::new("report").queue("short").unique(Unique::new("b").ttl_ms(2_000));
    let first = queue.put(short.clone()).await;
    assert_eq!(self::refused(queue, short.clone()).await, first);
    queue.until(first.born_at().plus_ms(2_000)).await;
    let second = queue.put(short.clone()).await;
    // The first goes on, and its end does not free what is the second's.
    let token = queue.take("short").await.token;
    assert_eq!(token.job(), first);
    queue.ack(token).await.unwrap();
    assert_eq!(self::refused(queue, short.clone()).await, second);
}

pub async fn a_replay_of_many_leaves_out_those_whose_key_is_held(queue: &Harness) {
    let first = queue.put_dead(reject("a")).await;
    let second = queue.put_dead(reject("a")).await;
    queue.put_dead(reject("b")).await;
    let replayed = queue.replay_many(ReplayMany::default()).await.unwrap();
    assert_eq!((replayed.matched, replayed.replayed, replayed.skipped), (3, 2, 1));
    assert_eq!(state_of(queue, first).await, Some(JobState::Ready));
    assert_eq!(state_of(queue, second).await, Some(JobState::Dead));
}

pub async fn a_batch_with_a_conflict_is_refused_whole(queue: &Harness) {
    let holder = queue.put(reject("held")).await;
    let plain = || NewJob::new("report").queue("batch");
    let with = |key: &str| plain().unique(Unique::new(key));
    let batch = vec![plain(), with("a"), plain(), with("held").queue("default")];
    let refused = queue.enqueue_many(batch).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Conflict, Some("jobs[3].unique")));
    assert_eq!(refused.job(), Some(holder.to_string().as_str()));
    let refused = queue.enqueue_many(vec![with("a"), plain(), with("a")]).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Conflict, Some("jobs[2].unique")));
    let queues = queue.queues().await.unwrap();
    assert_eq!(queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["default"]);
    queue.enqueue_many(vec![with("a"), plain(), with("b")]).await.unwrap();
}

pub async fn a_batch_returns_and_replaces_in_its_order(queue: &Harness) {
    let of = |on_conflict| job("a", on_conflict);
    let there = queue.put(of(OnConflict::Reject)).await;
    let ids = queue
        .enqueue_many(vec![
            of(OnConflict::Return),
            of(OnConflict::Replace),
            of(OnConflict::Return),
            NewJob::new("report"),
            of(OnConflict::Replace),
        ])
        .await
        .unwrap();
    assert_eq!((ids[0], ids[2]), (there, ids[1]));
    assert_eq!(state_of(queue, there).await, None);
    assert_eq!(state_of(queue, ids[1]).await, None);
    let claimed = queue.claim(Claim { limit: 9, ..claim_in("default") }).await.unwrap();
    assert_eq!(claimed.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[3], ids[4]]);
}

pub async fn a_call_repeated_gets_the_first_answer(queue: &Harness) {
    let call = || NewJob::new("mail").idempotency_key("\"call-1\"");
    let first = queue.enqueue(call()).await.unwrap();
    assert!(first.is_new);
    let again = async |door: &Door| {
        // Whatever the repeat says, it is the first call that counts.
        let repeat = call().priority(Priority::Bulk).run_at(RunAt::DelayMs(60_000));
        let again = door.enqueue(repeat).await.unwrap();
        assert_eq!(again, pulk::job::Enqueued { is_new: false, ..first.clone() });
    };
    again(queue).await;
    let token = queue.take("default").await.token;
    again(queue).await;
    queue.ack(token).await.unwrap();
    again(queue).await;
    queue.assert_none_ready().await;
    // The key is one of its queue, and no unique key.
    let other = queue.enqueue(call().queue("other")).await.unwrap();
    assert!(other.is_new && other.id != first.id);
    queue.put(NewJob::new("mail").unique(Unique::new("\"call-1\""))).await;
}

pub async fn a_call_that_was_refused_is_not_remembered(queue: &Harness) {
    let holder = queue.put(reject("a")).await;
    let call = || reject("a").idempotency_key("call");
    assert_eq!(refused(queue, call()).await, holder);
    let token = queue.take("default").await.token;
    queue.ack(token).await.unwrap();
    let first = queue.enqueue(call()).await.unwrap();
    assert!(first.is_new);
    // Now the repeat is no conflict with itself.
    assert_eq!(queue.enqueue(call()).await.unwrap().id, first.id);
    let replaced = job("a", OnConflict::Replace).idempotency_key("another");
    let second = queue.enqueue(replaced.clone()).await.unwrap();
    assert_eq!(second.replaced, Some(first.id));
    let repeated = queue.enqueue(replaced).await.unwrap();
    assert_eq!(
        (repeated.id, repeated.replaced, repeated.is_new),
        (second.id, Some(first.id), false)
    );
}

pub async fn a_bad_key_names_the_field(queue: &Harness) {
    let unique = |unique: Unique| NewJob::new("k").unique(unique);
    for (job, field) in [
        (unique(Unique::new("")), "unique.key"),
        (unique(Unique::new("a\nb")), "unique.key"),
        (unique(Unique::new("k".repeat(257))), "unique.key"),
        (unique(Unique::new("k").ttl_ms(0)), "unique.ttl_ms"),
        (unique(Unique::new("k").ttl_ms(u64::MAX)), "unique.ttl_ms"),
        (NewJob::new("k").expires_in_ms(0), "expires_in_ms"),
        (NewJob::new("k").expires_in_ms(9).run_at(RunAt::DelayMs(9)), "expires_in_ms"),
        (
            NewJob::new("k").expires_in_ms(9).run_at(RunAt::At(now().plus_ms(60_000))),
            "expires_in_ms",
        ),
    ] {
        let refused = queue.enqueue(job.clone()).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
        let refused = queue.enqueue_many(vec![NewJob::new("k"), job]).await.unwrap_err();
        assert_eq!(refused.field(), Some(format!("jobs[1].{field}").as_str()));
    }
    assert_eq!(queue.queues().await.unwrap(), []);
    queue.put(unique(Unique::new("é".repeat(128)))).await;
}

pub async fn keys_and_answers_live_on(queue: &mut Harness) {
    let held = queue.put(reject("a")).await;
    let dead = queue.put_dead(reject("b").queue("other")).await;
    let call = NewJob::new("mail").queue("calls").idempotency_key("call");
    let first = queue.enqueue(call.clone()).await.unwrap();
    let token = queue.take("calls").await.token;
    queue.ack(token).await.unwrap();
    queue.restart().await;
    assert_eq!(refused(queue, reject("a")).await, held);
    assert_eq!(queue.enqueue(call).await.unwrap().id, first.id);
    let next = queue.put(reject("b").queue("other")).await;
    queue.restart().await;
    let conflict = queue.replay(dead).await.unwrap_err();
    assert_eq!(conflict.job(), Some(next.to_string().as_str()));
    assert_eq!(queue.dead_letters(DeadQuery::default()).await.unwrap().jobs.len(), 1);
}
