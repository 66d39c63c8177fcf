//! Acks and fails as HTTP has them, and what became of them.

use pulk::dead_letter::DeadReason;
use pulk::queue::{Ack, Failed, Failure, Settle, SettleOutcome};
use pulk::{Error, JobId, LeaseToken, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::http_door as http;

pub fn fail_fields(failure: &Failure) -> Value {
    json!({
        "id": failure.token.job(),
        "token": failure.token,
        "error": failure.error,
        "retry": failure.retry,
        "retry_in_ms": failure.retry_in_ms,
    })
}

#[derive(Serialize)]
pub struct AckCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<JobId>,
    token: LeaseToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

impl<'a> AckCall<'a> {
    pub fn new(ack: &'a Ack, with_id: bool) -> Self {
        let result = ack.result.as_ref().map(|text| serde_json::from_slice(text).unwrap());
        AckCall { id: with_id.then(|| ack.token.job()), token: ack.token, result }
    }
}

#[derive(Serialize)]
pub struct SettleCall<'a> {
    acks: Vec<AckCall<'a>>,
    fails: Vec<Value>,
}

pub fn settle_lists(settle: &Settle) -> SettleCall<'_> {
    let acks = settle.acks.iter().map(|ack| AckCall::new(ack, true)).collect();
    SettleCall { acks, fails: settle.fails.iter().map(fail_fields).collect() }
}

#[derive(Deserialize)]
pub struct SettleReply {
    pub outcomes: Vec<OutcomeReply>,
}

#[derive(Deserialize)]
pub struct OutcomeReply {
    id: JobId,
    outcome: String,
    run_at: Option<Timestamp>,
    reason: Option<DeadReason>,
    code: Option<String>,
    detail: Option<String>,
}

/// The outcomes, each checked to be about the job at its place: first acks, then fails.
pub fn outcomes_of(settle: &Settle, outcomes: Vec<OutcomeReply>) -> Vec<SettleOutcome> {
    let tokens = settle.acks.iter().map(|ack| ack.token);
    let tokens = tokens.chain(settle.fails.iter().map(|fail| fail.token));
    let ids: Vec<JobId> = tokens.map(LeaseToken::job).collect();
    assert_eq!(outcomes.iter().map(|one| one.id).collect::<Vec<_>>(), ids);
    outcomes.into_iter().map(OutcomeReply::into_outcome).collect()
}

impl OutcomeReply {
    fn into_outcome(self) -> SettleOutcome {
        match self.outcome.as_str() {
            "acked" => Ok(None),
            "retrying" => Ok(Some(Failed::Retrying { run_at: self.run_at.unwrap() })),
            "dead" => Ok(Some(Failed::Dead { reason: self.reason.unwrap() })),
            "error" => Err(Error::new(http::kind_of(&self.code.unwrap()), self.detail.unwrap())),
            other => panic!("{other} is no outcome"),
        }
    }
}
