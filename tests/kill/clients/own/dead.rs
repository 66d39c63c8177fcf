//! Dead letters of the client's own queue.

use rand::RngExt;
use serde_json::json;

use super::super::calls::{Calls, Heard, text};
use super::super::now_ms;
use super::{Job, Own, Standing, State};

impl Own {
    pub(super) async fn edit(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.is(Standing::Dead)) else { return Ok(()) };
        let priority = self.random.random_range(0..5);
        let (id, job) = (self.id(&name), self.job(&name));
        let edited = State { edit: job.now.edit + 1, priority, ..job.now };
        job.maybe = Some(edited);
        let body = json!({
            "payload": {"name": name, "edit": edited.edit},
            "priority": pulk::Priority::ALL[priority],
        });
        let answer = calls.patch("edit", &format!("/v1/dead/{id}"), &body).await?;
        assert_eq!(answer.status, 200, "L4: the letter {name} is lost: {answer:?}");
        assert_eq!(answer.json()["payload"]["edit"], edited.edit, "L12: {name}: {answer:?}");
        self.job(&name).becomes(edited);
        Ok(())
    }

    pub(super) async fn replay_one(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.is(Standing::Dead)) else { return Ok(()) };
        let holder = self.jobs[&name].unique.clone().and_then(|key| self.holder(&key));
        let (id, job) = (self.id(&name), self.job(&name));
        let replayed = job.now.replayed();
        job.maybe = holder.is_none().then_some(replayed);
        let path = format!("/v1/dead/{id}/replay");
        let answer = calls.post("replay", &path, &json!({})).await?;
        if let Some(holder) = holder {
            assert_eq!(answer.status, 409, "L10: {holder} holds the key of {name}: {answer:?}");
            return Ok(());
        }
        assert_eq!(answer.status, 200, "L4: the letter {name} is lost: {answer:?}");
        self.replayed(calls, &name);
        Ok(())
    }

    /// It was answered that this letter is back at work.
    fn replayed(&mut self, calls: &Calls<'_>, name: &str) {
        let id = self.id(name);
        calls.ledger.seen(&id, name, false);
        calls.ledger.replayed(1);
        let job = self.job(name);
        job.ready_by_ms = now_ms();
        job.becomes(job.now.replayed());
    }

    /// All at once, by filter or by ids.
    pub(super) async fn replay_many(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(letters) = self.letters() else { return Ok(()) };
        let body = self.choice(&letters);
        // Letters and living jobs that want the same key: one of them gets it.
        let (certain, contested): (Vec<_>, Vec<_>) =
            letters.iter().cloned().partition(|name| self.is_uncontested(name));
        for name in &letters {
            let job = self.job(name);
            job.maybe = Some(job.now.replayed());
        }
        let answer = calls.post("replay many", "/v1/dead/replay", &body).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let reply = answer.json();
        let count = |field: &str| reply[field].as_u64().unwrap() as usize;
        assert_eq!(count("matched"), letters.len(), "L13: {letters:?}: {reply}");
        certain.iter().for_each(|name| self.replayed(calls, name));
        let also = self.look(calls).await?.len();
        assert_eq!(count("replayed"), certain.len() + also, "L13: {certain:?}: {reply}");
        assert_eq!(count("skipped"), contested.len() - also, "L13: {contested:?}: {reply}");
        self.skipped_for_a_reason(&contested);
        Ok(())
    }

    /// The dead letters, as long as time makes no others.
    pub(super) fn letters(&self) -> Option<Vec<String>> {
        let letters = self.names(|job| job.is(Standing::Dead));
        let steady = self.count(|job| job.expires.is_some()) == 0;
        (steady && !letters.is_empty()).then_some(letters)
    }

    /// A filter, or ids, for all letters.
    fn choice(&mut self, letters: &[String]) -> serde_json::Value {
        let ids: Vec<String> = letters.iter().map(|name| self.id(name)).collect();
        match self.random.random_bool(0.5) {
            true => json!({"queue": self.name}),
            false => json!({"ids": ids}),
        }
    }

    pub(super) fn is_uncontested(&self, name: &str) -> bool {
        let wants =
            |job: &&Job| job.now.standing != Standing::Gone && job.unique == self.jobs[name].unique;
        self.jobs[name].unique.is_none() || self.jobs.values().filter(wants).count() == 1
    }

    /// Those that are still dead have a key that another job holds.
    pub(super) fn skipped_for_a_reason(&self, letters: &[String]) {
        for name in letters {
            let job = self.jobs.get(name).filter(|job| job.is(Standing::Dead));
            let key = job.map(|job| job.unique.clone().unwrap());
            let skipped_well = key.is_none_or(|key| self.holder(&key).is_some());
            assert!(skipped_well, "L13: {name} could have been replayed");
        }
    }

    /// The list of letters, and one of them, are as they were told.
    pub(super) async fn look_at_letters(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(letters) = self.letters() else { return Ok(()) };
        let listed = calls.list(&format!("/v1/dead?queue={}", self.name), 7).await?;
        let mut names: Vec<String> =
            listed.iter().map(|letter| text(&letter["payload"]["name"])).collect();
        names.sort();
        assert_eq!(names, letters, "L12: the letters of {}", self.name);
        let id = self.id(&letters[0]);
        let letter = calls.get(&format!("/v1/dead/{id}")).await?.json();
        assert_eq!(State::of(&letter), self.jobs[&letters[0]].now, "L12: {letter}");
        Ok(())
    }

    pub(super) async fn delete_letter(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(name) = self.any(|job| job.is(Standing::Dead)) else { return Ok(()) };
        let id = self.id(&name);
        self.job(&name).may_go();
        calls.ledger.asks_to_cancel(&id);
        let answer = calls.delete("delete letter", &format!("/v1/dead/{id}")).await?;
        assert_eq!(answer.status, 204, "L4: the letter {name} is lost: {answer:?}");
        self.went(calls, &[name]);
        Ok(())
    }

    pub(super) async fn purge_letters(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(letters) = self.letters() else { return Ok(()) };
        let body = self.choice(&letters);
        for name in &letters {
            self.job(name).may_go();
            calls.ledger.asks_to_cancel(&self.id(name));
        }
        let answer = calls.post("purge letters", "/v1/dead/purge", &body).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let reply = answer.json();
        let told = json!({"matched": letters.len(), "removed": letters.len()});
        assert_eq!(reply, told, "L12: {letters:?}");
        self.went(calls, &letters);
        Ok(())
    }
}

impl State {
    /// A dead letter that is back at work: its attempts begin again.
    pub(super) fn replayed(self) -> State {
        State { failures: 0, ..self.to(Standing::Waiting) }
    }
}
