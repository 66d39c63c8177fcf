//! Jobs for everybody: one by one, in batches, and in lines.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::RngExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::calls::{Calls, Heard, text};
use super::super::now_ms;
use super::{KEYS, KINDS, Pool, QUEUES};

impl Pool {
    pub(super) async fn enqueue(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let name = self.name();
        let mut body = self.job(&name);
        let delay_ms =
            if self.random.random_bool(0.3) { self.random.random_range(1..1_000) } else { 0 };
        let not_before_ms = now_ms() + delay_ms;
        if delay_ms > 0 && self.random.random_bool(0.3) {
            let moment = jiff::Timestamp::from_millisecond(not_before_ms as i64).unwrap();
            body["run_at"] = moment.to_string().into();
        } else {
            body["delay_ms"] = delay_ms.into();
        }
        calls.ledger.asks_for(&name, not_before_ms);
        calls.ledger.shares(&name, &body);
        let answer = calls.post("enqueue", "/v1/jobs", &body).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = text(&answer.json()["id"]);
        calls.ledger.enqueued(&id, &name);
        calls.ledger.may_be_cancelled(&id);
        calls.ledger.backlog_grows(1);
        Ok(())
    }

    pub(super) async fn enqueue_batch(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let batch = self.name();
        let jobs = self.random.random_range(1..40);
        let list: Vec<Value> = (0..jobs).map(|n| self.job(&format!("{batch}/{n}"))).collect();
        calls.ledger.asks_for_batch(&batch, jobs);
        for (number, job) in list.iter().enumerate() {
            calls.ledger.shares(&format!("{batch}/{number}"), job);
        }
        let lines = self.random.random_bool(0.3);
        let (kind, body) = if lines {
            let lines: Vec<String> = list.iter().map(Value::to_string).collect();
            ("application/x-ndjson", lines.join("\n"))
        } else {
            ("application/json", json!({"jobs": list}).to_string())
        };
        let header = Some(("content-type", kind));
        let answer = calls.send("batch", (Method::POST, "/v1/jobs/batch"), header, body).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        let reply = answer.json();
        let ids = reply["ids"].as_array().unwrap();
        calls.ledger.enqueued_batch(&batch, ids);
        calls.ledger.may_be_cancelled(&text(&ids[0]));
        calls.ledger.backlog_grows(jobs as i64);
        Ok(())
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("pool-{}-{}", self.number, self.named)
    }

    fn job(&mut self, name: &str) -> Value {
        // Every so often one whose payload is cut into parts.
        let is_large = self.random.random_bool(if self.large { 0.9 } else { 0.03 });
        let pad = if is_large { self.random.random_range(9_000..30_000) } else { 0 };
        let queue = QUEUES[self.random.random_range(0..QUEUES.len())];
        let kind = KINDS[self.random.random_range(0..KINDS.len())];
        let priority = pulk::Priority::ALL[self.random.random_range(0..5)];
        let payload = json!({"name": name, "pad": "x".repeat(pad)});
        let mut job = json!({
            "queue": queue,
            "kind": kind,
            "priority": priority,
            "headers": {"name": name},
            "max_attempts": 1_000,
            "max_interruptions": 1_000,
            "retry": {"base_ms": 1, "max_ms": 20, "jitter": 0.5},
        });
        // So many keys that one which a lost lease blocks holds up few.
        let key = format!("key-{}", self.random.random_range(0..KEYS));
        match self.random.random_range(0..10) {
            0 => job["ordering_key"] = key.into(),
            1 => job["concurrency_key"] = key.into(),
            _ => {}
        }
        if self.random.random_bool(0.1) {
            job["payload_base64"] = BASE64_STANDARD.encode(payload.to_string()).into();
        } else {
            job["payload"] = payload;
        }
        job
    }
}
