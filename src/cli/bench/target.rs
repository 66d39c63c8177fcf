//! What is loaded: a queue in this process, or a node. Both take the same calls.

use std::mem;

use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::super::failed;
use super::call::EnqueueCall;
use super::remote::{Connection, Remote};
use crate::error::{ErrorKind, Result};
use crate::handle::Queue;
use crate::job::JobId;
use crate::lease::LeaseToken;
use crate::queue::{Ack, Claim, Purge, Settle};

/// How long a claim waits for a job. There is always one to come: none for so long means that
/// somebody else took it.
const WAIT_MS: u64 = 30_000;
/// How often a queue is emptied and removed: calls that were cut off may still come in between.
const REMOVALS_MAX: usize = 5;

/// What is loaded.
#[derive(Clone)]
pub(super) enum Target {
    Embedded(Queue),
    Node(Remote),
}

/// One of those that call it.
pub(super) enum Client {
    Embedded(Queue),
    Node(Connection),
}

#[derive(Serialize)]
struct ClaimBody<'a> {
    queues: [&'a str; 1],
    limit: usize,
    wait_ms: u64,
    acks: Vec<AckBody>,
}

#[derive(Serialize)]
struct SettleBody {
    acks: Vec<AckBody>,
}

#[derive(Serialize)]
struct AckBody {
    id: JobId,
    token: LeaseToken,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkReply {
    jobs: Vec<ClaimedReply>,
    outcomes: Vec<OutcomeReply>,
}

#[derive(Deserialize)]
struct ClaimedReply {
    lease: LeaseReply,
}

#[derive(Deserialize)]
struct LeaseReply {
    token: LeaseToken,
}

#[derive(Deserialize)]
struct OutcomeReply {
    outcome: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct PurgeReply {
    removed: u64,
}

impl Target {
    pub(super) async fn client(&self) -> Result<Client> {
        Ok(match self {
            Target::Embedded(queue) => Client::Embedded(queue.clone()),
            Target::Node(remote) => Client::Node(remote.connect().await?),
        })
    }

    /// What it counts, as Prometheus text.
    pub(super) async fn metrics(&self) -> Result<String> {
        match self {
            Target::Embedded(queue) => queue.metrics().encode(&queue.snapshot().await?),
            Target::Node(remote) => {
                let text = remote.call(Method::GET, "/q/metrics").await?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
        }
    }

    /// Removes the jobs of a queue that wait; gives how many there were.
    pub(super) async fn purge(&self, queue: &str) -> Result<u64> {
        match self {
            Target::Embedded(handle) => {
                let purge = Purge { queue: queue.to_owned(), states: Vec::new(), priority: None };
                Ok(handle.purge(purge).await?.removed)
            }
            Target::Node(remote) => {
                let path = format!("/v1/queues/{queue}/jobs");
                let reply = remote.call(Method::DELETE, &path).await?;
                Ok(read::<PurgeReply>(&reply)?.removed)
            }
        }
    }

    /// Takes the queue with its jobs away, if it is there.
    pub(super) async fn remove(&self, queue: &str) -> Result<()> {
        let mut removed = Ok(());
        for _ in 0..REMOVALS_MAX {
            match self.purge(queue).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                purged => purged?,
            };
            removed = match self {
                Target::Embedded(handle) => handle.remove_queue(queue).await,
                Target::Node(remote) => {
                    let path = format!("/v1/queues/{queue}");
                    remote.call(Method::DELETE, &path).await.map(drop)
                }
            };
            if removed.is_ok() {
                break;
            }
        }
        removed
    }
}

impl Client {
    pub(super) async fn enqueue(&mut self, call: &EnqueueCall) -> Result<()> {
        match (self, call.jobs.as_slice()) {
            (Client::Embedded(queue), [job]) => queue.enqueue(job.clone()).await.map(drop),
            (Client::Embedded(queue), jobs) => queue.enqueue_many(jobs.to_vec()).await.map(drop),
            (Client::Node(connection), jobs) => {
                let path = if jobs.len() == 1 { "/v1/jobs" } else { "/v1/jobs/batch" };
                connection.call(Method::POST, path, call.body.clone()).await.map(drop)
            }
        }
    }

    /// Claims up to `limit` jobs, and acks what is in `held` in the same call; then those claimed
    /// are in it.
    pub(super) async fn claim(
        &mut self,
        queue: &str,
        limit: usize,
        held: &mut Vec<LeaseToken>,
    ) -> Result<usize> {
        let acks = mem::take(held);
        match self {
            Client::Embedded(handle) => {
                let (queues, settle) = (vec![queue.to_owned()], settle(&acks));
                let claim = Claim { queues, limit, wait_ms: WAIT_MS, settle, ..Claim::default() };
                let claimed = handle.claim(claim).await?;
                for outcome in claimed.outcomes {
                    outcome?;
                }
                held.extend(claimed.jobs.iter().map(|job| job.token));
            }
            Client::Node(connection) => {
                let acks = bodies(&acks);
                let body = ClaimBody { queues: [queue], limit, wait_ms: WAIT_MS, acks };
                let reply = connection.call(Method::POST, "/v1/claim", written(&body)?).await?;
                held.extend(acked(&reply)?.jobs.iter().map(|job| job.lease.token));
            }
        }
        if held.is_empty() {
            return Err(failed(format!(
                "a job of the queue {queue} did not come for {} s: does another worker claim from \
                 all queues, or is the node not to hand out jobs?",
                WAIT_MS / 1_000
            )));
        }
        Ok(held.len())
    }

    /// Acks what is held.
    pub(super) async fn settle(&mut self, held: Vec<LeaseToken>) -> Result<()> {
        match self {
            _ if held.is_empty() => Ok(()),
            Client::Embedded(handle) => {
                for outcome in handle.settle(settle(&held)).await? {
                    outcome?;
                }
                Ok(())
            }
            Client::Node(connection) => {
                let body = written(&SettleBody { acks: bodies(&held) })?;
                acked(&connection.call(Method::POST, "/v1/settle", body).await?).map(drop)
            }
        }
    }
}

fn settle(acks: &[LeaseToken]) -> Settle {
    Settle { acks: acks.iter().map(|token| Ack::from(*token)).collect(), fails: Vec::new() }
}

fn bodies(acks: &[LeaseToken]) -> Vec<AckBody> {
    acks.iter().map(|token| AckBody { id: token.job(), token: *token }).collect()
}

fn written(body: &impl Serialize) -> Result<Bytes> {
    let text = serde_json::to_vec(body);
    text.map(Bytes::from).map_err(|reason| failed(format!("no JSON can be made: {reason}")))
}

fn read<'de, T: Deserialize<'de>>(reply: &'de [u8]) -> Result<T> {
    serde_json::from_slice(reply).map_err(|reason| {
        failed(format!("the answer is not what a pulk node says ({reason}); is it one?"))
    })
}

/// The reply, in which every ack that was sent must have been taken.
fn acked(reply: &[u8]) -> Result<WorkReply> {
    let reply: WorkReply = read(reply)?;
    match reply.outcomes.iter().find(|outcome| outcome.outcome != "acked") {
        Some(other) => Err(failed(format!("an ack was not taken: {}", other.detail))),
        None => Ok(reply),
    }
}
