//! Everything that can be seen of a queue, against what must be.

use std::collections::BTreeSet;

use pulk::job::WaitsFor;
use pulk::queue::{Next, QueueView, ReplayView, ScheduleView};
use pulk::{JobId, JobState, JobView, Timestamp};

use super::{At, Checked, Timer, Truth, hold};

/// All that can be seen of a queue at a moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When it was looked at.
    pub at: Timestamp,
    /// All jobs, in the order of lists.
    pub jobs: Vec<JobView>,
    /// All queues.
    pub queues: Vec<QueueView>,
    /// The background replays.
    pub replays: Vec<ReplayView>,
    /// What the next claim gets, if that was asked.
    pub next: Option<Next>,
    /// The schedules.
    pub schedules: Vec<ScheduleView>,
}

impl Truth {
    /// What is seen is what must be; what only the queue knew is learnt.
    ///
    /// # Errors
    /// When it is not.
    pub fn agree(&mut self, seen: &Seen) -> Checked {
        let serials = self.identify(&seen.jobs)?;
        self.are_let_in(&seen.jobs)?;
        self.learn_replays(&serials, seen)?;
        for (serial, view) in serials.iter().zip(&seen.jobs) {
            self.is_job(*serial, view)?;
        }
        for serial in &serials {
            if self.unplaced.remove(serial) {
                let place = self.place();
                let at = &mut self.job_mut(*serial).at;
                if let At::Ready { place: at, .. } | At::Leased { place: at, .. } = at {
                    *at = place;
                }
            }
        }
        self.unplaced.clear();
        let expected = self.listed(|_| true);
        hold!(serials == expected, "jobs are listed as {serials:?}, and lie as {expected:?}");
        self.are_queues(&seen.queues)?;
        self.are_replays(&seen.replays)?;
        seen.next.as_ref().map_or(Ok(()), |next| self.is_next(next))?;
        self.are_schedules(&seen.schedules, seen.at)?;
        self.unseen = None;
        self.replays
            .keys()
            .copied()
            .collect::<Vec<_>>()
            .iter()
            .try_for_each(|id| self.left_nothing(*id))
    }

    /// The serials of the jobs seen: each job is there once, and no other.
    fn identify(&mut self, jobs: &[JobView]) -> Checked<Vec<u64>> {
        let mut serials = Vec::with_capacity(jobs.len());
        let mut missing: BTreeSet<u64> = self.jobs.keys().copied().collect();
        for view in jobs {
            let serial = self.recognize(view.id, &view.payload, &view.headers)?;
            hold!(missing.remove(&serial), "I1: job {serial} is there twice: {view:?}");
            serials.push(serial);
        }
        let lost = missing.first().map(|serial| (serial, &self.jobs[serial]));
        hold!(lost.is_none(), "I7: {} jobs are lost, the first is {lost:?}", missing.len());
        Ok(serials)
    }

    fn learn_replays(&mut self, serials: &[u64], seen: &Seen) -> Checked {
        let moved = serials
            .iter()
            .zip(&seen.jobs)
            .filter(|(serial, view)| view.state != JobState::Dead && self.job(**serial).is_dead());
        let moved: Vec<_> = moved.map(|(serial, view)| (*serial, view.run_at)).collect();
        self.were_put_back(&moved, &seen.replays)
    }

    /// What chance decided, or which of two things was on the disk: within what is allowed.
    pub(super) fn learn(&mut self, serial: u64, view: &JobView) -> Checked {
        let job = self.job_mut(serial);
        match (&mut job.at, view.state) {
            (At::Timer(timer), JobState::Ready) if timer.may_be_over => {
                self.make_ready(serial);
                self.unplaced.insert(serial);
                return self.learn(serial, view);
            }
            (
                At::Timer(Timer { due, latest, may_be_over, .. }),
                JobState::Scheduled | JobState::Retrying,
            ) if due != latest => {
                hold!(
                    (*due..=*latest).contains(&view.run_at),
                    "job {serial} is due {due} to {latest}, and waits until {}",
                    view.run_at
                );
                (*due, *latest, *may_be_over) = (view.run_at, view.run_at, false);
            }
            (At::Leased { lease, .. }, JobState::Running) => {
                let (Some((started, least)), Some(running)) = (lease.least, &view.running) else {
                    return Ok(());
                };
                let starts = started..=lease.started;
                hold!(
                    starts.contains(&running.started_at),
                    "job {serial} was started at {starts:?}: {running:?}"
                );
                lease.started = running.started_at;
                lease.least = Some((running.started_at, least));
                if lease.timeout_at() == Some(running.expires_at) {
                    return Ok(());
                }
                let most = lease.deadline;
                hold!(
                    (least..=most).contains(&running.expires_at),
                    "job {serial}'s lease ends {least} to {most}: {running:?}"
                );
                (lease.deadline, lease.least) = (running.expires_at, None);
            }
            _ => {}
        }
        Ok(())
    }

    /// Dead letters by their reasons, replays by their states, and results: what is there.
    #[must_use]
    pub fn kinds_of_things(&self) -> BTreeSet<String> {
        let dead = self.jobs.values().filter_map(|job| match job.at {
            At::Dead { reason, .. } => Some(format!("a job is dead: {reason}")),
            _ => None,
        });
        let replays = self.replays.values();
        let replays = replays.map(|it| format!("a replay is {}", it.view.state.as_str()));
        let results = self.results.iter().map(|_| "a result is kept".to_owned());
        let aged = self.has_aged().then(|| "a job counts as more urgent than it is".to_owned());
        let scheduled = self.schedules.values().flat_map(|it| {
            let (fired, missed, conflicts) = it.counts;
            let of = |count: u64, what: &str| (count > 0).then(|| format!("a schedule {what}"));
            [of(fired, "fires"), of(missed, "misses"), of(conflicts, "meets its key")]
        });
        let waits = self.jobs.values().filter_map(|job| match job.waits_for()? {
            WaitsFor::OrderingKey(_) => Some("a job waits for its turn".to_owned()),
            WaitsFor::ConcurrencyKey(_) => Some("a job waits for a place".to_owned()),
        });
        dead.chain(waits)
            .chain(replays)
            .chain(results)
            .chain(aged)
            .chain(scheduled.flatten())
            .collect()
    }

    /// Ids of jobs that were seen: none of them may ever come again for another job.
    #[must_use]
    pub fn named(&self) -> Vec<(JobId, u64)> {
        self.by_id.iter().map(|(id, serial)| (*id, *serial)).collect()
    }
}
