//! Jobs that share keys: who may run, and who waits for whom.

use std::collections::{BTreeMap, BTreeSet};

use pulk::job::WaitsFor;
use pulk::{JobState, JobView, Priority, Timestamp};

use super::{At, Checked, Job, QueueNumber, Truth, hold};

/// What a key limits, in the order of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Ordering,
    Concurrency,
}

/// A key of a queue, in the order in which places are given.
pub(super) type Shared = (QueueNumber, Kind, String);

impl Job {
    pub(super) fn shared(&self, kind: Kind) -> Option<Shared> {
        let key = match kind {
            Kind::Ordering => &self.ordering_key,
            Kind::Concurrency => &self.concurrency_key,
        };
        Some((self.queue, kind, key.clone()?))
    }

    /// It shares a key with others.
    pub(super) fn has_key(&self) -> bool {
        self.ordering_key.is_some() || self.concurrency_key.is_some()
    }

    fn waits_at(&self, kind: Kind) -> Option<(Priority, u64)> {
        match self.at {
            At::Line { kind: at, order, .. } if at == kind => {
                let by = if kind == Kind::Ordering { Priority::Critical } else { self.priority };
                Some((by, order))
            }
            _ => None,
        }
    }

    fn has_place(&self, kind: Kind) -> bool {
        match kind {
            Kind::Ordering => self.has_turn,
            Kind::Concurrency => matches!(self.at, At::Ready { .. } | At::Leased { .. }),
        }
    }

    /// Where the line in which it waits stands in lists, and its urgency there. Keys are one
    /// letter each here.
    pub(super) fn line_number(&self) -> u64 {
        let At::Line { kind, .. } = self.at else { return 0 };
        let (key, urgency) = match kind {
            Kind::Ordering => (&self.ordering_key, Priority::Critical),
            Kind::Concurrency => (&self.concurrency_key, self.priority),
        };
        let letter = key.as_ref().and_then(|key| key.bytes().next()).unwrap_or_default();
        let parts = [kind as u8, letter, urgency.number()].map(u64::from);
        parts.into_iter().fold(u64::from(self.queue), |number, part| number << 8 | part)
    }

    /// What it is told to wait for.
    pub(super) fn waits_for(&self) -> Option<WaitsFor> {
        match self.at {
            At::Line { kind: Kind::Ordering, .. } => {
                self.ordering_key.clone().map(WaitsFor::OrderingKey)
            }
            At::Line { kind: Kind::Concurrency, .. } => {
                self.concurrency_key.clone().map(WaitsFor::ConcurrencyKey)
            }
            _ => None,
        }
    }
}

impl Truth {
    fn places(&self, key: &Shared) -> usize {
        let per_key = self.queues[&key.0].limits.concurrency_per_key;
        match key.1 {
            Kind::Ordering => 1,
            Kind::Concurrency => per_key.map_or(1, |per_key| per_key as usize),
        }
    }

    fn taken(&self, key: &Shared) -> usize {
        let holders = self.jobs.values().filter(|job| job.has_place(key.1));
        holders.filter(|job| job.shared(key.1).as_ref() == Some(key)).count()
    }

    /// Who waits for a key, the next one first.
    fn line(&self, key: &Shared) -> Vec<u64> {
        let jobs = self.jobs.iter();
        let jobs = jobs.filter(|(_, job)| job.shared(key.1).as_ref() == Some(key));
        let waiting = jobs.filter_map(|(serial, job)| Some((job.waits_at(key.1)?, *serial)));
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, serial)| serial).collect()
    }

    /// A job is ready: it goes to its lane, or into a line.
    pub(super) fn let_in(&mut self, serial: u64, place: u64, ready_at: Timestamp) {
        let mut at = At::Ready { place, ready_at };
        // It has no place yet, wherever it is.
        self.job_mut(serial).at = At::Line { kind: Kind::Ordering, order: u64::MAX, ready_at };
        for kind in [Kind::Ordering, Kind::Concurrency] {
            let job = self.job(serial);
            let Some(key) = job.shared(kind) else { continue };
            if kind == Kind::Ordering && job.has_turn {
                continue;
            }
            let is_first = self.line(&key).iter().all(|other| *other == serial);
            if !is_first || self.taken(&key) >= self.places(&key) {
                at = At::Line { kind, order: place, ready_at };
                break;
            }
            self.job_mut(serial).has_turn |= kind == Kind::Ordering;
        }
        self.job_mut(serial).at = at;
    }

    /// A job leaves where it is: what it held is free.
    pub(super) fn let_go(&mut self, serial: u64, keeps_turn: bool) {
        let Some(job) = self.jobs.get_mut(&serial) else { return };
        if job.has_place(Kind::Concurrency) {
            self.freed.extend(job.shared(Kind::Concurrency));
        }
        if job.has_turn && !keeps_turn {
            self.freed.extend(job.shared(Kind::Ordering));
            job.has_turn = false;
        }
    }

    /// What came free is given to those who wait for it.
    pub(crate) fn admit(&mut self) {
        while let Some(key) = self.freed.pop_first() {
            self.admit_to(&key);
        }
    }

    fn admit_to(&mut self, key: &Shared) {
        loop {
            let Some(serial) = self.line(key).first().copied() else { return };
            if self.taken(key) >= self.places(key) {
                return;
            }
            let At::Line { ready_at, .. } = self.job(serial).at else { return };
            let place = self.place();
            let job = self.job_mut(serial);
            job.at = At::Ready { place, ready_at };
            if key.1 == Kind::Ordering {
                job.has_turn = true;
                self.let_in(serial, place, ready_at);
            }
        }
    }

    /// The limits of a queue changed: all its lines are looked through with the next tick.
    pub(super) fn look_through_lines(&mut self, queue: QueueNumber) {
        let mut jobs = self.jobs.values();
        if jobs.any(|job| job.queue == queue && matches!(job.at, At::Line { .. })) {
            self.walks.insert(queue);
        }
    }

    pub(super) fn go_through_lines(&mut self) {
        for queue in std::mem::take(&mut self.walks) {
            for kind in [Kind::Ordering, Kind::Concurrency] {
                let of_queue = self.jobs.values().filter(|job| job.queue == queue);
                let keys: BTreeSet<Shared> = of_queue.filter_map(|job| job.shared(kind)).collect();
                keys.iter().for_each(|key| self.admit_to(key));
            }
        }
    }

    pub(super) fn in_lines(&self, queue: QueueNumber, priority: Priority) -> u64 {
        let jobs = self.jobs.values().filter(|job| job.queue == queue && job.priority == priority);
        jobs.filter(|job| matches!(job.at, At::Line { .. })).count() as u64
    }

    /// What is seen of keys by itself, whatever the model has: no more run than may, of one
    /// ordering key one at a time, and nobody waits for nobody.
    pub(super) fn are_let_in(&self, jobs: &[JobView]) -> Checked {
        let mut seen = BTreeMap::<(String, Kind, String), Sharing>::new();
        for job in jobs.iter().filter(|job| job.state != JobState::Dead) {
            let keys =
                [(Kind::Ordering, &job.ordering_key), (Kind::Concurrency, &job.concurrency_key)];
            for (kind, key) in keys {
                let Some(key) = key else { continue };
                let sharing = seen.entry((job.queue.clone(), kind, key.clone())).or_default();
                let waits = match &job.waits_for {
                    Some(WaitsFor::OrderingKey(_)) => kind == Kind::Ordering,
                    Some(WaitsFor::ConcurrencyKey(_)) => kind == Kind::Concurrency,
                    None => false,
                };
                sharing.running += usize::from(job.state == JobState::Running);
                sharing.waiting += usize::from(waits);
                let is_in_lane = matches!(job.state, JobState::Running | JobState::Ready);
                let may_hold = kind == Kind::Ordering || is_in_lane && job.waits_for.is_none();
                sharing.holding += usize::from(may_hold && !waits);
            }
        }
        for ((queue, kind, key), sharing) in seen {
            let Some(number) = self.number(&queue) else { continue };
            let name = (number, kind, key);
            let places = self.places(&name);
            let most = match kind {
                Kind::Ordering => 1,
                Kind::Concurrency => places.max(self.queues[&number].most_places),
            };
            hold!(sharing.running <= most, "{name:?} has {most} places: {sharing:?}");
            let starves = sharing.waiting > 0 && sharing.holding < places;
            hold!(!starves || self.walks.contains(&number), "{name:?} is free: {sharing:?}");
        }
        Ok(())
    }
}

/// The jobs that share a key, as they are seen.
#[derive(Debug, Default)]
struct Sharing {
    running: usize,
    waiting: usize,
    holding: usize,
}
