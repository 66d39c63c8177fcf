//! The verbs of operators over HTTP: lists, purges, queues removed.

use pulk::queue::{JobPage, JobQuery, Purge, Purged};
use pulk::{JobState, Result};
use serde::Deserialize;

use crate::http_door::{JobReply, escaped, problem, read};
use crate::node::Http;

pub async fn jobs(node: &Http, query: &JobQuery) -> Result<JobPage> {
    let mut path = format!("/v1/jobs?limit={}&state={}", query.limit, states(&query.states));
    let priority = query.priority.map(|priority| priority.to_string());
    let texts = [("queue", &query.queue), ("kind", &query.kind), ("cursor", &query.cursor)];
    for (name, value) in texts.into_iter().chain([("priority", &priority)]) {
        if let Some(value) = value {
            path += &format!("&{name}={}", escaped(value));
        }
    }
    let page: PageReply = read(&node.get(&path).await, 200)?;
    let jobs = page.jobs.into_iter().map(JobReply::into_view).collect();
    Ok(JobPage { jobs, next_cursor: page.next_cursor })
}

pub async fn purge(node: &Http, purge: &Purge) -> Result<Purged> {
    let mut path = format!("/v1/queues/{}/jobs", escaped(&purge.queue));
    if !purge.states.is_empty() || purge.priority.is_some() {
        path += &format!("?state={}", states(&purge.states));
    }
    if let Some(priority) = purge.priority {
        path += &format!("&priority={priority}");
    }
    let PurgeReply { removed, cancelled } = read(&node.delete(&path).await, 200)?;
    Ok(Purged { removed, cancelled })
}

pub async fn remove_queue(node: &Http, name: &str) -> Result<()> {
    let answer = node.delete(&format!("/v1/queues/{}", escaped(name))).await;
    match answer.status {
        204 if answer.body.is_empty() => Ok(()),
        _ => Err(problem(&answer)),
    }
}

fn states(states: &[JobState]) -> String {
    states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",")
}

#[derive(Deserialize)]
struct PageReply {
    jobs: Vec<JobReply>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct PurgeReply {
    removed: u64,
    cancelled: u64,
}
