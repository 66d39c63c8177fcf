//! A world: a queue, everybody who uses it, and everything that can happen to it.

use std::collections::BTreeMap;

use pulk::priority::PerPriority;
use pulk::retry::RetryPolicy;
use pulk::{Config, Payload, Priority, StoreKind, Timestamp};
use pulk_proof::draw::{self, Known, one_in};
use pulk_proof::driver::{Driver, Fault, Finished, Handed};
use pulk_proof::{Answer, Command, Told};
use pulk_proof_disk::Chance;
use pulk_proof_disk::chance::Seeded;

use super::worker::Worker;

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// A world of many jobs, one in so many.
const ONE_LARGE_IN: u64 = 20;
/// With more jobs, large calls have a group of their own.
const JOBS_OF_A_SMALL_WORLD: usize = 50;

/// What came of a world.
pub(crate) struct Summary {
    pub(crate) counts: BTreeMap<String, u64>,
    /// Of all that was answered, and of all that was written.
    pub(crate) digests: String,
}

pub(crate) struct World {
    pub(crate) chance: Seeded,
    pub(crate) driver: Driver,
    pub(crate) known: Known,
    workers: Vec<Worker>,
    /// Who waits for the answer of which claim.
    claims: BTreeMap<u64, usize>,
    steps_left: u64,
    is_large: bool,
    /// A commit fails once in so many groups.
    one_fault_in: u64,
    one_crash_in: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut chance = Seeded::new(seed);
        let mut known = Known::default();
        let is_large = seed % ONE_LARGE_IN == ONE_LARGE_IN - 1;
        let config = config(&mut chance, &mut known, is_large);
        let start = Timestamp::from_ms(1_800_000_000_000 + chance.below(DAY_MS));
        let workers = 2 + chance.below(8);
        World {
            workers: (0..workers).map(|number| Worker::new(number, &mut chance)).collect(),
            driver: Driver::in_memory(config, start, seed),
            known,
            claims: BTreeMap::new(),
            steps_left: if is_large { 120 } else { 200 + chance.below(201) },
            is_large,
            one_fault_in: 4 + chance.below(60),
            one_crash_in: 10 + chance.below(100),
            chance,
        }
    }

    /// Examines the store after every so many steps.
    pub(crate) fn examine_every(&mut self, steps: u64) {
        self.driver.examine_every = steps;
    }

    /// Tells every event at once.
    pub(crate) fn tell(&mut self, told: bool) {
        self.driver.history.is_told = told;
    }

    pub(crate) fn run(mut self) -> Summary {
        while self.steps_left > 0 {
            self.steps_left -= 1;
            self.step();
        }
        self.calm_down();
        let (answers, commits) = self.driver.digest();
        let (steps, jobs) = (self.driver.steps(), self.known.serial);
        let commits_tried = self.driver.commits();
        let history = &mut self.driver.history;
        for (what, count) in [("steps", steps), ("jobs", jobs), ("commits", commits_tried)] {
            history.add(what, count);
        }
        Summary {
            counts: std::mem::take(&mut history.counts),
            digests: format!("{answers} {commits}"),
        }
    }

    fn step(&mut self) {
        if !self.driver.is_open() {
            return self.restart();
        }
        if one_in(&mut self.chance, 2) {
            self.move_clock();
        }
        let calls = self.calls();
        let fault = self.fault(self.one_fault_in);
        self.group(calls, fault);
        if self.driver.is_open() && one_in(&mut self.chance, self.one_crash_in) {
            self.crash();
        }
        if one_in(&mut self.chance, 40) {
            let worker = self.chance.below(self.workers.len() as u64) as usize;
            self.workers[worker].crash();
            self.driver.history.count("a worker crashes");
        }
    }

    // ---- calls ----

    /// Hands in a group, and gives the answers to those who wait for them.
    pub(crate) fn group(
        &mut self,
        calls: Vec<(Option<usize>, Handed)>,
        fault: Fault,
    ) -> Vec<Finished> {
        let first = self.driver.next_number();
        for (number, (worker, call)) in (first..).zip(&calls) {
            if let (Some(worker), Command::Claim(_)) = (worker, &call.command) {
                self.claims.insert(number, *worker);
            }
        }
        let calls = calls.into_iter().map(|(_, call)| call).collect();
        let finished = self.driver.group(calls, fault);
        for finished in &finished {
            self.known.learn(finished);
            if let Some(worker) = self.claims.remove(&finished.number) {
                self.workers[worker].hear(finished.told.as_ref());
            }
            self.count(finished.told.as_ref());
        }
        if !self.driver.is_open() {
            for (_, worker) in std::mem::take(&mut self.claims) {
                self.workers[worker].hear(None);
            }
        }
        finished
    }

    fn count(&mut self, told: Option<&Told>) {
        let history = &mut self.driver.history;
        match told {
            Some(Ok(Answer::Claimed(claimed))) => {
                history.add("deliveries", claimed.jobs.len() as u64);
            }
            Some(Ok(Answer::Enqueued(answers))) => {
                for answer in answers {
                    let what = match (answer.is_new, answer.replaced) {
                        (true, Some(_)) => "a job replaces another",
                        (true, None) => "a job is taken in",
                        (false, _) => "an enqueue gets the answer of another",
                    };
                    history.count(what);
                }
            }
            Some(Ok(Answer::Failed(failed))) => {
                let what = match failed {
                    pulk::queue::Failed::Retrying { .. } => "a failure is retried".to_owned(),
                    pulk::queue::Failed::Dead { reason } => format!("a failure is {reason}"),
                };
                history.count(&what);
            }
            _ => {}
        }
    }

    fn calls(&mut self) -> Vec<(Option<usize>, Handed)> {
        let many = self.driver.truth.len() > JOBS_OF_A_SMALL_WORLD;
        let calls = if many { 1 } else { self.chance.below(5) };
        let mut handed = Vec::new();
        for _ in 0..calls {
            let (chance, now) = (&mut self.chance, self.driver.now());
            let (worker, (command, deaf)) = match chance.below(20) {
                0..5 => (None, (self.produce(), one_in(&mut self.chance, 30))),
                5..14 => {
                    let worker = chance.below(self.workers.len() as u64) as usize;
                    let word = self.workers[worker].speak(chance, &mut self.known, now);
                    let Some(word) = word else { continue };
                    (Some(worker), word)
                }
                14 | 15 => (None, (self.known.word(chance), one_in(chance, 30))),
                16 if one_in(chance, 2) => {
                    (None, (self.known.scheduling(chance), one_in(chance, 30)))
                }
                16 => (None, (self.known.question(chance), false)),
                _ => (None, (self.known.operation(chance), one_in(chance, 30))),
            };
            let command = self.in_a_large_world(command);
            handed.push((worker, Handed { command, deaf }));
        }
        handed
    }

    fn produce(&mut self) -> Command {
        let (chance, now) = (&mut self.chance, self.driver.now());
        let most = if self.is_large { 120 } else { 6 };
        match chance.below(4) {
            0 => {
                let jobs = chance.below(most);
                let jobs = (0..jobs).map(|_| self.known.new_job(chance, now));
                Command::EnqueueMany(jobs.collect())
            }
            _ => {
                let mut job = self.known.new_job(chance, now);
                if one_in(chance, 16) && !self.is_large {
                    // Too much to lie beside its job: it is cut into parts.
                    let mut large = job.payload.bytes().to_vec();
                    large.resize(9_000, b'x');
                    job.payload = Payload::Binary(large.into());
                }
                Command::Enqueue(Box::new(job))
            }
        }
    }

    /// Where many jobs lie in many chunks, a claim for few kinds may be answered in parts.
    fn in_a_large_world(&self, mut command: Command) -> Command {
        if let Command::Claim(claim) = &mut command
            && self.is_large
        {
            claim.kinds.clear();
        }
        command
    }

    // ---- what happens ----

    fn fault(&mut self, one_in_so_many: u64) -> Fault {
        let large = self.driver.truth.len() > JOBS_OF_A_SMALL_WORLD;
        match one_in(&mut self.chance, one_in_so_many) && !large {
            false => Fault::None,
            true if one_in(&mut self.chance, 2) => Fault::Applied,
            true => Fault::Lost,
        }
    }

    fn move_clock(&mut self) {
        let (chance, now) = (&mut self.chance, self.driver.now());
        let (what, then) = match chance.below(32) {
            0 => ("backwards by days", now.minus_ms(chance.below(5 * DAY_MS))),
            1 => ("backwards by hours", now.minus_ms(chance.below(5 * HOUR_MS))),
            2..4 => ("backwards by less", now.minus_ms(1 + chance.below(60 * SECOND_MS))),
            4 => ("forwards by weeks", now.plus_ms(chance.below(40 * DAY_MS))),
            5 => ("forwards by hours", now.plus_ms(chance.below(5 * HOUR_MS))),
            6..10 => match self.driver.truth.key_ends().filter(|end| *end > now).min() {
                Some(end) => ("to the end of a key", end.plus_ms(chance.below(3)).minus_ms(1)),
                None => ("forwards", now.plus_ms(1)),
            },
            10..16 => match self.driver.next_due().filter(|due| *due > now) {
                // To the edge of what is due next: before it, at it, behind it.
                Some(due) => ("to an edge", due.plus_ms(chance.below(3)).minus_ms(1)),
                None => ("forwards", now.plus_ms(1)),
            },
            _ => ("forwards", now.plus_ms(draw::wait_ms(chance))),
        };
        self.driver.history.count(&format!("the clock goes {what}"));
        let in_the_next_group = one_in(&mut self.chance, 2);
        self.driver.move_clock(then, in_the_next_group);
    }

    /// The process ends: it is killed, or stops in good order.
    fn crash(&mut self) {
        if one_in(&mut self.chance, 3) {
            self.driver.history.count("a stop in good order");
            let alone = |command| vec![(None, Handed { command, deaf: false })];
            if one_in(&mut self.chance, 2) {
                self.group(alone(Command::Drain), Fault::None);
                for _ in 0..self.chance.below(4) {
                    let calls = self.calls();
                    let fault = self.fault(20);
                    if self.driver.is_open() {
                        self.group(calls, fault);
                    }
                }
            }
            if self.driver.is_open() {
                let mut calls = self.calls();
                calls.extend(alone(Command::Close));
                self.group(calls, Fault::None);
            }
            return;
        }
        self.driver.history.count("a crash");
        if one_in(&mut self.chance, 2) {
            // With calls under way, that nobody will ever hear of.
            let calls = self.calls();
            let calls = calls.into_iter().map(|(_, call)| call.command).collect();
            self.driver.crash_with(calls);
        } else {
            self.driver.crash();
        }
        for (_, worker) in std::mem::take(&mut self.claims) {
            self.workers[worker].hear(None);
        }
    }

    /// The process is started again, perhaps after long, perhaps to die while it catches up.
    fn restart(&mut self) {
        let (chance, now) = (&mut self.chance, self.driver.now());
        let (what, then) = match chance.below(10) {
            0..4 => ("at once", now),
            4..7 => ("soon", now.plus_ms(chance.below(60 * SECOND_MS))),
            7 => ("after hours", now.plus_ms(chance.below(10 * HOUR_MS))),
            8 => ("after weeks", now.plus_ms(chance.below(40 * DAY_MS))),
            _ => ("in the past", now.minus_ms(chance.below(2 * DAY_MS))),
        };
        self.driver.history.count(&format!("a restart {what}"));
        self.driver.clock.set(then);
        let fault = self.fault(5);
        self.driver.open(fault);
        if self.driver.is_open() && one_in(&mut self.chance, 6) {
            self.driver.crash();
            self.driver.history.count("a crash right after opening");
        }
    }
}

/// Limits that are met, in some worlds.
fn config(chance: &mut dyn Chance, known: &mut Known, is_large: bool) -> Config {
    let default = Config::default();
    let limits_letters = one_in(chance, 3);
    known.replays_in_background = !limits_letters;
    let mut config = Config {
        store: StoreKind::Memory,
        max_interruptions: chance.below(4) as u32,
        max_queues: if one_in(chance, 4) { 3 } else { default.max_queues },
        result_ttl_ms: if one_in(chance, 4) { 0 } else { 1 + chance.below(HOUR_MS) },
        retry: RetryPolicy { base_ms: 2 + chance.below(5_000), max_ms: 600_000, jitter: 0.5 },
        ..default
    };
    config.ageing_ms = match config.max_interruptions {
        // Jobs age while others come, and jump over levels when the clock does.
        0 | 1 => PerPriority::from_fn(|priority| 2_000 * u64::from(priority.number())),
        2 => PerPriority::default(),
        _ => config.ageing_ms,
    };
    if one_in(chance, 3) && !is_large {
        let capacity = 2 + chance.below(6);
        config.queue_capacity = PerPriority::from_fn(|_| capacity);
    }
    if limits_letters {
        let (number, age_ms) = (chance.below(4), chance.below(2) * chance.below(2 * HOUR_MS));
        (config.dead_max_per_queue, config.dead_max_age_ms) = (number, age_ms);
    }
    if one_in(chance, 8) {
        config.priorities = vec![Priority::Critical, Priority::Default, Priority::Bulk];
    }
    config
}
