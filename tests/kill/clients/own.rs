//! A queue in the hands of one client: what must be in it is known exactly.
//!
//! The client makes one call at a time and nobody else touches its queue. So each of its jobs is
//! in a known state, but for what a call that was cut off would have made of it: then it may be in
//! one state or the other, until the next look at the queue tells ([`look`]).

mod background;
mod dead;
mod enqueue;
mod keys;
mod look;
mod queue;
mod work;

use std::collections::BTreeMap;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::calls::{Calls, Heard};
use crate::ledger::Held;
use background::Background;
use keys::Idempotent;

/// Longer than any run: nobody loses a job of its own queue.
const LEASE_MS: u64 = 3_600_000;
const MAX_ATTEMPTS: u64 = 3;
/// So many jobs are in the queue at most, or a few more.
const JOBS_MAX: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Gone,
    /// Scheduled, ready or retrying: time moves it on.
    Waiting,
    Running,
    Dead,
}

/// All that a look at a job can tell.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    standing: Standing,
    failures: u64,
    /// How often its dead letter was edited, as its payload says.
    edit: u64,
    priority: usize,
    cancelled: bool,
}

struct Job {
    id: Option<String>,
    now: State,
    /// What a call that has no answer would have made of it.
    maybe: Option<State>,
    held: Option<Held>,
    deliveries: u64,
    unique: Option<String>,
    /// It can be claimed from then on at the latest.
    ready_by_ms: u64,
    /// Not started by a moment between these it is dead.
    expires: Option<Range<u64>>,
}

pub struct Own {
    random: StdRng,
    name: String,
    named: u64,
    /// Whether the queue is there, and if so whether it is paused.
    there: Option<bool>,
    /// The same, if a call that has no answer was done.
    maybe_there: Option<Option<bool>>,
    /// How many of its jobs may run at once, and what a call without an answer has made of that.
    limit: Option<u64>,
    maybe_limit: Option<u64>,
    /// By the name in their payloads; those that are gone until the next look.
    jobs: BTreeMap<String, Job>,
    /// Jobs that a call without an answer has changed all, or none.
    together: Vec<String>,
    idempotent: Vec<Idempotent>,
    background: Option<Background>,
    last_background: u64,
}

impl State {
    fn new(priority: usize) -> State {
        State { standing: Standing::Gone, failures: 0, edit: 0, priority, cancelled: false }
    }

    fn to(self, standing: Standing) -> State {
        State { standing, ..self }
    }
}

impl Job {
    fn is(&self, standing: Standing) -> bool {
        self.now.standing == standing && self.maybe.is_none()
    }

    /// A call was answered that made this of it.
    fn becomes(&mut self, state: State) {
        (self.now, self.maybe) = (state, None);
        if state.standing != Standing::Running {
            self.held = None;
        }
    }
}

impl Own {
    pub fn new(number: u64, seed: u64) -> Own {
        Own {
            random: StdRng::seed_from_u64(seed),
            name: format!("own-{number}"),
            named: 0,
            there: None,
            maybe_there: None,
            limit: None,
            maybe_limit: None,
            jobs: BTreeMap::new(),
            together: Vec::new(),
            idempotent: Vec::new(),
            background: None,
            last_background: 0,
        }
    }

    pub fn held(&self) -> usize {
        self.jobs.values().filter(|job| job.held.is_some()).count()
    }

    pub async fn step(&mut self, calls: &Calls<'_>) -> Heard<()> {
        if self.background.is_some() {
            return self.watch(calls).await;
        }
        let full = self.count(|job| job.now.standing != Standing::Gone) >= JOBS_MAX;
        match self.random.random_range(0..100) {
            0..12 if !full => self.enqueue(calls).await,
            12..21 if !full => self.enqueue_unique(calls).await,
            21..30 if !full => self.enqueue_once(calls).await,
            30..33 if !full => self.enqueue_expiring(calls).await,
            33..50 => self.claim(calls).await,
            50..55 => self.ack(calls).await,
            55..59 => self.fail(calls).await,
            59..68 => self.bury(calls).await,
            68..70 => self.release(calls).await,
            70..72 => self.extend(calls).await,
            72..75 => self.cancel(calls).await,
            75..78 => self.purge(calls).await,
            78..80 => self.pause_or_resume(calls).await,
            80..82 => self.remove_queue(calls).await,
            82..85 => self.edit(calls).await,
            85..88 => self.replay_one(calls).await,
            88..91 => self.replay_many(calls).await,
            91..94 => self.replay_in_background(calls).await,
            94..95 => self.delete_letter(calls).await,
            95..96 => self.purge_letters(calls).await,
            96..97 => self.clear(calls).await,
            97..98 => self.look_at_letters(calls).await,
            98..99 => self.limit(calls).await,
            _ => self.look(calls).await.map(drop),
        }
    }

    fn count(&self, is: impl Fn(&Job) -> bool) -> usize {
        self.jobs.values().filter(|job| is(job)).count()
    }

    /// The name of one of the jobs for which this is so.
    fn any(&mut self, is: impl Fn(&Job) -> bool) -> Option<String> {
        let names: Vec<&String> =
            self.jobs.iter().filter(|(_, job)| is(job)).map(|(name, _)| name).collect();
        if names.is_empty() {
            return None;
        }
        Some(names[self.random.random_range(0..names.len())].clone())
    }

    fn job(&mut self, name: &str) -> &mut Job {
        self.jobs.get_mut(name).unwrap()
    }

    /// The id of a job that is known to be there.
    fn id(&self, name: &str) -> String {
        self.jobs[name].id.clone().unwrap()
    }

    /// Empties and removes the queue.
    async fn clear(&mut self, calls: &Calls<'_>) -> Heard<()> {
        while let Some(name) = self.any(|job| job.held.is_some()) {
            self.end_by_ack(calls, &name).await?;
        }
        while let Some(name) = self.any(|job| job.now.standing != Standing::Gone) {
            self.cancel_one(calls, &name).await?;
        }
        self.remove_queue(calls).await
    }

    /// Acks all that can be: what is left are dead letters.
    pub async fn finish(&mut self, calls: &Calls<'_>) -> Heard<()> {
        while self.background.is_some() {
            self.watch(calls).await?;
        }
        if self.there == Some(true) {
            self.pause_or_resume(calls).await?;
        }
        let alive = |job: &Job| [Standing::Waiting, Standing::Running].contains(&job.now.standing);
        while self.count(alive) > 0 {
            while let Some(name) = self.any(|job| job.held.is_some()) {
                self.end_by_ack(calls, &name).await?;
            }
            self.claim(calls).await?;
            self.look(calls).await?;
        }
        Ok(())
    }
}
