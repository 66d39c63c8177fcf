//! What must be true of a queue: a plain model of it, told every call and every answer.
//!
//! It is exact: each call is applied to it in the order in which the queue applies it, and the
//! answer that the queue gave must be the one that the model has. What only chance or the queue's
//! own choice decides (an id, the jitter of a retry, which of two background replays was first)
//! is learnt from the answer, or from looking at the jobs, within what is allowed. A call whose
//! answer was lost in a crash is applied without one.
//!
//! A job is known by its serial, a number that its producer puts at the beginning of its payload;
//! its id is learnt. A clone is what a crash can go back to.

mod audit;
mod claim;
mod dead;
mod enqueue;
mod limits;
mod lines;
mod lists;
mod operate;
mod replays;
pub mod schedules;
mod time;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulk::dead_letter::{DeadReason, FailedAttempt};
use pulk::job::JobResult;
use pulk::queue::Limits;
use pulk::retry::RetryPolicy;
use pulk::{Config, ErrorKind, JobId, JobState, LeaseToken, Payload, Priority, Timestamp};

use crate::command::{Answer, Command, Told};
pub use audit::Seen;
use replays::Replaying;
use schedules::Scheduled;

/// What is wrong, as a sentence.
pub type Checked<T = ()> = Result<T, String>;

/// Ends with a sentence when something does not hold.
macro_rules! hold {
    ($holds:expr, $($sentence:tt)+) => {
        if !$holds {
            return Err(format!($($sentence)+));
        }
    };
}
pub(crate) use hold;

/// The number of a queue, in the order in which queues were made.
type QueueNumber = u32;
/// What an id is ordered by: moment, queue, priority, sequence.
type Birth = (Timestamp, QueueNumber, Priority, u64);

/// Everything that must be true.
#[derive(Clone, Debug)]
pub struct Truth {
    pub(crate) config: Arc<Config>,
    /// The time of the last group.
    pub(crate) now: Timestamp,
    /// The moment for which limits are told: that of the opening before the first group.
    limits_at: Timestamp,
    /// The latest time of any group.
    latest: Timestamp,
    pub(crate) queues: BTreeMap<QueueNumber, Named>,
    next_queue: QueueNumber,
    /// Every job that is not gone, by its serial.
    pub(crate) jobs: BTreeMap<u64, Job>,
    by_id: BTreeMap<JobId, u64>,
    /// Grows: where in its lane a job stands.
    next_place: u64,
    keys: BTreeMap<(QueueNumber, String), Held>,
    calls: BTreeMap<(QueueNumber, String), Called>,
    pub(crate) results: BTreeMap<JobId, JobResult>,
    pub(crate) replays: BTreeMap<u64, Replaying>,
    last_replay: u64,
    pub(crate) schedules: BTreeMap<String, Scheduled>,
    next_scheduled: u64,
    /// Put back by replays in this group, as the answers to claims tell.
    put_back_early: BTreeSet<u64>,
    /// They came due together at moments that nobody knew: looking tells their order.
    unplaced: BTreeSet<u64>,
    /// The time of the groups that were committed and that nobody has looked at since.
    unseen: Option<Timestamp>,
    /// Keys of which a place came free in this group.
    freed: BTreeSet<lines::Shared>,
    /// Queues whose lines are looked through with the next tick.
    walks: BTreeSet<QueueNumber>,
    /// The lane served last, by what it counted as.
    last_served: [Option<(QueueNumber, Priority)>; 5],
    next_sweep: Option<Timestamp>,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) limits: Limits,
    /// The tokens of its rate.
    left: Option<limits::Left>,
    /// The most places that a key ever had: who has one keeps it.
    most_places: usize,
}

/// A job that is not gone.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: Option<JobId>,
    pub(crate) queue: QueueNumber,
    pub(crate) kind: String,
    pub(crate) priority: Priority,
    pub(crate) payload: Payload,
    headers: BTreeMap<String, String>,
    max_attempts: u32,
    max_interruptions: u32,
    retry: Option<RetryPolicy>,
    timeout_ms: Option<u64>,
    unique: Option<(String, Option<u64>)>,
    concurrency_key: Option<String>,
    ordering_key: Option<String>,
    /// It has the turn of its ordering key.
    has_turn: bool,
    born_at: Timestamp,
    /// What its id is ordered by, known before the id is.
    birth: Birth,
    /// When it expires as readers see it, while it can.
    expires_at: Option<Timestamp>,
    /// When it really does: earlier, when the clock stepped back.
    ends_at: Option<Timestamp>,
    failures: u32,
    interruptions: u32,
    pub(crate) deliveries: u32,
    errors: Vec<FailedAttempt>,
    /// The background replay that put it back last; more than one when nobody could tell.
    by_replay: BTreeSet<u64>,
    pub(crate) at: At,
}

/// Where a job is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum At {
    Ready { place: u64, ready_at: Timestamp },
    Line { kind: lines::Kind, order: u64, ready_at: Timestamp },
    Leased { place: u64, ready_at: Timestamp, lease: Lease },
    Timer(Timer),
    Dead { reason: DeadReason, died_at: Timestamp },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lease {
    pub(crate) started: Timestamp,
    pub(crate) deadline: Timestamp,
    lease_ms: u64,
    timeout_ms: Option<u64>,
    worker: Option<String>,
    progress: Option<u8>,
    pub(crate) cancelled: bool,
    /// Its holder dies with the process.
    in_process: bool,
    written: Written,
    /// After an opening nobody knows which were on the disk: the least that they can be. Looking
    /// tells.
    least: Option<(Timestamp, Timestamp)>,
}

/// What of a lease may be on the disk. A clock that steps back, and an opening, change it in
/// memory, and that may be written with the next change of a neighbour, or not.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    /// The latest that it may be.
    started: Timestamp,
    least_deadline: Timestamp,
    deadline: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timer {
    due: Timestamp,
    /// Chance let it be due between `due` and this.
    latest: Timestamp,
    /// The moment from which it counts.
    since: Option<Timestamp>,
    retry: bool,
    /// It may have come due in a group that nobody has looked at.
    may_be_over: bool,
}

#[derive(Clone, Debug)]
struct Held {
    serial: u64,
    since: Timestamp,
    ttl_ms: Option<u64>,
}

/// A call with an idempotency key, and its answer.
#[derive(Clone, Debug)]
struct Called {
    serial: u64,
    given: Given,
    until: Timestamp,
}

/// The answer to an enqueue, as far as it is known.
#[derive(Clone, Debug)]
struct Given {
    serial: u64,
    id: Option<JobId>,
    state: JobState,
    priority: Priority,
    run_at: (Timestamp, Timestamp),
    replaced: Option<Option<JobId>>,
    is_new: bool,
}

impl Truth {
    /// A queue in which nothing ever was.
    #[must_use]
    pub fn new(config: Arc<Config>, now: Timestamp) -> Truth {
        let mut truth = Truth {
            config,
            now,
            limits_at: now,
            latest: now,
            queues: BTreeMap::new(),
            next_queue: 1,
            jobs: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_place: 0,
            keys: BTreeMap::new(),
            calls: BTreeMap::new(),
            results: BTreeMap::new(),
            replays: BTreeMap::new(),
            last_replay: 0,
            schedules: BTreeMap::new(),
            next_scheduled: 0,
            put_back_early: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            unseen: None,
            freed: BTreeSet::new(),
            walks: BTreeSet::new(),
            last_served: [None; 5],
            next_sweep: None,
        };
        truth.open(now);
        truth
    }

    /// How many jobs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// True when no job is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// True while a background replay runs: what it does next is for the queue to choose.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.replays.values().any(Replaying::is_running)
    }

    /// The jobs that are in this state now, with what their tokens would be if they run.
    pub fn ids(&self, wanted: Option<JobState>) -> impl Iterator<Item = JobId> {
        let jobs = self.jobs.values();
        let jobs = jobs.filter(move |job| wanted.is_none_or(|wanted| job.state() == wanted));
        jobs.filter_map(|job| job.id)
    }

    /// The tokens of the jobs that run.
    pub fn tokens(&self) -> impl Iterator<Item = LeaseToken> {
        let running = self.jobs.values().filter(|job| job.state() == JobState::Running);
        running.filter_map(|job| Some(token(job.id?, job.deliveries)))
    }

    /// When unique keys are free, whatever their jobs do.
    pub fn key_ends(&self) -> impl Iterator<Item = Timestamp> {
        self.keys.values().filter_map(|held| Some(held.since.plus_ms(held.ttl_ms?)))
    }

    pub(crate) fn deliveries(&self, serial: u64) -> u32 {
        self.job(serial).deliveries
    }

    /// A job goes back whose claimer went away before it heard of it.
    pub(crate) fn give_back_unheard(&mut self, serial: u64, delivery: u32) {
        let Some(job) = self.jobs.get(&serial) else { return };
        let At::Leased { lease, .. } = &job.at else { return };
        match (job.deliveries == delivery, lease.cancelled) {
            (true, true) => self.forget(serial),
            (true, false) => self.give_back(serial),
            (false, _) => {}
        }
    }

    /// Applies a call that is no claim. Without an answer it was lost, but not what it did.
    ///
    /// # Errors
    /// When the answer is not the right one.
    pub fn apply(&mut self, command: &Command, told: Option<&Told>) -> Checked {
        match command {
            Command::Enqueue(job) => self.enqueue(std::slice::from_ref(&**job), told),
            Command::EnqueueMany(jobs) => self.enqueue(jobs, told),
            Command::Ack(token) => self.ack(*token, None, told),
            Command::AckWithResult(token, result) => self.ack(*token, Some(result), told),
            Command::Fail(failure) => self.fail(failure, told),
            Command::Settle(settle) => self.settle_told(settle, told),
            Command::Extend(token, lease_ms, progress) => {
                self.extend(*token, *lease_ms, *progress, told)
            }
            Command::Release(token, delay_ms) => self.release(*token, *delay_ms, told),
            Command::Job(_)
            | Command::Find(_)
            | Command::Queues
            | Command::Queue(_)
            | Command::Jobs(_)
            | Command::DeadLetters(_)
            | Command::DeadLetter(_)
            | Command::Replays
            | Command::ReplayStatus(_)
            | Command::ExplainNext
            | Command::Schedule(_)
            | Command::Schedules(_)
            | Command::Snapshot => told.map_or(Ok(()), |told| self.check_read(command, told)),
            Command::Cancel(id) => self.cancel(*id, told),
            Command::Pause(name) => self.pause(name, true, told),
            Command::Resume(name) => self.pause(name, false, told),
            Command::SetLimits(name, limits) => self.set_limits(name, *limits, told),
            Command::RemoveQueue(name) => self.remove_queue(name, told),
            Command::Purge(purge) => self.purge(purge, told),
            Command::EditDead(id, edit) => self.edit(*id, edit, told),
            Command::DeleteDead(id) => self.delete_dead(*id, told),
            Command::PurgeDead(purge) => self.purge_dead(purge, told),
            Command::Replay(id) => self.replay(*id, told),
            Command::ReplayMany(replay) => self.replay_many(replay, told),
            Command::CancelReplay(id) => self.cancel_replay(*id, told),
            Command::PutSchedule(name, schedule) => self.put_schedule(name, schedule, told),
            Command::RemoveSchedule(name) => self.remove_schedule(name, told),
            Command::PauseSchedule(name) => self.pause_schedule(name, true, told),
            Command::ResumeSchedule(name) => self.pause_schedule(name, false, told),
            Command::RunSchedule(name) => self.run_schedule(name, told),
            Command::Tick => {
                self.tick(self.now)?;
                is_done(told)
            }
            Command::Drain | Command::Close => is_done(told),
            Command::Claim(_) => Err("a claim is applied after all others".to_owned()),
        }
    }

    // ---- jobs ----

    fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// The job with this id, if it is not gone.
    pub(crate) fn serial(&self, id: JobId) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    fn job(&self, serial: u64) -> &Job {
        &self.jobs[&serial]
    }

    fn job_mut(&mut self, serial: u64) -> &mut Job {
        self.jobs.get_mut(&serial).expect("it was looked up")
    }

    /// The job got this id; an id that it has must be this one.
    fn learn_id(&mut self, serial: u64, id: JobId) -> Checked {
        let Some(job) = self.jobs.get_mut(&serial) else { return Ok(()) };
        match job.id {
            Some(known) => hold!(known == id, "job {serial} is {known}, and was told to be {id}"),
            None => {
                job.id = Some(id);
                let before = self.by_id.insert(id, serial);
                hold!(before.is_none(), "I6: {id} is job {before:?} and job {serial}");
            }
        }
        Ok(())
    }

    /// The job that is told under this id, known by its payload.
    fn recognize(
        &mut self,
        id: JobId,
        payload: &Payload,
        headers: &BTreeMap<String, String>,
    ) -> Checked<u64> {
        let serial = serial_of(payload).or_else(|| self.recognize_scheduled(id, headers));
        let serial = serial.ok_or_else(|| format!("I1: {id} carries {payload:?} {headers:?}"))?;
        let there = self.jobs.contains_key(&serial);
        hold!(there, "I7: job {serial}, told as {id}, must not be there any more");
        self.learn_id(serial, id)?;
        Ok(serial)
    }

    /// The job is gone.
    fn forget(&mut self, serial: u64) {
        self.free_key(serial);
        self.let_go(serial, false);
        if let Some(job) = self.jobs.remove(&serial)
            && let Some(id) = job.id
        {
            self.by_id.remove(&id);
        }
        for replay in self.replays.values_mut() {
            replay.letters.remove(&serial);
        }
    }

    /// The job does not hold its unique key any more.
    fn free_key(&mut self, serial: u64) {
        let Some(job) = self.jobs.get(&serial) else { return };
        if let Some((key, _)) = &job.unique {
            let name = (job.queue, key.clone());
            if self.keys.get(&name).is_some_and(|held| held.serial == serial) {
                self.keys.remove(&name);
            }
        }
    }

    /// The job that holds a key now.
    fn holder(&self, queue: QueueNumber, key: &str) -> Option<u64> {
        let held = self.keys.get(&(queue, key.to_owned()))?;
        let over = |ttl_ms: u64| self.now >= held.since.plus_ms(ttl_ms);
        (!held.ttl_ms.is_some_and(over)).then_some(held.serial)
    }
}

impl Job {
    pub(crate) fn state(&self) -> JobState {
        match &self.at {
            At::Ready { .. } | At::Line { .. } => JobState::Ready,
            At::Leased { .. } => JobState::Running,
            At::Timer(Timer { retry: true, .. }) => JobState::Retrying,
            At::Timer(_) => JobState::Scheduled,
            At::Dead { .. } => JobState::Dead,
        }
    }

    fn is_dead(&self) -> bool {
        matches!(self.at, At::Dead { .. })
    }
}

/// The token of a delivery, as a client could write it.
#[must_use]
pub fn token(id: JobId, delivery: u32) -> LeaseToken {
    format!("{id}-{delivery}").parse().expect("a token is an id and a number")
}

/// The serial that a producer put into a payload.
pub(crate) fn serial_of(payload: &Payload) -> Option<u64> {
    let digits = payload.bytes().iter().skip_while(|byte| **byte == b'"');
    let digits: Vec<u8> = digits.copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

fn refused(told: Option<&Told>, kind: ErrorKind) -> Checked {
    match told {
        None => Ok(()),
        Some(Err(error)) if error.kind() == kind => Ok(()),
        Some(other) => Err(format!("it must be refused as {kind:?}"))
            .map_err(|text| format!("{text}, and was told {other:?}")),
    }
}

fn granted(told: Option<&Told>) -> Checked<Option<&Answer>> {
    match told {
        None => Ok(None),
        Some(Ok(answer)) => Ok(Some(answer)),
        Some(Err(error)) => Err(format!("it must be granted, and was refused: {error}")),
    }
}

fn is_done(told: Option<&Told>) -> Checked {
    match granted(told)? {
        None | Some(Answer::Done) => Ok(()),
        Some(other) => Err(other_answer(other)),
    }
}

fn other_answer(answer: &Answer) -> String {
    format!("that is the answer of another call: {answer:?}")
}
