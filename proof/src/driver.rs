//! Drives a queue by hand, call by call and commit by commit, beside the model that knows what
//! must come of it.
//!
//! A group of calls is handed in, one step of the engine applies and commits it, and the answers
//! are compared with the model's. Then everything that can be seen is compared, and the store is
//! examined. Whatever does not hold is a panic that tells the last events.

mod group;
pub mod history;
mod look;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pulk::clock::{Clock, ManualClock};
use pulk::handle::{Stepped, Stepper};
use pulk::queue::Claim;
use pulk::store::memory::MemoryStore;
use pulk::store::{Direction, Store, Tree};
use pulk::{Config, JobId, Queue, Timestamp};

use crate::command::{Command, Pending, Told};
use crate::truth::schedules::CRONS;
use crate::truth::{Checked, Truth};
pub use group::{Fault, Finished, Handed};
use history::{Digest, History};
use watched::Watched;

/// More steps than this without a call are a queue that hangs (I8).
const STEPS_WITHOUT_A_CALL_MAX: usize = 10_000;

/// With more jobs than this, or more slots of schedules, what time does may take more than one
/// group.
const JOBS_OF_ONE_GROUP_MAX: usize = 60;

/// A queue, its clock, and what must be true of it.
pub struct Driver {
    /// What the queue takes for the time.
    pub clock: ManualClock,
    /// What must be true.
    pub truth: Truth,
    /// What happened.
    pub history: History,
    /// Examine the store after every so many steps; 0 is never.
    pub examine_every: u64,
    config: Arc<Config>,
    seed: u64,
    openings: u64,
    store: Arc<Watched>,
    faults: Option<MemoryStore>,
    /// None between a crash and the next opening.
    engine: Option<(Queue, Stepper)>,
    draining: bool,
    /// What time does takes several groups now: slots that the model has done may come later.
    is_behind: bool,
    /// Claims that wait, in the order in which they are served.
    waiting: VecDeque<Waiting>,
    /// Claims that were answered outside a group: told with the next.
    late: Vec<Finished>,
    /// Leases of claims whose caller went away: job and delivery.
    given_back: Vec<(u64, u32)>,
    calls: u64,
    /// Every id that was ever seen, and whose it is (I6).
    ids: BTreeMap<JobId, u64>,
    /// Kinds of things that were there.
    met: BTreeSet<String>,
    steps: u64,
}

/// A claim that waits for a job.
struct Waiting {
    number: u64,
    claim: Claim,
    future: Pending,
    deadline: Timestamp,
}

impl Driver {
    /// A queue in an empty store in memory, whose commits can be made to fail.
    #[must_use]
    pub fn in_memory(config: Config, now: Timestamp, seed: u64) -> Driver {
        let store = MemoryStore::new();
        let mut driver = Self::unopened(config, Arc::new(store.clone()), now, seed);
        driver.faults = Some(store);
        driver.open(Fault::None);
        driver
    }

    /// A queue in an empty store.
    #[must_use]
    pub fn on(config: Config, store: Arc<dyn Store>, now: Timestamp, seed: u64) -> Driver {
        let mut driver = Self::unopened(config, store, now, seed);
        driver.open(Fault::None);
        driver
    }

    /// A queue in a store in which one of these is true: the first that agrees with what is seen.
    ///
    /// # Errors
    /// Why none of them is, one sentence for each.
    pub fn resume(
        config: &Config,
        store: &Arc<dyn Store>,
        now: Timestamp,
        seed: u64,
        candidates: &[Truth],
    ) -> Result<Driver, String> {
        let mut refused = String::new();
        for truth in candidates {
            let mut driver = Self::unopened(config.clone(), store.clone(), now, seed);
            driver.truth = truth.clone();
            match driver.try_open(Fault::None) {
                Ok(_) => return Ok(driver),
                Err(reason) => refused += &format!("{reason}\n"),
            }
        }
        Err(refused)
    }

    fn unopened(config: Config, store: Arc<dyn Store>, now: Timestamp, seed: u64) -> Driver {
        let config = Arc::new(config);
        Driver {
            clock: ManualClock::new(now),
            truth: Truth::new(config.clone(), now),
            history: History::default(),
            examine_every: 1,
            config,
            seed,
            openings: 0,
            store: Arc::new(Watched::new(store)),
            faults: None,
            engine: None,
            draining: false,
            is_behind: false,
            waiting: VecDeque::new(),
            late: Vec::new(),
            given_back: Vec::new(),
            calls: 0,
            ids: BTreeMap::new(),
            met: BTreeSet::new(),
            steps: 0,
        }
    }

    /// The present moment of the queue's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Digests of all events and of all commits.
    #[must_use]
    pub fn digest(&self) -> (Digest, Digest) {
        (self.history.digest(), self.store.committed().0)
    }

    /// How many records each tree holds that has some.
    ///
    /// # Panics
    /// When the store can't be read.
    #[must_use]
    pub fn records(&self) -> BTreeMap<&'static str, usize> {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let count = |tree: Tree| {
            let scan = self.store.scan(tree, all.clone(), Direction::Ascending);
            (tree.name(), scan.inspect(|entry| assert!(entry.is_ok(), "{entry:?}")).count())
        };
        Tree::ALL.into_iter().map(count).filter(|(_, records)| *records > 0).collect()
    }

    /// How many commits were tried.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.store.committed().1
    }

    /// How many steps were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// False after a crash or an end, until the queue is opened again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.engine.is_some()
    }

    /// True from a drain on.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// When the queue has something to do by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.engine.as_ref()?.1.next_due()
    }

    /// Moves the clock, forwards or backwards. What is due then is done with the next group, or
    /// before it, in a group of its own.
    pub fn move_clock(&mut self, then: Timestamp, in_the_next_group: bool) {
        self.history.event(then, "by the clock");
        self.clock.set(then);
        let alone = self.truth.is_replaying()
            || self.truth.len() > JOBS_OF_ONE_GROUP_MAX
            || self.truth.slots_come(then) > JOBS_OF_ONE_GROUP_MAX;
        if self.is_open() && (alone || !in_the_next_group) {
            let caught_up = self.catch_up(self.truth.clone(), Fault::None);
            self.check(caught_up);
        }
    }

    // ---- opening and its end ----

    /// The process is killed: what was handed in and not answered is lost.
    pub fn crash(&mut self) {
        self.history.event(self.now(), "the process is killed");
        self.leave();
    }

    /// The process is killed with these calls handed in, none of them applied.
    ///
    /// # Panics
    /// When one of them is told anything but that the queue is gone, or that it is wrong.
    pub fn crash_with(&mut self, commands: Vec<Command>) {
        let mut under_way: Vec<(Command, Pending)> = Vec::new();
        if let Some((queue, _)) = &self.engine {
            for command in commands {
                let mut future = command.clone().call(queue.clone());
                if poll(&mut future).is_none() {
                    under_way.push((command, future));
                }
            }
        }
        self.history.count("calls under way at a crash");
        self.crash();
        for (command, mut future) in under_way {
            let told = poll(&mut future);
            let gone = told.as_ref().is_some_and(Result::is_err);
            assert!(gone, "I7: {command:?} was told {told:?} by a queue that was killed before");
        }
    }

    fn leave(&mut self) {
        self.engine = None;
        self.draining = false;
        self.waiting.clear();
        self.given_back.clear();
    }

    /// Opens the queue again; a fault may strike while it catches up with the time. True when it
    /// is open now.
    pub fn open(&mut self, fault: Fault) -> bool {
        let opened = self.try_open(fault);
        self.check(opened)
    }

    fn try_open(&mut self, fault: Fault) -> Checked<bool> {
        let now = self.now();
        self.leave();
        if let Some(store) = &self.faults {
            store.restart();
        }
        self.openings += 1;
        let seed = self.seed.wrapping_add(self.openings);
        let (config, clock) = ((*self.config).clone(), Arc::new(self.clock.clone()));
        let opened = Queue::open_stepped(config, self.store.clone(), clock, seed);
        let (queue, stepper) = opened.map_err(|error| format!("it does not open: {error}"))?;
        let told = queue.opened();
        self.engine = Some((queue, stepper));
        self.history.event(now, "the queue is opened");
        let durable = self.truth.clone();
        self.truth.reopen(now);
        self.look_at_what_was_left()?;
        let ready = self.truth.ids(Some(pulk::JobState::Ready)).count();
        crate::truth::hold!(
            (told.ready_jobs, told.at) == (ready as u64, now),
            "I7: {ready} jobs are ready when it opens, and it tells {told:?}"
        );
        self.truth.open(now);
        let fault = match fault {
            // How much of it the one group has done that was applied, nobody could say.
            Fault::Applied if self.truth.slots_come(now) > JOBS_OF_ONE_GROUP_MAX => Fault::Lost,
            fault => fault,
        };
        self.catch_up(durable, fault)
    }

    /// Lets the queue do all that is due now. False when a fault struck.
    fn catch_up(&mut self, durable: Truth, fault: Fault) -> Checked<bool> {
        self.is_behind = self.truth.slots_come(self.now()) > JOBS_OF_ONE_GROUP_MAX;
        let caught_up = self.catch_up_step_by_step(durable, fault);
        self.is_behind = false;
        caught_up
    }

    fn catch_up_step_by_step(&mut self, durable: Truth, fault: Fault) -> Checked<bool> {
        let (mut durable, mut fault) = (durable, fault);
        for _ in 0..STEPS_WITHOUT_A_CALL_MAX {
            self.plan(fault);
            let stepped = self.step()?;
            self.unplan();
            let now = self.now();
            if let Stepped::Failed(_) = stepped {
                if fault == Fault::Applied {
                    self.truth.tick(now)?;
                    self.return_leases()?;
                    self.truth.admit();
                } else {
                    self.truth = durable;
                }
                self.history.count("fault while it catches up");
                self.leave();
                return Ok(false);
            }
            fault = Fault::None;
            self.truth.tick(now)?;
            self.return_leases()?;
            self.serve_waiting()?;
            if self.next_due().is_none_or(|due| due > now) {
                self.look()?;
                return Ok(true);
            }
            durable = self.truth.clone();
        }
        Err(format!("I8: it is not done after {STEPS_WITHOUT_A_CALL_MAX} steps"))
    }

    fn step(&mut self) -> Checked<Stepped> {
        self.steps += 1;
        match &mut self.engine {
            Some((_, stepper)) => Ok(stepper.step()),
            None => Err("the queue is not open".to_owned()),
        }
    }

    fn plan(&self, fault: Fault) {
        match (&self.faults, fault) {
            (Some(store), Fault::Lost) => store.fail_commit(1),
            (Some(store), Fault::Applied) => store.fail_commit_after_applying(1),
            _ => {}
        }
    }

    /// A fault that did not strike, because nothing was committed, is forgotten.
    fn unplan(&self) {
        if let Some(store) = &self.faults {
            store.restart();
        }
    }

    /// Ends with the story when something does not hold.
    fn check<T>(&self, checked: Checked<T>) -> T {
        match checked {
            Ok(value) => value,
            Err(reason) => panic!(
                "step {} of seed {}: {reason}\nthe last events:\n{}",
                self.steps,
                self.seed,
                self.history.story()
            ),
        }
    }
}

pub(crate) fn poll(future: &mut Pending) -> Option<Told> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(told) => Some(told),
        Poll::Pending => None,
    }
}

/// What a call is refused as before it reaches the queue.
fn refused_at_once(command: &Command, draining: bool) -> Option<pulk::ErrorKind> {
    let valid = match command {
        Command::Enqueue(job) => job.validate(),
        Command::EnqueueMany(jobs) if jobs.is_empty() => return Some(pulk::ErrorKind::Invalid),
        Command::EnqueueMany(jobs) => jobs.iter().try_for_each(pulk::NewJob::validate),
        Command::Claim(claim) => claim.validate(),
        Command::AckWithResult(token, result) => {
            pulk::queue::Ack { token: *token, result: Some(result.clone()) }.validate()
        }
        Command::Fail(failure) => failure.validate(),
        Command::Settle(settle) => settle.validate(),
        Command::Extend(_, lease_ms, progress) => {
            let lease = lease_ms.is_none_or(|ms| {
                (pulk::lease::LEASE_MS_MIN..=pulk::lease::LEASE_MS_MAX).contains(&ms)
            });
            let valid = lease && progress.is_none_or(|progress| progress <= 100);
            return (!valid).then_some(pulk::ErrorKind::Invalid);
        }
        Command::Release(_, Some(delay_ms)) => {
            let valid = *delay_ms <= pulk::job::limits::DELAY_MS_MAX;
            return (!valid).then_some(pulk::ErrorKind::Invalid);
        }
        Command::SetLimits(_, limits) => limits.validate(),
        Command::Jobs(query) => query.validate(),
        Command::DeadLetters(query) => query.validate(),
        Command::EditDead(_, edit) => edit.validate(),
        Command::PurgeDead(purge) => purge.choice.validate(),
        Command::ReplayMany(replay) => replay.validate(),
        Command::PutSchedule(name, schedule) => {
            let is_known = |(cron, ..): &(&str, u64, u64)| *cron == schedule.cron;
            let valid = CRONS.iter().any(is_known) && schedule.validate(name).is_ok();
            return (!valid).then_some(pulk::ErrorKind::Invalid);
        }
        _ => Ok(()),
    };
    match valid {
        Err(error) => Some(error.kind()),
        Ok(()) if draining && command.is_refused_while_draining() => {
            Some(pulk::ErrorKind::Draining)
        }
        Ok(()) => None,
    }
}
