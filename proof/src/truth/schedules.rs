//! Schedules: every slot fires once or is skipped once, over crashes and a clock that jumps.
//!
//! The model knows the moments of a few expressions in UTC by plain arithmetic ([`CRONS`]); what
//! other expressions and zones mean is tested where that is worked out.

use std::collections::BTreeMap;

use pulk::job::{CatchUp, NewSchedule, SCHEDULE_HEADER};
use pulk::queue::{LastRun, ScheduleView};
use pulk::{ErrorKind, JobId, NewJob, Payload, Timestamp};

use super::enqueue::Plan;
use super::{Checked, Truth, granted, hold, is_done, other_answer, refused};
use crate::command::{Answer, Told};

/// Expressions, with the time from one slot to the next and what they are behind its beginning.
pub const CRONS: [(&str, u64, u64); 4] = [
    ("*/20 * * * * *", 20_000, 0),
    ("*/5 * * * *", 300_000, 0),
    ("0 * * * *", 3_600_000, 0),
    ("30 2 * * *", 86_400_000, 9_000_000),
];
/// A slot that is seen no later than this is on time.
const ON_TIME_MS: u64 = 60_000;
/// Most missed slots that are made up for, and most that are counted as skipped at once.
const MADE_UP_FOR_MAX: u64 = 1_000;
const COUNTED_MAX: u64 = 10_000;
/// Serials of jobs that no producer gave one begin here.
pub(super) const FIRST_SERIAL: u64 = 1 << 40;

#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    schedule: NewSchedule,
    since: Timestamp,
    done: Option<Timestamp>,
    /// The last slot that fired, its job's serial, and the job's id when it was seen.
    last: Option<(Timestamp, u64, Option<JobId>)>,
    skipped: u64,
    /// Slots that fired, that were missed, and that met a unique key.
    pub(super) counts: (u64, u64, u64),
}

/// The slots of an expression up to a moment: how many there have ever been.
fn number_until(schedule: &NewSchedule, moment: Timestamp) -> u64 {
    let (_, every_ms, behind_ms) = cron(schedule);
    (moment.as_ms() + every_ms - behind_ms) / every_ms
}

fn slot(schedule: &NewSchedule, number: u64) -> Timestamp {
    let (_, every_ms, behind_ms) = cron(schedule);
    Timestamp::from_ms((number - 1) * every_ms + behind_ms)
}

fn cron(schedule: &NewSchedule) -> (&'static str, u64, u64) {
    let known = CRONS.into_iter().find(|(cron, _, _)| *cron == schedule.cron);
    known.expect("only expressions that it knows are drawn")
}

impl Scheduled {
    fn after(&self) -> Timestamp {
        self.since.max(self.done.unwrap_or_default())
    }

    /// The slots that have come since the last one.
    fn come(&self, now: Timestamp) -> std::ops::RangeInclusive<u64> {
        number_until(&self.schedule, self.after()) + 1..=number_until(&self.schedule, now)
    }
}

impl Truth {
    // ---- calls ----

    pub(super) fn put_schedule(
        &mut self,
        name: &str,
        schedule: &NewSchedule,
        told: Option<&Told>,
    ) -> Checked {
        let now = self.now;
        let before = self.schedules.get(name).cloned();
        let same = before.as_ref().is_some_and(|it| it.schedule.cron == schedule.cron);
        let resumed = before.as_ref().is_some_and(|it| it.schedule.paused && !schedule.paused);
        let is_new = before.is_none();
        let mut put = before.unwrap_or_else(|| Scheduled {
            schedule: schedule.clone(),
            since: now,
            done: None,
            last: None,
            skipped: 0,
            counts: (0, 0, 0),
        });
        put.schedule = schedule.clone();
        if !same {
            put.done = None;
        }
        if !same || resumed {
            put.since = now;
        }
        self.schedules.insert(name.to_owned(), put);
        match granted(told)? {
            None => Ok(()),
            Some(Answer::SchedulePut(put)) => {
                hold!(put.is_new == is_new, "a schedule was put, and told {put:?}");
                self.is_schedule(&put.schedule, self.now)
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    pub(super) fn remove_schedule(&mut self, name: &str, told: Option<&Told>) -> Checked {
        match self.schedules.remove(name) {
            Some(_) => is_done(told),
            None => refused(told, ErrorKind::NotFound),
        }
    }

    pub(super) fn pause_schedule(
        &mut self,
        name: &str,
        paused: bool,
        told: Option<&Told>,
    ) -> Checked {
        let now = self.now;
        let Some(scheduled) = self.schedules.get_mut(name) else {
            return refused(told, ErrorKind::NotFound);
        };
        if scheduled.schedule.paused && !paused {
            scheduled.since = now;
        }
        scheduled.schedule.paused = paused;
        self.schedule_told(told)
    }

    pub(super) fn run_schedule(&mut self, name: &str, told: Option<&Told>) -> Checked {
        let Some(scheduled) = self.schedules.get(name) else {
            return refused(told, ErrorKind::NotFound);
        };
        let job = scheduled.schedule.job_for(name, self.now);
        self.enqueue(&[job], told)
    }

    pub(super) fn look_at_schedule(&mut self, name: &str, told: &Told) -> Checked {
        match self.schedules.contains_key(name) {
            true => self.schedule_told(Some(told)),
            false => refused(Some(told), ErrorKind::NotFound),
        }
    }

    fn schedule_told(&mut self, told: Option<&Told>) -> Checked {
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Schedule(view)) => self.is_schedule(view, self.now),
            Some(other) => Err(other_answer(other)),
        }
    }

    // ---- time ----

    pub(super) fn step_schedules_back(&mut self, now: Timestamp) {
        for scheduled in self.schedules.values_mut() {
            scheduled.since = scheduled.since.min(now);
        }
    }

    /// How many slots will have come by then.
    pub(crate) fn slots_come(&self, now: Timestamp) -> usize {
        let running = self.schedules.values().filter(|it| !it.schedule.paused);
        running.map(|it| it.come(now).count()).sum()
    }

    /// Every slot that has come is fired or skipped, the schedule with the first one first.
    pub(super) fn fire_schedules(&mut self) -> Checked {
        if !self.config.scheduler_enabled {
            return Ok(());
        }
        let running = self.schedules.iter().filter(|(_, it)| !it.schedule.paused);
        let due = running.map(|(name, it)| (it.come(self.now), it.schedule.clone(), name.clone()));
        let due = due.filter(|(come, ..)| !come.is_empty());
        let mut due: Vec<_> =
            due.map(|(come, schedule, name)| (slot(&schedule, *come.start()), name)).collect();
        due.sort();
        due.into_iter().try_for_each(|(_, name)| self.fire_due(&name))
    }

    fn fire_due(&mut self, name: &str) -> Checked {
        let scheduled = &self.schedules[name];
        let (come, schedule) = (scheduled.come(self.now), scheduled.schedule.clone());
        let on_time = self.now.minus_ms(ON_TIME_MS + 1);
        let first_on_time = (number_until(&schedule, on_time) + 1).max(*come.start());
        let missed = first_on_time - come.start();
        let made_up_for = missed.min(match schedule.catch_up {
            CatchUp::None => 0,
            CatchUp::One => 1,
            CatchUp::All => MADE_UP_FOR_MAX,
        });
        let first = first_on_time - made_up_for;
        let skipped = (missed - made_up_for).min(COUNTED_MAX);
        if skipped > 0 {
            let scheduled = self.schedules.get_mut(name).expect("it is there");
            scheduled.skipped += skipped;
            scheduled.counts.1 += skipped;
            scheduled.done = Some(slot(&schedule, first - 1));
        }
        (first..=*come.end()).try_for_each(|number| self.fire(name, slot(&schedule, number)))
    }

    fn fire(&mut self, name: &str, slot: Timestamp) -> Checked {
        let job = self.schedules[name].schedule.job_for(name, slot);
        let made = match self.plan(std::slice::from_ref(&job)).ok().and_then(|mut it| it.pop()) {
            Some(plan @ Plan::New { .. }) => Some(self.take_in(&job, plan, &[], None)?.serial),
            _ => None,
        };
        let scheduled = self.schedules.get_mut(name).expect("it is there");
        scheduled.done = Some(slot);
        match made {
            Some(serial) => {
                scheduled.last = Some((slot, serial, None));
                scheduled.counts.0 += 1;
            }
            None => {
                scheduled.skipped += 1;
                scheduled.counts.2 += 1;
            }
        }
        Ok(())
    }

    // ---- what is seen ----

    /// All schedules are told, each as it is.
    pub(super) fn are_schedules(&mut self, told: &[ScheduleView], now: Timestamp) -> Checked {
        let names: Vec<&str> = told.iter().map(|view| &*view.name).collect();
        let expected: Vec<&str> = self.schedules.keys().map(String::as_str).collect();
        hold!(names == expected, "the schedules {expected:?} are told as {names:?}");
        told.iter().try_for_each(|view| self.is_schedule(view, now))
    }

    fn is_schedule(&mut self, view: &ScheduleView, now: Timestamp) -> Checked {
        let jobs = &self.jobs;
        let Some(scheduled) = self.schedules.get_mut(&view.name) else {
            return Err(format!("there is no such schedule: {view:?}"));
        };
        let schedule = NewSchedule {
            cron: view.cron.clone(),
            time_zone: view.time_zone.clone(),
            job: view.job.clone(),
            catch_up: view.catch_up,
            paused: view.paused,
        };
        hold!(schedule == scheduled.schedule, "{:?} is told as {view:?}", scheduled.schedule);
        let told_job = view.last_run.map(|last| last.job);
        let last_run = scheduled.last.as_mut().map(|(slot, serial, id)| {
            // A job that was gone before anybody saw it is known by this alone.
            *id = id.or_else(|| jobs.get(serial)?.id).or(told_job);
            (*slot, *id)
        });
        let told = view.last_run.map(|LastRun { slot, job }| (slot, Some(job)));
        hold!(told == last_run, "{} ran last at {last_run:?}, and tells {told:?}", view.name);
        let skipped = scheduled.skipped;
        hold!(view.skipped == skipped, "{} skipped {skipped}: {view:?}", view.name);
        let next = number_until(&schedule, scheduled.after().max(now));
        let next = (1..4).filter(|_| !schedule.paused).map(|more| slot(&schedule, next + more));
        let told: Vec<_> = view.next_runs(3).into_iter().map(|run| run.at).collect();
        let next: Vec<_> = next.collect();
        hold!(next == told, "{} runs at {next:?} next, and tells {told:?}", view.name);
        Ok(())
    }

    /// The job of a schedule is known by its schedule and its slot.
    pub(super) fn recognize_scheduled(
        &self,
        id: JobId,
        headers: &BTreeMap<String, String>,
    ) -> Option<u64> {
        if let Some(serial) = self.serial(id) {
            return Some(serial);
        }
        headers.get(SCHEDULE_HEADER)?;
        let mut unknown = self.jobs.iter().filter(|(_, job)| job.id.is_none());
        unknown.find(|(_, job)| job.headers == *headers).map(|(serial, _)| *serial)
    }

    /// A serial for a job that brings none.
    pub(super) fn serial_for(&mut self, job: &NewJob) -> Checked<u64> {
        let Payload::Json(_) = &job.payload else {
            return Err(format!("a job without a serial: {job:?}"));
        };
        self.next_scheduled += 1;
        Ok(FIRST_SERIAL + self.next_scheduled)
    }
}
