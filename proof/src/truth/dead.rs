//! Dead letters: edited, deleted, purged, put back to work, one or many.

use std::collections::BTreeSet;

use pulk::queue::{
    DeadChoice, DeadEdit, DeadFilter, DeadPurged, ManyReplayed, PurgeDead, ReplayMany,
};
use pulk::{ErrorKind, JobId};

use super::{At, Birth, Checked, Held, Job, Truth, granted, hold, is_done, other_answer, refused};
use crate::command::{Answer, Told};

impl Truth {
    /// The dead letter with this id, or why there is none.
    pub(super) fn letter(&self, id: JobId) -> Result<u64, ErrorKind> {
        let serial = self.serial(id).ok_or(ErrorKind::NotFound)?;
        if self.job(serial).is_dead() { Ok(serial) } else { Err(ErrorKind::Conflict) }
    }

    pub(super) fn lets_through(&self, filter: &DeadFilter, job: &Job) -> bool {
        let At::Dead { reason, .. } = job.at else { return false };
        let last_error = job.errors.last().map_or("", |last| &last.error);
        filter.queue.as_ref().is_none_or(|queue| *queue == self.name(job.queue))
            && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
            && filter.reason.is_none_or(|wanted| wanted == reason)
            && filter.error.as_ref().is_none_or(|error| last_error.contains(error.as_str()))
    }

    /// The dead letters that a choice means, in the order in which it comes to them.
    pub(super) fn meant(&self, choice: &DeadChoice) -> Vec<u64> {
        match choice {
            DeadChoice::Ids(ids) => {
                let mut seen = BTreeSet::new();
                let ids = ids.iter().filter(|id| seen.insert(**id));
                ids.filter_map(|id| self.letter(*id).ok()).collect()
            }
            DeadChoice::Filter(filter) => {
                let dead = self.jobs.iter().filter(|(_, job)| self.lets_through(filter, job));
                let mut meant: Vec<u64> = dead.map(|(serial, _)| *serial).collect();
                meant.sort_by_key(|serial| self.death(*serial));
                meant
            }
        }
    }

    pub(super) fn death(&self, serial: u64) -> (u32, pulk::Timestamp, Birth) {
        let job = self.job(serial);
        let At::Dead { died_at, .. } = job.at else { return (job.queue, self.now, job.birth) };
        (job.queue, died_at, job.birth)
    }

    pub(super) fn edit(&mut self, id: JobId, edit: &DeadEdit, told: Option<&Told>) -> Checked {
        let serial = match self.letter(id) {
            Ok(serial) => serial,
            Err(kind) => return refused(told, kind),
        };
        let job = self.job_mut(serial);
        let edit = edit.clone();
        job.kind = edit.kind.unwrap_or(job.kind.clone());
        job.payload = edit.payload.unwrap_or(job.payload.clone());
        job.headers = edit.headers.unwrap_or(job.headers.clone());
        job.priority = edit.priority.unwrap_or(job.priority);
        job.max_attempts = edit.max_attempts.unwrap_or(job.max_attempts);
        job.max_interruptions = edit.max_interruptions.unwrap_or(job.max_interruptions);
        job.retry = edit.retry.unwrap_or(job.retry);
        job.timeout_ms = edit.timeout_ms.unwrap_or(job.timeout_ms);
        for replay in self.replays.values_mut() {
            replay.edited.insert(serial);
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Job(view)) => self.is_job(serial, view),
            Some(other) => Err(other_answer(other)),
        }
    }

    pub(super) fn delete_dead(&mut self, id: JobId, told: Option<&Told>) -> Checked {
        match self.letter(id) {
            Ok(serial) => {
                self.forget(serial);
                is_done(told)
            }
            Err(kind) => refused(told, kind),
        }
    }

    pub(super) fn purge_dead(&mut self, purge: &PurgeDead, told: Option<&Told>) -> Checked {
        let meant = self.meant(&purge.choice);
        let mut expected = DeadPurged { matched: meant.len() as u64, removed: 0 };
        if !purge.dry_run {
            expected.removed = expected.matched;
            meant.into_iter().for_each(|serial| self.forget(serial));
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::DeadPurged(purged)) => {
                hold!(*purged == expected, "a purge did {expected:?}, and told {purged:?}");
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    // ---- replays ----

    /// Lets a letter hold its unique key again; the job that stands in the way if one does.
    fn retake_key(&mut self, serial: u64) -> Result<(), u64> {
        let (now, job) = (self.now, self.job(serial));
        let Some((key, ttl_ms)) = job.unique.clone() else { return Ok(()) };
        let (queue, born_at) = (job.queue, job.born_at);
        if ttl_ms.is_some_and(|ttl_ms| now >= born_at.plus_ms(ttl_ms)) {
            return Ok(());
        }
        match self.holder(queue, &key) {
            Some(holder) if holder != serial => Err(holder),
            _ => {
                let held = Held { serial, since: born_at.min(now), ttl_ms };
                self.keys.insert((queue, key), held);
                Ok(())
            }
        }
    }

    /// Puts a letter back to work: its attempts begin again.
    pub(super) fn put_back(&mut self, serial: u64, by_replay: BTreeSet<u64>) -> Result<(), u64> {
        self.retake_key(serial)?;
        let job = self.job_mut(serial);
        (job.failures, job.interruptions) = (0, 0);
        job.by_replay = by_replay;
        self.make_ready(serial);
        for replay in self.replays.values_mut() {
            replay.letters.remove(&serial);
        }
        Ok(())
    }

    pub(super) fn replay(&mut self, id: JobId, told: Option<&Told>) -> Checked {
        let serial = match self.letter(id) {
            Ok(serial) => serial,
            Err(kind) => return refused(told, kind),
        };
        if let Err(holder) = self.put_back(serial, BTreeSet::new()) {
            refused(told, ErrorKind::Conflict)?;
            let holder = self.job(holder).id.map(|id| id.to_string());
            let named = told.and_then(|told| told.as_ref().err()?.job());
            hold!(
                told.is_none() || named == holder.as_deref(),
                "{id} can't be replayed for {holder:?}, and was told {named:?}"
            );
            return Ok(());
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Enqueued(answers)) if answers.len() == 1 => {
                let (answer, job) = (&answers[0], self.job(serial));
                hold!(
                    (answer.id, answer.state, answer.run_at) == (id, job.state(), self.now)
                        && (&*answer.queue, answer.priority)
                            == (self.name(job.queue), job.priority)
                        && (answer.replaced, answer.is_new) == (None, false),
                    "{id} was replayed, and told {answer:?}"
                );
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    pub(super) fn replay_many(&mut self, request: &ReplayMany, told: Option<&Told>) -> Checked {
        let in_background = request.rate_per_s.filter(|_| !request.dry_run);
        if in_background.is_some() && self.too_many_replays() {
            return refused(told, ErrorKind::Conflict);
        }
        let meant = self.meant(&request.choice);
        let limit = request.limit.unwrap_or(u64::MAX);
        let mut expected = ManyReplayed::default();
        if request.dry_run || in_background.is_some() {
            expected.matched = limit.min(meant.len() as u64);
        } else {
            for serial in meant {
                if expected.replayed == limit {
                    break;
                }
                expected.matched += 1;
                match self.put_back(serial, BTreeSet::new()) {
                    Ok(()) => expected.replayed += 1,
                    Err(_) => expected.skipped += 1,
                }
            }
        }
        if let Some(rate_per_s) = in_background {
            expected.replay = Some(self.begin_replay(request, rate_per_s, expected.matched));
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::ManyReplayed(replayed)) => {
                hold!(*replayed == expected, "a replay did {expected:?}, and told {replayed:?}");
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }
}
