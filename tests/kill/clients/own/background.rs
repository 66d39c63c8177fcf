//! A replay of the client's own dead letters that goes on in the background, over kills.

use std::collections::BTreeSet;

use rand::RngExt;
use serde_json::{Value, json};

use super::super::calls::{Calls, Heard};
use super::{Own, Standing};

pub struct Background {
    /// Known once its begin was answered, or it was found.
    id: Option<u64>,
    letters: BTreeSet<String>,
}

impl Background {
    /// It is what may have moved this letter.
    pub(super) fn is_of(&self, name: &str) -> bool {
        self.letters.contains(name)
    }
}

impl Own {
    pub(super) async fn replay_in_background(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let Some(letters) = self.letters() else { return Ok(()) };
        let rate_per_s = self.random.random_range(10..200);
        let count = letters.len();
        self.background = Some(Background { id: None, letters: letters.into_iter().collect() });
        let body = json!({
            "queue": self.name, "rate_per_s": rate_per_s, "max_error_share": 1.0,
        });
        let answer = calls.post("background replay", "/v1/dead/replay", &body).await?;
        assert_eq!(answer.status, 202, "{answer:?}");
        let reply = answer.json();
        assert_eq!(reply["matched"], count, "L13: {reply}");
        self.begun(&reply["replay"]);
        Ok(())
    }

    fn begun(&mut self, replay: &Value) {
        let id = replay["id"].as_u64().unwrap();
        self.last_background = id;
        self.background.as_mut().unwrap().id = Some(id);
    }

    /// Its begin may have been cut off: was it done?
    pub(super) async fn look_for_background(&mut self, calls: &Calls<'_>) -> Heard<()> {
        if self.background.as_ref().is_none_or(|begun| begun.id.is_some()) {
            return Ok(());
        }
        let replays = calls.get("/v1/replays").await?.json();
        let mut replays = replays["replays"].as_array().unwrap().iter();
        let is_new = |replay: &&Value| {
            let id = replay["id"].as_u64().unwrap();
            replay["queue"] == self.name.as_str() && id > self.last_background
        };
        match replays.find(is_new) {
            Some(replay) => self.begun(replay),
            None => self.background = None,
        }
        Ok(())
    }

    /// Asks how far it is, and sometimes stops it. When it has ended, its counts must be right.
    pub(super) async fn watch(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let id = self.background.as_ref().and_then(|begun| begun.id).unwrap();
        let path = format!("/v1/replays/{id}");
        let stop = self.random.random_bool(0.05);
        let answer = match stop {
            true => calls.delete("stop replay", &path).await?,
            false => calls.get(&path).await?,
        };
        assert_eq!(answer.status, 200, "L13: the replay {id} is lost: {answer:?}");
        let replay = answer.json();
        if replay["state"] == "running" {
            assert!(!stop, "L13: {replay}");
            return Ok(());
        }
        self.look(calls).await?;
        let letters: Vec<String> = self.background.take().unwrap().letters.into_iter().collect();
        let dead = |name: &&String| self.jobs[*name].now.standing == Standing::Dead;
        let dead = letters.iter().filter(dead).count();
        let count = |field: &str| replay[field].as_u64().unwrap() as usize;
        assert_eq!(count("matched"), letters.len(), "L13: {replay}");
        assert_eq!(count("replayed"), letters.len() - dead, "L13: {letters:?}: {replay}");
        assert_eq!(count("died_again"), 0, "L13: {replay}");
        if replay["state"] == "done" {
            assert_eq!(count("skipped"), dead, "L13: {letters:?}: {replay}");
            self.skipped_for_a_reason(&letters);
        } else {
            assert_eq!(replay["state"], "cancelled", "L13: {replay}");
        }
        calls.ledger.replayed(count("replayed") as u64);
        Ok(())
    }
}
