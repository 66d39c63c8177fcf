//! Draws calls: what clients may ask, with small numbers, so that keys meet and queues fill.

mod schedules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use pulk::dead_letter::DeadReason;
use pulk::job::{OnConflict, Unique};
use pulk::queue::{
    Ack, Claim, DeadChoice, DeadEdit, DeadFilter, DeadQuery, Failure, JobQuery, Limits, Purge,
    PurgeDead, Rate, ReplayMany, Settle,
};
use pulk::retry::RetryPolicy;
use pulk::{JobId, JobState, LeaseToken, NewJob, Payload, Priority, RunAt, Timestamp};
use pulk_proof_disk::Chance;

use crate::command::{Answer, Command};
use crate::driver::Finished;
use crate::truth::serial_of;

/// The queues that are used.
pub const QUEUES: [&str; 5] = ["mail", "report", "index", "sms", KEYED];
/// The queue whose jobs have keys that they share, and no others.
const KEYED: &str = "account";
/// The kinds of jobs.
pub const KINDS: [&str; 3] = ["send", "build", "sync"];
/// So many ids, tokens and cursors are remembered.
const REMEMBERED: usize = 48;

/// What clients know: names that they were told, of things that may be over.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Jobs put in so far: each payload begins with a number of its own.
    pub serial: u64,
    /// Tokens, live and old.
    pub tokens: VecDeque<LeaseToken>,
    /// Ids of jobs.
    pub ids: VecDeque<JobId>,
    /// Where pages ended.
    pub cursors: VecDeque<String>,
    /// The same of dead letters.
    pub dead_cursors: VecDeque<String>,
    /// The serials of jobs, by their ids.
    pub serials: BTreeMap<JobId, u64>,
    /// Jobs of the queue with keys.
    keyed: BTreeSet<JobId>,
    /// Background replays may be begun; they and limits for dead letters are not for one queue.
    pub replays_in_background: bool,
}

/// True once in so many times.
pub fn one_in(chance: &mut dyn Chance, bound: u64) -> bool {
    chance.below(bound) + 1 == bound
}

fn pick<T: Clone>(chance: &mut dyn Chance, of: &[T]) -> T {
    of[chance.below(of.len() as u64) as usize].clone()
}

fn pick_of<T: Clone>(chance: &mut dyn Chance, of: &VecDeque<T>) -> Option<T> {
    of.get(chance.below(of.len() as u64) as usize).cloned()
}

fn remember<T: PartialEq>(of: &mut VecDeque<T>, one: T) {
    if of.back() == Some(&one) {
        return;
    }
    if of.len() == REMEMBERED {
        of.pop_front();
    }
    of.push_back(one);
}

/// A queue's name.
pub fn queue(chance: &mut dyn Chance) -> String {
    pick(chance, &QUEUES).to_owned()
}

fn kind(chance: &mut dyn Chance) -> String {
    pick(chance, &KINDS).to_owned()
}

fn priority(chance: &mut dyn Chance) -> Priority {
    pick(chance, &Priority::ALL)
}

fn some<T>(
    chance: &mut dyn Chance,
    one_in_so_many: u64,
    draw: impl FnOnce(&mut dyn Chance) -> T,
) -> Option<T> {
    one_in(chance, one_in_so_many).then(|| draw(chance))
}

/// A time to wait: some milliseconds, seconds, or minutes.
pub fn wait_ms(chance: &mut dyn Chance) -> u64 {
    match chance.below(4) {
        0 => 1 + chance.below(10),
        1 => 100 + chance.below(1_000),
        2 => 1_000 * (1 + chance.below(20)),
        _ => 10_000 * (1 + chance.below(30)),
    }
}

fn payload(chance: &mut dyn Chance, serial: u64) -> Payload {
    let filler = match chance.below(48) {
        // More than fits beside its job: it is cut into parts.
        47 => 9_000 + chance.below(25_000),
        46 => 4_000 + chance.below(4_000),
        few => few,
    };
    let filler = "x".repeat(filler as usize);
    match chance.below(2) {
        0 => Payload::Json(format!("\"{serial}.{filler}\"").into()),
        _ => Payload::Binary(format!("{serial}.{filler}").into()),
    }
}

fn retry(chance: &mut dyn Chance) -> RetryPolicy {
    let base_ms = pick(chance, &[0, 2, 500, 10_000]);
    let jitter = pick(chance, &[0.0, 0.5]);
    RetryPolicy { base_ms, max_ms: base_ms * pick(chance, &[1, 3, 50]), jitter }
}

/// Without chance in it.
fn exact(retry: Option<RetryPolicy>) -> RetryPolicy {
    let retry = retry.unwrap_or(RetryPolicy { base_ms: 500, max_ms: 9_000, jitter: 0.0 });
    RetryPolicy { jitter: 0.0, ..retry }
}

fn headers(chance: &mut dyn Chance) -> BTreeMap<String, String> {
    let named = |number: u64| (format!("header-{number}"), format!("value-{number}"));
    (0..chance.below(3)).map(named).collect()
}

/// Limits that are met: few at a time, few in a time; now and then one that makes no sense.
fn limits(chance: &mut dyn Chance) -> Limits {
    let few = |chance: &mut dyn Chance| chance.below(16).div_ceil(5) as u32;
    let concurrency = some(chance, 3, few);
    let rate = some(chance, 3, |chance| Rate {
        jobs: few(chance),
        per_ms: pick(chance, &[1, 700, 10_000, 60_000]),
        burst: few(chance),
    });
    let concurrency_per_key = some(chance, 3, few);
    Limits { concurrency, rate, concurrency_per_key }
}

impl Known {
    /// Remembers what a call told.
    pub fn learn(&mut self, finished: &Finished) {
        match finished.told.as_ref() {
            Some(Ok(Answer::Enqueued(answers))) => {
                for answer in answers {
                    remember(&mut self.ids, answer.id);
                    self.keyed.extend((answer.queue == KEYED).then_some(answer.id));
                }
            }
            Some(Ok(Answer::Claimed(claimed))) => {
                for job in &claimed.jobs {
                    self.serials.extend(serial_of(&job.payload).map(|serial| (job.id, serial)));
                    remember(&mut self.tokens, job.token);
                    remember(&mut self.ids, job.id);
                    self.keyed.extend((job.queue == KEYED).then_some(job.id));
                }
            }
            Some(Ok(Answer::Jobs(page))) => {
                page.next_cursor.iter().for_each(|it| remember(&mut self.cursors, it.clone()));
            }
            Some(Ok(Answer::DeadLetters(page))) => {
                let cursor = page.next_cursor.iter();
                cursor.for_each(|it| remember(&mut self.dead_cursors, it.clone()));
            }
            _ => {}
        }
    }

    /// A job to be put in.
    pub fn new_job(&mut self, chance: &mut dyn Chance, now: Timestamp) -> NewJob {
        self.serial += 1;
        let run_at = match chance.below(8) {
            0..5 => RunAt::Now,
            5 | 6 => RunAt::DelayMs(wait_ms(chance)),
            _ => RunAt::At(now.plus_ms(wait_ms(chance)).minus_ms(5_000)),
        };
        let unique = some(chance, 4, |chance| Unique {
            key: format!("key-{}", chance.below(3)),
            ttl_ms: some(chance, 2, wait_ms),
            on_conflict: pick(
                chance,
                &[OnConflict::Reject, OnConflict::Return, OnConflict::Replace],
            ),
        });
        let (queue, retry) = (queue(chance), some(chance, 3, retry));
        let is_keyed = queue == KEYED;
        let key = |chance: &mut dyn Chance| pick(chance, &["a", "b", "c"]).to_owned();
        NewJob {
            queue,
            kind: kind(chance),
            payload: payload(chance, self.serial),
            priority: priority(chance),
            run_at,
            max_attempts: some(chance, 3, |chance| 1 + chance.below(10) as u32),
            max_interruptions: some(chance, 3, |chance| chance.below(3) as u32),
            // Who comes first must be known, where others wait for it.
            retry: if is_keyed { Some(exact(retry)) } else { retry },
            timeout_ms: some(chance, 4, wait_ms),
            headers: headers(chance),
            unique,
            concurrency_key: if is_keyed { some(chance, 2, key) } else { None },
            ordering_key: if is_keyed { some(chance, 2, key) } else { None },
            expires_in_ms: some(chance, 6, |chance| wait_ms(chance) + 20_000),
            idempotency_key: some(chance, 8, |chance| format!("call-{}", chance.below(3))),
        }
    }

    /// A question for jobs.
    pub fn claim(&mut self, chance: &mut dyn Chance) -> Claim {
        Claim {
            queues: (0..chance.below(3) / 2 * 2).map(|_| queue(chance)).collect(),
            priorities: (0..chance.below(4) / 3 * 2).map(|_| priority(chance)).collect(),
            kinds: (0..chance.below(4) / 3 * 2).map(|_| kind(chance)).collect(),
            limit: 1 + chance.below(6) as usize,
            wait_ms: pick(chance, &[0, 0, 5_000, 60_000]),
            lease_ms: pick(chance, &[1, 500, 5_000, 30_000, 600_000]),
            worker: some(chance, 2, |chance| format!("worker-{}", chance.below(5))),
            settle: match one_in(chance, 4) {
                true => self.settle(chance),
                false => Settle::default(),
            },
            in_process: one_in(chance, 4),
        }
    }

    fn token(&self, chance: &mut dyn Chance) -> Option<LeaseToken> {
        let known = pick_of(chance, &self.tokens)?;
        match chance.below(16) {
            // One that nobody was ever given.
            15 => Some(crate::truth::token(known.job(), 1 + chance.below(1_000) as u32)),
            _ => Some(known),
        }
    }

    /// A job that may still run.
    fn handed_out_lately(&self, chance: &mut dyn Chance) -> Option<JobId> {
        let lately = self.tokens.iter().rev().nth(chance.below(6) as usize);
        lately.map(|token| token.job())
    }

    fn result(chance: &mut dyn Chance) -> Bytes {
        match chance.below(8) {
            7 => Bytes::from_static(b"{"),
            number => format!("{{\"done\":{number}}}").into(),
        }
    }

    /// A worker's word that a job failed.
    pub fn failure(chance: &mut dyn Chance, token: LeaseToken) -> Failure {
        let error = pick(chance, &["boom", "no such address", "é"]).to_owned();
        let retry = !one_in(chance, 4);
        Failure { token, error, retry, retry_in_ms: some(chance, 3, wait_ms) }
    }

    fn settle(&self, chance: &mut dyn Chance) -> Settle {
        let mut settle = Settle::default();
        for _ in 0..chance.below(4) {
            let Some(token) = self.token(chance) else { break };
            let result =
                some(chance, 3, |chance| format!("{{\"settled\":{}}}", chance.below(9)).into());
            match chance.below(2) {
                0 => settle.acks.push(Ack { token, result }),
                _ => settle.fails.push(Self::failure(chance, token)),
            }
        }
        settle
    }

    fn filter(chance: &mut dyn Chance) -> DeadFilter {
        DeadFilter {
            queue: some(chance, 3, queue),
            kind: some(chance, 3, kind),
            reason: some(chance, 4, |chance| pick(chance, &DeadReason::ALL)),
            error: some(chance, 5, |chance| pick(chance, &["oo", "timed", "é"]).to_owned()),
        }
    }

    fn choice(&self, chance: &mut dyn Chance) -> DeadChoice {
        if one_in(chance, 3) {
            let ids = (0..1 + chance.below(4)).filter_map(|_| pick_of(chance, &self.ids));
            return DeadChoice::Ids(ids.collect());
        }
        DeadChoice::Filter(Self::filter(chance))
    }

    /// What a worker says.
    pub fn word(&mut self, chance: &mut dyn Chance) -> Command {
        let Some(token) = self.token(chance) else {
            return Command::Claim(Box::new(self.claim(chance)));
        };
        match chance.below(9) {
            0..3 => Command::Ack(token),
            3 => Command::AckWithResult(token, Self::result(chance)),
            4 => Command::Fail(Self::failure(chance, token)),
            5 => Command::Settle(self.settle(chance)),
            6 => {
                let lease_ms = some(chance, 2, |chance| chance.below(40_000));
                Command::Extend(token, lease_ms, some(chance, 2, |it| it.below(102) as u8))
            }
            _ => Command::Release(token, some(chance, 2, wait_ms)),
        }
    }

    /// What somebody asks who changes nothing.
    pub fn question(&mut self, chance: &mut dyn Chance) -> Command {
        let id = pick_of(chance, &self.ids);
        match (chance.below(10), id) {
            (0, Some(id)) => Command::Job(id),
            (1 | 2, Some(id)) => Command::Find(id),
            (3, Some(id)) => Command::DeadLetter(id),
            (4, _) => Command::Queue(queue(chance)),
            (5, _) => Command::ReplayStatus(1 + chance.below(4)),
            (6, _) => Command::Snapshot,
            (7, _) => {
                let cursor = some(chance, 2, |chance| pick_of(chance, &self.dead_cursors));
                let (limit, cursor) = (1 + chance.below(9) as usize, cursor.flatten());
                let filter = Self::filter(chance);
                // A page goes on in the list that it was a page of.
                let filter = if cursor.is_some() { DeadFilter::default() } else { filter };
                Command::DeadLetters(DeadQuery { filter, limit, cursor })
            }
            _ => {
                let cursor = some(chance, 2, |chance| pick_of(chance, &self.cursors));
                let states = some(chance, 2, |chance| pick(chance, &JobState::ALL));
                Command::Jobs(JobQuery {
                    queue: some(chance, 3, queue),
                    states: states.into_iter().collect(),
                    priority: some(chance, 4, priority),
                    kind: some(chance, 4, kind),
                    limit: chance.below(12) as usize,
                    cursor: cursor.flatten(),
                })
            }
        }
    }

    /// What an operator does.
    pub fn operation(&mut self, chance: &mut dyn Chance) -> Command {
        let id = pick_of(chance, &self.ids);
        match (chance.below(20), id) {
            (0, Some(id)) => Command::Cancel(id),
            (1, _) => match self.handed_out_lately(chance) {
                Some(id) => Command::Cancel(id),
                None => Command::Tick,
            },
            (2, Some(id)) => Command::DeleteDead(id),
            (3 | 4, Some(id)) => Command::Replay(id),
            (5 | 6, Some(id)) => Command::EditDead(id, Box::new(self.edit(chance, id))),
            (7, _) => Command::Pause(queue(chance)),
            (8 | 9, _) => Command::Resume(queue(chance)),
            (10, _) => Command::RemoveQueue(queue(chance)),
            (11, _) => {
                let states = (0..chance.below(3)).map(|_| pick(chance, &JobState::ALL)).collect();
                let (queue, priority) = (queue(chance), some(chance, 2, priority));
                Command::Purge(Purge { queue, states, priority })
            }
            (12, _) => {
                let (choice, dry_run) = (self.choice(chance), one_in(chance, 3));
                Command::PurgeDead(PurgeDead { choice, dry_run })
            }
            (13, _) => Command::CancelReplay(1 + chance.below(4)),
            (14, _) => Command::Tick,
            (15, _) => Command::SetLimits(queue(chance), limits(chance)),
            _ => Command::ReplayMany(self.replay_many(chance)),
        }
    }

    /// Not the queue with keys: nobody could tell who of them comes first.
    fn without_keys(&self, choice: DeadChoice) -> DeadChoice {
        match choice {
            DeadChoice::Ids(mut ids) => {
                ids.retain(|id| !self.keyed.contains(id));
                DeadChoice::Ids(ids)
            }
            DeadChoice::Filter(filter) => {
                let queue = filter.queue.filter(|queue| queue != KEYED);
                let queue = Some(queue.unwrap_or_else(|| "mail".to_owned()));
                DeadChoice::Filter(DeadFilter { queue, ..filter })
            }
        }
    }

    fn replay_many(&mut self, chance: &mut dyn Chance) -> ReplayMany {
        let rate = pick(chance, &[0.001, 0.1, 1.0, 7.5, 1_000.0]);
        let rate_per_s = (self.replays_in_background && one_in(chance, 2)).then_some(rate);
        let choice = match self.choice(chance) {
            choice if rate_per_s.is_none() => choice,
            choice => self.without_keys(choice),
        };
        ReplayMany {
            choice,
            limit: some(chance, 3, |chance| chance.below(4)),
            rate_per_s,
            max_error_share: some(chance, 2, |chance| pick(chance, &[0.0, 0.3, 1.0])),
            dry_run: one_in(chance, 5),
        }
    }

    fn edit(&mut self, chance: &mut dyn Chance, id: JobId) -> DeadEdit {
        // A job is known by the serial in its payload.
        let serial = self.serials.get(&id).copied().filter(|_| one_in(chance, 2));
        DeadEdit {
            kind: some(chance, 3, kind),
            payload: serial.map(|serial| payload(chance, serial)),
            priority: some(chance, 3, priority),
            headers: some(chance, 3, headers),
            max_attempts: some(chance, 3, |chance| chance.below(5) as u32),
            max_interruptions: some(chance, 3, |chance| chance.below(3) as u32),
            retry: match some(chance, 4, |chance| some(chance, 2, retry)) {
                Some(retry) if self.keyed.contains(&id) => Some(Some(exact(retry))),
                retry => retry,
            },
            timeout_ms: some(chance, 4, |chance| some(chance, 2, wait_ms)),
        }
    }

    /// Any call.
    pub fn command(&mut self, chance: &mut dyn Chance, now: Timestamp) -> Command {
        match chance.below(16) {
            0..4 => Command::Enqueue(Box::new(self.new_job(chance, now))),
            4 => {
                let jobs = chance.below(6);
                Command::EnqueueMany((0..jobs).map(|_| self.new_job(chance, now)).collect())
            }
            5..8 => Command::Claim(Box::new(self.claim(chance))),
            8..12 => self.word(chance),
            12 => self.question(chance),
            _ => self.operation(chance),
        }
    }
}
