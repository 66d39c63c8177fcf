//! After a step: everything that can be seen is looked at, and the store is examined.

use pulk::handle::Stepped;
use pulk::queue::{JobQuery, ScheduleQuery};

use super::{Driver, poll};
use crate::command::{Answer, Command};
use crate::truth::{Checked, Seen, hold};

/// Jobs on one page of the audit.
const PAGE_JOBS: usize = 1_000;

impl Driver {
    /// What is seen must be what is true.
    pub(super) fn look(&mut self) -> Checked {
        let seen = self.see()?;
        self.truth.agree(&seen)?;
        for (id, serial) in self.truth.named() {
            let first = *self.ids.entry(id).or_insert(serial);
            hold!(first == serial, "I6: {id} was job {first}, and is job {serial}");
        }
        self.count_what_is_there();
        if self.examine_every > 0 && self.steps.is_multiple_of(self.examine_every) {
            self.examine()?;
        }
        Ok(())
    }

    /// Counts what was met, once in each run.
    fn count_what_is_there(&mut self) {
        for what in self.truth.kinds_of_things() {
            if self.met.insert(what.clone()) {
                self.history.count(&what);
            }
        }
    }

    fn examine(&self) -> Checked {
        let report = pulk::queue::examine(&*self.store);
        let report = report.map_err(|error| format!("the store can't be examined: {error}"))?;
        hold!(report.is_sound(), "the store is not sound: {:#?}", report.problems);
        hold!(report.set_aside == 0, "{} records were set aside", report.set_aside);
        Ok(())
    }

    /// All jobs, queues and replays as readers are told of them.
    fn see(&mut self) -> Checked<Seen> {
        let mut seen = Seen::default();
        let mut cursor = None;
        loop {
            let query = JobQuery { limit: PAGE_JOBS, cursor: cursor.take(), ..JobQuery::default() };
            let all = ScheduleQuery { limit: PAGE_JOBS, cursor: None };
            let asked =
                [Command::Jobs(query), Command::Queues, Command::Replays, Command::Schedules(all)];
            for answer in self.ask(asked)? {
                match answer {
                    Answer::Jobs(page) => {
                        seen.jobs.extend(page.jobs);
                        cursor = page.next_cursor;
                    }
                    Answer::Queues(queues) => seen.queues = queues,
                    Answer::Replays(replays) => seen.replays = replays,
                    Answer::Schedules(page) => seen.schedules = page.schedules,
                    other => return Err(format!("a question was answered by {other:?}")),
                }
            }
            if cursor.is_none() {
                return Ok(seen);
            }
        }
    }

    /// Questions that change nothing, in a group of their own.
    fn ask<const N: usize>(&mut self, questions: [Command; N]) -> Checked<[Answer; N]> {
        let Some((queue, _)) = &self.engine else { return Err("it is not open".to_owned()) };
        let mut futures = questions.map(|question| question.call(queue.clone()));
        let early = futures.iter_mut().find_map(poll);
        hold!(early.is_none(), "a question was answered before its group: {early:?}");
        let mut answers: [Option<Answer>; N] = [const { None }; N];
        while answers.iter().any(Option::is_none) {
            match self.step()? {
                Stepped::Done => {}
                other => return Err(format!("looking at the queue ended it: {other:?}")),
            }
            for (future, answer) in futures.iter_mut().zip(&mut answers) {
                if answer.is_none()
                    && let Some(told) = poll(future)
                {
                    *answer = Some(told.map_err(|error| format!("a question failed: {error}"))?);
                }
            }
        }
        Ok(answers.map(|answer| answer.expect("all of them are there")))
    }
}
