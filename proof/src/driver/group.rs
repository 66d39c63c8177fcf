//! One group: calls handed in, one commit, and the answers that they must get.

use pulk::ErrorKind;
use pulk::handle::Stepped;
use pulk::queue::{Claim, Claimed};

use super::{Driver, Waiting, poll, refused_at_once};
use crate::command::{Answer, Command, Pending, Told};
use crate::truth::{Checked, hold};

/// What happens to the commit of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails, and nothing of it is there afterwards.
    Lost,
    /// It fails, and all of it is there afterwards.
    Applied,
}

/// A call to be handed in.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The call.
    pub command: Command,
    /// Its caller goes away before the answer comes.
    pub deaf: bool,
}

/// A call that is over, and what its caller was told.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its number.
    pub number: u64,
    /// The call.
    pub command: Command,
    /// `None` when its caller was not told.
    pub told: Option<Told>,
}

struct UnderWay {
    number: u64,
    command: Command,
    deaf: bool,
    /// None for a caller that went away.
    future: Option<Pending>,
}

impl Driver {
    /// Hands in calls together and steps once. Gives those that are over; a claim that waits is
    /// over in a later group. After a fault the queue is not open any more.
    pub fn group(&mut self, calls: Vec<Handed>, fault: Fault) -> Vec<Finished> {
        let run = self.try_group(calls, fault);
        self.check(run)
    }

    /// The number that the next call will have.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.calls + 1
    }

    fn try_group(&mut self, calls: Vec<Handed>, fault: Fault) -> Checked<Vec<Finished>> {
        let mut finished = std::mem::take(&mut self.late);
        let mut under_way = Vec::new();
        for call in calls {
            if let Some(call) = self.hand_in(call, &mut finished)? {
                under_way.push(call);
            }
        }
        self.plan(fault);
        let stepped = self.step()?;
        self.unplan();
        match stepped {
            Stepped::Failed(_) => self.failed(under_way, fault, &mut finished)?,
            Stepped::Done => self.done(under_way, &mut finished)?,
            Stepped::Closed => {
                self.done(under_way, &mut finished)?;
                self.history.event(self.now(), "the queue is closed");
                hold!(self.waiting.is_empty(), "a claim waits for a queue that is closed");
                self.leave();
            }
        }
        if self.is_open() {
            self.come_to_rest()?;
            self.look()?;
        }
        finished.append(&mut self.late);
        Ok(finished)
    }

    /// Lets the queue do what is due already: jobs that are tried again at once, and leases of
    /// callers who went away.
    fn come_to_rest(&mut self) -> Checked {
        let now = self.now();
        for _ in 0..super::STEPS_WITHOUT_A_CALL_MAX {
            if self.given_back.is_empty() && self.next_due().is_none_or(|due| due > now) {
                return Ok(());
            }
            self.step()?;
            self.truth.tick(now)?;
            self.return_leases()?;
            self.serve_waiting()?;
        }
        Err("I8: it does not come to rest".to_owned())
    }

    fn hand_in(
        &mut self,
        Handed { command, deaf }: Handed,
        finished: &mut Vec<Finished>,
    ) -> Checked<Option<UnderWay>> {
        self.calls += 1;
        let number = self.calls;
        let refused = refused_at_once(&command, self.draining);
        let Some((queue, _)) = &self.engine else { return Err("it is not open".to_owned()) };
        let mut future = command.clone().call(queue.clone());
        self.draining |= matches!(command, Command::Drain | Command::Close);
        match (poll(&mut future), refused) {
            (None, None) => Ok(Some(UnderWay { number, command, deaf, future: Some(future) })),
            (Some(Err(error)), Some(kind)) if error.kind() == kind => {
                let told = Some(Err(error));
                self.history.note(self.now(), number, &command, told.as_ref());
                finished.push(Finished { number, command, told });
                Ok(None)
            }
            (told, refused) => Err(format!(
                "before its group {command:?} must be refused as {refused:?}: {told:?}"
            )),
        }
    }

    // ---- a group that is on the disk ----

    fn done(&mut self, calls: Vec<UnderWay>, finished: &mut Vec<Finished>) -> Checked {
        let now = self.now();
        self.truth.tick(now)?;
        self.return_leases()?;
        let mut claims = Vec::new();
        for mut call in calls {
            if let Command::Claim(claim) = call.command.clone() {
                claims.push((call, *claim));
                continue;
            }
            let told = self.answer(&mut call)?;
            let (number, command) = (call.number, call.command);
            self.history.note(now, number, &command, told.as_ref());
            self.truth
                .apply(&command, told.as_ref())
                .map_err(|reason| format!("call {number} {command:?}: {reason}"))?;
            finished.push(Finished { number, command, told });
        }
        self.serve_waiting()?;
        for (call, claim) in claims {
            self.serve(call, claim, finished)?;
        }
        Ok(())
    }

    /// The answer of a call; one that took several groups gets them. None when nobody waits.
    fn answer(&mut self, call: &mut UnderWay) -> Checked<Option<Told>> {
        if call.deaf {
            call.future = None;
            return Ok(None);
        }
        let Some(future) = &mut call.future else { return Ok(None) };
        for _ in 0..super::STEPS_WITHOUT_A_CALL_MAX {
            if let Some(told) = poll(future) {
                return Ok(Some(told));
            }
            self.history.count("a call of several groups");
            self.steps += 1;
            let Some((_, stepper)) = &mut self.engine else { break };
            if !matches!(stepper.step(), Stepped::Done) {
                break;
            }
        }
        Err(format!("call {} {:?} gets no answer", call.number, call.command))
    }

    /// Claims that wait: those with a job are answered, and those that have waited long enough.
    pub(super) fn serve_waiting(&mut self) -> Checked {
        self.truth.admit();
        let (now, replaying) = (self.now(), self.truth.is_replaying() || self.is_behind);
        for mut waiting in std::mem::take(&mut self.waiting) {
            let claim = waiting.claim.clone();
            let nothing = self.draining || self.truth.choose(&claim).is_empty();
            let is_over = !nothing || self.draining || waiting.deadline <= now;
            let told = poll(&mut waiting.future);
            let number = waiting.number;
            let got_some = matches!(
                &told,
                Some(Ok(Answer::Claimed(claimed))) if !claimed.jobs.is_empty()
            );
            let is_over = is_over || (replaying && got_some);
            match told {
                None if is_over && !self.is_behind => {
                    return Err(format!("claim {number} {claim:?} must be answered by now"));
                }
                None => self.waiting.push_back(waiting),
                Some(told) => {
                    hold!(is_over, "claim {number} {claim:?} must wait, and was told {told:?}");
                    let command = Command::Claim(Box::new(claim.clone()));
                    self.history.note(now, number, &command, Some(&told));
                    let what = if nothing { "a claim waited in vain" } else { "a claim waited" };
                    self.history.count(what);
                    self.claimed(&claim, Some(&told), replaying)?;
                    self.late.push(Finished { number, command, told: Some(told) });
                }
            }
        }
        Ok(())
    }

    /// A claim of this group: what rode along, then its jobs, or it waits.
    fn serve(&mut self, call: UnderWay, claim: Claim, finished: &mut Vec<Finished>) -> Checked {
        let UnderWay { number, command, deaf, future } = call;
        let (now, Some(mut future)) = (self.now(), future) else { return Ok(()) };
        let told = if deaf { None } else { poll(&mut future) };
        let outcomes = told.as_ref().and_then(|told| match told {
            Ok(Answer::Claimed(claimed)) => Some(claimed.outcomes.as_slice()),
            _ => None,
        });
        self.truth.settle(&claim.settle, outcomes.or(claim.settle.is_empty().then_some(&[])))?;
        self.truth.admit();
        let deadline = now.plus_ms(claim.wait_ms);
        let nothing = self.draining || self.truth.choose(&claim).is_empty();
        let is_over = !nothing || self.draining || deadline <= now;
        if deaf {
            if !nothing {
                self.lend_to_nobody(&claim)?;
            }
            self.history.note(now, number, &command, None);
            finished.push(Finished { number, command, told: None });
            return Ok(());
        }
        match (told, is_over) {
            (Some(told), true) => {
                self.history.note(now, number, &command, Some(&told));
                self.claimed(&claim, Some(&told), false)?;
                finished.push(Finished { number, command, told: Some(told) });
            }
            (None, false) => {
                self.waiting.push_back(Waiting { number, claim, future, deadline });
            }
            (told, is_over) => {
                return Err(format!("claim {number} {claim:?}, over: {is_over}, got {told:?}"));
            }
        }
        Ok(())
    }

    /// A claim that is over got what it must get.
    fn claimed(&mut self, claim: &Claim, told: Option<&Told>, beside_replays: bool) -> Checked {
        match told {
            None if self.draining => Ok(()),
            None => self.truth.claim(claim, None),
            Some(Ok(Answer::Claimed(claimed))) if self.draining => {
                let Claimed { jobs, .. } = claimed;
                hold!(jobs.is_empty(), "a draining queue hands out {jobs:?}");
                Ok(())
            }
            Some(Ok(Answer::Claimed(claimed))) if beside_replays => {
                self.truth.claim_beside_replays(claim, claimed)
            }
            Some(Ok(Answer::Claimed(claimed))) => self.truth.claim(claim, Some(claimed)),
            Some(other) => Err(format!("claim {claim:?} got {other:?}")),
        }
    }

    /// Jobs whose claimer has gone away are given back with the next group.
    fn lend_to_nobody(&mut self, claim: &Claim) -> Checked {
        let serials = self.truth.choose(claim);
        self.truth.claim(claim, None)?;
        self.history.count("jobs for a caller that has gone away");
        let lent = serials.into_iter().map(|serial| (serial, self.truth.deliveries(serial)));
        self.given_back.extend(lent);
        Ok(())
    }

    pub(super) fn return_leases(&mut self) -> Checked {
        for (serial, delivery) in std::mem::take(&mut self.given_back) {
            self.truth.give_back_unheard(serial, delivery);
        }
        Ok(())
    }

    // ---- a group that failed ----

    fn failed(
        &mut self,
        calls: Vec<UnderWay>,
        fault: Fault,
        finished: &mut Vec<Finished>,
    ) -> Checked {
        hold!(fault != Fault::None, "the queue failed by itself");
        let now = self.now();
        self.history.event(now, &format!("the commit fails: {fault:?}"));
        self.history.count(&format!("fault: {fault:?}"));
        let applied = fault == Fault::Applied;
        if applied {
            self.truth.tick(now)?;
            self.return_leases()?;
        }
        let mut claims = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { number, claim, future, .. } = waiting;
            let command = Command::Claim(Box::new(claim));
            claims.push((false, UnderWay { number, command, deaf: false, future: Some(future) }));
        }
        for mut call in calls {
            if matches!(call.command, Command::Claim(_)) {
                claims.push((true, call));
                continue;
            }
            self.is_told_of_the_failure(&mut call)?;
            if applied {
                self.truth.apply(&call.command, None)?;
            }
            finished.push(Finished { number: call.number, command: call.command, told: None });
        }
        self.truth.admit();
        for (fresh, mut call) in claims {
            self.is_told_of_the_failure(&mut call)?;
            if let Command::Claim(claim) = &call.command
                && applied
            {
                if fresh {
                    self.truth.settle(&claim.settle, None)?;
                    self.truth.admit();
                }
                self.claimed(claim, None, false)?;
            }
            finished.push(Finished { number: call.number, command: call.command, told: None });
        }
        self.leave();
        Ok(())
    }

    /// Nothing leaves a group that is not on the disk but its failure.
    fn is_told_of_the_failure(&mut self, call: &mut UnderWay) -> Checked {
        let Some(future) = &mut call.future else { return Ok(()) };
        let told = poll(future);
        let failed = |told: &Told| told.as_ref().is_err_and(|e| e.kind() == ErrorKind::Poisoned);
        hold!(
            told.as_ref().is_some_and(failed),
            "I7: the commit failed, and {:?} was told {told:?}",
            call.command
        );
        self.history.note(self.now(), call.number, &call.command, told.as_ref());
        Ok(())
    }
}
