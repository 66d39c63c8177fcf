//! What must be true, in the plainest form.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{RESULT_TTL_MS, Spec};
use crate::clock::Timestamp;
use crate::dead_letter::DeadReason;
use crate::job::{Enqueued, JobId, OnConflict, limits};
use crate::lease::LeaseToken;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum At {
    /// Scheduled, ready or retrying.
    Waiting,
    Running(LeaseToken),
    Dead(DeadReason),
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) spec: Spec,
    pub(super) at: At,
    /// When it is dead unless it is started.
    pub(super) deadline: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: JobId,
    pub(super) since: Timestamp,
    pub(super) ttl_ms: Option<u64>,
}

/// What must be true.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) known: BTreeMap<JobId, Known>,
    pub(super) held: HashMap<(u8, u8), Held>,
    pub(super) answers: HashMap<(u8, u8), (Enqueued, Timestamp)>,
    pub(super) results: BTreeMap<JobId, Timestamp>,
}

/// A job that is there, or the one at a place of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    There(JobId),
    New(usize),
}

pub(super) enum Expected {
    New { replaces: Option<Whom> },
    Existing(Whom),
    Repeat,
}

impl Truth {
    pub(super) fn holder(&self, name: (u8, u8), now: Timestamp) -> Option<JobId> {
        let held = self.held.get(&name)?;
        let over = held.ttl_ms.is_some_and(|ttl_ms| now >= held.since.plus_ms(ttl_ms));
        (!over).then_some(held.id)
    }

    pub(super) fn free(&mut self, id: JobId) {
        self.held.retain(|_, held| held.id != id);
    }

    /// What becomes of a batch, one job after the other; the place of the first refused.
    pub(super) fn expect(&self, specs: &[Spec], now: Timestamp) -> Result<Vec<Expected>, usize> {
        let mut holders = HashMap::new();
        let mut calls = HashSet::new();
        let mut expected = Vec::new();
        for (place, spec) in specs.iter().enumerate() {
            let call = spec.call.map(|call| (spec.queue, call));
            let before = call.is_some_and(|call| {
                let told = self.answers.get(&call).filter(|(_, until)| *until > now);
                told.is_some() || calls.contains(&call)
            });
            if before {
                expected.push(Expected::Repeat);
                continue;
            }
            let name = spec.unique.map(|(key, _, on_conflict)| ((spec.queue, key), on_conflict));
            let holder = name.and_then(|(name, _)| {
                let there = || self.holder(name, now).map(Whom::There);
                holders.get(&name).copied().or_else(there)
            });
            let runs = |id| matches!(self.known[id].at, At::Running(_));
            let outcome = match (holder, name) {
                (Some(_), Some((_, OnConflict::Reject))) => return Err(place),
                (Some(holder), Some((_, OnConflict::Return))) => Expected::Existing(holder),
                (Some(Whom::There(id)), _) if runs(&id) => return Err(place),
                (replaces, _) => Expected::New { replaces },
            };
            if matches!(outcome, Expected::New { .. }) {
                holders.extend(name.map(|(name, _)| (name, Whom::New(place))));
            }
            calls.extend(call);
            expected.push(outcome);
        }
        Ok(expected)
    }

    pub(super) fn clock_stepped_back(&mut self, now: Timestamp) {
        for held in self.held.values_mut() {
            held.since = held.since.min(now);
        }
        for (_, until) in self.answers.values_mut() {
            *until = (*until).min(now.plus_ms(limits::IDEMPOTENCY_TTL_MS));
        }
        for until in self.results.values_mut() {
            *until = (*until).min(now.plus_ms(RESULT_TTL_MS));
        }
        for job in self.known.values_mut() {
            let full = job.spec.expires_in_ms.map(|in_ms| now.plus_ms(in_ms));
            job.deadline = job.deadline.zip(full).map(|(deadline, full)| deadline.min(full));
        }
    }

    pub(super) fn time_passed(&mut self, now: Timestamp) {
        let late = |job: &Known| job.at == At::Waiting && job.deadline.is_some_and(|at| at <= now);
        let late: Vec<JobId> =
            self.known.iter().filter(|(_, job)| late(job)).map(|(id, _)| *id).collect();
        for id in late {
            self.bury(id, DeadReason::Expired);
        }
        self.answers.retain(|_, (_, until)| *until > now);
        self.results.retain(|_, until| *until > now);
    }

    pub(super) fn bury(&mut self, id: JobId, reason: DeadReason) {
        self.free(id);
        let job = self.known.get_mut(&id).unwrap();
        (job.at, job.deadline) = (At::Dead(reason), None);
    }
}
