//! What workers say: acks, fails, extends, releases, and the tokens they say it with.

use bytes::Bytes;
use pulk::dead_letter::{DeadReason, ERRORS_KEPT_MAX, FailedAttempt};
use pulk::job::JobResult;
use pulk::lease::LEASE_MS_DEFAULT;
use pulk::queue::{Failed, Failure, Settle, SettleOutcome};
use pulk::{ErrorKind, JobState, LeaseToken, Timestamp};

use super::{
    At, Checked, Lease, Timer, Truth, Written, granted, hold, is_done, other_answer, refused, token,
};
use crate::command::{Answer, Told};

impl Lease {
    pub(super) fn timeout_at(&self) -> Option<Timestamp> {
        self.timeout_ms.map(|timeout_ms| self.started.plus_ms(timeout_ms))
    }

    /// When it must be looked at: its end, or that of the time for the attempt.
    pub(super) fn attention_at(&self) -> Timestamp {
        self.timeout_at().map_or(self.deadline, |timeout_at| timeout_at.min(self.deadline))
    }

    /// It was written as it is.
    pub(super) fn is_written(&mut self) {
        let (started, deadline) = (self.started, self.deadline);
        self.written = Written { started, least_deadline: deadline, deadline };
        self.least = None;
    }
}

impl Truth {
    /// The running job whose lease this token holds.
    pub(super) fn live(&self, given: LeaseToken) -> Option<u64> {
        let serial = self.serial(given.job())?;
        let job = self.job(serial);
        let live = token(job.id?, job.deliveries) == given;
        (job.state() == JobState::Running && live).then_some(serial)
    }

    pub(super) fn lease(&mut self, serial: u64) -> &mut Lease {
        match &mut self.job_mut(serial).at {
            At::Leased { lease, .. } => lease,
            at => panic!("job {serial} runs at {at:?}"),
        }
    }

    /// The job whose lease is to end by this word. `None` when the word was refused: the token
    /// holds nothing, or the job was cancelled, and is gone now.
    fn ending(&mut self, given: LeaseToken, told: Option<&Told>) -> Checked<Option<u64>> {
        let Some(serial) = self.live(given) else {
            refused(told, ErrorKind::LeaseLost).map_err(|text| format!("I3: {text}"))?;
            return Ok(None);
        };
        if self.lease(serial).cancelled {
            refused(told, ErrorKind::Cancelled)?;
            self.forget(serial);
            return Ok(None);
        }
        Ok(Some(serial))
    }

    pub(super) fn ack(
        &mut self,
        given: LeaseToken,
        result: Option<&Bytes>,
        told: Option<&Told>,
    ) -> Checked {
        let Some(serial) = self.ending(given, told)? else { return Ok(()) };
        is_done(told)?;
        let job = self.job(serial).clone();
        let ttl_ms = self.config.result_ttl_ms;
        if let (Some(result), Some(id), 1..) = (result, job.id, ttl_ms) {
            let kept = JobResult {
                id,
                queue: self.name(job.queue).to_owned(),
                kind: job.kind,
                priority: job.priority,
                attempt: job.failures + 1,
                enqueued_at: job.born_at,
                finished_at: self.now,
                expires_at: self.now.plus_ms(ttl_ms),
                result: result.clone(),
            };
            self.results.insert(id, kept);
        }
        self.forget(serial);
        Ok(())
    }

    pub(super) fn fail(&mut self, failure: &Failure, told: Option<&Told>) -> Checked {
        let Some(serial) = self.ending(failure.token, told)? else { return Ok(()) };
        let told = match granted(told)? {
            None => None,
            Some(Answer::Failed(failed)) => Some(*failed),
            Some(other) => return Err(other_answer(other)),
        };
        self.fail_running(serial, &failure.error, failure.retry, failure.retry_in_ms, told)
    }

    /// A running job failed. What chance decides is learnt from what was told, if something was.
    pub(super) fn fail_running(
        &mut self,
        serial: u64,
        error: &str,
        retry: bool,
        retry_in_ms: Option<u64>,
        told: Option<Failed>,
    ) -> Checked {
        let (now, default) = (self.now, self.config.retry);
        let job = self.job_mut(serial);
        job.failures += 1;
        job.errors.push(FailedAttempt {
            attempt: job.failures,
            failed_at: now,
            error: error.to_owned(),
        });
        if job.errors.len() > ERRORS_KEPT_MAX {
            job.errors.remove(0);
        }
        if job.failures >= job.max_attempts || !retry {
            let reason = if retry { DeadReason::Exhausted } else { DeadReason::Rejected };
            hold!(
                told.is_none_or(|told| told == Failed::Dead { reason }),
                "job {serial} is dead as {reason}, and its worker was told {told:?}"
            );
            self.bury(serial, reason);
            return Ok(());
        }
        let policy = job.retry.unwrap_or(default);
        let doubled = 1_u64.checked_shl(job.failures - 1).unwrap_or(u64::MAX);
        let full_ms = policy.base_ms.saturating_mul(doubled).min(policy.max_ms);
        // Rounded either way.
        let least_ms = (full_ms as f64 * (1.0 - policy.jitter)).floor() as u64;
        let (mut due, mut latest) = match retry_in_ms {
            Some(retry_in_ms) => (now.plus_ms(retry_in_ms), now.plus_ms(retry_in_ms)),
            None => (now.plus_ms(least_ms), now.plus_ms(full_ms)),
        };
        match told {
            None => {}
            Some(Failed::Retrying { run_at }) if (due..=latest).contains(&run_at) => {
                (due, latest) = (run_at, run_at);
            }
            Some(other) => {
                return Err(format!("job {serial} is tried again {due} to {latest}: {other:?}"));
            }
        }
        job.expires_at = None;
        self.let_go(serial, true);
        self.job_mut(serial).at =
            At::Timer(Timer { due, latest, since: Some(now), retry: true, may_be_over: false });
        Ok(())
    }

    pub(super) fn settle_told(&mut self, settle: &Settle, told: Option<&Told>) -> Checked {
        match granted(told)? {
            None => self.settle(settle, None),
            Some(Answer::Outcomes(outcomes)) => self.settle(settle, Some(outcomes)),
            Some(other) => Err(other_answer(other)),
        }
    }

    /// Acks, then fails.
    pub(crate) fn settle(
        &mut self,
        settle: &Settle,
        outcomes: Option<&[SettleOutcome]>,
    ) -> Checked {
        let settled = settle.acks.len() + settle.fails.len();
        let given = outcomes.map_or(settled, <[_]>::len);
        hold!(given == settled, "{settled} acks and fails got {given} outcomes");
        let told = |number: usize| -> Option<Told> {
            Some(match &outcomes?[number] {
                Ok(None) => Ok(Answer::Done),
                Ok(Some(failed)) => Ok(Answer::Failed(*failed)),
                Err(error) => Err(error.clone()),
            })
        };
        for (number, ack) in settle.acks.iter().enumerate() {
            self.ack(ack.token, ack.result.as_ref(), told(number).as_ref())?;
        }
        for (number, failure) in settle.fails.iter().enumerate() {
            self.fail(failure, told(settle.acks.len() + number).as_ref())?;
        }
        Ok(())
    }

    pub(super) fn extend(
        &mut self,
        given: LeaseToken,
        lease_ms: Option<u64>,
        progress: Option<u8>,
        told: Option<&Told>,
    ) -> Checked {
        let Some(serial) = self.live(given) else {
            return refused(told, ErrorKind::LeaseLost).map_err(|text| format!("I3: {text}"));
        };
        let now = self.now;
        let lease = self.lease(serial);
        lease.lease_ms = lease_ms.unwrap_or(LEASE_MS_DEFAULT);
        lease.deadline = now.plus_ms(lease.lease_ms);
        lease.progress = progress.or(lease.progress);
        lease.is_written();
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Extended(extended)) => {
                hold!(
                    extended.expires_at == lease.attention_at()
                        && extended.cancelled == lease.cancelled,
                    "job {serial} has {lease:?}, and its worker was told {extended:?}"
                );
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    pub(super) fn release(
        &mut self,
        given: LeaseToken,
        delay_ms: Option<u64>,
        told: Option<&Told>,
    ) -> Checked {
        let Some(serial) = self.ending(given, told)? else { return Ok(()) };
        let now = self.now;
        let run_at = now.plus_ms(delay_ms.unwrap_or(0));
        match run_at > now {
            true => {
                let (due, latest, since) = (run_at, run_at, Some(now));
                self.let_go(serial, true);
                let job = self.job_mut(serial);
                job.at = At::Timer(Timer { due, latest, since, retry: false, may_be_over: false });
            }
            false => self.give_back(serial),
        }
        match granted(told)? {
            None => Ok(()),
            Some(Answer::Released(released)) => {
                let state = self.job(serial).state();
                hold!(
                    (released.state, released.run_at) == (state, run_at),
                    "job {serial} is {state} at {run_at}, and was told {released:?}"
                );
                Ok(())
            }
            Some(other) => Err(other_answer(other)),
        }
    }

    /// Ends a lease and lets its job wait where it stood.
    pub(super) fn give_back(&mut self, serial: u64) {
        let job = self.job_mut(serial);
        if let At::Leased { place, ready_at, .. } = job.at {
            job.at = At::Ready { place, ready_at };
        }
    }
}
