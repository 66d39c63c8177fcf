//! What a claim must get: job after job of the lane that counts as most urgent, the lanes in turn,
//! the oldest of each first.

use std::collections::BTreeMap;

use pulk::queue::{CANDIDATES_MAX, Claim, Claimed, ClaimedJob, Next};
use pulk::{JobState, Priority};

use super::{At, Checked, Lease, QueueNumber, Truth, Written, hold, token};

/// A lane in the order of turns.
type Lane = (QueueNumber, Priority);

/// A job that a claim gets, from a lane that counted as this.
struct Chosen {
    level: Priority,
    lane: Lane,
    serial: u64,
}

impl Truth {
    /// What a claim gets now, in its order.
    #[must_use]
    pub fn choose(&self, claim: &Claim) -> Vec<u64> {
        self.chosen(claim).into_iter().map(|chosen| chosen.serial).collect()
    }

    fn chosen(&self, claim: &Claim) -> Vec<Chosen> {
        let mut taken = Vec::new();
        if !self.config.scheduler_enabled {
            return taken;
        }
        let mut last_served = self.last_served;
        let mut lanes = self.lanes(claim);
        while taken.len() < claim.limit {
            let with_level = lanes.iter().filter_map(|(lane, jobs)| {
                let wanted = |serial: &&u64| self.is_of_kind(**serial, claim);
                jobs.iter().find(wanted)?;
                Some((self.level(lane.1, *jobs.first()?), *lane))
            });
            let with_level: Vec<(Priority, Lane)> = with_level.collect();
            let Some(level) = with_level.iter().map(|(level, _)| *level).min() else { break };
            let last = last_served[usize::from(level.number())];
            let lanes_here = with_level.iter().filter(|(its, _)| *its == level);
            let lanes_here: Vec<Lane> = lanes_here.map(|(_, lane)| *lane).collect();
            let behind = lanes_here.iter().filter(|lane| last.is_none_or(|last| **lane > last));
            let Some(lane) = behind.min().or(lanes_here.iter().min()).copied() else { break };
            let jobs = lanes.get_mut(&lane).expect("it has a level");
            let wanted = jobs.iter().position(|serial| self.is_of_kind(*serial, claim));
            let serial = jobs.remove(wanted.expect("a wanted one is there"));
            last_served[usize::from(level.number())] = Some(lane);
            taken.push(Chosen { level, lane, serial });
            let of_queue = taken.iter().filter(|one| one.lane.0 == lane.0).count();
            if of_queue >= self.startable(lane.0) {
                lanes.retain(|(queue, _), _| *queue != lane.0);
            }
        }
        taken
    }

    /// Jobs wait in a lane that counts as more urgent than they are.
    pub(super) fn has_aged(&self) -> bool {
        let lanes = self.lanes(&Claim::default());
        lanes
            .iter()
            .any(|(lane, jobs)| jobs.first().is_some_and(|one| self.level(lane.1, *one) < lane.1))
    }

    fn is_of_kind(&self, serial: u64, claim: &Claim) -> bool {
        claim.kinds.is_empty() || claim.kinds.contains(&self.job(serial).kind)
    }

    /// What a lane counts as whose first job is this one.
    fn level(&self, priority: Priority, first: u64) -> Priority {
        let At::Ready { ready_at, .. } = self.job(first).at else { return priority };
        let (mut level, mut waited_ms) = (priority, self.now.ms_since(ready_at));
        loop {
            let limit_ms = self.config.ageing_ms[level];
            if level == Priority::Critical || limit_ms == 0 || waited_ms < limit_ms {
                return level;
            }
            waited_ms -= limit_ms;
            level = Priority::ALL[usize::from(level.number()) - 1];
        }
    }

    /// The ready jobs of each lane that a claim may take from, in the order of their places.
    fn lanes(&self, claim: &Claim) -> BTreeMap<Lane, Vec<u64>> {
        let mut lanes = BTreeMap::<Lane, Vec<(u64, u64)>>::new();
        for (serial, job) in &self.jobs {
            let queue = &self.queues[&job.queue];
            let wanted = !queue.paused
                && self.startable(job.queue) > 0
                && self.config.priorities.contains(&job.priority)
                && (claim.priorities.is_empty() || claim.priorities.contains(&job.priority))
                && (claim.queues.is_empty() || claim.queues.contains(&queue.name));
            if let At::Ready { place, .. } = job.at
                && wanted
            {
                lanes.entry((job.queue, job.priority)).or_default().push((place, *serial));
            }
        }
        let sorted = lanes.into_iter().map(|(lane, mut jobs)| {
            jobs.sort_unstable();
            (lane, jobs.into_iter().map(|(_, serial)| serial).collect())
        });
        sorted.collect()
    }

    /// What is told of the next job is what the next claim gets.
    pub(super) fn is_next(&self, next: &Next) -> Checked {
        let chosen = self.chosen(&Claim::default()).pop();
        let expected = chosen.map(|chosen| {
            let job = self.job(chosen.serial);
            let queue = self.name(job.queue).to_owned();
            (chosen.serial, queue, job.kind.clone(), job.priority, chosen.level)
        });
        let told = next.job.as_ref().map(|job| {
            let serial = self.serial(job.id).unwrap_or_default();
            (serial, job.queue.clone(), job.kind.clone(), job.priority, job.counts_as)
        });
        hold!(told == expected, "the next job is {expected:?}, and told as {next:?}");
        let served = next.candidates.iter().filter(|one| one.skipped.is_none());
        let ready: u64 = served.map(|one| one.ready).sum();
        let lanes = self.lanes(&Claim::default());
        let waiting: u64 = lanes.values().map(|jobs| jobs.len() as u64).sum();
        let all = self.config.scheduler_enabled && lanes.len() <= CANDIDATES_MAX;
        hold!(!all || ready == waiting, "{waiting} jobs wait, and are told as {next:?}");
        Ok(())
    }

    /// A claim is applied, and gets what it must get.
    ///
    /// # Errors
    /// When it was told something else.
    pub fn claim(&mut self, claim: &Claim, claimed: Option<&Claimed>) -> Checked {
        let chosen = self.chosen(claim);
        for Chosen { level, lane, serial } in &chosen {
            self.lend(*serial, claim);
            self.last_served[usize::from(level.number())] = Some(*lane);
        }
        let Some(claimed) = claimed else { return Ok(()) };
        let serials: Vec<u64> = chosen.into_iter().map(|chosen| chosen.serial).collect();
        let jobs = claimed.jobs.iter();
        let told: Vec<u64> = jobs
            .map(|job| self.recognize(job.id, &job.payload, &job.headers))
            .collect::<Checked<_>>()?;
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
        for told in &claimed.jobs {
            let serial = self.recognize(told.id, &told.payload, &told.headers)?;
            if self.job(serial).is_dead() {
                self.was_put_back_early(serial)?;
            }
            let job = self.job(serial);
            let queue = &self.queues[&job.queue];
            let wanted = (claim.queues.is_empty() || claim.queues.contains(&queue.name))
                && (claim.priorities.is_empty() || claim.priorities.contains(&job.priority))
                && (claim.kinds.is_empty() || claim.kinds.contains(&job.kind));
            hold!(
                wanted
                    && !queue.paused
                    && self.startable(job.queue) > 0
                    && job.state() == JobState::Ready,
                "a claim {claim:?} got job {serial}: {job:?}"
            );
            // Those put back in this group that no answer told of stand behind all others, and
            // are as young as this one if it is one of them.
            let lane = (job.queue, job.priority);
            let same = Claim { queues: vec![queue.name.clone()], ..Claim::default() };
            let first = self.lanes(&same).get(&lane).and_then(|jobs| jobs.first().copied());
            let level = self.level(lane.1, first.unwrap_or(serial));
            self.lend(serial, claim);
            self.last_served[usize::from(level.number())] = Some(lane);
            self.is_lent(serial, told)?;
        }
        Ok(())
    }

    /// Gives a lease, with the next delivery number.
    fn lend(&mut self, serial: u64, claim: &Claim) {
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
        let queue = job.queue;
        self.take_token(queue);
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
