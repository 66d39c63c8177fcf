//! The verbs for dead letters over HTTP.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pulk::dead_letter::DeadReason;
use pulk::job::Enqueued;
use pulk::queue::{
    DeadChoice, DeadEdit, DeadFilter, DeadPage, DeadPurged, DeadQuery, ManyReplayed, PurgeDead,
    ReplayCounts, ReplayMany, ReplayState, ReplayView,
};
use pulk::{JobId, JobView, Payload, Result, Timestamp};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http_door::{EnqueuedReply, JobReply, escaped, problem, read};
use crate::node::{Answer, Http, within};

async fn call(node: &Http, method: Method, path: &str, body: String) -> Answer {
    within(path, node.call(method, path, body)).await.unwrap()
}

pub async fn dead_letters(node: &Http, query: &DeadQuery) -> Result<DeadPage> {
    let mut path = format!("/v1/dead?limit={}", query.limit);
    let filter = &query.filter;
    let reason = filter.reason.map(|reason| reason.as_str().to_owned());
    for (name, value) in [
        ("queue", &filter.queue),
        ("kind", &filter.kind),
        ("reason", &reason),
        ("error", &filter.error),
        ("cursor", &query.cursor),
    ] {
        if let Some(value) = value {
            path += &format!("&{name}={}", escaped(value));
        }
    }
    let page: PageReply = read(&node.get(&path).await, 200)?;
    let jobs = page.jobs.into_iter().map(JobReply::into_view).collect();
    Ok(DeadPage { jobs, next_cursor: page.next_cursor })
}

pub async fn edit_dead_letter(node: &Http, id: JobId, edit: &DeadEdit) -> Result<JobView> {
    // Written by hand: a payload goes out byte for byte.
    let mut members = Vec::new();
    let mut add = |name: &str, value: String| members.push(format!("\"{name}\":{value}"));
    match &edit.payload {
        Some(Payload::Json(text)) => add("payload", String::from_utf8(text.to_vec()).unwrap()),
        Some(Payload::Binary(bytes)) => {
            add("payload_base64", json!(BASE64_STANDARD.encode(bytes)).to_string());
        }
        None => {}
    }
    for (name, value) in [
        ("kind", edit.kind.as_ref().map(|kind| json!(kind))),
        ("priority", edit.priority.map(|priority| json!(priority))),
        ("headers", edit.headers.as_ref().map(|headers| json!(headers))),
        ("max_attempts", edit.max_attempts.map(|most| json!(most))),
        ("max_interruptions", edit.max_interruptions.map(|most| json!(most))),
        ("retry", edit.retry.map(|retry| json!(retry))),
        ("timeout_ms", edit.timeout_ms.map(|timeout_ms| json!(timeout_ms))),
    ] {
        if let Some(value) = value {
            add(name, value.to_string());
        }
    }
    let body = format!("{{{}}}", members.join(","));
    let answer = call(node, Method::PATCH, &format!("/v1/dead/{id}"), body).await;
    read::<JobReply>(&answer, 200).map(JobReply::into_view)
}

pub async fn delete_dead_letter(node: &Http, id: JobId) -> Result<()> {
    let answer = call(node, Method::DELETE, &format!("/v1/dead/{id}"), String::new()).await;
    match answer.status {
        204 if answer.body.is_empty() => Ok(()),
        _ => Err(problem(&answer)),
    }
}

pub async fn purge_dead_letters(node: &Http, purge: &PurgeDead) -> Result<DeadPurged> {
    let mut body = choice(&purge.choice);
    body.insert("dry_run".to_owned(), json!(purge.dry_run));
    let answer = node.post("/v1/dead/purge", Value::from(body).to_string()).await;
    let PurgedReply { matched, removed } = read(&answer, 200)?;
    Ok(DeadPurged { matched, removed })
}

pub async fn replay(node: &Http, id: JobId) -> Result<Enqueued> {
    let answer = node.post(&format!("/v1/dead/{id}/replay"), "").await;
    read::<EnqueuedReply>(&answer, 200).map(Enqueued::from)
}

pub async fn replay_many(node: &Http, replay: &ReplayMany) -> Result<ManyReplayed> {
    let mut body = choice(&replay.choice);
    for (name, value) in [
        ("limit", replay.limit.map(|limit| json!(limit))),
        ("rate_per_s", replay.rate_per_s.map(|rate| json!(rate))),
        ("max_error_share", replay.max_error_share.map(|share| json!(share))),
        ("dry_run", replay.dry_run.then_some(json!(true))),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    }
    let in_background = replay.rate_per_s.is_some() && !replay.dry_run;
    let answer = node.post("/v1/dead/replay", Value::from(body).to_string()).await;
    let reply: ReplayedReply = read(&answer, if in_background { 202 } else { 200 })?;
    let ReplayedReply { matched, replayed, skipped, replay } = reply;
    assert_eq!(replay.is_some(), in_background);
    Ok(ManyReplayed { matched, replayed, skipped, replay: replay.map(ReplayReply::into_view) })
}

pub async fn replays(node: &Http) -> Result<Vec<ReplayView>> {
    let list: ReplaysReply = read(&node.get("/v1/replays").await, 200)?;
    Ok(list.replays.into_iter().map(ReplayReply::into_view).collect())
}

pub async fn replay_status(node: &Http, id: u64) -> Result<ReplayView> {
    let answer = node.get(&format!("/v1/replays/{id}")).await;
    read::<ReplayReply>(&answer, 200).map(ReplayReply::into_view)
}

pub async fn cancel_replay(node: &Http, id: u64) -> Result<ReplayView> {
    let answer = call(node, Method::DELETE, &format!("/v1/replays/{id}"), String::new()).await;
    read::<ReplayReply>(&answer, 200).map(ReplayReply::into_view)
}

fn choice(choice: &DeadChoice) -> Map<String, Value> {
    let DeadFilter { queue, kind, reason, error } = match choice {
        DeadChoice::Ids(ids) => return [("ids".to_owned(), json!(ids))].into_iter().collect(),
        DeadChoice::Filter(filter) => filter,
    };
    let members = [
        ("queue", queue.as_ref().map(|queue| json!(queue))),
        ("kind", kind.as_ref().map(|kind| json!(kind))),
        ("reason", reason.map(|reason| json!(reason.as_str()))),
        ("error", error.as_ref().map(|error| json!(error))),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[derive(Deserialize)]
struct PageReply {
    jobs: Vec<JobReply>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct PurgedReply {
    matched: u64,
    removed: u64,
}

#[derive(Deserialize)]
struct ReplayedReply {
    matched: u64,
    replayed: u64,
    skipped: u64,
    replay: Option<ReplayReply>,
}

#[derive(Deserialize)]
struct ReplaysReply {
    replays: Vec<ReplayReply>,
}

#[derive(Deserialize)]
struct ReplayReply {
    id: u64,
    state: String,
    queue: Option<String>,
    kind: Option<String>,
    reason: Option<DeadReason>,
    error: Option<String>,
    limit: Option<u64>,
    rate_per_s: f64,
    max_error_share: Option<f64>,
    matched: u64,
    replayed: u64,
    skipped: u64,
    died_again: u64,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl ReplayReply {
    fn into_view(self) -> ReplayView {
        let ReplayReply { queue, kind, reason, error, .. } = self;
        let ReplayReply { matched, replayed, skipped, died_again, .. } = self;
        ReplayView {
            id: self.id,
            state: match self.state.as_str() {
                "running" => ReplayState::Running,
                "done" => ReplayState::Done,
                "stopped" => ReplayState::Stopped,
                "cancelled" => ReplayState::Cancelled,
                other => panic!("{other} is no state of a replay"),
            },
            filter: DeadFilter { queue, kind, reason, error },
            limit: self.limit,
            rate_per_s: self.rate_per_s,
            max_error_share: self.max_error_share,
            counts: ReplayCounts { matched, replayed, skipped, died_again },
            started_at: self.started_at,
            ended_at: self.ended_at,
        }
    }
}
