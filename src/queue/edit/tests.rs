use super::*;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::queue::Claim;
use crate::queue::dead::tests::{Node, filter};
use crate::queue::{DeadQuery, Happened};

fn binary(bytes: usize) -> Payload {
    Payload::Binary((0..bytes).map(|n| n as u8).collect::<Vec<_>>().into())
}

fn edit(node: &mut Node, id: JobId, edit: &DeadEdit) -> JobView {
    node.apply(|state, context| state.edit_dead(id, edit, context.now)).unwrap()
}

#[test]
fn what_is_not_named_stays_and_what_is_named_is_what_the_next_attempt_gets() {
    let mut node = Node::new(Config::default());
    let retry = Some(RetryPolicy { base_ms: 5, max_ms: 9, jitter: 0.0 });
    let headers = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let job = NewJob {
        max_attempts: Some(7),
        max_interruptions: Some(8),
        timeout_ms: Some(9),
        headers: headers.clone(),
        retry,
        ..NewJob::new("mail").payload(binary(50_000))
    };
    let id = node.bury(job, 1)[0];
    let before = node.apply(|state, _| state.dead_letter(id)).unwrap();
    assert_eq!(edit(&mut node, id, &DeadEdit::default()), before);
    node.assert_sound();

    let kind = Some("mail.v2".to_owned());
    let after = edit(&mut node, id, &DeadEdit { kind, ..DeadEdit::default() });
    assert_eq!(after, JobView { kind: "mail.v2".to_owned(), ..before.clone() });
    let change = DeadEdit {
        payload: Some(Payload::Json("{}".into())),
        headers: Some(BTreeMap::new()),
        max_attempts: Some(1),
        max_interruptions: Some(0),
        retry: Some(None),
        timeout_ms: Some(None),
        ..DeadEdit::default()
    };
    edit(&mut node, id, &change);
    node.apply(|state, context| state.replay(id, context)).unwrap();
    let claim = Claim::default();
    let got = node.apply(|state, context| state.claim(&claim, context)).unwrap().jobs.remove(0);
    assert_eq!((got.kind.as_str(), got.payload), ("mail.v2", Payload::Json("{}".into())));
    assert_eq!((got.headers, got.max_attempts, got.timeout_ms), (BTreeMap::new(), 1, None));
    assert!(node.events.iter().any(|event| event.what == Happened::Edited { id }));
}

#[test]
fn a_payload_moves_between_record_and_parts_and_leaves_nothing_behind() {
    let mut node = Node::new(Config::default());
    let id = node.bury(NewJob::new("mail").payload(binary(100)), 1)[0];
    let alone = node.assert_sound().live_bytes;
    for bytes in [8 << 10, (8 << 10) + 1, 1 << 20, 20_000, 40_000, 0, 300_000] {
        let payload = Some(binary(bytes));
        let seen = edit(&mut node, id, &DeadEdit { payload, ..DeadEdit::default() });
        assert_eq!(seen.payload, binary(bytes));
        let report = node.assert_sound();
        assert!(report.live_bytes.abs_diff(alone + bytes as u64) < 1_000, "{report:?}");
    }
    // The same twice in one group, and the largest of everything in one record.
    let headers = BTreeMap::from([("h".to_owned(), "v".repeat(4_000))]);
    let kind = Some("k".repeat(128));
    let payload = Some(binary(8 << 10));
    let full = DeadEdit { headers: Some(headers), kind, payload, ..DeadEdit::default() };
    full.validate().unwrap();
    node.apply(|state, context| {
        let large = DeadEdit { payload: Some(binary(90_000)), ..DeadEdit::default() };
        state.edit_dead(id, &large, context.now)?;
        state.edit_dead(id, &full, context.now)
    })
    .unwrap();
    node.assert_sound();
    node.apply(|state, _| state.delete_dead(id)).unwrap();
    assert_eq!(node.assert_sound().live_bytes, 0);
}

#[test]
fn a_priority_moves_the_letter_between_the_counters_and_keeps_its_place() {
    let mut node = Node::new(Config::default());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(node.bury(NewJob::new("mail").queue("a"), 1));
        node.wait(10);
    }
    let priority = Some(Priority::Critical);
    edit(&mut node, ids[1], &DeadEdit { priority, ..DeadEdit::default() });
    node.assert_sound();
    let query = DeadQuery { filter: filter("a"), ..DeadQuery::default() };
    let page = node.page(&query);
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
    assert_eq!(page.jobs[1].priority, Priority::Critical);
    let replayed = node.apply(|state, context| state.replay(ids[1], context)).unwrap();
    assert_eq!(replayed.priority, Priority::Critical);
    node.assert_sound();
    let claim = Claim { priorities: vec![Priority::Critical], ..Claim::default() };
    let got = node.apply(|state, context| state.claim(&claim, context)).unwrap();
    assert_eq!(got.jobs[0].id, ids[1]);
    node.apply(|state, context| state.ack(got.jobs[0].token, context)).unwrap();
    node.assert_sound();
}

#[test]
fn an_edit_is_held_to_the_limits_of_an_enqueue() {
    let refused = |edit: DeadEdit| {
        let refused = edit.validate().unwrap_err();
        (refused.kind(), refused.field().unwrap().to_owned())
    };
    let none = DeadEdit::default;
    let named = |field: &str| (ErrorKind::Invalid, field.to_owned());
    assert_eq!(refused(DeadEdit { kind: Some(String::new()), ..none() }), named("kind"));
    assert_eq!(refused(DeadEdit { max_attempts: Some(0), ..none() }), named("max_attempts"));
    assert_eq!(refused(DeadEdit { timeout_ms: Some(Some(0)), ..none() }), named("timeout_ms"));
    let retry = RetryPolicy { base_ms: 2, max_ms: 1, jitter: 0.0 };
    assert_eq!(refused(DeadEdit { retry: Some(Some(retry)), ..none() }), named("retry.base_ms"));
    let payload = Some(binary((1 << 20) + 1));
    let too_large = (ErrorKind::TooLarge, "payload".to_owned());
    assert_eq!(refused(DeadEdit { payload, ..none() }), too_large);
    let mut node = Node::new(Config::default());
    let id = node.bury(NewJob::new("mail"), 1)[0];
    node.state.disk_room_bytes = Some(10);
    let large = DeadEdit { payload: Some(binary(11)), ..none() };
    let full = node.apply(|state, context| state.edit_dead(id, &large, context.now));
    assert_eq!(full.unwrap_err().kind(), ErrorKind::DiskFull);
    edit(&mut node, id, &DeadEdit { max_attempts: Some(5), ..none() });
}
