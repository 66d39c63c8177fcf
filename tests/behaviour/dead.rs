//! Dead letters: listed in pages, looked at, put back to work.

use std::collections::HashSet;

use pulk::dead_letter::DeadReason;
use pulk::queue::{DeadFilter, DeadQuery, Failed, Failure};
use pulk::{ErrorKind, JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::claim_in;
use crate::harness::Harness;
use crate::{now, state_of};

/// Enqueues so many jobs and lets all of them die, the last one first.
pub async fn bury(queue: &Harness, name: &str, count: usize) -> Vec<JobId> {
    let mut ids = queue.enqueue_many(vec![NewJob::new("mail").queue(name); count]).await.unwrap();
    let claim = pulk::queue::Claim { limit: count, ..claim_in(name) };
    let mut jobs = queue.claim(claim).await.unwrap().jobs;
    jobs.reverse();
    for job in jobs {
        let error = "hopeless".to_owned();
        let failure = Failure { token: job.token, error, retry: false, retry_in_ms: None };
        queue.fail(failure).await.unwrap();
    }
    ids.reverse();
    ids
}

/// All dead letters of a queue.
pub fn of_queue(name: &str) -> DeadFilter {
    DeadFilter { queue: Some(name.into()), ..DeadFilter::default() }
}

/// All pages of a query, one after the other.
async fn pages(queue: &Harness, mut query: DeadQuery) -> Vec<Vec<JobId>> {
    let mut pages = Vec::new();
    loop {
        let page = queue.dead_letters(query.clone()).await.unwrap();
        assert!(page.jobs.len() <= query.limit);
        pages.push(page.jobs.iter().map(|job| job.id).collect());
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return pages;
        }
    }
}

pub async fn pages_follow_each_other_without_gap_or_double(queue: &Harness) {
    let mut expected = bury(queue, "a", 13).await;
    expected.extend(bury(queue, "b", 7).await);
    for limit in [1, 3, 4, 19, 20, 21, 1_000] {
        let pages = pages(queue, DeadQuery { limit, ..DeadQuery::default() }).await;
        assert_eq!(pages.len(), 20_usize.div_ceil(limit), "of {limit}");
        let mut got: Vec<JobId> = pages.into_iter().flatten().collect();
        assert_eq!(got.iter().collect::<HashSet<_>>().len(), 20);
        got.sort_unstable();
        let mut expected = expected.clone();
        expected.sort_unstable();
        assert_eq!(got, expected, "in pages of {limit}");
    }
    assert_eq!(queue.dead_letters(DeadQuery::default()).await.unwrap().jobs.len(), 20);
}

pub async fn a_page_of_one_queue_holds_no_other(queue: &Harness) {
    bury(queue, "a", 3).await;
    let mut b = bury(queue, "b", 5).await;
    bury(queue, "c", 3).await;
    let of = |name: &str| DeadQuery { filter: of_queue(name), limit: 2, cursor: None };
    let mut got: Vec<JobId> = pages(queue, of("b")).await.into_iter().flatten().collect();
    got.sort_unstable();
    b.sort_unstable();
    assert_eq!(got, b);
    assert_eq!(pages(queue, of("nobody")).await, [Vec::<JobId>::new()]);
    // A cursor out of another queue shows nothing of that one.
    let cursor = queue.dead_letters(of("a")).await.unwrap().next_cursor;
    let page = queue.dead_letters(DeadQuery { cursor, ..of("b") }).await.unwrap();
    assert!(page.jobs.iter().all(|job| job.queue == "b"), "{page:?}");
    let cursor = queue.dead_letters(of("c")).await.unwrap().next_cursor;
    let page = queue.dead_letters(DeadQuery { cursor, ..of("a") }).await.unwrap();
    assert_eq!((page.jobs, page.next_cursor), (vec![], None));
}

pub async fn dead_letters_come_in_the_order_of_their_death(queue: &Harness) {
    bury(queue, "a", 12).await;
    let page = queue.dead_letters(DeadQuery::default()).await.unwrap();
    let keys: Vec<_> = page.jobs.iter().map(|job| (job.dead.unwrap().died_at, job.id)).collect();
    assert!(keys.is_sorted() && keys.len() == 12, "{keys:?}");
    for job in &page.jobs {
        assert_eq!((job.state, job.errors.len()), (JobState::Dead, 1));
        assert_eq!(queue.dead_letter(job.id).await.unwrap(), *job);
        assert_eq!(queue.job(job.id).await.unwrap(), *job);
    }
}

pub async fn a_replay_begins_the_attempts_again_and_keeps_the_errors(queue: &Harness) {
    let job = NewJob::new("mail").priority(Priority::Low);
    let id = queue.put(NewJob { max_attempts: Some(2), ..job }).await;
    for _ in 0..2 {
        let job = queue.take("default").await;
        queue.fail_once(&job, Some(0)).await;
    }
    assert_eq!(queue.dead_letter(id).await.unwrap().attempt, 2);
    let before = now();
    let replayed = queue.replay(id).await.unwrap();
    assert_eq!((replayed.id, replayed.state), (id, JobState::Ready));
    assert_eq!((replayed.queue.as_str(), replayed.priority), ("default", Priority::Low));
    assert!(before <= replayed.run_at && replayed.run_at <= now());
    assert!(queue.dead_letters(DeadQuery::default()).await.unwrap().jobs.is_empty());

    let again = queue.take("default").await;
    assert_eq!((again.id, again.attempt, again.max_attempts), (id, 1, 2));
    assert_eq!(again.priority, Priority::Low);
    let seen = queue.job(id).await.unwrap();
    assert_eq!((seen.interruptions, seen.dead, seen.errors.len()), (0, None, 2));
    queue.ack(again.token).await.unwrap();
    assert_eq!(state_of(queue, id).await, None);
}

pub async fn a_replayed_job_dies_again_after_all_its_attempts(queue: &Harness) {
    let id = queue.put(NewJob { max_attempts: Some(2), ..NewJob::new("mail") }).await;
    for round in 1..=3 {
        for attempt in 1..=2 {
            let job = queue.take("default").await;
            assert_eq!((job.id, job.attempt), (id, attempt));
            let failed = queue.fail_once(&job, Some(0)).await;
            assert_eq!(matches!(failed, Failed::Dead { .. }), attempt == 2);
        }
        assert_eq!(queue.dead_letter(id).await.unwrap().errors.len(), round * 2);
        queue.replay(id).await.unwrap();
        let twice = queue.replay(id).await.unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::Conflict);
    }
}

pub async fn a_live_job_cannot_be_replayed(queue: &Harness) {
    let scheduled = NewJob::new("mail").run_at(RunAt::DelayMs(60_000));
    let scheduled = queue.enqueue(scheduled).await.unwrap().id;
    let retrying = queue.put(NewJob::new("mail")).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, Some(60_000)).await;
    let running = queue.put(NewJob::new("mail")).await;
    queue.take("default").await;
    let ready = queue.put(NewJob::new("mail")).await;
    for (id, state) in [
        (scheduled, JobState::Scheduled),
        (retrying, JobState::Retrying),
        (running, JobState::Running),
        (ready, JobState::Ready),
    ] {
        assert_eq!(queue.replay(id).await.unwrap_err().kind(), ErrorKind::Conflict, "{state}");
        assert_eq!(queue.dead_letter(id).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(state_of(queue, id).await, Some(state));
    }
}

pub async fn a_dead_letter_keeps_its_payload(queue: &Harness) {
    let payload = Payload::Binary((0..100_000_u32).map(|n| n as u8).collect::<Vec<_>>().into());
    let headers = [("a".to_owned(), "b".to_owned())].into();
    let job = NewJob { headers, ..NewJob::new("mail").payload(payload.clone()) };
    let id = queue.put_dead(job).await;
    let dead = queue.dead_letter(id).await.unwrap();
    assert_eq!((&dead.payload, dead.headers["a"].as_str()), (&payload, "b"));
    queue.replay(id).await.unwrap();
    let again = queue.take("default").await;
    assert_eq!((again.payload, again.headers), (payload, dead.headers));
}

pub async fn a_bad_page_names_the_field(queue: &Harness) {
    let refused = async |query: DeadQuery| {
        let refused = queue.dead_letters(query).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        refused.field().unwrap().to_owned()
    };
    let default = DeadQuery::default;
    assert_eq!(refused(DeadQuery { limit: 0, ..default() }).await, "limit");
    assert_eq!(refused(DeadQuery { limit: 1_001, ..default() }).await, "limit");
    for cursor in ["nonsense", "1.2", "1.2.3", "a.b.c", "-1.0.00000000000000000000000000"] {
        let query = DeadQuery { cursor: Some(cursor.into()), ..default() };
        assert_eq!(refused(query).await, "cursor");
    }
}

pub async fn each_part_of_a_filter_is_kept(queue: &Harness) {
    let mails = bury(queue, "a/b", 3).await;
    let sms = queue.put_dead(NewJob::new("sms").queue("a/b")).await;
    bury(queue, "other", 2).await;
    let crashing = NewJob { max_attempts: Some(1), ..NewJob::new("sms").queue("c") };
    queue.put(crashing).await;
    let job = queue.take("c").await;
    let error = "50 % & nothing + more?".to_owned();
    let failure = Failure { token: job.token, error, retry: true, retry_in_ms: None };
    queue.fail(failure).await.unwrap();

    let found = async |filter: DeadFilter| {
        let query = DeadQuery { filter, ..DeadQuery::default() };
        let jobs = queue.dead_letters(query).await.unwrap().jobs;
        jobs.into_iter().map(|job| job.id).collect::<HashSet<_>>()
    };
    let all = DeadFilter::default;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(found(DeadFilter { kind: some("sms"), ..of_queue("a/b") }).await, [sms].into());
    let mail = DeadFilter { kind: some("mail"), ..of_queue("a/b") };
    assert_eq!(found(mail).await, mails.into_iter().collect());
    assert_eq!(found(DeadFilter { error: some("& nothing +"), ..all() }).await, [job.id].into());
    let reason = Some(DeadReason::Exhausted);
    assert_eq!(found(DeadFilter { reason, ..all() }).await, [job.id].into());
    assert_eq!(found(DeadFilter { error: some("hope"), ..all() }).await.len(), 6);
    assert_eq!(found(DeadFilter { error: some("hope"), ..of_queue("c") }).await.len(), 0);
}

pub async fn a_deleted_letter_is_gone(queue: &Harness) {
    let payload = Payload::Binary(vec![7; 100_000].into());
    let id = queue.put_dead(NewJob::new("mail").payload(payload)).await;
    queue.delete_dead_letter(id).await.unwrap();
    assert_eq!(state_of(queue, id).await, None);
    let again = queue.delete_dead_letter(id).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    let alive = queue.put(NewJob::new("mail")).await;
    let refused = queue.delete_dead_letter(alive).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(state_of(queue, alive).await, Some(JobState::Ready));
}
