//! What a client was told, and so what a reopened node may have.
//!
//! Each job has its kind as a name. A call that was answered leaves one state for a job; one that
//! was not leaves the state before it and the one after.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::node::{Http, within};

/// Not there: never taken, or done.
pub const GONE: &str = "gone";
pub const READY: &str = "ready";

/// A job as far as it is known.
#[derive(Clone, Debug)]
pub struct Known {
    /// The states that it may be in.
    pub states: Vec<&'static str>,
    pub payload: String,
    /// The token of a claim that was answered, while its lease goes on.
    pub token: Option<Value>,
    /// Jobs of one batch are there all or none, while none was claimed.
    pub batch: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub jobs: BTreeMap<String, Known>,
}

impl Ledger {
    /// A job is about to be enqueued.
    pub fn asked(&mut self, kind: &str, payload: &str, state: &'static str, batch: bool) {
        let (states, payload) = (vec![GONE, state], payload.to_owned());
        self.jobs.insert(kind.to_owned(), Known { states, payload, token: None, batch });
    }

    /// The last state that was asked for holds.
    pub fn answered(&mut self, kind: &str) {
        let known = self.jobs.get_mut(kind).unwrap();
        known.states = known.states.split_off(known.states.len() - 1);
    }

    /// A job is about to get into another state.
    pub fn may_become(&mut self, kind: &str, state: &'static str) {
        self.jobs.get_mut(kind).unwrap().states.push(state);
    }

    /// Jobs that wait, in any order.
    pub fn waiting(&self) -> Vec<String> {
        let waiting = self.jobs.iter().filter(|(_, known)| known.states == [READY]);
        waiting.map(|(kind, _)| kind.clone()).collect()
    }

    /// Holds it all against a node; then uses up what is running.
    pub async fn check(&self, node: &Http) -> Result<(), String> {
        let found = jobs(node).await;
        for (kind, known) in &self.jobs {
            let state = found.get(kind).map_or(GONE, |job| job["state"].as_str().unwrap());
            if !known.states.contains(&state) {
                return Err(format!("{kind} is {state}, and may be {:?}", known.states));
            }
            let Some(job) = found.get(kind) else { continue };
            let whole = node.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await.json();
            if whole["payload"] != json!(known.payload) {
                return Err(format!("{kind} has another payload"));
            }
            if let (Some(token), "running") = (&known.token, state) {
                let path = format!("/v1/jobs/{}/ack", job["id"].as_str().unwrap());
                let answer = node.post(&path, json!({ "token": token }).to_string()).await;
                if answer.status != 204 {
                    return Err(format!("the token of {kind} is not good: {answer:?}"));
                }
            }
        }
        if let Some(kind) = found.keys().find(|kind| !self.jobs.contains_key(*kind)) {
            return Err(format!("nobody enqueued {kind}"));
        }
        let batch = || self.jobs.iter().filter(|(_, known)| known.batch && known.states[0] == GONE);
        let there = batch().filter(|(kind, _)| found.contains_key(*kind)).count();
        if ![0, batch().count()].contains(&there) {
            return Err(format!("{there} jobs of a batch of {} are there", batch().count()));
        }
        Ok(())
    }
}

/// All jobs of a node, by their kind.
async fn jobs(node: &Http) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut path = "/v1/jobs?limit=1000".to_owned();
    loop {
        let page = within(&path, node.call(Method::GET, &path, "")).await.unwrap().json();
        for job in page["jobs"].as_array().unwrap() {
            found.insert(job["kind"].as_str().unwrap().to_owned(), job.clone());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/jobs?limit=1000&cursor={cursor}"),
            None => return found,
        }
    }
}
