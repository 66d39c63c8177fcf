//! What readers must be told.

use pulk::job::StateCounts;
use pulk::job::{DeadView, Found, RunningView};
use pulk::priority::PerPriority;
use pulk::queue::{DeadPage, DeadQuery, JobPage, JobQuery, QueueView};
use pulk::{ErrorKind, JobId, JobState, JobView, Priority, Timestamp};

use super::{At, Birth, Checked, Job, Truth, granted, hold, other_answer, refused};
use crate::command::{Answer, Command, Told};

/// Where a job is in a list of all.
type Position = (u8, u64, Timestamp, u64, Option<Birth>);

impl Truth {
    /// A question got the right answer.
    pub(super) fn check_read(&mut self, command: &Command, told: &Told) -> Checked {
        match command {
            Command::Job(id) => self.check_job(*id, told),
            Command::Find(id) => self.check_find(*id, told),
            Command::DeadLetter(id) => match self.letter(*id) {
                Ok(_) => self.check_job(*id, told),
                Err(kind) => refused(Some(told), kind),
            },
            Command::Queue(name) => match self.number(name) {
                Some(number) => match granted(Some(told))? {
                    Some(Answer::Queue(view)) => self.is_queue(number, view),
                    other => Err(format!("that is no queue: {other:?}")),
                },
                None => refused(Some(told), ErrorKind::NotFound),
            },
            Command::Schedule(name) => self.look_at_schedule(name, told),
            Command::ReplayStatus(id) if !self.replays.contains_key(id) => {
                refused(Some(told), ErrorKind::NotFound)
            }
            _ => match granted(Some(told))? {
                Some(answer) => self.check_many(command, answer),
                None => Ok(()),
            },
        }
    }

    fn check_many(&mut self, command: &Command, answer: &Answer) -> Checked {
        match (command, answer) {
            (Command::Queues, Answer::Queues(views)) => self.are_queues(views),
            (Command::Jobs(query), Answer::Jobs(page)) => self.is_page(query, page),
            (Command::DeadLetters(query), Answer::DeadLetters(page)) => {
                self.is_dead_page(query, page)
            }
            (Command::Replays, Answer::Replays(views)) => self.are_replays(views),
            (Command::Schedules(_), Answer::Schedules(page)) => {
                self.are_schedules(&page.schedules, self.now)
            }
            (Command::ReplayStatus(_), Answer::Replay(view)) => self.is_replay(view),
            (Command::ExplainNext, Answer::Next(next)) => self.is_next(next),
            (Command::Snapshot, Answer::Snapshot(whole)) => {
                hold!(whole.now == self.now, "it is {}, and told {}", self.now, whole.now);
                let schedules = self.schedules.len() as u64;
                hold!(whole.schedules == schedules, "{schedules} schedules: {whole:?}");
                hold!(whole.damaged_records == 0, "{} are damaged", whole.damaged_records);
                self.are_queues(&whole.queues)
            }
            (_, other) => Err(other_answer(other)),
        }
    }

    fn check_job(&mut self, id: JobId, told: &Told) -> Checked {
        let Some(serial) = self.serial(id) else {
            return refused(Some(told), ErrorKind::NotFound);
        };
        match granted(Some(told))? {
            Some(Answer::Job(view)) => self.is_job(serial, view),
            other => Err(format!("that is no job: {other:?}")),
        }
    }

    fn check_find(&mut self, id: JobId, told: &Told) -> Checked {
        let kept = self.results.get(&id).cloned();
        match (self.serial(id), kept, told) {
            (Some(serial), _, Ok(Answer::Found(Found::Job(view)))) => self.is_job(serial, view),
            (None, Some(kept), Ok(Answer::Found(Found::Done(result)))) => {
                hold!(*result == kept, "the result must be {kept:?}, and is {result:?}");
                Ok(())
            }
            (None, None, told) => refused(Some(told), ErrorKind::NotFound),
            (job, kept, told) => {
                Err(format!("{id} is job {job:?} or {kept:?}, and was found as {told:?}"))
            }
        }
    }

    // ---- queues ----

    /// How many jobs of a queue are in each state, and since when the first one is ready.
    pub(super) fn counts(
        &self,
        number: u32,
    ) -> (PerPriority<StateCounts>, PerPriority<Option<Timestamp>>) {
        let mut counts = PerPriority::<StateCounts>::default();
        let mut first = PerPriority::<Option<(u64, Timestamp)>>::default();
        for job in self.jobs.values().filter(|job| job.queue == number) {
            let of = &mut counts[job.priority];
            *match job.state() {
                JobState::Scheduled => &mut of.scheduled,
                JobState::Ready => &mut of.ready,
                JobState::Running => &mut of.running,
                JobState::Retrying => &mut of.retrying,
                JobState::Dead => &mut of.dead,
            } += 1;
            if let At::Ready { place, ready_at } = job.at {
                let first = &mut first[job.priority];
                *first =
                    Some(first.map_or((place, ready_at), |first| first.min((place, ready_at))));
            }
        }
        let oldest = PerPriority::from_fn(|priority| first[priority].map(|(_, at)| at));
        (counts, oldest)
    }

    pub(super) fn are_queues(&self, views: &[QueueView]) -> Checked {
        let mut expected: Vec<(&str, u32)> =
            self.queues.iter().map(|(number, queue)| (&*queue.name, *number)).collect();
        expected.sort_unstable();
        let told: Vec<&str> = views.iter().map(|view| &*view.name).collect();
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        hold!(told == names, "the queues {names:?} are told as {told:?}");
        let mut both = expected.iter().zip(views);
        both.try_for_each(|((_, number), view)| self.is_queue(*number, view))
    }

    // ---- pages ----

    fn position(&self, job: &Job) -> Position {
        let (nothing, lane) = (Timestamp::default(), |priority: Priority| {
            u64::from(priority.number()) << 32 | u64::from(job.queue)
        });
        match &job.at {
            At::Ready { place, .. } | At::Leased { place, .. } => {
                (0, lane(job.priority), nothing, *place, None)
            }
            At::Line { order, .. } => (1, job.line_number(), nothing, *order, None),
            At::Timer(timer) => (2, 0, timer.due, 0, Some(job.birth)),
            At::Dead { died_at, .. } => (3, u64::from(job.queue), *died_at, 0, Some(job.birth)),
        }
    }

    /// All jobs, in the order of lists.
    pub(super) fn listed(&self, wanted: impl Fn(&Job) -> bool) -> Vec<u64> {
        let wanted = self.jobs.iter().filter(|(_, job)| wanted(job));
        let mut listed: Vec<_> =
            wanted.map(|(serial, job)| (self.position(job), *serial)).collect();
        listed.sort_unstable();
        listed.into_iter().map(|(_, serial)| serial).collect()
    }

    fn is_page(&mut self, query: &JobQuery, page: &JobPage) -> Checked {
        let expected = self.listed(|job| {
            query.queue.as_ref().is_none_or(|queue| *queue == self.name(job.queue))
                && (query.states.is_empty() || query.states.contains(&job.state()))
                && query.priority.is_none_or(|priority| priority == job.priority)
                && query.kind.as_ref().is_none_or(|kind| *kind == job.kind)
        });
        let more = page.next_cursor.is_some();
        self.are_listed(&expected, &page.jobs, query.limit, query.cursor.is_some(), more)
    }

    fn is_dead_page(&mut self, query: &DeadQuery, page: &DeadPage) -> Checked {
        let choice = pulk::queue::DeadChoice::Filter(query.filter.clone());
        let expected = self.meant(&choice);
        let more = page.next_cursor.is_some();
        self.are_listed(&expected, &page.jobs, query.limit, query.cursor.is_some(), more)
    }

    /// The jobs of a page are the first of these, or some of them when it follows another page.
    fn are_listed(
        &mut self,
        expected: &[u64],
        jobs: &[JobView],
        limit: usize,
        follows: bool,
        more: bool,
    ) -> Checked {
        let told = jobs.iter().map(|job| self.recognize(job.id, &job.payload, &job.headers));
        let told = told.collect::<Checked<Vec<u64>>>()?;
        let uncertain =
            |job: &Job| matches!(&job.at, At::Timer(timer) if timer.due != timer.latest);
        if self.jobs.values().any(uncertain) {
            // Their order is not known yet.
        } else if follows {
            let first = told.first().and_then(|first| expected.iter().position(|it| it == first));
            let from = first.unwrap_or(expected.len());
            let rest = &expected[from..];
            hold!(rest.starts_with(&told), "a later page of {expected:?} tells {told:?}");
            hold!(more || rest.len() == told.len(), "a page ends the list before its end");
        } else {
            let first = &expected[..limit.min(expected.len())];
            hold!(told == first, "a page of {limit} of {expected:?} tells {told:?}");
            hold!(more == (expected.len() > limit), "more: {more}, of {expected:?}");
        }
        told.iter().zip(jobs).try_for_each(|(serial, view)| self.is_job(*serial, view))
    }

    // ---- one job ----

    /// A job is told as it is. What only chance knew is learnt.
    pub(super) fn is_job(&mut self, serial: u64, view: &JobView) -> Checked {
        self.learn(serial, view)?;
        let expected = self.view(serial, view.id);
        hold!(*view == expected, "job {serial} must be told as {expected:?}, and is {view:?}");
        Ok(())
    }

    fn view(&self, serial: u64, id: JobId) -> JobView {
        let job = self.job(serial);
        let (mut running, mut dead, mut attempt) = (None, None, job.failures + 1);
        let run_at = match &job.at {
            At::Ready { ready_at, .. } | At::Line { ready_at, .. } => *ready_at,
            At::Leased { ready_at, lease, .. } => {
                running = Some(RunningView {
                    worker: lease.worker.clone(),
                    started_at: lease.started,
                    expires_at: lease.attention_at(),
                    progress: lease.progress,
                    cancelled: lease.cancelled,
                });
                *ready_at
            }
            At::Timer(timer) => timer.due,
            At::Dead { reason, died_at } => {
                dead = Some(DeadView { reason: *reason, died_at: *died_at });
                // The last attempt is the one it died of.
                attempt = job.failures.max(1);
                *died_at
            }
        };
        JobView {
            id,
            state: job.state(),
            queue: self.name(job.queue).to_owned(),
            kind: job.kind.clone(),
            priority: job.priority,
            payload: job.payload.clone(),
            headers: job.headers.clone(),
            attempt,
            max_attempts: job.max_attempts,
            interruptions: job.interruptions,
            max_interruptions: job.max_interruptions,
            timeout_ms: job.timeout_ms,
            enqueued_at: job.born_at,
            run_at,
            expires_at: job.expires_at,
            unique_key: job.unique.as_ref().map(|(key, _)| key.clone()),
            concurrency_key: job.concurrency_key.clone(),
            ordering_key: job.ordering_key.clone(),
            waits_for: job.waits_for(),
            running,
            dead,
            errors: job.errors.clone(),
        }
    }
}
