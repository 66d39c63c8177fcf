//! What each command of the queue costs without a disk: `cargo bench --bench commands`.
//!
//! A queue on the memory store, with 1,000 jobs of 256 bytes waiting, takes 100 commands in one
//! step, or one command for 100 jobs: applied, written as one set, handed to the store in memory,
//! answered. The steps alone are timed, on a new queue each time; what a command needs is made off
//! the clock. The rate is in jobs; `alone` is one command in its step, and there is an idle step.
//!
//! `cargo bench --bench commands -- --test` runs each once and measures nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench measures real time, and uses a part of the rig"
)]

#[path = "rig/stepped.rs"]
mod rig;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use pulk::job::{Enqueued, Unique};
use pulk::queue::{Claim, Failure, Purge, PurgeDead, ReplayMany, Settle};
use pulk::store::memory::MemoryStore;
use pulk::{JobId, LeaseToken, NewJob, RunAt};

use rig::{Rig, Took, job};

const JOBS: usize = 100;
const WAITING: usize = 1_000;
const HOUR_MS: u64 = 3_600_000;

type Command = fn(&mut Rig) -> Took;

const ALL: [(&str, Command); 29] = [
    ("an idle step, alone", |rig| rig.step()),
    ("enqueue/alone", |rig| enqueue(rig, 1, job()).0),
    ("enqueue/each", |rig| enqueue(rig, JOBS, job()).0),
    ("enqueue/batch", |rig| rig.enqueue(JOBS)),
    ("enqueue/delayed", |rig| enqueue(rig, JOBS, delayed()).0),
    ("enqueue/unique keys", enqueue_unique),
    ("enqueue/one concurrency key", |rig| enqueue(rig, JOBS, job().concurrency_key("key")).0),
    ("claim/alone", |rig| claim_each(rig, 1)),
    ("claim/each", |rig| claim_each(rig, JOBS)),
    ("claim/100 in one", |rig| rig.claim(JOBS).0),
    ("ack/alone", |rig| ack_each(rig, 1)),
    ("ack/each", |rig| ack_each(rig, JOBS)),
    ("ack/100 in one", ack_together),
    ("ack/100 in one, with a claim for 100", ack_and_claim),
    ("fail/retried", |rig| fail(rig, true).0),
    ("fail/dead", |rig| fail(rig, false).0),
    ("extend", extend),
    ("release/at once", |rig| release(rig, None)),
    ("release/delayed", |rig| release(rig, Some(HOUR_MS))),
    ("cancel/ready", |rig| cancel(rig, job())),
    ("cancel/scheduled", |rig| cancel(rig, delayed())),
    ("find", find),
    ("time/timers due", timers),
    ("time/leases over", leases),
    ("replay/each", replay_each),
    ("replay/many", replay_many),
    ("purge/dead letters", purge_dead),
    ("purge/ready", |rig| purge(rig, job())),
    ("purge/scheduled", |rig| purge(rig, delayed())),
];

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commands");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.sample_size(50).sampling_mode(SamplingMode::Flat);
    for (name, command) in ALL {
        let jobs = if name.contains("alone") { 1 } else { JOBS };
        group.throughput(Throughput::Elements(jobs as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| once(command)).sum());
        });
    }
    group.finish();
}

fn once(command: Command) -> Duration {
    let mut rig = Rig::on(MemoryStore::new());
    rig.fill(WAITING, |_| job());
    command(&mut rig).all
}

// ---- producers ----

fn delayed() -> NewJob {
    job().run_at(RunAt::DelayMs(HOUR_MS))
}

/// Each in a call of its own, all in one group.
fn enqueue(rig: &mut Rig, jobs: usize, job: NewJob) -> (Took, Vec<JobId>) {
    enqueue_all(rig, vec![job; jobs])
}

fn enqueue_all(rig: &mut Rig, jobs: Vec<NewJob>) -> (Took, Vec<JobId>) {
    let (took, enqueued) = rig.each(jobs, |queue, job| async move { queue.enqueue(job).await });
    (took, enqueued.into_iter().map(|Enqueued { id, .. }| id).collect())
}

fn enqueue_unique(rig: &mut Rig) -> Took {
    let unique = |number| Some(Unique::new(format!("key-{number}")));
    let jobs = (0..JOBS).map(|number| NewJob { unique: unique(number), ..job() });
    enqueue_all(rig, jobs.collect()).0
}

// ---- workers ----

fn claim_each(rig: &mut Rig, claims: usize) -> Took {
    let claims = vec![Claim::default(); claims];
    let (took, claimed) = rig.each(claims, |queue, claim| async move { queue.claim(claim).await });
    assert!(claimed.iter().all(|claimed| claimed.jobs.len() == 1));
    took
}

fn leased(rig: &mut Rig, jobs: usize) -> Vec<LeaseToken> {
    rig.claim(jobs).1.into_iter().map(|job| job.token).collect()
}

fn ack_each(rig: &mut Rig, jobs: usize) -> Took {
    let tokens = leased(rig, jobs);
    rig.each(tokens, |queue, token| async move { queue.ack(token).await }).0
}

fn acks(rig: &mut Rig) -> Settle {
    let acks = leased(rig, JOBS).into_iter().map(Into::into).collect();
    Settle { acks, fails: Vec::new() }
}

fn ack_together(rig: &mut Rig) -> Took {
    let settle = acks(rig);
    let (took, outcomes) = rig.call(|queue| async move { queue.settle(settle).await });
    assert!(outcomes.iter().all(Result::is_ok));
    took
}

fn ack_and_claim(rig: &mut Rig) -> Took {
    let claim = Claim { limit: JOBS, settle: acks(rig), ..Claim::default() };
    let (took, claimed) = rig.call(|queue| async move { queue.claim(claim).await });
    assert_eq!((claimed.jobs.len(), claimed.outcomes.len()), (JOBS, JOBS));
    took
}

fn fail(rig: &mut Rig, retry: bool) -> (Took, Vec<JobId>) {
    let tokens = leased(rig, JOBS);
    let ids = tokens.iter().map(|token| token.job()).collect();
    let error = "connection refused by 10.0.0.1:443".to_owned();
    let failures = tokens.into_iter().map(|token| Failure {
        token,
        error: error.clone(),
        retry,
        retry_in_ms: None,
    });
    (rig.each(failures, |queue, failure| async move { queue.fail(failure).await }).0, ids)
}

fn extend(rig: &mut Rig) -> Took {
    let tokens = leased(rig, JOBS);
    rig.each(tokens, |queue, token| async move { queue.extend(token, None, Some(50)).await }).0
}

fn release(rig: &mut Rig, delay_ms: Option<u64>) -> Took {
    let tokens = leased(rig, JOBS);
    rig.each(tokens, move |queue, token| async move { queue.release(token, delay_ms).await }).0
}

// ---- time ----

fn timers(rig: &mut Rig) -> Took {
    enqueue(rig, JOBS, delayed());
    rig.clock.advance_ms(HOUR_MS);
    rig.settle_down()
}

fn leases(rig: &mut Rig) -> Took {
    rig.claim(JOBS);
    rig.clock.advance_ms(HOUR_MS);
    rig.settle_down()
}

// ---- operators ----

fn cancel(rig: &mut Rig, job: NewJob) -> Took {
    let (_, ids) = enqueue(rig, JOBS, job);
    rig.each(ids, |queue, id| async move { queue.cancel(id).await }).0
}

fn find(rig: &mut Rig) -> Took {
    let (_, ids) = enqueue(rig, JOBS, job());
    rig.each(ids, |queue, id| async move { queue.find(id).await }).0
}

fn replay_each(rig: &mut Rig) -> Took {
    let (_, ids) = fail(rig, false);
    rig.each(ids, |queue, id| async move { queue.replay(id).await }).0
}

fn replay_many(rig: &mut Rig) -> Took {
    fail(rig, false);
    let all = ReplayMany::default();
    let (took, replayed) = rig.call(|queue| async move { queue.replay_many(all).await });
    assert_eq!(replayed.replayed, JOBS as u64);
    took
}

fn purge_dead(rig: &mut Rig) -> Took {
    fail(rig, false);
    let all = PurgeDead::default();
    rig.call(|queue| async move { queue.purge_dead_letters(all).await }).0
}

/// The jobs are in a queue of their own, and go with all that is in it.
fn purge(rig: &mut Rig, job: NewJob) -> Took {
    enqueue(rig, JOBS, job.queue("purged"));
    let all = Purge { queue: "purged".to_owned(), states: Vec::new(), priority: None };
    let (took, purged) = rig.call(|queue| async move { queue.purge(all).await });
    assert_eq!(purged.removed, JOBS as u64);
    took
}

criterion_group!(benches, commands);
criterion_main!(benches);
