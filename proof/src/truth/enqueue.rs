//! Jobs that come in: keys, answers given before, room.

use std::collections::{BTreeMap, BTreeSet};

use pulk::job::{Enqueued, OnConflict, limits};
use pulk::{ErrorKind, JobId, JobState, NewJob, Priority, RunAt, Timestamp};

use super::{
    At, Called, Checked, Given, Held, Job, Timer, Truth, granted, hold, other_answer, refused,
    serial_of,
};
use crate::command::{Answer, Told};

/// A job that is there, or the one at a place of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    There(u64),
    InBatch(usize),
}

pub(super) enum Plan {
    New { replaces: Option<Whom> },
    Existing(Whom),
    Repeat(Box<Given>),
    RepeatInBatch(usize),
}

impl Given {
    pub(super) fn enqueued(&self, queue: &str, told: &Enqueued) -> bool {
        let replaced = match (self.replaced, told.replaced) {
            (None, None) | (Some(None), Some(_)) => true,
            (Some(Some(replaced)), Some(told)) => replaced == told,
            _ => false,
        };
        replaced
            && self.id.is_none_or(|id| id == told.id)
            && (self.state, self.priority, self.is_new) == (told.state, told.priority, told.is_new)
            && (self.run_at.0..=self.run_at.1).contains(&told.run_at)
            && told.queue == queue
    }
}

impl Truth {
    pub(super) fn enqueue(&mut self, jobs: &[NewJob], told: Option<&Told>) -> Checked {
        let plans = match self.plan(jobs) {
            Ok(plans) => plans,
            Err(kind) => return refused(told, kind),
        };
        if let Err(kind) = self.room(jobs, &plans) {
            return refused(told, kind);
        }
        let answers = match granted(told)? {
            None => None,
            Some(Answer::Enqueued(answers)) if answers.len() == jobs.len() => Some(answers),
            Some(other) => return Err(other_answer(other)),
        };
        let mut given: Vec<Given> = Vec::new();
        for (place, (job, plan)) in jobs.iter().zip(plans).enumerate() {
            let answer = answers.map(|answers| &answers[place]);
            let is_repeat = matches!(plan, Plan::Repeat(_) | Plan::RepeatInBatch(_));
            let mut this = self.take_in(job, plan, &given, answer)?;
            if let Some(answer) = answer {
                hold!(
                    this.enqueued(&job.queue, answer),
                    "I7: job {place} must be {this:?}, and was told {answer:?}"
                );
                self.learn_id(this.serial, answer.id)?;
                this.id = Some(answer.id);
                this.replaced = answer.replaced.map(Some);
                this.run_at = (answer.run_at, answer.run_at);
            }
            if let Some(key) = job.idempotency_key.clone().filter(|_| !is_repeat) {
                let until = self.now.plus_ms(limits::IDEMPOTENCY_TTL_MS);
                let number = self.number(&job.queue).expect("it has a job");
                let called = Called { serial: this.serial, given: this.clone(), until };
                self.calls.insert((number, key), called);
            }
            given.push(this);
        }
        Ok(())
    }

    pub(super) fn plan(&self, jobs: &[NewJob]) -> Result<Vec<Plan>, ErrorKind> {
        let mut holders = BTreeMap::new();
        let mut calls = BTreeMap::new();
        let mut plans = Vec::new();
        for (place, job) in jobs.iter().enumerate() {
            if let Some(key) = &job.idempotency_key {
                if let Some(first) = calls.get(&(&job.queue, key)) {
                    plans.push(Plan::RepeatInBatch(*first));
                    continue;
                }
                if let Some(called) = self.called(&job.queue, key) {
                    plans.push(Plan::Repeat(Box::new(called)));
                    continue;
                }
                calls.insert((&job.queue, key), place);
            }
            if let RunAt::At(moment) = job.run_at
                && job.expires_in_ms.is_some_and(|in_ms| in_ms <= moment.ms_since(self.now))
            {
                return Err(ErrorKind::Invalid);
            }
            let Some(unique) = &job.unique else {
                plans.push(Plan::New { replaces: None });
                continue;
            };
            let name = (&job.queue, &unique.key);
            let number = self.number(&job.queue);
            let there = number.and_then(|number| self.holder(number, &unique.key));
            let holder = holders.get(&name).copied().or(there.map(Whom::There));
            let runs = |whom| match whom {
                Whom::There(serial) => self.job(serial).state() == JobState::Running,
                Whom::InBatch(_) => false,
            };
            match (holder, unique.on_conflict) {
                (None, _) => plans.push(Plan::New { replaces: None }),
                (Some(_), OnConflict::Reject) => return Err(ErrorKind::Conflict),
                (Some(holder), OnConflict::Return) => {
                    plans.push(Plan::Existing(holder));
                    continue;
                }
                (Some(holder), OnConflict::Replace) if runs(holder) => {
                    return Err(ErrorKind::Conflict);
                }
                (replaces, OnConflict::Replace) => plans.push(Plan::New { replaces }),
            }
            holders.insert(name, Whom::InBatch(place));
        }
        Ok(plans)
    }

    fn called(&self, queue: &str, key: &str) -> Option<Given> {
        let called = self.calls.get(&(self.number(queue)?, key.to_owned()))?;
        let id = called.given.id.or_else(|| self.jobs.get(&called.serial)?.id);
        let given = Given { id, is_new: false, ..called.given.clone() };
        (called.until > self.now).then_some(given)
    }

    /// Numbers of queues, and the capacity of their lanes.
    fn room(&self, jobs: &[NewJob], plans: &[Plan]) -> Result<(), ErrorKind> {
        let mut queues = BTreeSet::new();
        let mut lanes = BTreeMap::<(&str, Priority), i64>::new();
        for (job, plan) in jobs.iter().zip(plans) {
            let Plan::New { replaces } = plan else { continue };
            if self.number(&job.queue).is_none() {
                queues.insert(&job.queue);
            }
            *lanes.entry((&job.queue, job.priority)).or_default() += 1;
            if let Some(replaced) = replaces {
                let priority = match replaced {
                    Whom::There(serial) => self.job(*serial).priority,
                    Whom::InBatch(place) => jobs[*place].priority,
                };
                *lanes.entry((&job.queue, priority)).or_default() -= 1;
            }
        }
        if !queues.is_empty() && self.queues.len() + queues.len() > self.config.max_queues as usize
        {
            return Err(ErrorKind::TooManyQueues);
        }
        for ((queue, priority), new) in lanes.into_iter().filter(|(_, new)| *new > 0) {
            let capacity = self.config.queue_capacity[priority] as i64;
            let number = self.number(queue);
            let waits = |job: &&Job| {
                Some(job.queue) == number
                    && job.priority == priority
                    && !matches!(job.at, At::Leased { .. } | At::Dead { .. })
            };
            let waiting = self.jobs.values().filter(waits).count() as i64;
            if capacity > 0 && waiting + new > capacity {
                return Err(ErrorKind::Full);
            }
        }
        Ok(())
    }

    pub(super) fn take_in(
        &mut self,
        job: &NewJob,
        plan: Plan,
        before: &[Given],
        answer: Option<&Enqueued>,
    ) -> Checked<Given> {
        Ok(match plan {
            Plan::New { replaces } => {
                let replaces = replaces.map(|whom| match whom {
                    Whom::There(serial) => serial,
                    Whom::InBatch(place) => before[place].serial,
                });
                let replaced = replaces.map(|serial| self.job(serial).id);
                replaces.into_iter().for_each(|serial| self.forget(serial));
                let added = self.add(job, answer.map(|answer| answer.id))?;
                Given { replaced, ..added }
            }
            Plan::Existing(Whom::There(serial)) => {
                let holder = self.job(serial);
                let run_at = match &holder.at {
                    At::Ready { ready_at, .. }
                    | At::Line { ready_at, .. }
                    | At::Leased { ready_at, .. } => (*ready_at, *ready_at),
                    At::Timer(timer) => (timer.due, timer.latest),
                    At::Dead { died_at, .. } => (*died_at, *died_at),
                };
                Given {
                    serial,
                    id: holder.id,
                    state: holder.state(),
                    priority: holder.priority,
                    run_at,
                    replaced: None,
                    is_new: false,
                }
            }
            Plan::Existing(Whom::InBatch(place)) => {
                Given { replaced: None, is_new: false, ..before[place].clone() }
            }
            Plan::Repeat(given) => *given,
            Plan::RepeatInBatch(place) => Given { is_new: false, ..before[place].clone() },
        })
    }

    fn add(&mut self, new: &NewJob, id: Option<JobId>) -> Checked<Given> {
        let now = self.now;
        let queue = self.number(&new.queue).unwrap_or_else(|| self.new_queue(&new.queue));
        let (due, since) = match new.run_at {
            RunAt::Now => (now, None),
            RunAt::DelayMs(delay_ms) => (now.plus_ms(delay_ms), Some(now)),
            RunAt::At(moment) => (moment.max(now), None),
        };
        let place = self.place();
        let at = match due > now {
            true => At::Timer(Timer { due, latest: due, since, retry: false, may_be_over: false }),
            false => At::Ready { place, ready_at: now },
        };
        let serial = match serial_of(&new.payload) {
            Some(serial) => serial,
            None => self.serial_for(new)?,
        };
        let expires_at = new.expires_in_ms.map(|in_ms| now.plus_ms(in_ms));
        let unique = new.unique.as_ref().map(|unique| (unique.key.clone(), unique.ttl_ms));
        if let Some((key, ttl_ms)) = &unique {
            let held = Held { serial, since: now, ttl_ms: *ttl_ms };
            self.keys.insert((queue, key.clone()), held);
        }
        let config = &self.config;
        let job = Job {
            id: None,
            queue,
            kind: new.kind.clone(),
            priority: new.priority,
            payload: new.payload.clone(),
            headers: new.headers.clone(),
            max_attempts: new.max_attempts.unwrap_or(config.max_attempts[new.priority]),
            max_interruptions: new.max_interruptions.unwrap_or(config.max_interruptions),
            retry: new.retry,
            timeout_ms: new.timeout_ms,
            unique,
            concurrency_key: new.concurrency_key.clone(),
            ordering_key: new.ordering_key.clone(),
            has_turn: false,
            born_at: now,
            birth: (now, queue, new.priority, place),
            expires_at,
            ends_at: expires_at,
            failures: 0,
            interruptions: 0,
            deliveries: 0,
            errors: Vec::new(),
            by_replay: BTreeSet::new(),
            at,
        };
        let state = job.state();
        hold!(self.jobs.insert(serial, job).is_none(), "serial {serial} came twice");
        if state == JobState::Ready {
            self.let_in(serial, place, now);
        }
        if let Some(id) = id {
            self.learn_id(serial, id)?;
            let born_at: Timestamp = id.born_at();
            hold!(born_at == now, "{id} was born at {born_at}, and it is {now}");
        }
        let (priority, run_at, is_new) = (new.priority, (due, due), true);
        Ok(Given { serial, id, state, priority, run_at, replaced: None, is_new })
    }
}
