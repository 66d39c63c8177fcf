//! Jobs for the client's own queue.

use rand::RngExt;
use serde_json::{Value, json};

use super::super::calls::{Calls, Heard, text};
use super::super::now_ms;
use super::{Job, MAX_ATTEMPTS, Own, Standing, State};

impl Own {
    /// A name, and the body that enqueues a job of it.
    pub(super) fn new_body(&mut self) -> (String, Value) {
        self.named += 1;
        let name = format!("{}-{}", self.name, self.named);
        let priority = pulk::Priority::ALL[self.random.random_range(0..5)];
        let body = json!({
            "queue": self.name,
            "kind": "own",
            "priority": priority,
            "payload": {"name": name, "edit": 0},
            "max_attempts": MAX_ATTEMPTS,
            "retry": {"base_ms": 1, "max_ms": 20, "jitter": 0.5},
        });
        (name, body)
    }

    /// It is about to ask for this job.
    pub(super) fn expect(&mut self, name: &str, body: &Value) {
        let is = |priority: &pulk::Priority| body["priority"] == priority.as_str();
        let now = State::new(pulk::Priority::ALL.iter().position(is).unwrap());
        let job = Job {
            id: None,
            now,
            maybe: Some(now.to(Standing::Waiting)),
            held: None,
            deliveries: 0,
            unique: None,
            ready_by_ms: 0,
            expires: None,
        };
        self.jobs.insert(name.to_owned(), job);
    }

    pub(super) fn new_job(&mut self) -> (String, Value) {
        let (name, body) = self.new_body();
        self.expect(&name, &body);
        (name, body)
    }

    /// It is about to put a job into the queue: then it is there.
    pub(super) fn asks_for_queue(&mut self) {
        if self.there.is_none() {
            self.maybe_there = Some(Some(false));
        }
    }

    /// It was answered that this job was taken.
    pub(super) fn taken(&mut self, calls: &Calls<'_>, name: &str, id: &str, delay_ms: u64) {
        self.there = self.there.or(Some(false));
        self.maybe_there = None;
        calls.ledger.enqueued(id, name);
        let job = self.job(name);
        job.id = Some(id.to_owned());
        job.ready_by_ms = now_ms() + delay_ms;
        job.becomes(job.now.to(Standing::Waiting));
    }

    /// Some in one batch, or one alone.
    pub(super) async fn enqueue(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let count = self.random.random_range(1..6);
        let delay_ms = self.random.random_range(0..4) * 40;
        let mut list = Vec::new();
        self.together.clear();
        for _ in 0..count {
            let (name, mut body) = self.new_job();
            body["delay_ms"] = delay_ms.into();
            calls.ledger.asks_for(&name, now_ms() + delay_ms);
            self.together.push(name);
            list.push(body);
        }
        self.asks_for_queue();
        let answer = calls.post("batch", "/v1/jobs/batch", &json!({"jobs": list})).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        let reply = answer.json();
        for (place, name) in std::mem::take(&mut self.together).iter().enumerate() {
            self.taken(calls, name, &text(&reply["ids"][place]), delay_ms);
        }
        Ok(())
    }

    /// One that must be started in time.
    pub(super) async fn enqueue_expiring(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let (name, mut body) = self.new_job();
        let expires_in_ms = self.random.random_range(50..600);
        body["expires_in_ms"] = expires_in_ms.into();
        self.job(&name).expires = Some(now_ms() + expires_in_ms..u64::MAX);
        calls.ledger.asks_for(&name, 0);
        self.asks_for_queue();
        let answer = calls.post("enqueue", "/v1/jobs", &body).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.taken(calls, &name, &text(&answer.json()["id"]), 0);
        let end_ms = now_ms() + expires_in_ms;
        self.job(&name).expires.as_mut().unwrap().end = end_ms;
        Ok(())
    }
}
