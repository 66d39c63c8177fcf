//! Enqueue: what is acknowledged is there, what is refused is not.

use pulk::job::limits;
use pulk::{ErrorKind, JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::claim_in;
use crate::harness::Harness;
use crate::{now, state_of};

pub async fn a_job_goes_all_the_way(queue: &Harness) {
    let id = queue.put(NewJob::new("mail")).await;
    assert_eq!(state_of(queue, id).await, Some(JobState::Ready));
    let job = queue.take("default").await;
    assert_eq!((job.id, job.attempt), (id, 1));
    assert_eq!(state_of(queue, id).await, Some(JobState::Running));
    queue.assert_none_ready().await;
    queue.ack(job.token).await.unwrap();
    assert_eq!(state_of(queue, id).await, None);
    assert_eq!(queue.dead_letter(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    queue.assert_none_ready().await;
}

pub async fn the_answer_describes_the_job(queue: &Harness) {
    let before = now();
    let answer = queue.enqueue(NewJob::new("mail")).await.unwrap();
    assert_eq!((answer.state, answer.priority), (JobState::Ready, Priority::Default));
    assert_eq!(answer.queue, "default");
    assert!(before <= answer.run_at && answer.run_at <= now());

    let job = NewJob::new("mail").queue("a/b:c").priority(Priority::Bulk);
    let answer = queue.enqueue(job.run_at(RunAt::DelayMs(60_000))).await.unwrap();
    assert_eq!((answer.state, answer.priority), (JobState::Scheduled, Priority::Bulk));
    assert_eq!(answer.queue, "a/b:c");
    assert!(before.plus_ms(60_000) <= answer.run_at && answer.run_at <= now().plus_ms(60_000));

    let seen = queue.job(answer.id).await.unwrap();
    assert_eq!((seen.state, seen.run_at), (answer.state, answer.run_at));
    assert_eq!((seen.queue.as_str(), seen.priority), ("a/b:c", Priority::Bulk));
    assert!(before <= seen.enqueued_at && seen.enqueued_at <= now());
    assert_eq!((seen.attempt, seen.interruptions, seen.errors.len()), (1, 0, 0));
}

pub async fn ids_sort_by_time_and_have_26_characters(queue: &Harness) {
    let mut last: Option<JobId> = None;
    for number in 0..30 {
        let before = now();
        // Priorities and queues change, the order by time does not.
        let priority = Priority::ALL[number % 5];
        let job = NewJob::new("mail").queue(format!("q{}", number % 3)).priority(priority);
        let id = queue.put(job).await;
        assert!(before <= id.born_at() && id.born_at() <= now());
        let text = id.to_string();
        assert_eq!(text.len(), 26);
        if let Some(last) = last.filter(|last| last.born_at() < id.born_at()) {
            assert!(last < id && last.to_string() < text);
        }
        last = Some(id);
    }
}

pub async fn a_batch_is_taken_whole_and_in_order(queue: &Harness) {
    let jobs = (0..600).map(|number| NewJob::new(format!("k{number}"))).collect();
    let ids = queue.enqueue_many(jobs).await.unwrap();
    assert_eq!(ids.len(), 600);
    let mut claim = claim_in("default");
    claim.limit = 1_000;
    let claimed = queue.claim(claim).await.unwrap();
    let kinds = claimed.jobs.iter().enumerate().map(|(n, job)| job.kind == format!("k{n}"));
    assert!(kinds.clone().all(|right| right) && kinds.count() == 600);
    assert_eq!(claimed.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
}

pub async fn one_bad_job_refuses_the_whole_batch(queue: &Harness) {
    let mut jobs = vec![NewJob::new("mail"); 5];
    jobs[3].kind = String::new();
    let refused = queue.enqueue_many(jobs.clone()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("jobs[3].kind")));

    jobs[3] = NewJob::new("mail");
    jobs[4].payload = Payload::Binary(vec![7; limits::PAYLOAD_BYTES_MAX + 1].into());
    let refused = queue.enqueue_many(jobs).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::TooLarge, Some("jobs[4].payload")));

    assert_eq!(queue.queues().await.unwrap(), []);
    queue.assert_none_ready().await;
}

pub async fn an_empty_batch_is_refused(queue: &Harness) {
    let refused = queue.enqueue_many(vec![]).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("jobs")));
    assert_eq!(queue.queues().await.unwrap(), []);
}

pub async fn a_batch_over_4_mib_is_too_large(queue: &Harness) {
    let job = NewJob::new("mail").payload(Payload::Binary(vec![0; 1 << 20].into()));
    let refused = queue.enqueue_many(vec![job; 5]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(queue.queues().await.unwrap(), []);
}

pub async fn a_delayed_job_waits_for_its_time(queue: &Harness) {
    let job = NewJob::new("mail").run_at(RunAt::DelayMs(400));
    let answer = queue.enqueue(job).await.unwrap();
    assert_eq!(answer.state, JobState::Scheduled);
    assert_eq!(answer.run_at, answer.id.born_at().plus_ms(400));
    let claimed = queue.take("default").await;
    assert!(now() >= answer.run_at);
    assert_eq!((claimed.id, claimed.attempt), (answer.id, 1));
}

pub async fn a_job_runs_at_the_time_given(queue: &Harness) {
    let moment = now().plus_ms(400);
    let answer = queue.enqueue(NewJob::new("mail").run_at(RunAt::At(moment))).await.unwrap();
    assert_eq!((answer.state, answer.run_at), (JobState::Scheduled, moment));
    let claimed = queue.take("default").await;
    assert!(now() >= moment);
    assert_eq!(claimed.id, answer.id);

    let far = "2999-12-31T23:59:59.999Z".parse().unwrap();
    let answer = queue.enqueue(NewJob::new("mail").run_at(RunAt::At(far))).await.unwrap();
    assert_eq!((answer.state, answer.run_at), (JobState::Scheduled, far));
    queue.assert_none_ready().await;
}

pub async fn a_time_in_the_past_is_now(queue: &Harness) {
    let before = now();
    let past = "2001-01-01T00:00:00Z".parse().unwrap();
    let answer = queue.enqueue(NewJob::new("mail").run_at(RunAt::At(past))).await.unwrap();
    assert_eq!(answer.state, JobState::Ready);
    assert!(before <= answer.run_at && answer.run_at <= now());
    assert_eq!(queue.take("default").await.id, answer.id);
}

pub async fn a_field_beyond_its_limit_is_named_and_nothing_is_enqueued(queue: &Harness) {
    let good = NewJob::new("mail");
    let long = "n".repeat(limits::NAME_BYTES_MAX + 1);
    let header = |bytes| [("h".to_owned(), "v".repeat(bytes))].into();
    let retry =
        |base_ms, max_ms, jitter| Some(pulk::retry::RetryPolicy { base_ms, max_ms, jitter });
    for (job, field) in [
        (NewJob { kind: String::new(), ..good.clone() }, "kind"),
        (NewJob { kind: long.clone(), ..good.clone() }, "kind"),
        (NewJob { queue: long, ..good.clone() }, "queue"),
        (NewJob { queue: "a b".into(), ..good.clone() }, "queue"),
        (NewJob { queue: "é".into(), ..good.clone() }, "queue"),
        (NewJob { max_attempts: Some(0), ..good.clone() }, "max_attempts"),
        (NewJob { max_attempts: Some(1_001), ..good.clone() }, "max_attempts"),
        (NewJob { max_interruptions: Some(1_001), ..good.clone() }, "max_interruptions"),
        (NewJob { timeout_ms: Some(0), ..good.clone() }, "timeout_ms"),
        (NewJob { run_at: RunAt::DelayMs(u64::MAX), ..good.clone() }, "delay_ms"),
        (NewJob { retry: retry(2, 1, 0.0), ..good.clone() }, "retry.base_ms"),
        (NewJob { retry: retry(1, u64::MAX, 0.0), ..good.clone() }, "retry.max_ms"),
        (NewJob { retry: retry(1, 2, 1.5), ..good.clone() }, "retry.jitter"),
        (NewJob { headers: header(limits::HEADERS_BYTES_MAX), ..good.clone() }, "headers"),
    ] {
        let refused = queue.enqueue(job).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    assert_eq!(queue.queues().await.unwrap(), []);

    let name = "n".repeat(limits::NAME_BYTES_MAX);
    let headers = header(limits::HEADERS_BYTES_MAX - 1);
    queue.put(NewJob { kind: name.clone(), queue: name.clone(), headers, ..good }).await;
    assert_eq!(queue.take(&name).await.kind, name);
}

pub async fn an_unknown_id_is_not_found(queue: &Harness) {
    let known = queue.put(NewJob::new("mail")).await;
    let unknown = [
        "00000000000000000000000000".to_owned(),
        "7ZZZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
        // The next one that this queue will make, and one of another shard.
        format!("{}{}", &known.to_string()[..25], "Z"),
        format!("{}1{}", &known.to_string()[..10], &known.to_string()[11..]),
    ];
    for id in unknown {
        let id: JobId = id.parse().unwrap();
        assert_ne!(id, known);
        let kinds = [
            queue.job(id).await.unwrap_err().kind(),
            queue.dead_letter(id).await.unwrap_err().kind(),
            queue.replay(id).await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::NotFound; 3], "{id}");
    }
    assert_eq!(queue.queue("nobody").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(state_of(queue, known).await, Some(JobState::Ready));
}
