//! The end of a world: everybody behaves, and everything comes to its end.

use pulk::JobState;
use pulk::queue::{Ack, Claim, DeadChoice, Limits, Purge, PurgeDead, ReplayMany, Settle};
use pulk_proof::draw::{Known, QUEUES};
use pulk_proof::driver::{Fault, Handed};
use pulk_proof::{Answer, Command};

use super::world::World;

/// More rounds than this, and something never ends.
const ROUNDS_MAX: usize = 1_000;
/// Time passes at least by so much when nothing can be done: an hour.
const STEP_MS: u64 = 3_600_000;
/// Longer than anything is remembered.
const LONG_MS: u64 = 40 * 24 * 3_600_000;

impl World {
    /// Drains the queue. Every job ends: acked, or a dead letter, which is put back once more and
    /// then removed. Nothing is left in the store but what must stay.
    pub(crate) fn calm_down(&mut self) {
        while !self.driver.is_open() {
            self.driver.open(Fault::None);
        }
        for name in QUEUES {
            self.ask(Command::Resume(name.to_owned()));
            self.ask(Command::SetLimits(name.to_owned(), Limits::default()));
        }
        for gone in Known::no_schedules() {
            self.ask(gone);
        }
        self.drain();
        let all = ReplayMany { choice: DeadChoice::default(), ..ReplayMany::default() };
        self.ask(Command::ReplayMany(all));
        self.drain();
        let choice = DeadChoice::default();
        self.ask(Command::PurgeDead(PurgeDead { choice, dry_run: false }));
        for queue in QUEUES {
            // Jobs of priorities that this node does not hand out.
            let (queue, states) = (queue.to_owned(), Vec::new());
            self.ask(Command::Purge(Purge { queue, states, priority: None }));
        }
        let left: Vec<_> = self.driver.truth.ids(None).collect();
        assert!(left.is_empty(), "these jobs never end: {left:?}");
        for queue in QUEUES {
            self.ask(Command::RemoveQueue(queue.to_owned()));
        }
        self.driver.move_clock(self.driver.now().plus_ms(LONG_MS), false);
        self.ask(Command::Tick);
        let mut records = self.driver.records();
        records.remove("meta");
        records.remove("replays");
        assert!(records.is_empty(), "this is left in an empty queue: {records:?}");
    }

    fn ask(&mut self, command: Command) -> Option<Answer> {
        let finished = self.group(vec![(None, Handed { command, deaf: false })], Fault::None);
        let answers = finished.into_iter().filter_map(|finished| finished.told?.ok());
        answers.last()
    }

    /// Works off all that can be worked off, and lets the time pass for the rest.
    fn drain(&mut self) {
        let mut done = Settle::default();
        for _ in 0..ROUNDS_MAX {
            let (lease_ms, settle) = (24 * 3_600_000, std::mem::take(&mut done));
            let claim = Claim { limit: 40, lease_ms, settle, ..Claim::default() };
            let Some(Answer::Claimed(claimed)) = self.ask(Command::Claim(Box::new(claim))) else {
                continue;
            };
            if !claimed.jobs.is_empty() {
                done.acks = claimed.jobs.iter().map(|job| Ack::from(job.token)).collect();
                continue;
            }
            let waits = [JobState::Running, JobState::Scheduled, JobState::Retrying];
            let mut waiting =
                waits.into_iter().flat_map(|state| self.driver.truth.ids(Some(state)));
            if waiting.next().is_none() && !self.driver.truth.is_replaying() {
                return;
            }
            drop(waiting);
            let due = self.driver.next_due().unwrap();
            // Letters may be looked through every minute, while a job waits for weeks.
            self.driver.move_clock(due.max(self.driver.now().plus_ms(STEP_MS)), false);
        }
        let left: Vec<_> = self.driver.truth.ids(None).collect();
        panic!("after {ROUNDS_MAX} rounds there are {left:?}");
    }
}
