//! A short use of everything that changes the disk, one call at a time.

use reqwest::Method;
use serde_json::{Value, json};

use crate::ledger::{GONE, Ledger, READY};
use crate::node::{Answer, Http, within};

/// Longer than any run.
const LONG_MS: u64 = 3_600_000;
/// Six of them fill a file of the journal, which is then moved into sled.
const BIG_BYTES: usize = 800_000;
const BIG_JOBS: usize = 6;

/// The node has failed: no more calls.
#[derive(Debug)]
pub struct Failed;

/// One client and what it knows.
pub struct Client {
    pub node: Http,
    pub ledger: Ledger,
}

impl Client {
    /// Every kind of call, on jobs of every kind.
    pub async fn first_calls(&mut self) -> Result<(), Failed> {
        self.enqueue("single", 100, READY, json!({})).await?;
        self.enqueue_batch(5).await?;
        self.enqueue("in-parts", 20_000, READY, json!({})).await?;
        let unique = json!({ "unique": { "key": "one" } });
        self.enqueue("unique", 100, READY, unique).await?;
        let later = json!({ "delay_ms": LONG_MS });
        self.enqueue("later", 100, "scheduled", later).await?;
        let claimed = self.claim(5).await?;
        self.settle(&claimed[0], "ack", GONE, json!({})).await?;
        let dead = json!({ "error": "no", "retry": false });
        self.settle(&claimed[1], "fail", "dead", dead).await?;
        let retry = json!({ "error": "no", "retry_in_ms": LONG_MS });
        self.settle(&claimed[2], "fail", "retrying", retry).await
    }

    /// So much that a journal file is moved into sled, and the first calls after it.
    pub async fn big_calls(&mut self) -> Result<(), Failed> {
        for number in 0..BIG_JOBS {
            self.enqueue(&format!("big-{number}"), BIG_BYTES, READY, json!({})).await?;
        }
        self.last_calls().await
    }

    /// Some calls on what is there.
    pub async fn last_calls(&mut self) -> Result<(), Failed> {
        self.enqueue(&format!("last-{}", self.ledger.jobs.len()), 100, READY, json!({})).await?;
        let claimed = self.claim(2).await?;
        self.settle(&claimed[0], "ack", GONE, json!({})).await
    }

    async fn enqueue(
        &mut self,
        kind: &str,
        bytes: usize,
        state: &'static str,
        mut body: Value,
    ) -> Result<(), Failed> {
        let payload = payload(kind, bytes);
        self.ledger.asked(kind, &payload, state, false);
        body["kind"] = kind.into();
        body["payload"] = payload.into();
        self.call("/v1/jobs", &body, 201).await?;
        self.ledger.answered(kind);
        Ok(())
    }

    async fn enqueue_batch(&mut self, count: usize) -> Result<(), Failed> {
        let kinds: Vec<String> = (0..count).map(|number| format!("batch-{number}")).collect();
        let jobs: Vec<Value> = kinds
            .iter()
            .map(|kind| {
                self.ledger.asked(kind, &payload(kind, 50), READY, true);
                json!({ "kind": kind, "payload": payload(kind, 50) })
            })
            .collect();
        self.call("/v1/jobs/batch", &json!({ "jobs": jobs }), 201).await?;
        kinds.iter().for_each(|kind| self.ledger.answered(kind));
        Ok(())
    }

    /// Gives the jobs that it got.
    async fn claim(&mut self, limit: usize) -> Result<Vec<Value>, Failed> {
        let waiting = self.ledger.waiting();
        for kind in &waiting {
            self.ledger.may_become(kind, "running");
        }
        let body = json!({ "limit": limit, "lease_ms": LONG_MS });
        let answer = self.call("/v1/claim", &body, 200).await?.json();
        let jobs = answer["jobs"].as_array().unwrap().clone();
        assert_eq!(jobs.len(), limit, "{answer}");
        for kind in &waiting {
            let job = jobs.iter().find(|job| job["kind"] == json!(kind));
            let known = self.ledger.jobs.get_mut(kind).unwrap();
            known.states = vec![if job.is_some() { "running" } else { READY }];
            known.token = job.map(|job| job["lease"]["token"].clone());
        }
        Ok(jobs)
    }

    async fn settle(
        &mut self,
        job: &Value,
        verb: &str,
        state: &'static str,
        mut body: Value,
    ) -> Result<(), Failed> {
        let kind = job["kind"].as_str().unwrap();
        self.ledger.may_become(kind, state);
        body["token"] = job["lease"]["token"].clone();
        let path = format!("/v1/jobs/{}/{verb}", job["id"].as_str().unwrap());
        self.call(&path, &body, if verb == "ack" { 204 } else { 200 }).await?;
        self.ledger.answered(kind);
        self.ledger.jobs.get_mut(kind).unwrap().token = None;
        Ok(())
    }

    /// One call: it works, or the node has failed and says so, or is gone.
    async fn call(&self, path: &str, body: &Value, status: u16) -> Result<Answer, Failed> {
        let called = self.node.call(Method::POST, path, body.to_string());
        match within(path, called).await {
            Ok(answer) if answer.status == status => Ok(answer),
            Ok(answer) if answer.status == 503 => {
                let problem = answer.json();
                // Draining: it has come to its end already.
                let code = problem["code"].as_str().unwrap();
                assert!(["storage_failed", "draining"].contains(&code), "{problem}");
                Err(Failed)
            }
            Ok(answer) => panic!("{path}: {answer:?}"),
            Err(_) => Err(Failed),
        }
    }
}

fn payload(kind: &str, bytes: usize) -> String {
    kind.repeat(bytes / kind.len())
}
