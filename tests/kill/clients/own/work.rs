//! Work on the client's own jobs.

use rand::RngExt;
use serde_json::{Value, json};

use super::super::calls::{Calls, Heard, held, moment_ms, text};
use super::super::now_ms;
use super::{Job, LEASE_MS, MAX_ATTEMPTS, Own, Standing, State};
use crate::ledger::{How, Outcome};

impl Own {
    pub(super) async fn claim(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let limit = self.random.random_range(1..5);
        let wait_ms = if self.random.random_bool(0.2) { 40 } else { 0 };
        let body = json!({
            "queues": [self.name], "limit": limit, "lease_ms": LEASE_MS, "wait_ms": wait_ms,
        });
        let (began, asked_ms) = calls.now();
        let is_ready = |job: &Job| {
            job.is(Standing::Waiting) && job.ready_by_ms <= asked_ms && job.expires.is_none()
        };
        let ready = self.count(is_ready);
        for job in self.jobs.values_mut().filter(|job| job.now.standing == Standing::Waiting) {
            job.maybe = Some(job.now.to(Standing::Running));
        }
        let answer = calls.post("claim", "/v1/claim", &body).await?;
        for job in self.jobs.values_mut().filter(|job| job.now.standing == Standing::Waiting) {
            job.maybe = None;
        }
        let reply = answer.json();
        let jobs = reply["jobs"].as_array().unwrap();
        assert!(jobs.len() <= limit, "{reply}");
        let paused = self.there != Some(false);
        assert!(!paused || jobs.is_empty(), "L12: {} is paused: {reply}", self.name);
        assert!(paused || ready == 0 || !jobs.is_empty(), "L4: {ready} jobs wait: {reply}");
        for claimed in jobs {
            self.claimed(calls, claimed, (began, asked_ms));
        }
        Ok(())
    }

    fn claimed(&mut self, calls: &Calls<'_>, claimed: &Value, (began, asked_ms): (u64, u64)) {
        let (held, name) = (held(claimed), text(&claimed["payload"]["name"]));
        calls.ledger.claimed(&held, &name, began);
        let Some(job) = self.jobs.get_mut(&name) else { panic!("L12: nobody has {claimed}") };
        assert!(job.is(Standing::Waiting), "L12: {name} is {:?}: {claimed}", job.now);
        assert_eq!(held.delivery(), job.deliveries + 1, "L2: the delivery of {name}: {claimed}");
        assert_eq!(claimed["attempt"], job.now.failures + 1, "L12: {name}: {claimed}");
        assert_eq!(claimed["payload"]["edit"], job.now.edit, "L12: {name}: {claimed}");
        let priority = pulk::Priority::ALL[job.now.priority];
        assert_eq!(claimed["priority"], priority.as_str(), "L12: {name}: {claimed}");
        let in_time = job.expires.take().is_none_or(|expires| asked_ms < expires.end);
        assert!(in_time, "L6: {name} was started after its time: {claimed}");
        job.deliveries += 1;
        job.becomes(job.now.to(Standing::Running));
        job.held = Some(held);
    }

    /// One call that ends a lease, and what becomes of the job if it was not cancelled.
    async fn end(
        &mut self,
        calls: &Calls<'_>,
        name: &str,
        (verb, done): (&'static str, u16),
        (how, body): (How, Value),
        becomes: State,
    ) -> Heard<()> {
        let job = self.job(name);
        let held = job.held.clone().unwrap();
        let cancelled = job.now.cancelled;
        let becomes = if cancelled { job.now.to(Standing::Gone) } else { becomes };
        job.maybe = Some(State { cancelled: false, ..becomes });
        let (said, answer) = calls.end(&held, how, (verb, done), body).await?;
        let expected = if cancelled { Outcome::Cancelled } else { Outcome::Done };
        assert_eq!(said, expected, "L3, L8: {name} {held:?}: {answer:?}");
        let job = self.job(name);
        job.becomes(State { cancelled: false, ..becomes });
        if becomes.standing == Standing::Waiting {
            job.ready_by_ms = moment_ms(&answer.json()["run_at"]);
        }
        if verb == "fail" && !cancelled {
            let state = if becomes.standing == Standing::Dead { "dead" } else { "retrying" };
            assert_eq!(answer.json()["state"], state, "L12: {name}: {answer:?}");
        }
        Ok(())
    }

    pub(super) async fn ack(&mut self, calls: &Calls<'_>) -> Heard<()> {
        match self.any(|job| job.held.is_some()) {
            Some(name) => self.end_by_ack(calls, &name).await,
            None => self.claim(calls).await,
        }
    }

    pub(super) async fn end_by_ack(&mut self, calls: &Calls<'_>, name: &str) -> Heard<()> {
        let result = self.random.random_bool(0.4).then(|| json!({"of": name}));
        let body = result.as_ref().map_or(json!({}), |result| json!({"result": result}));
        let gone = self.job(name).now.to(Standing::Gone);
        self.end(calls, name, ("ack", 204), (How::Ack(result), body), gone).await
    }

    pub(super) async fn fail(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.held.is_some()) else { return Ok(()) };
        let mut body = json!({"error": "no luck"});
        if self.random.random_bool(0.5) {
            body["retry_in_ms"] = self.random.random_range(0..100).into();
        }
        let now = self.job(&name).now;
        let failed = State { failures: now.failures + 1, ..now };
        let (standing, how) = match failed.failures < MAX_ATTEMPTS {
            true => (Standing::Waiting, How::Back(0)),
            false => (Standing::Dead, How::Bury),
        };
        self.end(calls, &name, ("fail", 200), (how, body), failed.to(standing)).await
    }

    pub(super) async fn bury(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.held.is_some()) else { return Ok(()) };
        let now = self.job(&name).now;
        let dead = State { failures: now.failures + 1, ..now.to(Standing::Dead) };
        let body = json!({"error": "hopeless", "retry": false});
        self.end(calls, &name, ("fail", 200), (How::Bury, body), dead).await
    }

    pub(super) async fn release(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.held.is_some()) else { return Ok(()) };
        let delay_ms = self.random.random_range(0..3) * 30;
        let waits = self.job(&name).now.to(Standing::Waiting);
        let body = if delay_ms > 0 { json!({"delay_ms": delay_ms}) } else { json!({}) };
        let how = How::Back(if delay_ms > 0 { now_ms() + delay_ms } else { 0 });
        self.end(calls, &name, ("release", 200), (how, body), waits).await
    }

    pub(super) async fn extend(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.held.is_some()) else { return Ok(()) };
        let job = self.jobs.get_mut(&name).unwrap();
        let held = job.held.as_mut().unwrap();
        let body = json!({"lease_ms": LEASE_MS, "progress": 10});
        let answer = calls.verb("extend", held, body).await?;
        assert_eq!(answer.status, 200, "L3: {name} {held:?}: {answer:?}");
        let reply = answer.json();
        assert_eq!(reply["cancelled"], job.now.cancelled, "L8: {name}: {reply}");
        held.until_ms = moment_ms(&reply["expires_at"]);
        calls.ledger.extended(held, job.now.cancelled);
        Ok(())
    }

    pub(super) async fn cancel(&mut self, calls: &Calls<'_>) -> Heard<()> {
        match self.any(|job| job.now.standing != Standing::Gone) {
            Some(name) => self.cancel_one(calls, &name).await,
            None => Ok(()),
        }
    }

    pub(super) async fn cancel_one(&mut self, calls: &Calls<'_>, name: &str) -> Heard<()> {
        let (id, job) = (self.id(name), self.job(name));
        let (becomes, state) = match job.now.standing {
            Standing::Running => (State { cancelled: true, ..job.now }, "running"),
            _ => (job.now.to(Standing::Gone), "cancelled"),
        };
        job.maybe = Some(becomes);
        calls.ledger.asks_to_cancel(&id);
        let answer = calls.delete("cancel", &format!("/v1/jobs/{id}")).await?;
        assert_eq!(answer.status, 200, "L4: {name} is lost: {answer:?}");
        assert_eq!(answer.json()["state"], state, "L12: {name}: {answer:?}");
        calls.ledger.cancelled(&id);
        self.job(name).becomes(becomes);
        Ok(())
    }
}
