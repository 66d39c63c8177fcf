//! A look at the whole queue: it must be as it was told, and tells what calls that were cut off
//! have done.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use serde_json::Value;

use super::super::calls::{Calls, Heard, moment_ms, text};
use super::super::now_ms;
use super::{Job, Own, Standing, State};
use crate::ledger::Held;

impl Own {
    /// Gives the names of the jobs that turned out to be as a call without an answer would have
    /// made them.
    pub async fn look(&mut self, calls: &Calls<'_>) -> Heard<BTreeSet<String>> {
        self.look_for_background(calls).await?;
        let listed = self.listed(calls).await?;
        self.look_at_queue(calls).await?;
        let until_ms = now_ms();
        let mut changed = BTreeSet::new();
        for (name, job) in &mut self.jobs {
            let found = listed.get(name);
            let moved_on = self.background.as_ref().is_some_and(|begun| begun.is_of(name));
            if job.look(name, found, moved_on, until_ms) {
                changed.insert(name.clone());
            }
            job.write_down(name, found, calls);
        }
        let together = std::mem::take(&mut self.together);
        let whole = together.iter().filter(|name| changed.contains(*name)).count();
        assert!(whole == 0 || whole == together.len(), "L5: {whole} of {together:?} were done");
        for known in &mut self.idempotent {
            known.id = known.id.take().or_else(|| self.jobs.get(&known.name)?.id.clone());
        }
        self.jobs.retain(|_, job| job.now.standing != Standing::Gone);
        self.unique_keys_have_one_holder();
        Ok(changed)
    }

    /// All its jobs, by their names.
    async fn listed(&mut self, calls: &Calls<'_>) -> Heard<BTreeMap<String, Value>> {
        let limit = self.random.random_range(10..200);
        let jobs = calls.list(&format!("/v1/jobs?queue={}", self.name), limit).await?;
        let mut listed = BTreeMap::new();
        for job in jobs {
            let name = text(&job["payload"]["name"]);
            assert!(self.jobs.contains_key(&name), "L12: nobody has this job: {job}");
            if let Some(other) = listed.insert(name.clone(), job.clone()) {
                // A job that moves between two pages may come twice, but it is one.
                assert_eq!(other["id"], job["id"], "L5, L11: {name} is there twice");
            }
        }
        // One that moved on may have been passed over between two pages.
        for (name, job) in &self.jobs {
            let Some(id) = job.id.as_ref().filter(|_| !listed.contains_key(name)) else { continue };
            let answer = calls.get(&format!("/v1/jobs/{id}")).await?;
            if answer.status == 200 && answer.json()["state"] != "done" {
                listed.insert(name.clone(), answer.json());
            }
        }
        Ok(listed)
    }

    async fn look_at_queue(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let answer = calls.get(&format!("/v1/queues/{}", self.name)).await?;
        let found = (answer.status == 200).then(|| answer.json()["paused"].as_bool().unwrap());
        let expected = [Some(self.there), self.maybe_there.take()];
        assert!(expected.contains(&Some(found)), "L12: {}: {answer:?}: {expected:?}", self.name);
        let limit = answer.json()["limits"]["concurrency"].as_u64();
        let limits = match found {
            Some(_) => [Some(self.limit), self.maybe_limit.take().map(Some)],
            None => [Some(None), None],
        };
        assert!(limits.contains(&Some(limit)), "L12: {}: {answer:?}: {limits:?}", self.name);
        self.limit = limit;
        if found.is_none() {
            self.maybe_limit = None;
            self.idempotent.clear();
        }
        self.there = found;
        Ok(())
    }

    fn unique_keys_have_one_holder(&self) {
        let mut holders = BTreeMap::new();
        for (name, job) in &self.jobs {
            let alive = [Standing::Waiting, Standing::Running].contains(&job.now.standing);
            if let Some(key) = job.unique.as_ref().filter(|_| alive) {
                let other = holders.insert(key, name);
                assert_eq!(other, None, "L10: {key} is held by {name} too");
            }
        }
    }
}

impl Job {
    /// Compares, and remembers what it is. True when a call without an answer has changed it.
    fn look(&mut self, name: &str, found: Option<&Value>, moved_on: bool, until_ms: u64) -> bool {
        let found = found.map_or(self.now.to(Standing::Gone), State::of);
        let maybe = self.maybe.take();
        let expired = self.expires.as_ref().is_some_and(|expires| expires.start <= until_ms);
        let is = |state: State| {
            let is_gone = [state.standing, found.standing] == [Standing::Gone; 2];
            let waits = state.standing == Standing::Waiting;
            let is_dead = state.standing == Standing::Dead;
            let replayed = State { failures: 0, ..state.to(Standing::Waiting) };
            state == found
                || is_gone
                || (expired && waits && state.to(Standing::Dead) == found)
                || (moved_on && is_dead && replayed == found)
        };
        let unchanged = is(self.now);
        assert!(
            unchanged || maybe.is_some_and(is),
            "L12: {name} is {found:?}, and not {:?} or {maybe:?}",
            self.now
        );
        self.now = found;
        !unchanged
    }

    /// Tells the ledger, and takes the lease that a claim without an answer has made.
    fn write_down(&mut self, name: &str, found: Option<&Value>, calls: &Calls<'_>) {
        let Some(found) = found else {
            self.id.iter().for_each(|id| calls.ledger.gone(id));
            self.held = None;
            return;
        };
        let id = self.id.get_or_insert_with(|| text(&found["id"])).clone();
        assert_eq!(found["id"], *id, "L5, L11: {name} is there twice");
        if self.now.cancelled {
            calls.ledger.cancelled(&id);
        } else {
            calls.ledger.seen(&id, name, self.now.standing == Standing::Dead);
        }
        match (self.now.standing, &self.held) {
            (Standing::Running, Some(held)) => calls.ledger.not_ended(held),
            (Standing::Running, None) => {
                // The very next delivery: nobody else claims here.
                self.deliveries += 1;
                let token = format!("{id}-{}", self.deliveries);
                let held = Held { id, token, until_ms: moment_ms(&found["expires_at"]) };
                calls.ledger.claimed(&held, name, 0);
                (self.held, self.expires) = (Some(held), None);
            }
            (Standing::Waiting, _) => {
                (self.held, self.ready_by_ms) = (None, moment_ms(&found["run_at"]));
            }
            (Standing::Dead | Standing::Gone, _) => (self.held, self.expires) = (None, None),
        }
    }
}

impl State {
    pub(super) fn of(job: &Value) -> State {
        let standing = match job["state"].as_str().unwrap() {
            "running" => Standing::Running,
            "dead" => Standing::Dead,
            _ => Standing::Waiting,
        };
        let attempt = job["attempt"].as_u64().unwrap();
        let failed = job["errors"].as_array().unwrap().len();
        // A letter shows the attempt it died of; one that was never tried shows the first.
        let failures = match standing {
            Standing::Dead if failed > 0 => attempt,
            _ => attempt - 1,
        };
        let priority = |priority: &pulk::Priority| *priority.as_str() == job["priority"];
        State {
            standing,
            failures,
            edit: job["payload"]["edit"].as_u64().unwrap(),
            priority: pulk::Priority::ALL.iter().position(priority).unwrap(),
            cancelled: job["cancelled"] == true,
        }
    }
}
