//! A queue without a thread: nothing is applied, answered or written but by a step.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pulk::clock::ManualClock;
use pulk::handle::{Stepped, Stepper};
use pulk::queue::{Claim, Limits, Rate};
use pulk::store::memory::MemoryStore;
use pulk::{Config, ErrorKind, JobState, NewJob, Queue, RunAt, StoreKind, Timestamp};

struct Trial {
    store: MemoryStore,
    clock: ManualClock,
    queue: Queue,
    stepper: Stepper,
}

fn open(store: MemoryStore, clock: ManualClock) -> Trial {
    let config = Config { store: StoreKind::Memory, ..Config::default() };
    let (queue, stepper) =
        Queue::open_stepped(config, Arc::new(store.clone()), Arc::new(clock.clone()), 7).unwrap();
    Trial { store, clock, queue, stepper }
}

fn new() -> Trial {
    open(MemoryStore::new(), ManualClock::new(Timestamp::from_ms(1_000_000)))
}

fn poll<T>(call: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    call.poll(&mut Context::from_waker(Waker::noop()))
}

fn answer<T>(call: Pin<&mut impl Future<Output = T>>) -> T {
    match poll(call) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it has no answer"),
    }
}

#[test]
fn calls_handed_in_together_are_one_commit_and_answered_after_it() {
    let mut trial = new();
    let queue = trial.queue.clone();
    let mut one = pin!(queue.enqueue(NewJob::new("mail")));
    let mut two = pin!(queue.claim(Claim::default()));
    let before = trial.store.commits();
    assert!(poll(one.as_mut()).is_pending());
    assert!(poll(two.as_mut()).is_pending());
    assert!(poll(one.as_mut()).is_pending());
    assert_eq!(trial.store.commits(), before, "nothing happens between steps");
    assert_eq!(trial.stepper.step(), Stepped::Done);
    assert_eq!(trial.store.commits(), before + 1);
    let id = answer(one).unwrap().id;
    assert_eq!(answer(two).unwrap().jobs[0].id, id);
}

#[test]
fn what_is_due_is_told_and_done_by_a_step() {
    let mut trial = new();
    assert_eq!(trial.stepper.step(), Stepped::Done);
    assert_eq!(trial.stepper.next_due(), None);
    let mut delayed = pin!(trial.queue.enqueue(NewJob::new("mail").run_at(RunAt::DelayMs(500))));
    assert!(poll(delayed.as_mut()).is_pending());
    trial.stepper.step();
    answer(delayed).unwrap();
    assert_eq!(trial.stepper.next_due(), Some(Timestamp::from_ms(1_000_500)));
    trial.clock.advance_ms(500);
    trial.stepper.step();
    let mut claim = pin!(trial.queue.claim(Claim::default()));
    assert!(poll(claim.as_mut()).is_pending());
    trial.stepper.step();
    assert_eq!(answer(claim).unwrap().jobs.len(), 1);
}

#[test]
fn a_claim_that_waits_is_answered_at_the_moment_of_the_next_token() {
    let mut trial = new();
    let limits =
        Limits { rate: Some(Rate { jobs: 1, per_ms: 10_000, burst: 1 }), ..Limits::default() };
    let mut limited = pin!(trial.queue.set_limits("default", limits));
    let mut jobs = pin!(trial.queue.enqueue_many(vec![NewJob::new("mail"); 3]));
    let mut first = pin!(trial.queue.claim(Claim::default()));
    assert!(poll(limited.as_mut()).is_pending());
    assert!(poll(jobs.as_mut()).is_pending());
    assert!(poll(first.as_mut()).is_pending());
    trial.stepper.step();
    answer(limited).unwrap();
    answer(jobs).unwrap();
    assert_eq!(answer(first).unwrap().jobs.len(), 1);
    let waits = Claim { wait_ms: 30_000, limit: 9, ..Claim::default() };
    let mut waiting = pin!(trial.queue.claim(waits));
    assert!(poll(waiting.as_mut()).is_pending());
    trial.stepper.step();
    let token_at = Timestamp::from_ms(1_010_000);
    assert_eq!(trial.stepper.next_due(), Some(token_at), "that is when somebody must step");
    trial.clock.set(token_at.minus_ms(1));
    trial.stepper.step();
    assert!(poll(waiting.as_mut()).is_pending());
    trial.clock.set(token_at);
    trial.stepper.step();
    assert_eq!(answer(waiting).unwrap().jobs.len(), 1);
}

#[test]
fn a_step_without_time_answers_and_lets_nothing_come_due() {
    let mut trial = new();
    let mut delayed = pin!(trial.queue.enqueue(NewJob::new("mail").run_at(RunAt::DelayMs(500))));
    assert!(poll(delayed.as_mut()).is_pending());
    trial.stepper.step();
    let id = answer(delayed).unwrap().id;
    trial.clock.advance_ms(500);
    let before = trial.store.commits();
    let mut look = |step: fn(&mut Stepper) -> Stepped| {
        let mut job = pin!(trial.queue.job(id));
        assert!(poll(job.as_mut()).is_pending());
        assert_eq!(step(&mut trial.stepper), Stepped::Done);
        (answer(job).unwrap().state, trial.store.commits() - before)
    };
    assert_eq!(look(Stepper::step_untimed), (JobState::Scheduled, 0));
    assert_eq!(look(Stepper::step), (JobState::Ready, 1));
}

#[test]
fn a_commit_that_fails_is_told_to_everybody_from_then_on() {
    let mut trial = new();
    trial.stepper.step();
    trial.store.fail_commit(1);
    let mut call = pin!(trial.queue.enqueue(NewJob::new("mail")));
    assert!(poll(call.as_mut()).is_pending());
    let Stepped::Failed(error) = trial.stepper.step() else { panic!("it did not fail") };
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert_eq!(answer(call).unwrap_err(), error);
    let late = answer(pin!(trial.queue.enqueue(NewJob::new("mail")))).unwrap_err();
    assert_eq!(late, error);
    assert_eq!(trial.stepper.step(), Stepped::Failed(error));
}

#[test]
fn dropped_it_is_a_killed_process_and_closed_it_is_over() {
    let mut trial = new();
    let mut kept = pin!(trial.queue.enqueue(NewJob::new("kept")));
    assert!(poll(kept.as_mut()).is_pending());
    trial.stepper.step();
    let kept = answer(kept).unwrap().id;
    let mut lost = pin!(trial.queue.enqueue(NewJob::new("lost")));
    assert!(poll(lost.as_mut()).is_pending());
    drop(trial.stepper);
    assert_eq!(answer(lost).unwrap_err().kind(), ErrorKind::Draining);

    let mut again = open(trial.store.clone(), trial.clock.clone());
    let queue = again.queue.clone();
    assert_eq!(queue.opened().ready_jobs, 1);
    let mut found = pin!(queue.job(kept));
    let mut closing = pin!(queue.close());
    assert!(poll(found.as_mut()).is_pending());
    assert!(poll(closing.as_mut()).is_pending());
    assert_eq!(again.stepper.step(), Stepped::Closed);
    assert_eq!(answer(found).unwrap().kind, "kept");
    answer(closing).unwrap();
    let late = answer(pin!(queue.job(kept))).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Draining);
}
