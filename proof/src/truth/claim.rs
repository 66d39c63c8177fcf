//! What a claim must get: the most urgent first, the queues in turn, the oldest of each first.

use std::collections::BTreeSet;

use pulk::queue::{Claim, Claimed, ClaimedJob};
use pulk::{JobState, Priority};

use super::{At, Checked, Job, Lease, QueueNumber, Truth, Written, hold, token};

impl Truth {
    /// What a claim gets now, in its order.
    #[must_use]
    pub fn choose(&self, claim: &Claim) -> Vec<u64> {
        self.chosen(claim).into_iter().map(|(_, serial)| serial).collect()
    }

    fn chosen(&self, claim: &Claim) -> Vec<(QueueNumber, u64)> {
        let mut taken = Vec::new();
        if !self.config.scheduler_enabled {
            return taken;
        }
        for priority in Priority::ALL {
            let here = self.config.priorities.contains(&priority);
            if here && (claim.priorities.is_empty() || claim.priorities.contains(&priority)) {
                self.choose_at(priority, claim, &mut taken);
            }
        }
        taken
    }

    fn choose_at(&self, priority: Priority, claim: &Claim, taken: &mut Vec<(QueueNumber, u64)>) {
        let mut queues = self.in_turn(priority, claim);
        while !queues.is_empty() && taken.len() < claim.limit {
            let mut still_full = Vec::new();
            for (number, queue) in queues.iter().enumerate() {
                let share = (claim.limit - taken.len()).div_ceil(queues.len() - number);
                let waiting = self.waiting(priority, *queue, &claim.kinds);
                let before: BTreeSet<u64> = taken.iter().map(|(_, serial)| *serial).collect();
                let waiting = waiting.into_iter().filter(|serial| !before.contains(serial));
                let got: Vec<_> = waiting.take(share).map(|serial| (*queue, serial)).collect();
                if got.len() == share {
                    still_full.push(*queue);
                }
                taken.extend(got);
                if taken.len() >= claim.limit {
                    return;
                }
            }
            queues = still_full;
        }
    }

    /// The queues with ready jobs that a claim wants, beginning after the one served last.
    fn in_turn(&self, priority: Priority, claim: &Claim) -> Vec<QueueNumber> {
        let wanted = |number: &QueueNumber, paused: bool, name: &String| {
            let has_jobs = self.jobs.values().any(|job| {
                (job.queue, job.priority) == (*number, priority) && job.state() == JobState::Ready
            });
            let named = claim.queues.is_empty() || claim.queues.contains(name);
            named && !paused && has_jobs
        };
        let queues = self.queues.iter();
        let mut queues: Vec<QueueNumber> = queues
            .filter(|(number, queue)| wanted(number, queue.paused, &queue.name))
            .map(|(number, _)| *number)
            .collect();
        let last = self.last_served[usize::from(priority.number())];
        let first = queues.partition_point(|number| last.is_some_and(|last| *number <= last));
        queues.rotate_left(first);
        if claim.queues.is_empty() && claim.kinds.is_empty() {
            queues.truncate(claim.limit);
        }
        queues
    }

    /// The ready jobs of a lane and of some kinds, in the order of their places.
    fn waiting(&self, priority: Priority, queue: QueueNumber, kinds: &[String]) -> Vec<u64> {
        let wanted = |job: &Job| {
            (job.queue, job.priority) == (queue, priority)
                && (kinds.is_empty() || kinds.contains(&job.kind))
        };
        let waiting = self.jobs.iter().filter_map(|(serial, job)| match job.at {
            At::Ready { place, .. } if wanted(job) => Some((place, *serial)),
            _ => None,
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, serial)| serial).collect()
    }

    /// A claim is applied, and gets what it must get.
    ///
    /// # Errors
    /// When it was told something else.
    pub fn claim(&mut self, claim: &Claim, claimed: Option<&Claimed>) -> Checked {
        let chosen = self.chosen(claim);
        for (queue, serial) in &chosen {
            let priority = self.lend(*serial, claim);
            self.last_served[usize::from(priority.number())] = Some(*queue);
        }
        let Some(claimed) = claimed else { return Ok(()) };
        let serials: Vec<u64> = chosen.into_iter().map(|(_, serial)| serial).collect();
        let jobs = claimed.jobs.iter();
        let told: Vec<u64> =
            jobs.map(|job| self.recognize(job.id, &job.payload)).collect::<Checked<_>>()?;
        let both = || serials.iter().chain(&told).map(|serial| (serial, self.jobs.get(serial)));
        hold!(
            told == serials,
            "a claim must get the jobs {serials:?}, and got {told:?}: {:#?}",
            both().collect::<Vec<_>>()
        );
        serials.iter().zip(&claimed.jobs).try_for_each(|(serial, job)| self.is_lent(*serial, job))
    }

    /// A claim is applied while background replays put jobs back in the same group, of which only
    /// its answer tells: it got jobs that it may get.
    ///
    /// # Errors
    /// When it got another.
    pub fn claim_beside_replays(&mut self, claim: &Claim, claimed: &Claimed) -> Checked {
        hold!(claimed.jobs.len() <= claim.limit, "a claim got too many jobs: {claimed:?}");
        let mut last = Priority::Critical;
        for told in &claimed.jobs {
            let serial = self.recognize(told.id, &told.payload)?;
            if self.job(serial).is_dead() {
                self.was_put_back_early(serial)?;
            }
            let job = self.job(serial);
            let queue = &self.queues[&job.queue];
            let wanted = (claim.queues.is_empty() || claim.queues.contains(&queue.name))
                && (claim.priorities.is_empty() || claim.priorities.contains(&job.priority))
                && (claim.kinds.is_empty() || claim.kinds.contains(&job.kind));
            hold!(
                wanted && !queue.paused && job.state() == JobState::Ready && job.priority >= last,
                "a claim {claim:?} got job {serial}: {job:?}"
            );
            let number = job.queue;
            last = self.lend(serial, claim);
            self.last_served[usize::from(last.number())] = Some(number);
            self.is_lent(serial, told)?;
        }
        Ok(())
    }

    /// Gives a lease, with the next delivery number.
    fn lend(&mut self, serial: u64, claim: &Claim) -> Priority {
        let now = self.now;
        let job = self.job_mut(serial);
        job.deliveries += 1;
        (job.expires_at, job.ends_at) = (None, None);
        if let At::Ready { place, ready_at } = job.at {
            let deadline = now.plus_ms(claim.lease_ms);
            let lease = Lease {
                started: now,
                deadline,
                lease_ms: claim.lease_ms,
                timeout_ms: job.timeout_ms,
                worker: claim.worker.clone(),
                progress: None,
                cancelled: false,
                in_process: claim.in_process,
                written: Written { started: now, least_deadline: deadline, deadline },
                least: None,
            };
            job.at = At::Leased { place, ready_at, lease };
        }
        job.priority
    }

    fn is_lent(&self, serial: u64, told: &ClaimedJob) -> Checked {
        let job = self.job(serial);
        let At::Leased { lease, .. } = &job.at else {
            return Err(format!("job {serial} was handed out, and is {:?}", job.at));
        };
        let expected = ClaimedJob {
            id: told.id,
            queue: self.name(job.queue).to_owned(),
            kind: job.kind.clone(),
            priority: job.priority,
            payload: job.payload.clone(),
            headers: job.headers.clone(),
            attempt: job.failures + 1,
            max_attempts: job.max_attempts,
            timeout_ms: job.timeout_ms,
            token: token(told.id, job.deliveries),
            expires_at: lease.attention_at(),
        };
        hold!(*told == expected, "a worker must get {expected:?}, and got {told:?}");
        Ok(())
    }
}
