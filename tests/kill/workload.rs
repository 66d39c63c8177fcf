//! Workers that do everything a client can do, and write down every answer.

use std::collections::HashSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::ledger::{Held, Ledger};
use crate::node::{Answer, Http, within};

/// Shorter than what a restart grants, longer than a round.
const LEASE_MS: u64 = 8_000;

/// A connection that broke, which is what a kill looks like from outside.
struct CutOff;

pub struct Worker {
    number: u64,
    random: StdRng,
    ledger: Arc<Ledger>,
    held: Vec<Held>,
    calls: u64,
    cut_off: bool,
}

impl Worker {
    pub fn new(number: u64, seed: u64, ledger: Arc<Ledger>) -> Worker {
        let random = StdRng::seed_from_u64(seed);
        Worker { number, random, ledger, held: Vec::new(), calls: 0, cut_off: false }
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn was_cut_off(&self) -> bool {
        self.cut_off
    }

    /// Works until the node is gone.
    pub async fn work(&mut self, node: &Http) {
        self.cut_off = false;
        while self.step(node).await.is_ok() {}
        self.cut_off = true;
    }

    async fn step(&mut self, node: &Http) -> Result<(), CutOff> {
        self.calls += 1;
        let full = self.held.len() >= 12;
        match self.random.random_range(0..100) {
            0..20 => self.enqueue(node).await,
            20..30 => self.enqueue_batch(node).await,
            30..60 if !full => self.claim(node).await,
            _ if self.held.is_empty() => self.claim(node).await,
            30..75 => self.ack(node).await,
            75..82 => self.settle(node).await,
            82..88 => self.fail(node, true).await,
            88..91 => self.fail(node, false).await,
            91..96 => self.extend(node).await,
            _ => self.release(node).await,
        }
    }

    // ---- producers ----

    async fn enqueue(&mut self, node: &Http) -> Result<(), CutOff> {
        let payload = format!("{}-{}", self.number, self.calls);
        let mut body = self.job(&payload);
        let delay_ms =
            if self.random.random_bool(0.3) { self.random.random_range(1..3_000) } else { 0 };
        body["delay_ms"] = delay_ms.into();
        self.ledger.enqueues(&payload, now_ms() + delay_ms);
        let answer = call(node, "/v1/jobs", &body).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.ledger.enqueued(answer.json()["id"].as_str().unwrap(), &payload);
        Ok(())
    }

    async fn enqueue_batch(&mut self, node: &Http) -> Result<(), CutOff> {
        let batch = format!("{}-{}", self.number, self.calls);
        let jobs = self.random.random_range(1..40);
        let list: Vec<Value> = (0..jobs).map(|n| self.job(&format!("{batch}/{n}"))).collect();
        self.ledger.enqueues_batch(&batch, jobs);
        let answer = call(node, "/v1/jobs/batch", &json!({"jobs": list})).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.ledger.enqueued_batch(&batch, answer.json()["ids"].as_array().unwrap());
        Ok(())
    }

    fn job(&mut self, payload: &str) -> Value {
        // Every so often one that is cut into parts.
        let pad = if self.random.random_bool(0.03) { 20_000 } else { 0 };
        let priority = pulk::Priority::ALL[self.random.random_range(0..5)];
        json!({
            "queue": format!("q{}", self.random.random_range(0..3)),
            "kind": "work",
            "priority": priority,
            "payload": {"name": payload, "pad": "x".repeat(pad)},
            "max_attempts": 1_000,
            "max_interruptions": 1_000,
            "retry": {"base_ms": 1, "max_ms": 20, "jitter": 0.5},
        })
    }

    // ---- workers ----

    async fn claim(&mut self, node: &Http) -> Result<(), CutOff> {
        let limit = self.random.random_range(1..10);
        let mut body = json!({"limit": limit, "lease_ms": LEASE_MS, "worker": "w"});
        // An ack rides along with every other claim.
        let rider = if self.random.random_bool(0.5) { self.held.pop() } else { None };
        if let Some(held) = &rider {
            body["acks"] = json!([{"id": held.id, "token": held.token}]);
            self.ledger.maybe_acked(held);
        }
        let answer = call(node, "/v1/claim", &body).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let reply = answer.json();
        if let Some(held) = &rider {
            assert_eq!(reply["outcomes"][0]["outcome"], "acked", "L3: {held:?}: {reply}");
            self.ledger.acked(held);
        }
        self.held.extend(write_down(&self.ledger, &reply));
        Ok(())
    }

    async fn ack(&mut self, node: &Http) -> Result<(), CutOff> {
        let held = self.any();
        self.ledger.maybe_acked(&held);
        let answer = verb(node, &held, "ack", json!({})).await?;
        assert_eq!(answer.status, 204, "L3: {held:?}: {answer:?}");
        self.ledger.acked(&held);
        Ok(())
    }

    async fn settle(&mut self, node: &Http) -> Result<(), CutOff> {
        let count = self.random.random_range(1..=self.held.len());
        let settled: Vec<Held> = self.held.drain(..count).collect();
        settled.iter().for_each(|held| self.ledger.maybe_acked(held));
        let acks: Vec<Value> =
            settled.iter().map(|held| json!({"id": held.id, "token": held.token})).collect();
        let answer = call(node, "/v1/settle", &json!({"acks": acks})).await?;
        let reply = answer.json();
        for (number, held) in settled.iter().enumerate() {
            assert_eq!(reply["outcomes"][number]["outcome"], "acked", "L3: {held:?}: {reply}");
            self.ledger.acked(held);
        }
        Ok(())
    }

    async fn fail(&mut self, node: &Http, retry: bool) -> Result<(), CutOff> {
        let held = self.any();
        if !retry {
            self.ledger.maybe_buried(&held);
        }
        let answer = verb(node, &held, "fail", json!({"error": "no luck", "retry": retry})).await?;
        assert_eq!(answer.status, 200, "L3: {held:?}: {answer:?}");
        let state = if retry { "retrying" } else { "dead" };
        assert_eq!(answer.json()["state"], state);
        if retry {
            self.ledger.answered()
        } else {
            self.ledger.buried(&held)
        }
        Ok(())
    }

    async fn extend(&mut self, node: &Http) -> Result<(), CutOff> {
        let held = self.held[0].clone();
        let body = json!({"lease_ms": LEASE_MS, "progress": 50});
        let answer = verb(node, &held, "extend", body).await?;
        assert_eq!(answer.status, 200, "L3: {held:?}: {answer:?}");
        self.ledger.answered();
        Ok(())
    }

    async fn release(&mut self, node: &Http) -> Result<(), CutOff> {
        let held = self.any();
        let delay_ms = self.random.random_range(0..3) * 40;
        let answer = verb(node, &held, "release", json!({"delay_ms": delay_ms})).await?;
        assert_eq!(answer.status, 200, "L3: {held:?}: {answer:?}");
        self.ledger.answered();
        Ok(())
    }

    /// Takes a job out of its hands. When the answer to what comes next is cut off, nobody knows
    /// whether the lease has ended, and the token is not used again.
    fn any(&mut self) -> Held {
        let number = self.random.random_range(0..self.held.len());
        self.held.swap_remove(number)
    }

    /// Acks all that is left in its hands: every lease has lived over the last kill (L3).
    pub async fn settle_all(&mut self, node: &Http) -> usize {
        let count = self.held.len();
        while !self.held.is_empty() {
            assert!(self.ack(node).await.is_ok(), "the node is gone");
        }
        count
    }
}

/// Claims and acks until nothing waits, runs, or is to come.
pub async fn drain(node: &Http, ledger: &Ledger) {
    let drained = async {
        while !is_empty(node).await {
            let body = json!({"limit": 500, "lease_ms": 60_000, "wait_ms": 250});
            let reply = node.post("/v1/claim", body.to_string()).await.json();
            let jobs = write_down(ledger, &reply);
            for held in &jobs {
                let body = json!({"token": held.token}).to_string();
                let answer = node.post(&format!("/v1/jobs/{}/ack", held.id), body).await;
                assert_eq!(answer.status, 204, "L3: {held:?}: {answer:?}");
                ledger.acked(held);
            }
        }
    };
    within("the end of all jobs", drained).await;
}

async fn is_empty(node: &Http) -> bool {
    let queues = node.get("/v1/queues").await.json();
    let mut counts = queues["queues"].as_array().unwrap().iter().map(|queue| &queue["counts"]);
    let states = ["scheduled", "ready", "running", "retrying"];
    counts.all(|counts| states.iter().all(|state| counts[state] == 0))
}

/// All dead letters, page by page.
pub async fn dead_letters(node: &Http) -> HashSet<String> {
    let mut ids = HashSet::new();
    let mut path = "/v1/dead?limit=50".to_owned();
    loop {
        let page = node.get(&path).await.json();
        for job in page["jobs"].as_array().unwrap() {
            assert!(ids.insert(job["id"].as_str().unwrap().to_owned()), "{job} is listed twice");
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/dead?limit=50&cursor={cursor}"),
            None => return ids,
        }
    }
}

fn write_down(ledger: &Ledger, reply: &Value) -> Vec<Held> {
    let jobs = reply["jobs"].as_array().unwrap();
    let held = jobs.iter().map(|job| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let held = Held { id: text(&job["id"]), token: text(&job["lease"]["token"]) };
        ledger.claimed(&held, job["payload"]["name"].as_str().unwrap(), now_ms());
        held
    });
    held.collect()
}

async fn call(node: &Http, path: &str, body: &Value) -> Result<Answer, CutOff> {
    let answer = within(path, node.call(Method::POST, path, body.to_string())).await;
    answer.map_err(|_| CutOff)
}

async fn verb(node: &Http, held: &Held, verb: &str, mut body: Value) -> Result<Answer, CutOff> {
    body["token"] = held.token.clone().into();
    call(node, &format!("/v1/jobs/{}/{verb}", held.id), &body).await
}

fn now_ms() -> u64 {
    use pulk::clock::Clock;
    pulk::clock::SystemClock.now().as_ms()
}
