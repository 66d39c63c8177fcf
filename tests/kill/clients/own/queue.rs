//! The client's own queue as a whole: purged, paused, removed.

use rand::RngExt;
use reqwest::Method;
use serde_json::json;

use super::super::calls::{Calls, Heard};
use super::{Job, Own, Standing, State};

impl Own {
    pub(super) async fn purge(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let state = ["", "ready", "retrying", "scheduled", "running", "dead"]
            [self.random.random_range(0..6)];
        let priority =
            if self.random.random_bool(0.3) { Some(self.random.random_range(0..5)) } else { None };
        let mut query = Vec::new();
        if !state.is_empty() {
            query.push(format!("state={state}"));
        }
        if let Some(priority) = priority {
            let priority: pulk::Priority = pulk::Priority::ALL[priority];
            query.push(format!("priority={}", priority.as_str()));
        }
        let meant = |job: &Job| priority.is_none_or(|priority| priority == job.now.priority);
        let (certain, maybe) = match state {
            "running" => (self.names(|job| job.is(Standing::Running) && meant(job)), Vec::new()),
            "dead" => (
                self.names(|job| job.is(Standing::Dead) && meant(job)),
                self.names(|job| job.expires.is_some() && meant(job)),
            ),
            "" => {
                let waits = |job: &Job| job.is(Standing::Waiting) && meant(job);
                (
                    self.names(|job| waits(job) && job.expires.is_none()),
                    self.names(|job| waits(job) && job.expires.is_some()),
                )
            }
            // Time moves a job from one of these states to the next.
            _ => (Vec::new(), self.names(|job| job.is(Standing::Waiting) && meant(job))),
        };
        for name in certain.iter().chain(&maybe) {
            self.job(name).may_go();
            calls.ledger.asks_to_cancel(&self.id(name));
        }
        let path = format!("/v1/queues/{}/jobs?{}", self.name, query.join("&"));
        let answer = calls.delete("purge", &path).await?;
        if self.there.is_none() {
            assert_eq!(answer.status, 404, "L12: {}: {answer:?}", self.name);
            return Ok(());
        }
        assert_eq!(answer.status, 200, "L12: {}: {answer:?}", self.name);
        let reply = answer.json();
        // One that is cancelled already is not cancelled again.
        let told_before = certain.iter().filter(|name| self.jobs[*name].now.cancelled).count();
        self.went(calls, &certain);
        let running = if state == "running" { "cancelled" } else { "removed" };
        let told = reply[running].as_u64().unwrap() as usize;
        let also = self.look(calls).await?.len();
        assert_eq!(told, certain.len() - told_before + also, "L12: {path}: {reply}: {certain:?}");
        Ok(())
    }

    pub(super) fn names(&self, is: impl Fn(&Job) -> bool) -> Vec<String> {
        let jobs = self.jobs.iter().filter(|(_, job)| is(job));
        jobs.map(|(name, _)| name.clone()).collect()
    }

    /// It was answered that these are gone, or cancelled.
    pub(super) fn went(&mut self, calls: &Calls<'_>, names: &[String]) {
        for name in names {
            calls.ledger.cancelled(&self.id(name));
            let job = self.job(name);
            let became = job.maybe.unwrap();
            job.becomes(became);
        }
    }

    pub(super) async fn pause_or_resume(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let pause = match self.there {
            Some(paused) => !paused,
            None => true,
        };
        let verb = if pause { "pause" } else { "resume" };
        self.maybe_there = self.there.map(|_| Some(pause));
        let path = format!("/v1/queues/{}/{verb}", self.name);
        let answer = calls.post("pause", &path, &json!({})).await?;
        self.maybe_there = None;
        if self.there.is_none() {
            assert_eq!(answer.status, 404, "L12: {}: {answer:?}", self.name);
            return Ok(());
        }
        assert_eq!(answer.status, 200, "L12: {}: {answer:?}", self.name);
        assert_eq!(answer.json()["paused"], pause);
        self.there = Some(pause);
        Ok(())
    }

    /// Lets more jobs run at once than there ever are; that is kept, and makes the queue.
    pub(super) async fn limit(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let limit = self.random.random_range(1_000..9_000);
        self.maybe_limit = Some(limit);
        if self.there.is_none() {
            self.maybe_there = Some(Some(false));
        }
        let path = format!("/v1/queues/{}/limits", self.name);
        let body = json!({"concurrency": limit}).to_string();
        let answer = calls.send("limit", (Method::PUT, &path), None, body).await?;
        assert_eq!(answer.status, 200, "L12: {}: {answer:?}", self.name);
        (self.limit, self.maybe_limit, self.maybe_there) = (Some(limit), None, None);
        self.there = Some(self.there.unwrap_or(false));
        Ok(())
    }

    pub(super) async fn remove_queue(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let empty = self.count(|job| job.now.standing != Standing::Gone) == 0;
        let status = match self.there {
            None => 404,
            Some(_) if empty => 204,
            Some(_) => 409,
        };
        if status == 204 {
            self.maybe_there = Some(None);
        }
        let answer = calls.delete("remove queue", &format!("/v1/queues/{}", self.name)).await?;
        assert_eq!(answer.status, status, "L12: {}: {answer:?}", self.name);
        self.maybe_there = None;
        if status == 204 {
            (self.there, self.limit) = (None, None);
            // Its keys went with it.
            self.idempotent.clear();
        }
        Ok(())
    }
}

impl Job {
    /// A call will remove it, or cancel it if it runs.
    pub(super) fn may_go(&mut self) {
        self.maybe = Some(match self.now.standing {
            Standing::Running => State { cancelled: true, ..self.now },
            _ => self.now.to(Standing::Gone),
        });
    }
}
