//! Workers, each with a vice of its own.

use bytes::Bytes;
use pulk::queue::{Ack, Claim, ClaimedJob, Settle};
use pulk::{LeaseToken, Timestamp};
use pulk_proof::draw::{self, Known, one_in};
use pulk_proof::{Answer, Command, Told};
use pulk_proof_disk::Chance;

/// How a worker misbehaves, most of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vice {
    /// Not at all.
    None,
    /// Works on long after its lease ended, and acks then.
    Hangs,
    /// Forgets what it holds.
    Crashes,
    /// Acks twice.
    RepeatsItself,
    /// Sends tokens of deliveries that are over.
    IsStale,
    /// Extends at the last moment.
    WaitsForTheLastMoment,
    /// Gives jobs back.
    GivesBack,
    /// Fails, in every way.
    Fails,
    /// Goes away before its answers come.
    HangsUp,
    /// Finishes many jobs in one call, and asks for more in the same.
    Batches,
}

const VICES: [Vice; 10] = [
    Vice::None,
    Vice::Hangs,
    Vice::Crashes,
    Vice::RepeatsItself,
    Vice::IsStale,
    Vice::WaitsForTheLastMoment,
    Vice::GivesBack,
    Vice::Fails,
    Vice::HangsUp,
    Vice::Batches,
];

/// A job in the hands of a worker.
#[derive(Clone, Debug)]
struct Held {
    token: LeaseToken,
    until: Timestamp,
}

pub(crate) struct Worker {
    name: String,
    vice: Vice,
    holds: Vec<Held>,
    /// Tokens that it should have forgotten.
    old: Vec<LeaseToken>,
    /// It has a claim under way.
    waits: bool,
}

impl Worker {
    pub(crate) fn new(number: u64, chance: &mut dyn Chance) -> Worker {
        let vice = VICES[chance.below(VICES.len() as u64) as usize];
        let name = format!("worker-{number}");
        Worker { name, vice, holds: Vec::new(), old: Vec::new(), waits: false }
    }

    /// Its process ends, and another one of the same name begins.
    pub(crate) fn crash(&mut self) {
        self.old.extend(self.holds.drain(..).map(|held| held.token));
        self.waits = false;
    }

    /// What it says next, and whether it stays for the answer.
    pub(crate) fn speak(
        &mut self,
        chance: &mut dyn Chance,
        known: &mut Known,
        now: Timestamp,
    ) -> Option<(Command, bool)> {
        if self.waits {
            return None;
        }
        let deaf = self.vice == Vice::HangsUp && one_in(chance, 2);
        if self.vice == Vice::IsStale && !self.old.is_empty() && one_in(chance, 2) {
            let token = self.old[chance.below(self.old.len() as u64) as usize];
            return Some((Self::last_word(chance, token), deaf));
        }
        if self.holds.is_empty() || one_in(chance, 4) {
            let claim = self.claim(chance, known);
            self.waits = !deaf;
            return Some((Command::Claim(Box::new(claim)), deaf));
        }
        let held = self.holds[0].clone();
        let word = match self.vice {
            Vice::Hangs if now < held.until.plus_ms(1) => return None,
            Vice::Crashes => {
                self.crash();
                return None;
            }
            Vice::WaitsForTheLastMoment => {
                if now.plus_ms(2) < held.until {
                    return None;
                }
                let lease_ms = 1 + chance.below(60_000);
                self.holds[0].until = now.plus_ms(lease_ms);
                if !one_in(chance, 4) {
                    let progress = one_in(chance, 2).then(|| chance.below(101) as u8);
                    return Some((Command::Extend(held.token, Some(lease_ms), progress), deaf));
                }
                Command::Ack(held.token)
            }
            Vice::GivesBack => {
                let delay_ms = one_in(chance, 2).then(|| draw::wait_ms(chance));
                Command::Release(held.token, delay_ms)
            }
            Vice::Fails => Command::Fail(Known::failure(chance, held.token)),
            Vice::Batches => Command::Settle(self.settle(chance)),
            _ => Self::last_word(chance, held.token),
        };
        if !self.holds.is_empty() && (self.vice != Vice::RepeatsItself || one_in(chance, 2)) {
            self.holds.remove(0);
        }
        self.old.push(held.token);
        Some((word, deaf))
    }

    fn last_word(chance: &mut dyn Chance, token: LeaseToken) -> Command {
        match chance.below(8) {
            0..4 => Command::Ack(token),
            4 | 5 => {
                let result = format!("{{\"took\":{}}}", chance.below(100));
                Command::AckWithResult(token, result.into())
            }
            6 => Command::Fail(Known::failure(chance, token)),
            _ => Command::Release(token, None),
        }
    }

    fn claim(&mut self, chance: &mut dyn Chance, known: &mut Known) -> Claim {
        let mut claim = known.claim(chance);
        claim.worker = Some(self.name.clone());
        if self.vice == Vice::Batches {
            claim.settle = self.settle(chance);
            claim.limit += 4;
        }
        claim
    }

    /// Everything that it holds, done or failed.
    fn settle(&mut self, chance: &mut dyn Chance) -> Settle {
        let mut settle = Settle::default();
        for held in std::mem::take(&mut self.holds) {
            self.old.push(held.token);
            if one_in(chance, 3) {
                settle.fails.push(Known::failure(chance, held.token));
            } else {
                let result = one_in(chance, 2).then(|| Bytes::from_static(b"[1,2]"));
                settle.acks.push(Ack { token: held.token, result });
            }
        }
        settle
    }

    /// The answer to its claim has come, or never will.
    pub(crate) fn hear(&mut self, told: Option<&Told>) {
        self.waits = false;
        if let Some(Ok(Answer::Claimed(claimed))) = told {
            let held = |job: &ClaimedJob| Held { token: job.token, until: job.expires_at };
            self.holds.extend(claimed.jobs.iter().map(held));
        }
    }
}
