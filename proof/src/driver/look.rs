//! After a step: everything that can be seen is looked at, and the store is examined.

use pulk::handle::{Stepped, Stepper};
use pulk::queue::{JobQuery, Next, ScheduleQuery};

use super::{Driver, poll};
use crate::command::{Answer, Command};
use crate::truth::{Checked, Seen, hold};

/// What the next job is, is asked after so many steps.
const EXPLAIN_EVERY: u64 = 3;
/// Jobs on one page of the audit.
const PAGE_JOBS: usize = 1_000;

/// How a question gets its answer.
type Step = fn(&mut Stepper) -> Stepped;

impl Driver {
    /// What is seen must be what is true.
    pub(super) fn look(&mut self) -> Checked {
        let mut seen = self.see(Stepper::step)?;
        // Not always: claims must find out by themselves.
        if self.steps.is_multiple_of(EXPLAIN_EVERY) {
            seen.next = Some(self.see_next()?);
        }
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

    /// Before time does anything, what was opened is what the last commit left. Here the model
    /// learns of a commit that failed after it was applied, and which leases were on the disk.
    pub(super) fn look_at_what_was_left(&mut self) -> Checked {
        let commits = self.commits();
        let seen = self.see(Stepper::step_untimed)?;
        hold!(commits == self.commits(), "looking at the queue wrote to its store");
        self.truth.agree(&seen).map_err(|reason| format!("as it is opened: {reason}"))
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
    fn see(&mut self, step: Step) -> Checked<Seen> {
        let mut seen = Seen { at: self.now(), ..Seen::default() };
        let mut cursor = None;
        loop {
            let query = JobQuery { limit: PAGE_JOBS, cursor: cursor.take(), ..JobQuery::default() };
            let all = ScheduleQuery { limit: PAGE_JOBS, cursor: None };
            let asked =
                [Command::Jobs(query), Command::Queues, Command::Replays, Command::Schedules(all)];
            for answer in self.ask(asked, step)? {
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
                break;
            }
        }
        Ok(seen)
    }

    /// What the next claim gets.
    fn see_next(&mut self) -> Checked<Next> {
        let [Answer::Next(next)] = self.ask([Command::ExplainNext], Stepper::step)? else {
            return Err("what is next was not told".to_owned());
        };
        Ok(*next)
    }

    /// Questions that change nothing, in a group of their own.
    fn ask<const N: usize>(&mut self, questions: [Command; N], step: Step) -> Checked<[Answer; N]> {
        let Some((queue, stepper)) = &mut self.engine else {
            return Err("it is not open".to_owned());
        };
        let mut futures = questions.map(|question| question.call(queue.clone()));
        let early = futures.iter_mut().find_map(poll);
        hold!(early.is_none(), "a question was answered before its group: {early:?}");
        let mut answers: [Option<Answer>; N] = [const { None }; N];
        while answers.iter().any(Option::is_none) {
            self.steps += 1;
            match step(stepper) {
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
