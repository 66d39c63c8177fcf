//! Whether a backlog makes calls dearer: `cargo bench --bench waiting`.
//!
//! On the real store, with few and with many jobs of 256 bytes there:
//! - `claim and ack`: one job, or 100 in a call, claimed in one group and acked in the next;
//!   what is gone is enqueued again off the clock.
//! - `delayed`: 100 more delayed jobs in a batch; and 100 that come due and are made ready. As many
//!   come as go.
//!
//! `whole` is what the groups took; `queue` is the same without the commits: what is computed, and
//! what is read from the store. The backlog makes no difference when the lines of both sizes say
//! the same.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_BACKLOG` the large number of jobs that wait
//! to be claimed (3,000,000), `PULK_BENCH_DELAYED` that of delayed ones (1,000,000).
//! `cargo bench --bench waiting -- --test` runs each once with few jobs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench measures real time, and uses a part of the rig"
)]

#[path = "rig/stepped.rs"]
mod rig;

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use criterion::{criterion_group, criterion_main};
use pulk::queue::Settle;
use pulk::store::JournaledStore;
use pulk::{NewJob, RunAt, Timestamp};

use rig::{Rig, START_MS, Took, directory, is_trial, job, number};

/// Delayed jobs come due from this long after the start on, this long after each other: the calls
/// of a turn, which take a millisecond each, fit in between.
const FIRST_DUE_MS: u64 = 24 * 3_600_000;
const BETWEEN_MS: u64 = 10;
/// So many are enqueued, and come due, at once.
const MORE: usize = 100;

/// A queue on the disk, made when it is first asked for: not at all when the filter leaves its
/// benches out.
struct Lazy<M> {
    made: Option<(tempfile::TempDir, Rig)>,
    fill: M,
}

impl<M: Fn(&mut Rig)> Lazy<M> {
    fn new(fill: M) -> Self {
        Lazy { made: None, fill }
    }

    fn get(&mut self) -> &mut Rig {
        let (_, rig) = self.made.get_or_insert_with(|| {
            let dir = directory();
            let mut rig = Rig::on(JournaledStore::open(dir.path()).unwrap());
            let started = Instant::now();
            (self.fill)(&mut rig);
            println!("filled in {:.1} s", started.elapsed().as_secs_f64());
            (dir, rig)
        });
        rig
    }
}

/// Both measures of one thing that is done again and again.
fn both<M: Fn(&mut Rig)>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    rig: &mut Lazy<M>,
    mut run: impl FnMut(&mut Rig) -> Took,
) {
    for (measure, part) in
        [("whole", (|took| took.all) as fn(Took) -> Duration), ("queue", Took::queue)]
    {
        group.bench_function(format!("{name}/{measure}"), |bencher| {
            let rig = rig.get();
            bencher.iter_custom(|rounds| (0..rounds).map(|_| part(run(rig))).sum());
        });
    }
}

fn begin<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    group
}

fn sizes(variable: &str, default: usize) -> [usize; 2] {
    let few = if is_trial() { 100 } else { 10_000 };
    [few, number(variable, if is_trial() { 10 * few } else { default })]
}

// ---- ready jobs ----

fn ready(criterion: &mut Criterion) {
    let mut group = begin(criterion, "claim and ack");
    for waiting in sizes("PULK_BENCH_BACKLOG", 3_000_000) {
        let mut rig = Lazy::new(|rig| rig.fill(waiting, |_| job()));
        for jobs in [1, 100] {
            group.throughput(Throughput::Elements(jobs as u64));
            let name = format!("{jobs} of {waiting}");
            both(&mut group, &name, &mut rig, |rig| {
                let took = claim_and_ack(rig, jobs);
                rig.enqueue(jobs);
                took
            });
        }
    }
    group.finish();
}

fn claim_and_ack(rig: &mut Rig, jobs: usize) -> Took {
    let (mut took, claimed) = rig.claim(jobs);
    let acks = claimed.iter().map(|job| job.token.into()).collect();
    let settle = Settle { acks, fails: Vec::new() };
    let (acked, outcomes) = rig.call(|queue| async move { queue.settle(settle).await });
    assert!(outcomes.iter().all(Result::is_ok));
    took += acked;
    took
}

// ---- delayed jobs ----

/// The delayed job with this number; they come due one after the other.
fn delayed_job(number: usize) -> NewJob {
    job().run_at(RunAt::At(due(number)))
}

fn due(number: usize) -> Timestamp {
    Timestamp::from_ms(START_MS + FIRST_DUE_MS + BETWEEN_MS * number as u64)
}

fn delayed(criterion: &mut Criterion) {
    let mut group = begin(criterion, "delayed");
    group.throughput(Throughput::Elements(MORE as u64));
    for delayed in sizes("PULK_BENCH_DELAYED", 1_000_000) {
        let mut rig = Lazy::new(|rig: &mut Rig| rig.fill(delayed, delayed_job));
        let mut gone = 0;
        // As many come due as are enqueued, and are worked off.
        let mut turn = |rig: &mut Rig| {
            let batch = (gone + delayed..gone + delayed + MORE).map(delayed_job).collect();
            let enqueued = rig.call(|queue| async move { queue.enqueue_many(batch).await }).0;
            gone += MORE;
            rig.clock.set(due(gone).minus_ms(BETWEEN_MS / 2));
            let made_ready = rig.settle_down();
            claim_and_ack(rig, MORE);
            (enqueued, made_ready)
        };
        both(&mut group, &format!("enqueue 100 beside {delayed}"), &mut rig, |rig| turn(rig).0);
        both(&mut group, &format!("100 due of {delayed}"), &mut rig, |rig| turn(rig).1);
    }
    group.finish();
}

criterion_group!(benches, ready, delayed);
criterion_main!(benches);
