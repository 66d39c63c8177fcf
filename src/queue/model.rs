//! The state machine against a plain model: any sequence of commands, grouped anyhow, with
//! crashes, failed commits and a clock that jumps both ways. After every group all invariants are
//! checked in the store, and every job is looked up and compared.

mod dead_letters;
mod removal;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::dead_letter::DeadReason;
use crate::error::ErrorKind;
use crate::job::{JobId, JobState, NewJob, Payload, RunAt};
use crate::lease::LeaseToken;
use crate::priority::{PerPriority, Priority};
use crate::queue::recovery::LEASE_GRACE_MS;
use crate::queue::state::{Context, QueueState};
use crate::queue::{Claim, Failed, Failure, Next, examine};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use dead_letters::Replays;
use step::{Step, step};

const MAX_INTERRUPTIONS: u32 = 2;
const LEASE_MS: u64 = 1_000;

/// What the model knows of a job that is not gone.
#[derive(Clone, Debug)]
struct Known {
    queue: String,
    kind: String,
    priority: Priority,
    payload: Payload,
    at: At,
    failures: u32,
    interruptions: u32,
    /// The last delivery; 0 for none.
    delivery: u32,
    max_attempts: u32,
    /// It has failed at some time, and tells the error.
    has_error: bool,
    /// A background replay put it back last.
    by_replay: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum At {
    Waiting,
    Leased { until: Timestamp, cancelled: bool },
    Timer { due: Timestamp, retry: bool },
    Dead(DeadReason),
}

struct Run {
    store: MemoryStore,
    state: QueueState,
    random: StdRng,
    now: Timestamp,
    /// With the group at work.
    known: BTreeMap<JobId, Known>,
    /// As of the last commit.
    durable: BTreeMap<JobId, Known>,
    replays: Replays,
    durable_replays: Replays,
    /// Last tokens of jobs that are gone; with the group at work, and as of the last commit.
    gone: Vec<LeaseToken>,
    durable_gone: Vec<LeaseToken>,
    opened_at: Timestamp,
    /// Jobs count one level up after little time, or never.
    ages: bool,
    /// Once the clock stepped back, ends of leases and timers are only bounded, not exact.
    stepped_back: bool,
}

fn open(store: &MemoryStore, ages: bool, now: Timestamp, random: &mut StdRng) -> QueueState {
    let ageing_ms = PerPriority::from_fn(|priority| match priority {
        Priority::Default => 1_500,
        _ => 500,
    });
    let ageing_ms = if ages { ageing_ms } else { PerPriority::default() };
    let config = Config { max_interruptions: MAX_INTERRUPTIONS, ageing_ms, ..Config::default() };
    QueueState::open(Arc::new(store.clone()), config, now, random).unwrap()
}

impl Run {
    fn new(ages: bool) -> Self {
        let store = MemoryStore::new();
        let (mut random, now) = (StdRng::seed_from_u64(7), Timestamp::from_ms(1_000_000_000));
        let state = open(&store, ages, now, &mut random);
        Run {
            store,
            state,
            random,
            now,
            known: BTreeMap::new(),
            durable: BTreeMap::new(),
            replays: Replays::default(),
            durable_replays: Replays::default(),
            gone: Vec::new(),
            durable_gone: Vec::new(),
            opened_at: now,
            ages,
            stepped_back: false,
        }
    }

    fn with<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
        run(&mut self.state, &mut Context { now: self.now, random: &mut self.random })
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Enqueue { queue, kind, priority, jobs, delay_ms, large } => {
                self.enqueue(queue, kind, priority, jobs, delay_ms, large);
            }
            Step::Claim { queue, kind, priority, limit } => {
                self.claim(queue, kind, priority, limit);
            }
            Step::Ack { job, old } => self.ack(job, old),
            Step::Fail { job, old, retry, retry_in_ms } => self.fail(job, old, retry, retry_in_ms),
            Step::Extend { job, old, lease_ms } => self.extend(job, old, lease_ms),
            Step::Release { job, old, delay_ms } => self.release(job, old, delay_ms),
            Step::Replay { job } => self.replay(job),
            Step::Dead(step) => self.apply_dead(step),
            Step::Cancel { job } => self.cancel(job),
            Step::Purge { queue, priority, states, looks, crash } => {
                self.purge(queue, priority, states, looks, crash);
            }
            Step::RemoveQueue { queue } => self.remove_queue(queue),
            Step::Commit => self.commit(),
            Step::CommitAndWait { ms } => {
                self.commit();
                self.now = self.now.plus_ms(ms);
                self.tick();
            }
            Step::ClockBack { ms } => {
                self.commit();
                self.now = self.now.minus_ms(ms);
                self.stepped_back = true;
                self.tick();
            }
            Step::Crash => self.reopen(),
            Step::FailedCommit { applied } => {
                let writes = self.state.finish_group(self.now);
                let applied = applied || writes.is_empty();
                if !writes.is_empty() {
                    if applied {
                        self.store.fail_commit_after_applying(1);
                    } else {
                        self.store.fail_commit(1);
                    }
                    let failed = self.store.commit(writes).unwrap_err();
                    assert_eq!(failed.kind(), ErrorKind::Poisoned);
                    self.store.restart();
                }
                if applied {
                    self.remember_durable();
                }
                self.reopen();
            }
            Step::Restart => {
                self.commit();
                self.reopen();
            }
        }
    }

    // ---- groups, crashes, time ----

    fn commit(&mut self) {
        while self.state.merge_small_chunks().unwrap() {}
        let writes = self.state.finish_group(self.now);
        self.store.commit(writes).unwrap();
        self.remember_durable();
        self.check();
    }

    fn remember_durable(&mut self) {
        self.durable = self.known.clone();
        self.durable_replays = self.replays.clone();
        self.durable_gone = self.gone.clone();
    }

    fn reopen(&mut self) {
        self.known = self.durable.clone();
        self.replays = self.durable_replays.clone();
        self.gone = self.durable_gone.clone();
        self.opened_at = self.now;
        self.state = open(&self.store, self.ages, self.now, &mut self.random);
        self.tick();
        self.check();
    }

    fn tick(&mut self) {
        while self.with(|state, context| state.tick(context)).unwrap() {
            self.commit_unseen();
        }
        self.learn_what_time_did();
        self.commit();
    }

    /// Ends of leases and timers that came due: what may and what must have happened.
    fn learn_what_time_did(&mut self) {
        let (now, exact) = (self.now, !self.stepped_back);
        let grace_over = now >= self.opened_at.plus_ms(LEASE_GRACE_MS);
        let mut known = std::mem::take(&mut self.known);
        known.retain(|id, job| !self.cancelled_is_gone(*id, job));
        for (id, job) in &mut known {
            let view = self.state.job(*id).unwrap_or_else(|error| panic!("lost {job:?}: {error}"));
            match job.at.clone() {
                At::Leased { until, cancelled } => match view.state {
                    JobState::Running => {
                        assert!(now < until || !grace_over || !exact, "{id} kept its lease");
                    }
                    JobState::Ready | JobState::Dead => {
                        assert!(!cancelled, "{id} came back after it was cancelled");
                        assert!(now >= until || !exact, "{id} lost its lease early");
                        job.interruptions += 1;
                        job.at = match job.interruptions > MAX_INTERRUPTIONS {
                            true => At::Dead(DeadReason::Crashed),
                            false => At::Waiting,
                        };
                        if job.interruptions > MAX_INTERRUPTIONS {
                            self.replays.note_death(job);
                        }
                    }
                    other => panic!("a leased job became {other}"),
                },
                At::Timer { due, retry } => match view.state {
                    JobState::Ready => {
                        assert!(now >= due || !exact, "{id} came before it was due");
                        job.at = At::Waiting;
                    }
                    _ if exact => assert!(now < due, "{id} is overdue"),
                    // After a step back it may be filed anew, never later than before.
                    _ => {
                        assert!(view.run_at <= due, "{id} was put off");
                        job.at = At::Timer { due: view.run_at, retry };
                    }
                },
                At::Dead(_) if view.state == JobState::Ready => {
                    self.replays.did_put_back(*id, job);
                }
                At::Waiting | At::Dead(_) => {}
            }
        }
        self.known = known;
    }

    /// Every job is where the model has it, and the store is sound.
    fn check(&mut self) {
        self.state.assert_picker();
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:#?}", report.problems);
        let known = self.known.clone();
        for (id, job) in &known {
            let view = self.state.job(*id).unwrap_or_else(|error| panic!("lost {job:?}: {error}"));
            assert_eq!(view.state, job.at.state(), "{id} {job:?}");
            assert_eq!(view.payload, job.payload);
            assert_eq!((&view.queue, view.priority), (&job.queue, job.priority));
            assert_eq!(view.interruptions, job.interruptions, "{id}");
            if let At::Leased { cancelled, .. } = job.at {
                assert_eq!(view.running.unwrap().cancelled, cancelled, "{id}");
            }
            if let At::Dead(reason) = job.at {
                assert_eq!(view.dead.unwrap().reason, reason);
            } else {
                assert_eq!(view.attempt, job.failures + 1, "{id}");
            }
        }
        let jobs = report.jobs;
        let counted = jobs.ready + jobs.running + jobs.scheduled + jobs.retrying + jobs.dead;
        assert_eq!(counted, known.len() as u64);
        self.check_replays();
    }

    // ---- commands ----

    fn enqueue(&mut self, queue: u8, kind: u8, priority: u8, n: u8, delay_ms: u64, large: bool) {
        let bytes = if large { 40_000 } else { 30 };
        let jobs: Vec<NewJob> = (0..n)
            .map(|number| {
                NewJob::new(format!("kind-{kind}"))
                    .queue(format!("queue-{queue}"))
                    .priority(Priority::ALL[usize::from(priority)])
                    .payload(Payload::Binary(vec![number; bytes].into()))
                    .run_at(RunAt::DelayMs(delay_ms))
            })
            .collect();
        let enqueued = self.with(|state, context| state.enqueue(jobs.clone(), context)).unwrap();
        for (job, told) in jobs.into_iter().zip(enqueued) {
            let at = match told.state {
                JobState::Ready => At::Waiting,
                _ => At::Timer { due: self.now.plus_ms(delay_ms), retry: false },
            };
            let known = Known {
                queue: job.queue,
                kind: job.kind,
                priority: job.priority,
                payload: job.payload,
                at,
                failures: 0,
                interruptions: 0,
                delivery: 0,
                max_attempts: if job.priority == Priority::Critical { 5 } else { 3 },
                has_error: false,
                by_replay: false,
            };
            assert!(self.known.insert(told.id, known).is_none(), "I6: {} again", told.id);
        }
    }

    fn claim(&mut self, queue: Option<u8>, kind: Option<u8>, priority: Option<u8>, limit: u8) {
        let claim = Claim {
            queues: queue.map(|queue| format!("queue-{queue}")).into_iter().collect(),
            kinds: kind.map(|kind| format!("kind-{kind}")).into_iter().collect(),
            priorities: priority.map(|p| Priority::ALL[usize::from(p)]).into_iter().collect(),
            limit: usize::from(limit),
            lease_ms: LEASE_MS,
            ..Claim::default()
        };
        // Half of the claims must find out by themselves whose turn it is.
        let wants_any = queue.or(kind).or(priority).is_none();
        let next = if wants_any && limit.is_multiple_of(2) { self.explained() } else { None };
        let taken = self.with(|state, context| state.claim(&claim, context)).unwrap();
        if let Some(next) = next {
            let first = taken.jobs.first().map(|job| (job.id, job.kind.clone(), job.priority));
            assert_eq!(next.job.map(|job| (job.id, job.kind, job.priority)), first);
        }
        let mut lowest = Priority::Critical;
        for got in &taken.jobs {
            let job = self.known.get_mut(&got.id).expect("a job that is there");
            assert_eq!(job.at, At::Waiting, "{} was handed out", got.id);
            assert_eq!(got.attempt, job.failures + 1);
            assert!(got.token.delivery > job.delivery, "a delivery number came again");
            assert!(self.ages || got.priority >= lowest, "a more urgent job came later");
            assert_eq!((&got.kind, &got.payload), (&job.kind, &job.payload));
            lowest = got.priority;
            job.delivery = got.token.delivery;
            job.at = At::Leased { until: self.now.plus_ms(LEASE_MS), cancelled: false };
        }
        let wanted = |job: &&Known| {
            job.at == At::Waiting
                && (claim.queues.is_empty() || claim.queues.contains(&job.queue))
                && (claim.kinds.is_empty() || claim.kinds.contains(&job.kind))
                && (claim.priorities.is_empty() || claim.priorities.contains(&job.priority))
        };
        let most_urgent_left = self.known.values().filter(wanted).map(|job| job.priority).min();
        match most_urgent_left {
            Some(_) if taken.jobs.len() < claim.limit => assert!(!taken.saw_all, "left some"),
            Some(left) => assert!(self.ages || left >= lowest, "a more urgent job was passed over"),
            None => {}
        }
    }

    /// What the next claim gets, as it is told; `None` when the group is full.
    fn explained(&mut self) -> Option<Next> {
        while !self.state.is_full() {
            let next = self.with(|state, context| state.explain_next(context.now)).unwrap();
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// A token of a job: its live one, or one that holds nothing.
    fn token(&self, job: Index, old: bool) -> Option<(LeaseToken, bool)> {
        if old && !self.gone.is_empty() {
            return Some((self.gone[job.index(self.gone.len())], false));
        }
        let leased: Vec<_> = self.known.iter().filter(|(_, job)| job.delivery > 0).collect();
        let (id, known) = leased.get(job.index(leased.len().max(1)))?;
        let live = matches!(known.at, At::Leased { .. }) && !old;
        let delivery = if old { known.delivery - 1 } else { known.delivery };
        Some((LeaseToken { job: **id, delivery }, live))
    }

    fn ack(&mut self, job: Index, old: bool) {
        let Some((token, live)) = self.token(job, old) else { return };
        let acked = self.with(|state, context| state.ack(token, context));
        if self.ended(token, acked, live).is_some() {
            self.forget(token.job);
        }
    }

    fn fail(&mut self, job: Index, old: bool, retry: bool, retry_in_ms: Option<u64>) {
        let Some((token, live)) = self.token(job, old) else { return };
        self.fail_token(token, live, retry, retry_in_ms);
    }

    fn fail_token(&mut self, token: LeaseToken, live: bool, retry: bool, retry_in_ms: Option<u64>) {
        let failure = Failure { token, error: "boom".to_owned(), retry, retry_in_ms };
        let failed = self.with(|state, context| state.fail(&failure, context));
        let Some(failed) = self.ended(token, failed, live) else { return };
        let known = self.known.get_mut(&token.job).unwrap();
        known.failures += 1;
        known.has_error = true;
        known.at = match failed {
            Failed::Retrying { run_at } => {
                assert!(retry && known.failures < known.max_attempts);
                At::Timer { due: run_at, retry: true }
            }
            Failed::Dead { reason } => {
                assert!(!retry || known.failures >= known.max_attempts);
                At::Dead(reason)
            }
        };
        if matches!(known.at, At::Dead(_)) {
            self.replays.note_death(known);
        }
    }

    fn extend(&mut self, job: Index, old: bool, lease_ms: u64) {
        let Some((token, live)) = self.token(job, old) else { return };
        let extended =
            self.with(|state, context| state.extend(token, Some(lease_ms), Some(50), context));
        if let Some(extended) = expect_live(extended, live) {
            let known = self.known.get_mut(&token.job).unwrap();
            let At::Leased { cancelled, .. } = known.at else { panic!("{known:?}") };
            assert_eq!(extended.cancelled, cancelled, "the holder was told wrong");
            known.at = At::Leased { until: self.now.plus_ms(lease_ms), cancelled };
        }
    }

    fn release(&mut self, job: Index, old: bool, delay_ms: u64) {
        let Some((token, live)) = self.token(job, old) else { return };
        let released = self.with(|state, context| state.release(token, Some(delay_ms), context));
        let Some(released) = self.ended(token, released, live) else { return };
        self.known.get_mut(&token.job).unwrap().at = match released.state {
            JobState::Ready => At::Waiting,
            _ => At::Timer { due: released.run_at, retry: false },
        };
    }

    fn any_job(&self, job: Index) -> Option<JobId> {
        self.known.keys().nth(job.index(self.known.len().max(1))).copied()
    }

    fn replay(&mut self, job: Index) {
        let Some(id) = self.any_job(job) else { return };
        let replayed = self.with(|state, context| state.replay(id, context));
        let known = self.known.get_mut(&id).unwrap();
        match (&known.at, replayed) {
            (At::Dead(_), Ok(_)) => {
                known.put_back(false);
                self.replays.forget_letter(id);
            }
            (At::Dead(_), Err(error)) => panic!("a dead letter was not replayed: {error}"),
            (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict),
            (at, Ok(_)) => panic!("a job at {at:?} was replayed"),
        }
    }
}

/// The outcome of a live token; a token that holds nothing must have been refused.
fn expect_live<T>(outcome: crate::Result<T>, live: bool) -> Option<T> {
    match outcome {
        Ok(outcome) => {
            assert!(live, "I3: a token that holds nothing was taken");
            Some(outcome)
        }
        Err(error) => {
            assert!(!live, "a live token was refused: {error}");
            assert_eq!(error.kind(), ErrorKind::LeaseLost);
            None
        }
    }
}

proptest! {
    #[test]
    fn any_history_keeps_every_job_and_every_invariant(
        ages in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut run = Run::new(ages);
        for step in steps {
            run.apply(step);
        }
        run.commit();
    }
}
