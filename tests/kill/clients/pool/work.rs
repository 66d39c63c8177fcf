//! Work on what anybody enqueued.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::RngExt;
use serde_json::{Value, json};

use super::super::calls::{Calls, Heard, ack_of, held, moment_ms, outcome_of_many, text};
use super::{KINDS, LEASE_MS, Pool, QUEUES};
use crate::ledger::{Held, How, Outcome};

impl Pool {
    /// Claims some, mostly with a settle that rides along.
    pub(super) async fn claim(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let mut body = self.claim_body(LEASE_MS);
        let riders = self.riders(0.5);
        write_settle(&mut body, &riders);
        let asked = calls.now();
        riders.iter().for_each(|(held, how)| calls.ledger.ending(held, how));
        let answer = calls.post("claim", "/v1/claim", &body).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let reply = answer.json();
        self.settled(calls, riders, &reply, asked);
        for job in claimed(calls, &reply, &body, asked) {
            self.hands.push((job, false));
        }
        Ok(())
    }

    /// Claims one for a moment, and is not seen again: it comes back when the lease is over.
    pub(super) async fn claim_and_forget(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let lease_ms = self.random.random_range(1..300);
        let body = self.claim_body(lease_ms);
        let asked = calls.now();
        let answer = calls.post("claim", "/v1/claim", &body).await?;
        claimed(calls, &answer.json(), &body, asked);
        Ok(())
    }

    fn claim_body(&mut self, lease_ms: u64) -> Value {
        let mut body = json!({
            "queues": QUEUES, "limit": self.random.random_range(1..10), "lease_ms": lease_ms,
            "worker": format!("worker-{}", self.number),
        });
        if self.random.random_bool(0.3) {
            body["wait_ms"] = self.random.random_range(1..60).into();
        }
        if self.random.random_bool(0.2) {
            body["kinds"] = json!([KINDS[self.random.random_range(0..KINDS.len())]]);
        }
        if self.random.random_bool(0.2) {
            body["priorities"] = json!(["critical", "default", "bulk"]);
        }
        if self.random.random_bool(0.2) {
            body["queues"] = json!([QUEUES[self.random.random_range(0..QUEUES.len())]]);
        }
        body
    }

    /// Some of what is in its hands, and what shall become of it.
    fn riders(&mut self, probability: f64) -> Vec<(Held, How)> {
        let mut riders = Vec::new();
        while !self.hands.is_empty() && self.random.random_bool(probability) {
            let held = self.any();
            let how = match self.random.random_range(0..10) {
                0..7 => How::Ack(self.result()),
                7..9 => How::Back(0),
                _ => How::Bury,
            };
            riders.push((held, how));
        }
        // Outcomes come acks first.
        riders.sort_by_key(|(_, how)| !matches!(how, How::Ack(_)));
        riders
    }

    fn result(&mut self) -> Option<Value> {
        let number: u32 = self.random.random();
        self.random.random_bool(0.3).then(|| json!({"number": number, "by": self.number}))
    }

    pub(super) async fn settle(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let riders = self.riders(0.8);
        let mut body = json!({});
        write_settle(&mut body, &riders);
        let asked = calls.now();
        riders.iter().for_each(|(held, how)| calls.ledger.ending(held, how));
        let answer = calls.post("settle", "/v1/settle", &body).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.settled(calls, riders, &answer.json(), asked);
        Ok(())
    }

    fn settled(
        &mut self,
        calls: &Calls<'_>,
        riders: Vec<(Held, How)>,
        reply: &Value,
        asked: (u64, u64),
    ) {
        for (place, (held, how)) in riders.into_iter().enumerate() {
            let done = match how {
                How::Ack(_) => "acked",
                How::Bury => "dead",
                How::Back(_) => "retrying",
            };
            let said = outcome_of_many(&reply["outcomes"][place], done);
            self.ended(calls, &how, said);
            calls.ledger.ended(&held, how, said, asked);
            self.spent = Some(held);
        }
    }

    fn ended(&mut self, calls: &Calls<'_>, how: &How, said: Outcome) {
        let stays = matches!(how, How::Back(_)) || said == Outcome::LeaseLost;
        if !stays || said == Outcome::Cancelled {
            calls.ledger.backlog_grows(-1);
        }
    }

    /// One call that ends a lease.
    async fn end(
        &mut self,
        calls: &Calls<'_>,
        how: How,
        verb: (&'static str, u16),
        body: Value,
    ) -> Heard<()> {
        let held = self.any();
        let (said, _) = calls.end(&held, how.clone(), verb, body).await?;
        self.ended(calls, &how, said);
        self.spent = Some(held);
        Ok(())
    }

    pub(super) async fn ack(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let result = self.result();
        let body = result.as_ref().map_or(json!({}), |result| json!({"result": result}));
        self.end(calls, How::Ack(result), ("ack", 204), body).await
    }

    pub(super) async fn fail(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let mut body = json!({"error": "no luck"});
        let mut not_before_ms = 0;
        if self.random.random_bool(0.5) {
            let retry_in_ms = self.random.random_range(0..500);
            body["retry_in_ms"] = retry_in_ms.into();
            not_before_ms = super::super::now_ms() + retry_in_ms;
        }
        self.end(calls, How::Back(not_before_ms), ("fail", 200), body).await
    }

    pub(super) async fn bury(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let body = json!({"error": "hopeless", "retry": false});
        self.end(calls, How::Bury, ("fail", 200), body).await
    }

    pub(super) async fn release(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let delay_ms = self.random.random_range(0..3) * 100;
        let not_before_ms = super::super::now_ms() + delay_ms;
        let how = How::Back(if delay_ms > 0 { not_before_ms } else { 0 });
        self.end(calls, how, ("release", 200), json!({"delay_ms": delay_ms})).await
    }

    pub(super) async fn extend(&mut self, calls: &Calls<'_>) -> Heard<()> {
        let place = self.random.random_range(0..self.hands.len());
        let (held, cancelled) = &mut self.hands[place];
        let before = calls.ledger.known(&held.id);
        let body = json!({"lease_ms": LEASE_MS, "progress": 50});
        let answer = calls.verb("extend", held, body).await?;
        if answer.status != 200 {
            let lives = super::super::now_ms() < held.until_ms;
            assert!(answer.status == 409 && !lives, "L3: {held:?}: {answer:?}");
            self.hands.swap_remove(place);
            return Ok(());
        }
        let reply = answer.json();
        held.until_ms = moment_ms(&reply["expires_at"]);
        let is_told = reply["cancelled"] == true;
        assert!(is_told || !(*cancelled || before.is_gone()), "L8: {held:?}: {reply}");
        *cancelled = is_told;
        calls.ledger.extended(held, is_told);
        Ok(())
    }
}

pub(super) fn write_settle(body: &mut Value, riders: &[(Held, How)]) {
    let (mut acks, mut fails) = (Vec::new(), Vec::new());
    for (held, how) in riders {
        match how {
            How::Ack(result) => acks.push(ack_of(held, result.as_ref())),
            How::Bury | How::Back(_) => {
                let retry = matches!(how, How::Back(_));
                let mut fail = ack_of(held, None);
                (fail["error"], fail["retry"]) = ("no".into(), retry.into());
                fails.push(fail);
            }
        }
    }
    (body["acks"], body["fails"]) = (acks.into(), fails.into());
}

/// Writes down what a claim handed out; it must be what was asked for.
pub(super) fn claimed(
    calls: &Calls<'_>,
    reply: &Value,
    asked_for: &Value,
    asked: (u64, u64),
) -> Vec<Held> {
    let jobs = reply["jobs"].as_array().unwrap();
    assert!(jobs.len() as u64 <= asked_for["limit"].as_u64().unwrap());
    let held = jobs.iter().map(|job| {
        for (filter, field) in [("queues", "queue"), ("kinds", "kind"), ("priorities", "priority")]
        {
            let wanted = asked_for[filter].as_array();
            assert!(wanted.is_none_or(|wanted| wanted.contains(&job[field])), "{filter}: {job}");
        }
        let name = name(job);
        assert_eq!(job["headers"]["name"], *name, "L5: the headers of {name}");
        let held = held(job);
        calls.ledger.claimed(&held, &name, asked.0);
        held
    });
    held.collect()
}

/// The name in a payload, whether it was handed in as JSON or as bytes.
pub(super) fn name(job: &Value) -> String {
    match job["payload_base64"].as_str() {
        Some(bytes) => {
            let bytes = BASE64_STANDARD.decode(bytes).unwrap();
            text(&serde_json::from_slice::<Value>(&bytes).unwrap()["name"])
        }
        None => text(&job["payload"]["name"]),
    }
}
