//! The end of all work on the shared queues.

use serde_json::json;

use super::super::calls::{Calls, Heard, moment_ms, outcome, outcome_of_many, text};
use super::QUEUES;
use super::work::{claimed, name, write_settle};
use crate::ledger::{Held, How, Outcome};

/// Acks what claims that were cut off have handed out, rather than wait for the end of its lease:
/// the token has the next delivery number, or one soon after if that happened more than once.
pub async fn end_lost_leases(calls: &Calls<'_>) -> Heard<()> {
    for queue in QUEUES {
        let running = calls.list(&format!("/v1/jobs?queue={queue}&state=running"), 500).await?;
        for job in running {
            let (id, name) = (text(&job["id"]), name(&job));
            let until_ms = moment_ms(&job["expires_at"]);
            let known = calls.ledger.last_delivery(&id);
            for delivery in known.max(1)..known + 6 {
                let token = format!("{id}-{delivery}");
                let held = Held { id: id.clone(), token, until_ms };
                let asked = calls.now();
                let said = outcome(&calls.verb("ack", &held, json!({})).await?, 204);
                if said == Outcome::LeaseLost {
                    continue;
                }
                if delivery > known {
                    // Whenever that claim was sent.
                    calls.ledger.claimed(&held, &name, 0);
                }
                calls.ledger.ending(&held, &How::Ack(None));
                calls.ledger.ended(&held, How::Ack(None), said, asked);
                break;
            }
        }
    }
    Ok(())
}

/// Claims and acks until nothing waits, runs, or is to come in the shared queues.
pub async fn drain(calls: &Calls<'_>) -> Heard<()> {
    let body = json!({"queues": QUEUES, "limit": 500, "lease_ms": 60_000, "wait_ms": 250});
    while !is_empty(calls).await? {
        let asked = calls.now();
        let reply = calls.post("claim", "/v1/claim", &body).await?.json();
        let held = claimed(calls, &reply, &body, asked);
        let riders: Vec<(Held, How)> =
            held.into_iter().map(|held| (held, How::Ack(None))).collect();
        let mut settle = json!({});
        write_settle(&mut settle, &riders);
        let asked = calls.now();
        let reply = calls.post("settle", "/v1/settle", &settle).await?.json();
        for (place, (held, how)) in riders.into_iter().enumerate() {
            let said = outcome_of_many(&reply["outcomes"][place], "acked");
            calls.ledger.ended(&held, how, said, asked);
        }
    }
    Ok(())
}

async fn is_empty(calls: &Calls<'_>) -> Heard<bool> {
    let queues = calls.get("/v1/queues").await?.json();
    let mut shared = queues["queues"].as_array().unwrap().iter();
    let states = ["scheduled", "ready", "running", "retrying"];
    Ok(shared.all(|queue| {
        !QUEUES.contains(&queue["name"].as_str().unwrap())
            || states.iter().all(|state| queue["counts"][state] == 0)
    }))
}
