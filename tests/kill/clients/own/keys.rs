//! Unique keys and idempotency keys.

use rand::RngExt;
use reqwest::Method;
use serde_json::Value;

use super::super::calls::{Calls, Heard, text};
use super::{Own, Standing};

/// An enqueue under an idempotency key.
pub struct Idempotent {
    key: String,
    pub(super) name: String,
    body: Value,
    /// Its job, once it is known to be taken; it may be gone.
    pub(super) id: Option<String>,
    answer: Option<Value>,
}

impl Own {
    // ---- unique keys ----

    /// Who holds a key: its state is known.
    pub(super) fn holder(&self, key: &str) -> Option<String> {
        let holds = |standing| [Standing::Waiting, Standing::Running].contains(&standing);
        let mut jobs = self.jobs.iter();
        let held =
            jobs.find(|(_, job)| job.unique.as_deref() == Some(key) && holds(job.now.standing));
        held.map(|(name, _)| name.clone())
    }

    pub(super) async fn enqueue_unique(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let key = format!("key-{}", self.random.random_range(0..3));
        let on_conflict = ["reject", "return", "replace"][self.random.random_range(0..3)];
        let holder = self.holder(&key);
        let (name, mut body) = self.new_job();
        body["unique"]["key"] = key.clone().into();
        if on_conflict != "reject" || self.random.random_bool(0.5) {
            body["unique"]["on_conflict"] = on_conflict.into();
        }
        if self.random.random_bool(0.3) {
            body["unique"]["ttl_ms"] = 36_000_000.into();
        }
        let waits = |name: &String| self.jobs[name].now.standing == Standing::Waiting;
        let replaced = holder.clone().filter(|name| on_conflict == "replace" && waits(name));
        let refused = holder.clone().filter(|_| replaced.is_none());
        self.job(&name).unique = Some(key);
        if refused.is_some() {
            self.job(&name).maybe = None;
        }
        self.together.clear();
        if let Some(old) = &replaced {
            let gone = self.jobs[old].now.to(Standing::Gone);
            self.job(old).maybe = Some(gone);
            self.together = vec![old.clone(), name.clone()];
            calls.ledger.asks_to_cancel(&self.id(old));
        }
        calls.ledger.asks_for(&name, 0);
        self.asks_for_queue();
        let answer = calls.post("unique", "/v1/jobs", &body).await?;
        let reply = answer.json();
        self.together.clear();
        if let Some(holder) = refused {
            let status = if on_conflict == "return" { 200 } else { 409 };
            assert_eq!(
                answer.status, status,
                "L10: {} is held by {holder}: {reply}",
                body["unique"]
            );
            assert_eq!(reply["id"], self.id(&holder), "L10: {reply}");
            return Ok(());
        }
        assert_eq!(answer.status, 201, "L10: nobody holds {}: {reply}", body["unique"]);
        if let Some(old) = &replaced {
            let (id, job) = (self.id(old), self.job(old));
            assert_eq!(reply["replaced"], id, "L10: {reply}");
            job.becomes(job.now.to(Standing::Gone));
            calls.ledger.cancelled(&id);
        }
        self.taken(calls, &name, &text(&reply["id"]), 0);
        Ok(())
    }

    // ---- idempotency keys ----

    /// A first call under a new key, or a repeat.
    pub(super) async fn enqueue_once(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let repeat = !self.idempotent.is_empty() && self.random.random_bool(0.6);
        let place = if repeat {
            self.random.random_range(0..self.idempotent.len())
        } else {
            let (name, mut body) = self.new_body();
            body["delay_ms"] = (self.random.random_range(0..2) * 50).into();
            calls.ledger.asks_for(&name, 0);
            let key = format!("once-{name}");
            self.idempotent.push(Idempotent { key, name, body, id: None, answer: None });
            self.idempotent.len() - 1
        };
        self.call_once(calls, place).await?;
        if self.idempotent.len() > 20 {
            self.idempotent.remove(0);
        }
        Ok(())
    }

    async fn call_once(&mut self, calls: &Calls<'_>, place: usize) -> Heard<()> {
        let Idempotent { key, name, body, id, answer } = &self.idempotent[place];
        let (key, name, body) = (key.clone(), name.clone(), body.clone());
        let (id, told) = (id.clone(), answer.clone());
        if id.is_none() {
            // Under the name that it had: it is one job, however often it is asked for.
            self.expect(&name, &body);
        }
        self.asks_for_queue();
        let header = Some(("idempotency-key", key.as_str()));
        let path = (Method::POST, "/v1/jobs");
        let answer = calls.send("idempotent", path, header, body.to_string()).await?;
        let reply = answer.json();
        let Some(id) = id else {
            assert_eq!(answer.status, 201, "L11: {key} is new: {reply}");
            let id = text(&reply["id"]);
            self.taken(calls, &name, &id, body["delay_ms"].as_u64().unwrap());
            self.idempotent[place].id = Some(id);
            self.idempotent[place].answer = Some(reply);
            return Ok(());
        };
        assert_eq!(answer.status, 200, "L11: {key} was used before: {reply}");
        assert_eq!(reply["id"], id, "L11: {key}: {reply}");
        let told = told.unwrap_or_else(|| reply.clone());
        assert_eq!(reply, told, "L11: {key} had another answer");
        self.idempotent[place].answer = Some(told);
        Ok(())
    }
}
