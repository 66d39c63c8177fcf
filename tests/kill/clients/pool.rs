//! One client's part in the work on the queues that all share.

mod end;
mod produce;
mod work;

pub use end::{drain, end_lost_leases};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::calls::{Calls, Heard, outcome};
use crate::ledger::{Held, Outcome};

pub const QUEUES: [&str; 3] = ["pool-0", "pool-1", "pool-2"];
pub const KINDS: [&str; 2] = ["work", "play"];
/// Keys that jobs of a queue share, of each kind.
const KEYS: u32 = 60;
/// Longer than most hold a job.
const LEASE_MS: u64 = 8_000;
/// Nobody enqueues while more jobs than that wait.
const BACKLOG_MAX: i64 = 1_200;
const HANDS: usize = 12;

pub struct Pool {
    number: u64,
    random: StdRng,
    /// Jobs in its hands, and whether it was told that they are cancelled.
    hands: Vec<(Held, bool)>,
    /// A token that was good once.
    spent: Option<Held>,
    named: u64,
    /// Jobs are large in this round: journal files fill up and are moved.
    pub large: bool,
}

impl Pool {
    pub fn new(number: u64, seed: u64) -> Pool {
        let (random, hands) = (StdRng::seed_from_u64(seed), Vec::new());
        Pool { number, random, hands, spent: None, named: 0, large: false }
    }

    pub fn held(&self) -> usize {
        self.hands.len()
    }

    pub async fn step(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let (empty, full) = (self.hands.is_empty(), self.hands.len() >= HANDS);
        let too_many = calls.ledger.backlog() > BACKLOG_MAX;
        match self.random.random_range(0..100) {
            0..14 if !too_many => self.enqueue(calls).await,
            14..24 if !too_many => self.enqueue_batch(calls).await,
            24..29 => self.cancel(calls).await,
            29..34 => self.look_at_one(calls).await,
            34..35 => self.list(calls).await,
            35..37 => self.use_a_spent_token(calls).await,
            37..39 => self.claim_and_forget(calls).await,
            39..55 if !full => self.claim(calls).await,
            _ if empty => self.claim(calls).await,
            39..60 => self.claim(calls).await,
            60..74 => self.ack(calls).await,
            74..82 => self.settle(calls).await,
            82..88 => self.fail(calls).await,
            88..90 => self.bury(calls).await,
            90..96 => self.extend(calls).await,
            _ => self.release(calls).await,
        }
    }

    /// Takes a job out of its hands. When the answer to what comes next is cut off, nobody knows
    /// whether the lease has ended, and the token is not used again.
    fn any(&mut self) -> Held {
        let place = self.random.random_range(0..self.hands.len());
        self.hands.swap_remove(place).0
    }

    /// Acks all that is left in its hands.
    pub async fn settle_all(&mut self, calls: &Calls<'_>) -> Heard<()> {
        while !self.hands.is_empty() {
            self.ack(calls).await?;
        }
        Ok(())
    }

    // ---- looking ----

    async fn look_at_one(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let place = self.random.random_range(0..300);
        let Some(id) = calls.ledger.recent(place) else { return Ok(()) };
        look_at(calls, &id).await
    }

    async fn list(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let began = calls.ledger.answers();
        let queue = QUEUES[self.random.random_range(0..QUEUES.len())];
        let state = ["ready", "running", "dead"][self.random.random_range(0..3)];
        let path = format!("/v1/jobs?queue={queue}&state={state}&limit=20");
        let answer = calls.get(&path).await?;
        for job in answer.json()["jobs"].as_array().unwrap() {
            assert_eq!((&job["queue"], &job["state"]), (&queue.into(), &state.into()));
            calls.ledger.listed(job["id"].as_str().unwrap(), state, began);
        }
        Ok(())
    }

    async fn use_a_spent_token(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(spent) = self.spent.take() else { return Ok(()) };
        let verb = ["ack", "release", "extend"][self.random.random_range(0..3)];
        let answer = calls.verb(verb, &spent, Value::Object(Default::default())).await?;
        assert_eq!(outcome(&answer, 0), Outcome::LeaseLost, "L3: {spent:?} was ended before");
        Ok(())
    }

    // ---- cancelling ----

    async fn cancel(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let in_hands = !self.hands.is_empty() && self.random.random_bool(0.3);
        let place = self.random.random_range(0..300);
        let id = if in_hands {
            self.hands[place % self.hands.len()].0.id.clone()
        } else {
            match calls.ledger.recent(place) {
                Some(id) => id,
                None => return Ok(()),
            }
        };
        calls.ledger.asks_to_cancel(&id);
        let answer = calls.delete("cancel", &format!("/v1/jobs/{id}")).await?;
        if answer.status == 404 {
            calls.ledger.cancelled_none(&id);
            return Ok(());
        }
        let state = answer.json()["state"].clone();
        if state == "cancelled" {
            calls.ledger.backlog_grows(-1);
        } else {
            assert_eq!(state, "running", "{answer:?}");
        }
        calls.ledger.cancelled(&id);
        if let Some((held, cancelled)) = self.hands.iter_mut().find(|(held, _)| held.id == id) {
            let lives = super::now_ms() < held.until_ms;
            assert!(state == "running" || !lives, "L3: {held:?} is not under a lease");
            *cancelled = true;
        }
        Ok(())
    }
}

/// Asks for one job, and compares.
pub async fn look_at(calls: &Calls<'_>, id: &str) -> Heard<()> {
    let (before, (_, asked_ms)) = (calls.ledger.known(id), calls.now());
    let answer = calls.get(&format!("/v1/jobs/{id}")).await?;
    calls.ledger.looked_at(id, &answer, &before, asked_ms);
    Ok(())
}
