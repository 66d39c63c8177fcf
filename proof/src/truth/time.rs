//! What time does: leases end, timers come due, what has its time is over, a clock steps back.

use pulk::dead_letter::DeadReason;
use pulk::job::limits;
use pulk::{JobState, Timestamp};

use super::{At, Checked, Lease, Truth, Written, hold};

/// How long a lease lives on after opening when it ran out while the queue was closed.
const LEASE_GRACE_MS: u64 = 10_000;
/// Time from one look for dead letters that are too old to the next.
const SWEEP_EVERY_MS: u64 = 60_000;

impl Lease {
    /// A clock that steps back takes it along.
    fn pull_back(&mut self, now: Timestamp) {
        self.started = self.started.min(now);
        self.deadline = self.deadline.min(now.plus_ms(self.lease_ms));
        if let Some((started, deadline)) = &mut self.least {
            *started = (*started).min(now);
            *deadline = (*deadline).min(now.plus_ms(self.lease_ms));
        }
        self.written.least_deadline = self.written.least_deadline.min(self.deadline);
    }

    /// Whoever held it is dead: the first group ends it, whatever the clock shows, and never as
    /// timed out.
    fn end_with_process(&mut self, now: Timestamp) {
        let first_started = self.written.started.min(now);
        let started = self.least.map_or(self.started, |(started, _)| started.min(self.started));
        let over = Timestamp::from_ms(0);
        self.least = (started != first_started).then_some((started.min(now), over));
        (self.started, self.deadline, self.timeout_ms) = (first_started, over, None);
    }

    /// After opening it is what was written, brought back within its length, and has some seconds
    /// at least. `may_step_back`: that the clock stepped back may be known beside this.
    fn reopen(&mut self, now: Timestamp, may_step_back: bool) {
        if self.in_process {
            return self.end_with_process(now);
        }
        let grace = now.plus_ms(LEASE_GRACE_MS);
        let latest = now.plus_ms(self.lease_ms);
        let opened = |deadline: Timestamp| deadline.min(latest).max(grace);
        let Written { started: first_started, least_deadline, deadline } = self.written;
        let first_started = first_started.min(now);
        let (least_deadline, deadline) = (opened(least_deadline), opened(deadline));
        let started = self.least.map_or(self.started, |(started, _)| started.min(self.started));
        let exact = (self.started.min(now), least_deadline) == (first_started, deadline)
            && self.least.is_none()
            && !(may_step_back && latest < deadline);
        (self.started, self.deadline) = (first_started, deadline);
        self.least = (!exact).then_some((started.min(now), grace.min(latest)));
        // What it has now may be written with its neighbours, or not.
        let written = &mut self.written;
        written.deadline = written.deadline.max(deadline);
        written.least_deadline = written.least_deadline.min(least_deadline);
    }
}

impl Truth {
    /// The queue is being opened at this moment, on what the last commit left: so much changes
    /// before the time does anything.
    pub fn reopen(&mut self, now: Timestamp) {
        self.limits_at = now;
        let may_step_back = now < self.latest;
        for job in self.jobs.values_mut() {
            if let At::Leased { lease, .. } = &mut job.at {
                lease.reopen(now, may_step_back);
            }
        }
    }

    /// It was opened, and what was there was looked at.
    pub fn open(&mut self, now: Timestamp) {
        self.last_served = [None; 5];
        let limited = self.config.dead_max_age_ms > 0 || self.config.dead_max_per_queue > 0;
        self.next_sweep = limited.then_some(now);
        self.earn(self.now, now, true);
        self.step_back(now);
        (self.now, self.limits_at) = (now, now);
    }

    /// What time has done at the beginning of a group.
    ///
    /// # Errors
    /// When the model contradicts itself.
    pub fn tick(&mut self, now: Timestamp) -> Checked {
        if now < self.now {
            for job in self.jobs.values_mut() {
                if let At::Leased { lease, .. } = &mut job.at {
                    lease.pull_back(now);
                }
            }
            self.step_back(now);
        }
        self.earn(self.now, now, false);
        (self.now, self.limits_at) = (now, now);
        self.latest = self.latest.max(now);
        let unseen = self.unseen.replace(now);
        hold!(unseen.is_none_or(|unseen| unseen == now), "nobody looked at what {unseen:?} did");
        self.end_leases()?;
        self.fire_timers();
        self.fire_schedules()?;
        self.go_through_lines();
        self.sweep();
        self.end_what_is_over();
        Ok(())
    }

    /// What counts from a moment that is in the future now counts from now.
    fn step_back(&mut self, now: Timestamp) {
        self.step_schedules_back(now);
        for job in self.jobs.values_mut() {
            if let At::Timer(timer) = &mut job.at
                && let Some(since) = timer.since.filter(|since| *since > now)
            {
                timer.due = now.plus_ms(timer.due.ms_since(since));
                timer.latest = now.plus_ms(timer.latest.ms_since(since));
                timer.since = Some(now);
            }
            if let (Some(expires_at), Some(ends_at)) = (job.expires_at, job.ends_at)
                && job.born_at > now
            {
                job.ends_at = Some(ends_at.min(now.plus_ms(expires_at.ms_since(job.born_at))));
            }
        }
        self.queues.values_mut().for_each(|queue| queue.bring_tokens_back(now));
        for held in self.keys.values_mut().filter(|held| held.ttl_ms.is_some()) {
            held.since = held.since.min(now);
        }
        for called in self.calls.values_mut() {
            called.until = called.until.min(now.plus_ms(limits::IDEMPOTENCY_TTL_MS));
        }
        for result in self.results.values_mut() {
            result.expires_at = result.expires_at.min(now.plus_ms(self.config.result_ttl_ms));
        }
    }

    fn end_leases(&mut self) -> Checked {
        let now = self.now;
        let over = self.jobs.iter().filter_map(|(serial, job)| match &job.at {
            At::Leased { lease, .. } if lease.attention_at() <= now => Some((*serial, lease)),
            _ => None,
        });
        let over: Vec<(u64, Lease)> = over.map(|(serial, lease)| (serial, lease.clone())).collect();
        for (serial, lease) in over {
            if lease.cancelled {
                self.forget(serial);
            } else if lease.timeout_at().is_some_and(|timeout_at| timeout_at <= now) {
                self.time_out(serial)?;
            } else {
                let job = self.job_mut(serial);
                job.interruptions += 1;
                match job.interruptions > job.max_interruptions {
                    true => self.bury(serial, DeadReason::Crashed),
                    false => self.give_back(serial),
                }
            }
        }
        Ok(())
    }

    /// An attempt took too long, which is a failure.
    pub(super) fn time_out(&mut self, serial: u64) -> Checked {
        let timeout_ms = self.job(serial).timeout_ms.unwrap_or_default();
        let error = format!("timed out: the attempt took longer than {timeout_ms} ms");
        self.fail_running(serial, &error, true, None, None)
    }

    fn fire_timers(&mut self) {
        let now = self.now;
        for job in self.jobs.values_mut() {
            if let At::Timer(timer) = &mut job.at {
                timer.may_be_over |= timer.due <= now && now < timer.latest;
            }
        }
        let due = self.jobs.iter().filter_map(|(serial, job)| match &job.at {
            At::Timer(timer) if timer.latest <= now => {
                Some((timer.due, job.birth, *serial, timer.due == timer.latest))
            }
            _ => None,
        });
        let mut due: Vec<_> = due.collect();
        due.sort();
        let exact = due.iter().all(|(_, _, _, exact)| *exact);
        for (_, _, serial, _) in due {
            self.make_ready(serial);
            let has_key = self.job(serial).has_key();
            if !exact && !has_key {
                self.unplaced.insert(serial);
            }
        }
    }

    /// Puts a job that was elsewhere at the end of its lane.
    pub(super) fn make_ready(&mut self, serial: u64) {
        let (place, ready_at) = (self.place(), self.now);
        self.let_in(serial, place, ready_at);
    }

    fn sweep(&mut self) {
        let now = self.now;
        let Some(next) = self.next_sweep.map(|next| next.min(now.plus_ms(SWEEP_EVERY_MS))) else {
            return;
        };
        self.next_sweep = Some(next);
        if next > now {
            return;
        }
        let max_age_ms = self.config.dead_max_age_ms;
        for queue in self.queues.keys().copied().collect::<Vec<_>>() {
            while let Some((died_at, serial)) = self.oldest_letter(queue) {
                let aged = max_age_ms > 0 && died_at.plus_ms(max_age_ms) <= now;
                if !aged && !self.has_too_many_letters(queue) {
                    break;
                }
                self.forget(serial);
            }
        }
        self.next_sweep = (max_age_ms > 0).then(|| now.plus_ms(SWEEP_EVERY_MS));
    }

    fn end_what_is_over(&mut self) {
        let now = self.now;
        let late = self.jobs.iter().filter(|(_, job)| {
            let waits = matches!(job.state(), JobState::Ready | JobState::Scheduled);
            waits && job.ends_at.is_some_and(|ends_at| ends_at <= now)
        });
        for serial in late.map(|(serial, _)| *serial).collect::<Vec<_>>() {
            self.bury(serial, DeadReason::Expired);
        }
        self.results.retain(|_, result| result.expires_at > now);
        self.calls.retain(|_, called| called.until > now);
    }

    // ---- deaths ----

    /// The job is a dead letter now.
    pub(super) fn bury(&mut self, serial: u64, reason: DeadReason) {
        self.free_key(serial);
        self.let_go(serial, false);
        let died_at = self.now;
        let job = self.job_mut(serial);
        (job.expires_at, job.ends_at) = (None, None);
        job.at = At::Dead { reason, died_at };
        let (queue, by_replay) = (job.queue, job.by_replay.clone());
        self.note_death(&by_replay);
        if self.has_too_many_letters(queue)
            && let Some((_, oldest)) = self.oldest_letter(queue)
        {
            self.forget(oldest);
        }
    }

    fn letters(&self, queue: u32) -> impl Iterator<Item = (Timestamp, u64)> {
        let dead = self.jobs.iter().filter(move |(_, job)| job.queue == queue);
        let dead = dead.filter_map(|(serial, job)| match job.at {
            At::Dead { died_at, .. } => Some((died_at, job.birth, *serial)),
            _ => None,
        });
        let mut letters: Vec<_> = dead.collect();
        letters.sort();
        letters.into_iter().map(|(died_at, _, serial)| (died_at, serial))
    }

    fn oldest_letter(&self, queue: u32) -> Option<(Timestamp, u64)> {
        self.letters(queue).next()
    }

    fn has_too_many_letters(&self, queue: u32) -> bool {
        let most = self.config.dead_max_per_queue;
        most > 0 && self.letters(queue).count() as u64 > most
    }
}
