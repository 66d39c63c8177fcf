//! Calls to a node that may be killed at any moment.

use reqwest::Method;
use serde_json::{Value, json};

use super::now_ms;
use crate::ledger::{Held, How, Ledger, Outcome};
use crate::node::{Answer, Http, within};

/// A connection that broke, which is what a kill looks like from outside.
#[derive(Debug)]
pub struct CutOff;

pub type Heard<T> = Result<T, CutOff>;

pub struct Calls<'a> {
    http: &'a Http,
    pub ledger: &'a Ledger,
}

impl<'a> Calls<'a> {
    pub fn new(http: &'a Http, ledger: &'a Ledger) -> Calls<'a> {
        Calls { http, ledger }
    }

    /// What must be known of the moment before a call: the answers that had come, and the time.
    pub fn now(&self) -> (u64, u64) {
        (self.ledger.answers(), now_ms())
    }

    /// One call of a `kind` that the summary counts, with one more header.
    pub async fn send(
        &self,
        kind: &'static str,
        (method, path): (Method, &str),
        header: Option<(&str, &str)>,
        body: String,
    ) -> Heard<Answer> {
        let call = async {
            match header {
                Some(header) => self.http.call_with(method, path, header, body).await,
                None => self.http.call(method, path, body).await,
            }
        };
        match within(path, call).await {
            Ok(answer) => {
                self.ledger.answered();
                assert!(answer.status < 500 && answer.status != 429, "{path}: {answer:?}");
                Ok(answer)
            }
            Err(_) => {
                self.ledger.unheard(kind);
                Err(CutOff)
            }
        }
    }

    pub async fn post(&self, kind: &'static str, path: &str, body: &Value) -> Heard<Answer> {
        self.send(kind, (Method::POST, path), None, body.to_string()).await
    }

    pub async fn patch(&self, kind: &'static str, path: &str, body: &Value) -> Heard<Answer> {
        self.send(kind, (Method::PATCH, path), None, body.to_string()).await
    }

    pub async fn delete(&self, kind: &'static str, path: &str) -> Heard<Answer> {
        self.send(kind, (Method::DELETE, path), None, String::new()).await
    }

    pub async fn get(&self, path: &str) -> Heard<Answer> {
        self.send("get", (Method::GET, path), None, String::new()).await
    }

    /// What the holder of a lease says about its job.
    pub async fn verb(&self, verb: &'static str, held: &Held, mut body: Value) -> Heard<Answer> {
        body["token"] = held.token.clone().into();
        self.post(verb, &format!("/v1/jobs/{}/{verb}", held.id), &body).await
    }

    /// A call that may end a lease, as the ledger has it: before, and after the answer.
    pub async fn end(
        &self,
        held: &Held,
        how: How,
        (verb, done): (&'static str, u16),
        body: Value,
    ) -> Heard<(Outcome, Answer)> {
        let asked = self.now();
        self.ledger.ending(held, &how);
        let answer = self.verb(verb, held, body).await?;
        let said = outcome(&answer, done);
        self.ledger.ended(held, how, said, asked);
        Ok((said, answer))
    }

    /// A list, page by page.
    pub async fn list(&self, query: &str, limit: usize) -> Heard<Vec<Value>> {
        let mut jobs = Vec::new();
        let mut path = format!("{query}&limit={limit}");
        loop {
            let answer = self.get(&path).await?;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let mut page = answer.json();
            jobs.append(page["jobs"].as_array_mut().unwrap());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{query}&limit={limit}&cursor={cursor}"),
                None => return Ok(jobs),
            }
        }
    }
}

/// What the node said to a call that ends a lease.
pub fn outcome(answer: &Answer, done: u16) -> Outcome {
    if answer.status == done {
        return Outcome::Done;
    }
    assert_eq!(answer.status, 409, "{answer:?}");
    refusal(answer.json()["code"].as_str().unwrap())
}

/// One of the outcomes of a settle.
pub fn outcome_of_many(outcome: &Value, done: &str) -> Outcome {
    match outcome["outcome"].as_str().unwrap() {
        "error" => refusal(outcome["code"].as_str().unwrap()),
        word => {
            assert_eq!(word, done, "{outcome}");
            Outcome::Done
        }
    }
}

fn refusal(code: &str) -> Outcome {
    match code {
        "cancelled" => Outcome::Cancelled,
        "lease_lost" => Outcome::LeaseLost,
        code => panic!("{code} to the holder of a lease"),
    }
}

/// The lease of a job that a claim handed out.
pub fn held(job: &Value) -> Held {
    let lease = &job["lease"];
    Held {
        id: text(&job["id"]),
        token: text(&lease["token"]),
        until_ms: moment_ms(&lease["expires_at"]),
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

pub fn moment_ms(value: &Value) -> u64 {
    let moment: jiff::Timestamp = text(value).parse().unwrap();
    moment.as_millisecond().try_into().unwrap()
}

/// What a settle says of one job.
pub fn ack_of(held: &Held, result: Option<&Value>) -> Value {
    let mut ack = json!({"id": held.id, "token": held.token});
    if let Some(result) = result {
        ack["result"] = result.clone();
    }
    ack
}
