//! Unique keys, expiry, results and idempotency keys against a plain model: any sequence of
//! commands, with crashes, failed commits and a clock that jumps both ways. After every group all
//! invariants are checked in the store, and everything is looked up and compared.

mod truth;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::job::{Enqueued, Found, JobId, JobState, NewJob, OnConflict, RunAt, Unique, limits};
use crate::lease::{LEASE_MS_MAX, LeaseToken};
use crate::queue::state::{Context, QueueState};
use crate::queue::{Ack, Claim, Failure, examine};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use truth::{At, Expected, Held, Known, Truth, Whom};

const RESULT_TTL_MS: u64 = 5_000;

/// A job to be enqueued, in small numbers so that keys meet.
#[derive(Clone, Debug)]
struct Spec {
    queue: u8,
    unique: Option<(u8, Option<u64>, OnConflict)>,
    expires_in_ms: Option<u64>,
    delay_ms: u64,
    call: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue(Spec),
    Batch(Vec<Spec>),
    Claim { limit: u8 },
    Ack { job: Index, result: bool },
    Fail { job: Index, retry: bool },
    Release { job: Index, delay_ms: u64 },
    Cancel { job: Index },
    Replay { job: Index },
    Commit,
    Wait { ms: u64 },
    ClockBack { ms: u64 },
    Crash,
    FailedCommit { applied: bool },
}

fn spec() -> impl Strategy<Value = Spec> {
    let on_conflict = prop_oneof![
        1 => Just(OnConflict::Reject),
        2 => Just(OnConflict::Return),
        3 => Just(OnConflict::Replace),
    ];
    let unique = (0..3u8, prop::option::of(1..4_000u64), on_conflict);
    let expires = prop::option::of(1_001..6_000u64);
    let delay = prop_oneof![2 => Just(0u64), 1 => 1..1_000u64];
    let call = prop::option::weighted(0.2, 0..3u8);
    (0..2u8, prop::option::weighted(0.7, unique), expires, delay, call).prop_map(
        |(queue, unique, expires_in_ms, delay_ms, call)| Spec {
            queue,
            unique,
            expires_in_ms,
            delay_ms,
            call,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let job = any::<Index>;
    prop_oneof![
        8 => spec().prop_map(Step::Enqueue),
        4 => prop::collection::vec(spec(), 1..6).prop_map(Step::Batch),
        5 => (1..6u8).prop_map(|limit| Step::Claim { limit }),
        4 => (job(), any::<bool>()).prop_map(|(job, result)| Step::Ack { job, result }),
        3 => (job(), any::<bool>()).prop_map(|(job, retry)| Step::Fail { job, retry }),
        2 => (job(), prop_oneof![Just(0), 1..900u64])
            .prop_map(|(job, delay_ms)| Step::Release { job, delay_ms }),
        2 => job().prop_map(|job| Step::Cancel { job }),
        4 => job().prop_map(|job| Step::Replay { job }),
        5 => Just(Step::Commit),
        5 => (1..2_500u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Wait { ms: limits::IDEMPOTENCY_TTL_MS }),
        2 => (1..9_000u64).prop_map(|ms| Step::ClockBack { ms }),
        1 => Just(Step::Crash),
        1 => any::<bool>().prop_map(|applied| Step::FailedCommit { applied }),
    ]
}

struct Run {
    store: MemoryStore,
    state: QueueState,
    random: StdRng,
    now: Timestamp,
    truth: Truth,
    durable: Truth,
}

fn open(store: &MemoryStore, now: Timestamp, random: &mut StdRng) -> QueueState {
    let config = Config { result_ttl_ms: RESULT_TTL_MS, ..Config::default() };
    QueueState::open(Arc::new(store.clone()), config, now, random).unwrap()
}

impl Run {
    fn new() -> Run {
        let (store, mut random) = (MemoryStore::new(), StdRng::seed_from_u64(7));
        let now = Timestamp::from_ms(1_000_000_000);
        let state = open(&store, now, &mut random);
        Run { store, state, random, now, truth: Truth::default(), durable: Truth::default() }
    }

    fn with<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
        run(&mut self.state, &mut Context { now: self.now, random: &mut self.random })
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Enqueue(spec) => {
                let job = new_job(&spec);
                let enqueued = self.with(|state, context| state.enqueue_one(job, context));
                self.compare(&[spec], enqueued.map(|one| vec![one]), "unique");
            }
            Step::Batch(specs) => {
                let jobs = specs.iter().map(new_job).collect();
                let enqueued = self.with(|state, context| state.enqueue(jobs, context));
                let place = self.truth.expect(&specs, self.now).err().unwrap_or_default();
                self.compare(&specs, enqueued, &format!("jobs[{place}].unique"));
            }
            Step::Claim { limit } => self.claim(limit),
            Step::Ack { job, result } => self.ack(job, result),
            Step::Fail { job, retry } => self.fail(job, retry),
            Step::Release { job, delay_ms } => {
                let Some((id, token)) = self.running(job) else { return };
                let delay_ms = Some(delay_ms);
                self.with(|state, context| state.release(token, delay_ms, context)).unwrap();
                self.truth.known.get_mut(&id).unwrap().at = At::Waiting;
            }
            Step::Cancel { job } => {
                let Some(id) = self.any(job, |at| !matches!(at, At::Running(_))) else { return };
                self.state.cancel(id).unwrap();
                self.truth.free(id);
                self.truth.known.remove(&id);
            }
            Step::Replay { job } => self.replay(job),
            Step::Commit => self.commit(),
            Step::Wait { ms } => {
                self.commit();
                self.now = self.now.plus_ms(ms);
                self.tick_unchecked();
                if ms >= LEASE_MS_MAX {
                    self.learn_which_leases_ended();
                }
                self.commit();
            }
            Step::ClockBack { ms } => {
                self.commit();
                self.now = self.now.minus_ms(ms);
                self.truth.clock_stepped_back(self.now);
                self.tick();
            }
            Step::Crash => self.reopen(),
            Step::FailedCommit { applied } => self.failed_commit(applied),
        }
    }

    // ---- groups, crashes, time ----

    fn commit(&mut self) {
        while self.state.merge_small_chunks().unwrap() {}
        self.store.commit(self.state.finish_group(self.now)).unwrap();
        self.durable = self.truth.clone();
        self.check();
    }

    fn tick(&mut self) {
        self.tick_unchecked();
        self.commit();
    }

    fn tick_unchecked(&mut self) {
        while self.with(|state, context| state.tick(context)).unwrap() {}
        self.truth.time_passed(self.now);
    }

    /// After the longest lease is over: all that ran wait again, or were interrupted too often.
    fn learn_which_leases_ended(&mut self) {
        let running = |job: &Known| matches!(job.at, At::Running(_));
        let ended = self.truth.known.iter().filter(|(_, job)| running(job));
        for id in ended.map(|(id, _)| *id).collect::<Vec<_>>() {
            match self.state.job(id).unwrap().dead {
                Some(dead) => self.truth.bury(id, dead.reason),
                None => self.truth.known.get_mut(&id).unwrap().at = At::Waiting,
            }
        }
    }

    fn reopen(&mut self) {
        self.truth = self.durable.clone();
        self.state = open(&self.store, self.now, &mut self.random);
        self.tick();
    }

    fn failed_commit(&mut self, applied: bool) {
        let writes = self.state.finish_group(self.now);
        let applied = applied || writes.is_empty();
        if !writes.is_empty() {
            match applied {
                true => self.store.fail_commit_after_applying(1),
                false => self.store.fail_commit(1),
            }
            assert_eq!(self.store.commit(writes).unwrap_err().kind(), ErrorKind::Poisoned);
            self.store.restart();
        }
        if applied {
            self.durable = self.truth.clone();
        }
        self.reopen();
    }

    fn check(&mut self) {
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:#?}\n{:#?}", report.problems, self.truth);
        let (now, truth) = (self.now, self.truth.clone());
        for (id, job) in &truth.known {
            let view = self.state.job(*id).unwrap_or_else(|error| panic!("lost {job:?}: {error}"));
            match &job.at {
                At::Waiting => assert!(
                    !matches!(view.state, JobState::Running | JobState::Dead),
                    "{id} is {}: {job:?}",
                    view.state
                ),
                At::Running(_) => assert_eq!(view.state, JobState::Running),
                At::Dead(reason) => assert_eq!(view.dead.unwrap().reason, *reason),
            }
            let can_expire = job.deadline.is_some();
            assert_eq!(view.expires_at.is_some(), can_expire, "{id} {job:?}");
        }
        let jobs = report.jobs;
        let counted = jobs.ready + jobs.running + jobs.scheduled + jobs.retrying + jobs.dead;
        assert_eq!(counted, truth.known.len() as u64);
        for id in truth.results.keys() {
            let found = self.with(|state, context| state.find(*id, context)).unwrap();
            let Found::Done(done) = found else { panic!("{found:?}") };
            assert_eq!((done.id, done.result), (*id, result_of(*id)));
            assert!(done.expires_at > now && done.expires_at <= now.plus_ms(RESULT_TTL_MS));
        }
    }

    // ---- commands ----

    fn compare(&mut self, specs: &[Spec], told: Result<Vec<Enqueued>, Error>, field: &str) {
        let expected = match (self.truth.expect(specs, self.now), told) {
            (Ok(expected), Ok(told)) => expected.into_iter().zip(told),
            (Err(_), Err(error)) => {
                assert_eq!((error.kind(), error.field()), (ErrorKind::Conflict, Some(field)));
                return;
            }
            (Ok(_), Err(error)) => panic!("{specs:?} was refused: {error}"),
            (Err(place), Ok(told)) => panic!("{place} of {specs:?} was taken: {told:?}"),
        };
        let mut ids: Vec<JobId> = Vec::new();
        for ((expected, answer), spec) in expected.zip(specs) {
            let id_of = |whom| match whom {
                Whom::There(id) => id,
                Whom::New(place) => ids[place],
            };
            let is_repeat = matches!(expected, Expected::Repeat);
            match expected {
                Expected::New { replaces } => {
                    assert!(answer.is_new && answer.replaced == replaces.map(id_of), "{answer:?}");
                    self.take_in(spec, &answer);
                }
                Expected::Existing(holder) => {
                    let holder = id_of(holder);
                    assert_eq!((answer.id, answer.replaced), (holder, None));
                    assert!(!answer.is_new);
                }
                Expected::Repeat => {
                    let first = &self.truth.answers[&(spec.queue, spec.call.unwrap())].0;
                    assert_eq!(answer, Enqueued { is_new: false, ..first.clone() });
                }
            }
            ids.push(answer.id);
            if let Some(call) = spec.call.filter(|_| !is_repeat) {
                let until = self.now.plus_ms(limits::IDEMPOTENCY_TTL_MS);
                self.truth.answers.insert((spec.queue, call), (answer, until));
            }
        }
    }

    fn take_in(&mut self, spec: &Spec, answer: &Enqueued) {
        if let Some(replaced) = answer.replaced {
            self.truth.free(replaced);
            assert!(self.truth.known.remove(&replaced).is_some());
        }
        let deadline = spec.expires_in_ms.map(|in_ms| self.now.plus_ms(in_ms));
        let known = Known { spec: spec.clone(), at: At::Waiting, deadline };
        assert!(self.truth.known.insert(answer.id, known).is_none(), "I6: {}", answer.id);
        if let Some((key, ttl_ms, _)) = spec.unique {
            let held = Held { id: answer.id, since: self.now, ttl_ms };
            self.truth.held.insert((spec.queue, key), held);
        }
    }

    fn claim(&mut self, limit: u8) {
        let claim = Claim { limit: limit.into(), lease_ms: LEASE_MS_MAX, ..Claim::default() };
        for got in self.with(|state, context| state.claim(&claim, context)).unwrap().jobs {
            let job = self.truth.known.get_mut(&got.id).expect("a job that is there");
            assert_eq!(job.at, At::Waiting, "{} was handed out", got.id);
            assert!(job.deadline.is_none_or(|at| at > self.now), "{} came too late", got.id);
            (job.at, job.deadline) = (At::Running(got.token), None);
        }
    }

    fn any(&self, job: Index, wanted: impl Fn(&At) -> bool) -> Option<JobId> {
        let all: Vec<_> = self.truth.known.iter().filter(|(_, job)| wanted(&job.at)).collect();
        all.get(job.index(all.len().max(1))).map(|(id, _)| **id)
    }

    fn running(&self, job: Index) -> Option<(JobId, LeaseToken)> {
        let id = self.any(job, |at| matches!(at, At::Running(_)))?;
        match self.truth.known[&id].at {
            At::Running(token) => Some((id, token)),
            _ => None,
        }
    }

    fn ack(&mut self, job: Index, result: bool) {
        let Some((id, token)) = self.running(job) else { return };
        let ack = Ack { token, result: result.then(|| result_of(id)) };
        self.with(|state, context| state.ack(ack, context)).unwrap();
        self.truth.free(id);
        self.truth.known.remove(&id);
        if result {
            self.truth.results.insert(id, self.now.plus_ms(RESULT_TTL_MS));
        }
    }

    fn fail(&mut self, job: Index, retry: bool) {
        let Some((id, token)) = self.running(job) else { return };
        let failure = Failure { token, error: "no".to_owned(), retry, retry_in_ms: Some(700) };
        self.with(|state, context| state.fail(&failure, context)).unwrap();
        match self.state.job(id).unwrap().dead {
            Some(dead) => self.truth.bury(id, dead.reason),
            None => self.truth.known.get_mut(&id).unwrap().at = At::Waiting,
        }
    }

    fn replay(&mut self, job: Index) {
        let Some(id) = self.any(job, |at| matches!(at, At::Dead(_))) else { return };
        let replayed = self.with(|state, context| state.replay(id, context));
        let job = self.truth.known[&id].clone();
        let name = job.spec.unique.map(|(key, ttl_ms, _)| ((job.spec.queue, key), ttl_ms));
        let over = |ttl_ms: u64| self.now >= id.born_at().plus_ms(ttl_ms);
        if let Some((name, ttl_ms)) = name.filter(|(_, ttl_ms)| !ttl_ms.is_some_and(over)) {
            if let Some(holder) = self.truth.holder(name, self.now) {
                let refused = replayed.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Conflict);
                assert_eq!(refused.job(), Some(holder.to_string().as_str()));
                return;
            }
            let since = id.born_at().min(self.now);
            self.truth.held.insert(name, Held { id, since, ttl_ms });
        }
        replayed.unwrap();
        self.truth.known.get_mut(&id).unwrap().at = At::Waiting;
    }
}

fn new_job(spec: &Spec) -> NewJob {
    NewJob {
        run_at: RunAt::DelayMs(spec.delay_ms),
        unique: spec.unique.map(|(key, ttl_ms, on_conflict)| Unique {
            key: format!("key-{key}"),
            ttl_ms,
            on_conflict,
        }),
        expires_in_ms: spec.expires_in_ms,
        idempotency_key: spec.call.map(|call| format!("call-{call}")),
        ..NewJob::new("k").queue(format!("queue-{}", spec.queue))
    }
}

fn result_of(id: JobId) -> Bytes {
    format!("\"{id}\"").into()
}

proptest! {
    #[test]
    fn any_history_keeps_every_key_and_every_end(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in steps {
            run.apply(step);
        }
        run.commit();
    }
}
