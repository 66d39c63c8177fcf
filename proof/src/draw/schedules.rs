//! Draws what is done with schedules.

use pulk::job::{CatchUp, NewSchedule, OnConflict, Unique};
use pulk::queue::ScheduleQuery;
use pulk::{NewJob, Payload};
use pulk_proof_disk::Chance;

use super::{KEYED, Known, kind, one_in, pick, priority, queue, some};
use crate::command::Command;
use crate::truth::schedules::CRONS;

/// The schedules that are used.
const NAMES: [&str; 3] = ["nightly", "hourly/clean", "poll"];

/// Schedules have no keys.
fn unkeyed(queue: String) -> String {
    if queue == KEYED { "mail".to_owned() } else { queue }
}

impl Known {
    /// What is done with schedules.
    pub fn scheduling(&mut self, chance: &mut dyn Chance) -> Command {
        let name = pick(chance, &NAMES).to_owned();
        match chance.below(12) {
            0..4 => Command::PutSchedule(name, Box::new(self.schedule(chance))),
            4..6 => Command::RemoveSchedule(name),
            6 => Command::PauseSchedule(name),
            7 | 8 => Command::ResumeSchedule(name),
            9 => Command::RunSchedule(name),
            10 => Command::Schedule(name),
            _ => Command::Schedules(ScheduleQuery { limit: 1_000, cursor: None }),
        }
    }

    /// Takes all schedules away.
    #[must_use]
    pub fn no_schedules() -> Vec<Command> {
        NAMES.map(|name| Command::RemoveSchedule(name.to_owned())).to_vec()
    }

    fn schedule(&mut self, chance: &mut dyn Chance) -> NewSchedule {
        let (cron, every_ms, _) = pick(chance, &CRONS);
        let cron = if one_in(chance, 12) { "0 0 30 2 *" } else { cron };
        let mut job = NewJob {
            // Known by its schedule and its slot, and not by a number.
            payload: Payload::Json("[\"made by a schedule\"]".into()),
            priority: priority(chance),
            max_attempts: some(chance, 3, |chance| 1 + chance.below(4) as u32),
            ..NewJob::new(kind(chance)).queue(unkeyed(queue(chance)))
        };
        // When a replay in the background takes a key, nobody can tell.
        if !self.replays_in_background && one_in(chance, 2) {
            let on_conflict =
                pick(chance, &[OnConflict::Reject, OnConflict::Return, OnConflict::Replace]);
            let key = format!("schedule-{}", chance.below(2));
            job.unique = Some(Unique::new(key).on_conflict(on_conflict));
        }
        // Of the fast ones not everything is made up for: there would be thousands.
        let all = if every_ms < 86_400_000 { CatchUp::One } else { CatchUp::All };
        let catch_up = pick(chance, &[CatchUp::None, CatchUp::One, all]);
        NewSchedule { paused: one_in(chance, 6), ..NewSchedule::new(cron, job).catch_up(catch_up) }
    }
}
