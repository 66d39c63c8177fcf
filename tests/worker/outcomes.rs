//! What becomes of a job, by what its handler says.

use bytes::Bytes;
use pulk::dead_letter::DeadReason;
use pulk::job::Found;
use pulk::worker::{Handler, Job, Outcome, Running};
use pulk::{JobState, NewJob, Timestamp};
use serde_json::{Value, json};

use crate::rig::{Rig, with_payload};

#[derive(serde::Deserialize)]
struct Letter {
    to: String,
}

/// Runs a job of kind `mail` whose handler says this.
async fn said(outcome: Outcome) -> (Rig, pulk::JobId) {
    let rig = Rig::new().await;
    let builder = rig.worker().handle("mail", move |_: Job<Value>| {
        let outcome = outcome.clone();
        async move { outcome }
    });
    let id = rig.run(builder, with_payload("mail", json!({}))).await;
    (rig, id)
}

#[tokio::test]
async fn a_job_that_is_done_is_gone() {
    let (rig, id) = said(Outcome::Done).await;
    assert!(rig.queue.find(id).await.is_err());
}

#[tokio::test]
async fn what_came_of_a_job_is_kept() {
    let (rig, id) = said(Outcome::done_with(&json!({"pages": 3})).unwrap()).await;
    let Found::Done(result) = rig.queue.find(id).await.unwrap() else { panic!("no result") };
    assert_eq!(result.result, Bytes::from_static(b"{\"pages\":3}"));
}

#[tokio::test]
async fn a_failure_costs_an_attempt_and_is_tried_again() {
    let (rig, id) = said(Outcome::fail("no route")).await;
    let job = rig.job(id).await;
    assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Retrying, 2, 0));
    assert_eq!(job.errors[0].error, "no route");
}

#[tokio::test]
async fn a_failure_may_say_when_it_is_tried_again() {
    let (rig, id) = said(Outcome::fail_at("busy", 7_000)).await;
    let job = rig.job(id).await;
    assert_eq!(job.state, JobState::Retrying);
    assert_eq!(job.run_at, Timestamp::from_ms(1_800_000_007_000));
}

#[tokio::test]
async fn a_rejected_job_is_dead_at_once() {
    let (rig, id) = said(Outcome::reject("no such address")).await;
    let job = rig.job(id).await;
    assert_eq!(job.dead.unwrap().reason, DeadReason::Rejected);
    assert_eq!(job.errors[0].error, "no such address");
}

#[tokio::test]
async fn a_snoozed_job_waits_and_that_costs_it_nothing() {
    let (rig, id) = said(Outcome::Snooze { delay_ms: 9_000 }).await;
    let job = rig.job(id).await;
    assert_eq!((job.state, job.attempt, job.interruptions), (JobState::Scheduled, 1, 0));
    assert_eq!(job.run_at, Timestamp::from_ms(1_800_000_009_000));
}

#[tokio::test]
async fn a_handler_may_return_a_result() {
    let rig = Rig::new().await;
    let builder = rig.worker().handle("mail", |job: Job<Letter>| async move {
        match job.payload.to.as_str() {
            "ann" => Ok(()),
            to => Err(format!("nobody is called {to}")),
        }
    });
    let id = rig.run(builder, with_payload("mail", json!({"to": "bob"}))).await;
    assert_eq!(rig.job(id).await.errors[0].error, "nobody is called bob");
}

#[tokio::test]
async fn a_payload_that_is_something_else_rejects_the_job() {
    let rig = Rig::new().await;
    let builder = rig.worker().handle("mail", |_: Job<Letter>| async move {});
    let id = rig.run(builder, with_payload("mail", json!({"for": "ann"}))).await;
    let job = rig.job(id).await;
    assert_eq!(job.dead.unwrap().reason, DeadReason::Rejected);
    let error = &job.errors[0].error;
    let start = "the payload is not what the handler of kind mail takes: missing field `to`";
    assert!(error.starts_with(start), "{error}");
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let rig = Rig::new().await;
    let builder = rig.worker().handle("mail", |job: Job<Letter>| async move {
        assert_ne!(job.payload.to, "bob", "not him");
    });
    let id = rig.run(builder, with_payload("mail", json!({"to": "bob"}))).await;
    let job = rig.job(id).await;
    assert_eq!(job.state, JobState::Retrying);
    let error = &job.errors[0].error;
    assert!(error.starts_with("the handler panicked: ") && error.contains("not him"), "{error}");
}

struct PanicsAtOnce;

impl Handler for PanicsAtOnce {
    fn run(&self, job: Job) -> Running {
        panic!("no {} here", job.kind)
    }
}

#[tokio::test]
async fn so_is_a_panic_before_the_first_step() {
    let rig = Rig::new().await;
    let builder = rig.worker().handler("mail", PanicsAtOnce);
    let id = rig.run(builder, NewJob::new("mail")).await;
    assert_eq!(rig.job(id).await.errors[0].error, "the handler panicked: no mail here");
}

/// Nothing that a handler says is lost because the queue can't take it.
#[tokio::test]
async fn what_the_queue_refuses_becomes_a_failure_that_says_so() {
    let ten_years_ms = 10 * 366 * 86_400_000;
    for (outcome, sentence) in [
        (Outcome::DoneWith(vec![b'1'; 20_000].into()), "20000 bytes are too many"),
        (Outcome::DoneWith(Bytes::from_static(b"{")), "is not JSON"),
        (Outcome::fail_at("no route", 2 * ten_years_ms), "out of range"),
        (Outcome::Snooze { delay_ms: 2 * ten_years_ms }, "out of range"),
    ] {
        let (rig, id) = said(outcome).await;
        let job = rig.job(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Retrying, 2));
        let error = &job.errors[0].error;
        assert!(error.contains(sentence) && error.contains("can't take"), "{error}");
    }
}

#[tokio::test]
async fn a_fallback_takes_every_other_kind_and_nobody_takes_what_has_no_handler() {
    let rig = Rig::new().await;
    let builder = rig.worker().handle("mail", |_: Job<Value>| async {});
    rig.enqueue(with_payload("other", json!({}))).await;
    rig.run(builder, with_payload("mail", json!({}))).await;
    let counts = |rig: &Rig| {
        let queue = rig.queue.clone();
        async move { queue.queue("default").await.unwrap().counts[pulk::Priority::Default].ready }
    };
    assert_eq!(counts(&rig).await, 1);
    struct Any;
    impl Handler for Any {
        fn run(&self, _: Job) -> Running {
            Box::pin(async { Outcome::Done })
        }
    }
    rig.run(rig.worker().fallback(Any), with_payload("third", json!({}))).await;
    assert_eq!(counts(&rig).await, 0);
}

#[tokio::test]
async fn a_handler_sees_what_the_producer_said() {
    let rig = Rig::new().await;
    let (seen, mut all) = tokio::sync::mpsc::unbounded_channel();
    let builder = rig.worker().handle("mail", move |job: Job<Letter>| {
        let said = (job.traceparent().map(str::to_owned), job.deadline, job.attempt);
        seen.send((said, job.queue, job.payload.to)).unwrap();
        async {}
    });
    let mut job = with_payload("mail", json!({"to": "ann"})).queue("mails");
    job.timeout_ms = Some(5_000);
    job.headers.insert("traceparent".to_owned(), "00-1-2-01".to_owned());
    rig.run(builder, job).await;
    let ((traceparent, deadline, attempt), queue, to) = all.recv().await.unwrap();
    assert_eq!(traceparent.as_deref(), Some("00-1-2-01"));
    assert_eq!(deadline, Some(Timestamp::from_ms(1_800_000_005_000)));
    assert_eq!((attempt, queue.as_str(), to.as_str()), (1, "mails", "ann"));
}
