//! Dead letters changed before they are put back to work.

use std::collections::BTreeMap;

use pulk::queue::DeadEdit;
use pulk::retry::RetryPolicy;
use pulk::{ErrorKind, JobView, NewJob, Payload, Priority, RunAt};

use crate::harness::Harness;

pub async fn an_edited_letter_is_what_the_next_attempt_gets(queue: &Harness) {
    let first = queue.put_dead(NewJob::new("mail").queue("a")).await;
    let last = queue.put_dead(NewJob::new("mail").queue("a")).await;
    let before = queue.dead_letter(first).await.unwrap();
    let headers = BTreeMap::from([("trace".to_owned(), "7".to_owned())]);
    let edit = DeadEdit {
        kind: Some("mail.v2".to_owned()),
        payload: Some(Payload::Json(r#"{ "to" : 1.50 }"#.into())),
        priority: Some(Priority::Critical),
        headers: Some(headers.clone()),
        max_attempts: Some(1),
        max_interruptions: Some(9),
        retry: Some(Some(RetryPolicy { base_ms: 1, max_ms: 2, jitter: 0.0 })),
        timeout_ms: Some(Some(60_000)),
    };
    let edited = queue.edit_dead_letter(first, edit.clone()).await.unwrap();
    let expected = JobView {
        kind: "mail.v2".to_owned(),
        payload: edit.payload.unwrap(),
        priority: Priority::Critical,
        headers: headers.clone(),
        max_attempts: 1,
        max_interruptions: 9,
        timeout_ms: Some(60_000),
        ..before
    };
    assert_eq!(edited, expected);
    assert_eq!(queue.dead_letter(first).await.unwrap(), expected);
    let page = queue.dead_letters(pulk::queue::DeadQuery::default()).await.unwrap().jobs;
    assert_eq!(page.iter().map(|job| job.id).collect::<Vec<_>>(), [first, last]);
    let counts = queue.queue("a").await.unwrap().counts;
    assert_eq!((counts[Priority::Critical].dead, counts[Priority::Default].dead), (1, 1));

    let replayed = queue.replay(first).await.unwrap();
    assert_eq!(replayed.priority, Priority::Critical);
    let job = queue.take("a").await;
    assert_eq!((job.kind.as_str(), job.priority), ("mail.v2", Priority::Critical));
    assert_eq!((job.payload, job.headers), (expected.payload, headers));
    assert_eq!((job.max_attempts, job.timeout_ms), (1, Some(60_000)));
    queue.ack(job.token).await.unwrap();
}

pub async fn an_edit_of_nothing_changes_nothing(queue: &Harness) {
    let job = NewJob { timeout_ms: Some(5_000), ..NewJob::new("mail") };
    let id = queue.put_dead(job).await;
    let before = queue.dead_letter(id).await.unwrap();
    let same = queue.edit_dead_letter(id, DeadEdit::default()).await.unwrap();
    assert_eq!(same, before);
    let cleared = DeadEdit { timeout_ms: Some(None), retry: Some(None), ..DeadEdit::default() };
    let cleared = queue.edit_dead_letter(id, cleared).await.unwrap();
    assert_eq!(cleared, JobView { timeout_ms: None, ..before });
}

pub async fn a_large_payload_may_become_small_and_a_small_one_large(queue: &Harness) {
    let id = queue.put_dead(NewJob::new("mail")).await;
    for bytes in [1 << 20, 0, 8_193, 100_000, 8_192, 20_000] {
        let payload = Payload::Binary((0..bytes).map(|n| n as u8).collect::<Vec<_>>().into());
        let edit = DeadEdit { payload: Some(payload.clone()), ..DeadEdit::default() };
        assert_eq!(queue.edit_dead_letter(id, edit).await.unwrap().payload, payload);
        assert_eq!(queue.dead_letter(id).await.unwrap().payload, payload);
    }
    let edit = DeadEdit { payload: Some(Payload::Json("null".into())), ..DeadEdit::default() };
    queue.edit_dead_letter(id, edit).await.unwrap();
    queue.replay(id).await.unwrap();
    assert_eq!(queue.take("default").await.payload, Payload::Json("null".into()));
}

pub async fn only_a_dead_letter_can_be_edited(queue: &Harness) {
    let ready = queue.put(NewJob::new("mail")).await;
    let later = NewJob::new("mail").run_at(RunAt::DelayMs(60_000));
    let later = queue.enqueue(later).await.unwrap().id;
    for id in [ready, later] {
        let edit = DeadEdit { kind: Some("other".to_owned()), ..DeadEdit::default() };
        let refused = queue.edit_dead_letter(id, edit).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(queue.job(id).await.unwrap().kind, "mail");
    }
    let job = queue.take("default").await;
    queue.ack(job.token).await.unwrap();
    let gone = queue.edit_dead_letter(ready, DeadEdit::default()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

pub async fn an_edit_beyond_a_limit_names_the_field_and_changes_nothing(queue: &Harness) {
    let id = queue.put_dead(NewJob::new("mail")).await;
    let before = queue.dead_letter(id).await.unwrap();
    let none = DeadEdit::default;
    let headers = BTreeMap::from([("h".to_owned(), "v".repeat(5_000))]);
    let retry = RetryPolicy { base_ms: 9, max_ms: 1, jitter: 0.0 };
    for (edit, field) in [
        (DeadEdit { kind: Some("a b".to_owned()), ..none() }, "kind"),
        (DeadEdit { headers: Some(headers), ..none() }, "headers"),
        (DeadEdit { max_attempts: Some(0), ..none() }, "max_attempts"),
        (DeadEdit { max_interruptions: Some(1_001), ..none() }, "max_interruptions"),
        (DeadEdit { retry: Some(Some(retry)), ..none() }, "retry.base_ms"),
        (DeadEdit { timeout_ms: Some(Some(0)), ..none() }, "timeout_ms"),
    ] {
        let refused = queue.edit_dead_letter(id, edit).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    let payload = Some(Payload::Binary(vec![0; (1 << 20) + 1].into()));
    let refused = queue.edit_dead_letter(id, DeadEdit { payload, ..none() }).await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::TooLarge, Some("payload")));
    assert_eq!(queue.dead_letter(id).await.unwrap(), before);
}
