//! The verbs of a queue, whichever way one comes in, and what tests often do with them.

use bytes::Bytes;
use pulk::job::{Enqueued, Found};
use pulk::queue::{
    Ack, Cancelled, Claim, Claimed, ClaimedJob, DeadEdit, DeadPage, DeadPurged, DeadQuery,
    Extended, Failed, Failure, JobPage, JobQuery, Limits, ManyReplayed, Purge, PurgeDead, Purged,
    QueueView, Released, ReplayMany, ReplayView, Settle, SettleOutcome,
};
use pulk::{
    ErrorKind, JobId, JobState, JobView, LeaseToken, NewJob, Queue, Result, RunAt, Timestamp,
};
use tokio::task::JoinHandle;

use crate::http_dead as dead;
use crate::http_door as http;
use crate::http_operators as operators;
use crate::node::{Http, post_head, within};
use crate::result_reply;

/// A way into a queue.
#[derive(Clone)]
pub enum Door {
    Embedded(Queue),
    /// A client of a node, and the node's address.
    Http(Http, String),
}

impl Door {
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        match self {
            Door::Embedded(queue) => queue.enqueue(job).await,
            Door::Http(node, _) => http::enqueue(node, &job).await,
        }
    }

    pub async fn enqueue_many(&self, jobs: Vec<NewJob>) -> Result<Vec<JobId>> {
        match self {
            Door::Embedded(queue) => {
                let enqueued = queue.enqueue_many(jobs).await?;
                Ok(enqueued.into_iter().map(|one| one.id).collect())
            }
            Door::Http(node, _) => http::enqueue_many(node, &jobs).await,
        }
    }

    pub async fn claim(&self, claim: Claim) -> Result<Claimed> {
        match self {
            Door::Embedded(queue) => queue.claim(claim).await,
            Door::Http(node, _) => http::claim(node, &claim).await,
        }
    }

    pub async fn ack(&self, token: LeaseToken) -> Result<()> {
        match self {
            Door::Embedded(queue) => queue.ack(token).await,
            Door::Http(node, _) => http::ack(node, &token.into()).await,
        }
    }

    pub async fn ack_with_result(&self, token: LeaseToken, result: Bytes) -> Result<()> {
        match self {
            Door::Embedded(queue) => queue.ack_with_result(token, result).await,
            Door::Http(node, _) => http::ack(node, &Ack { token, result: Some(result) }).await,
        }
    }

    pub async fn fail(&self, failure: Failure) -> Result<Failed> {
        match self {
            Door::Embedded(queue) => queue.fail(failure).await,
            Door::Http(node, _) => http::fail(node, &failure).await,
        }
    }

    pub async fn settle(&self, settle: Settle) -> Result<Vec<SettleOutcome>> {
        match self {
            Door::Embedded(queue) => queue.settle(settle).await,
            Door::Http(node, _) => http::settle(node, &settle).await,
        }
    }

    pub async fn extend(
        &self,
        token: LeaseToken,
        lease_ms: Option<u64>,
        progress: Option<u8>,
    ) -> Result<Extended> {
        match self {
            Door::Embedded(queue) => queue.extend(token, lease_ms, progress).await,
            Door::Http(node, _) => http::extend(node, token, lease_ms, progress).await,
        }
    }

    pub async fn release(&self, token: LeaseToken, delay_ms: Option<u64>) -> Result<Released> {
        match self {
            Door::Embedded(queue) => queue.release(token, delay_ms).await,
            Door::Http(node, _) => http::release(node, token, delay_ms).await,
        }
    }

    pub async fn job(&self, id: JobId) -> Result<JobView> {
        match self {
            Door::Embedded(queue) => queue.job(id).await,
            Door::Http(node, _) => http::job(node, &format!("/v1/jobs/{id}")).await,
        }
    }

    pub async fn cancel(&self, id: JobId) -> Result<Cancelled> {
        match self {
            Door::Embedded(queue) => queue.cancel(id).await,
            Door::Http(node, _) => http::cancel(node, id).await,
        }
    }

    pub async fn find(&self, id: JobId) -> Result<Found> {
        match self {
            Door::Embedded(queue) => queue.find(id).await,
            Door::Http(node, _) => result_reply::find(node, id).await,
        }
    }

    pub async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage> {
        match self {
            Door::Embedded(queue) => queue.dead_letters(query).await,
            Door::Http(node, _) => dead::dead_letters(node, &query).await,
        }
    }

    pub async fn dead_letter(&self, id: JobId) -> Result<JobView> {
        match self {
            Door::Embedded(queue) => queue.dead_letter(id).await,
            Door::Http(node, _) => http::job(node, &format!("/v1/dead/{id}")).await,
        }
    }

    pub async fn edit_dead_letter(&self, id: JobId, edit: DeadEdit) -> Result<JobView> {
        match self {
            Door::Embedded(queue) => queue.edit_dead_letter(id, edit).await,
            Door::Http(node, _) => dead::edit_dead_letter(node, id, &edit).await,
        }
    }

    pub async fn delete_dead_letter(&self, id: JobId) -> Result<()> {
        match self {
            Door::Embedded(queue) => queue.delete_dead_letter(id).await,
            Door::Http(node, _) => dead::delete_dead_letter(node, id).await,
        }
    }

    pub async fn purge_dead_letters(&self, purge: PurgeDead) -> Result<DeadPurged> {
        match self {
            Door::Embedded(queue) => queue.purge_dead_letters(purge).await,
            Door::Http(node, _) => dead::purge_dead_letters(node, &purge).await,
        }
    }

    pub async fn replay(&self, id: JobId) -> Result<Enqueued> {
        match self {
            Door::Embedded(queue) => queue.replay(id).await,
            Door::Http(node, _) => dead::replay(node, id).await,
        }
    }

    pub async fn replay_many(&self, replay: ReplayMany) -> Result<ManyReplayed> {
        match self {
            Door::Embedded(queue) => queue.replay_many(replay).await,
            Door::Http(node, _) => dead::replay_many(node, &replay).await,
        }
    }

    pub async fn replays(&self) -> Result<Vec<ReplayView>> {
        match self {
            Door::Embedded(queue) => queue.replays().await,
            Door::Http(node, _) => dead::replays(node).await,
        }
    }

    pub async fn replay_status(&self, id: u64) -> Result<ReplayView> {
        match self {
            Door::Embedded(queue) => queue.replay_status(id).await,
            Door::Http(node, _) => dead::replay_status(node, id).await,
        }
    }

    pub async fn cancel_replay(&self, id: u64) -> Result<ReplayView> {
        match self {
            Door::Embedded(queue) => queue.cancel_replay(id).await,
            Door::Http(node, _) => dead::cancel_replay(node, id).await,
        }
    }

    pub async fn queues(&self) -> Result<Vec<QueueView>> {
        match self {
            Door::Embedded(queue) => queue.queues().await,
            Door::Http(node, _) => http::queues(node).await,
        }
    }

    pub async fn queue(&self, name: &str) -> Result<QueueView> {
        match self {
            Door::Embedded(queue) => queue.queue(name).await,
            Door::Http(node, _) => http::queue(node, name).await,
        }
    }
    pub async fn pause(&self, name: &str) -> Result<QueueView> {
        match self {
            Door::Embedded(queue) => queue.pause(name).await,
            Door::Http(node, _) => http::switch(node, name, "pause").await,
        }
    }

    pub async fn set_limits(&self, name: &str, limits: Limits) -> Result<QueueView> {
        match self {
            Door::Embedded(queue) => queue.set_limits(name, limits).await,
            Door::Http(node, _) => http::set_limits(node, name, limits).await,
        }
    }

    pub async fn resume(&self, name: &str) -> Result<QueueView> {
        match self {
            Door::Embedded(queue) => queue.resume(name).await,
            Door::Http(node, _) => http::switch(node, name, "resume").await,
        }
    }

    /// All metrics as text.
    pub async fn metrics(&self) -> String {
        match self {
            Door::Embedded(queue) => {
                let snapshot = queue.snapshot().await.unwrap();
                queue.metrics().encode(&snapshot).unwrap()
            }
            Door::Http(node, _) => node.get("/q/metrics").await.text(),
        }
    }

    pub async fn jobs(&self, query: JobQuery) -> Result<JobPage> {
        match self {
            Door::Embedded(queue) => queue.jobs(query).await,
            Door::Http(node, _) => operators::jobs(node, &query).await,
        }
    }

    pub async fn purge(&self, purge: Purge) -> Result<Purged> {
        match self {
            Door::Embedded(queue) => queue.purge(purge).await,
            Door::Http(node, _) => operators::purge(node, &purge).await,
        }
    }

    pub async fn remove_queue(&self, name: &str) -> Result<()> {
        match self {
            Door::Embedded(queue) => queue.remove_queue(name).await,
            Door::Http(node, _) => operators::remove_queue(node, name).await,
        }
    }

    // ---- what tests often do ----

    /// Enqueues a job that can run now.
    pub async fn put(&self, job: NewJob) -> JobId {
        let enqueued = self.enqueue(job).await.unwrap();
        assert_eq!(enqueued.state, JobState::Ready);
        enqueued.id
    }

    /// The next job of a queue, waited for.
    pub async fn take(&self, queue: &str) -> ClaimedJob {
        self.take_with(claim_in(queue)).await
    }

    /// The one job that this claim gets.
    pub async fn take_with(&self, claim: Claim) -> ClaimedJob {
        let mut claimed = self.claim(claim).await.unwrap();
        assert_eq!(claimed.jobs.len(), 1, "{claimed:?}");
        claimed.jobs.remove(0)
    }

    /// Nothing can be claimed now.
    pub async fn assert_none_ready(&self) {
        let claimed = self.claim(Claim::default()).await.unwrap();
        assert!(claimed.jobs.is_empty(), "{claimed:?}");
    }

    /// The job's failure, to be tried again in `retry_in_ms` or by its policy.
    pub async fn fail_once(&self, job: &ClaimedJob, retry_in_ms: Option<u64>) -> Failed {
        let (token, error) = (job.token, "no luck".to_owned());
        self.fail(Failure { token, error, retry: true, retry_in_ms }).await.unwrap()
    }

    /// Enqueues a job and makes a dead letter of it.
    pub async fn put_dead(&self, job: NewJob) -> JobId {
        let queue = job.queue.clone();
        let id = self.put(job).await;
        let token = self.take(&queue).await.token;
        assert_eq!(token.job(), id);
        let error = "hopeless".to_owned();
        self.fail(Failure { token, error, retry: false, retry_in_ms: None }).await.unwrap();
        id
    }

    /// Waits for a moment by the queue's own timers: what was due before is done by then.
    pub async fn until(&self, moment: Timestamp) {
        let job = NewJob::new("tick").queue("clock").run_at(RunAt::At(moment));
        self.enqueue(job).await.unwrap();
        let tick = self.take("clock").await;
        self.ack(tick.token).await.unwrap();
    }

    /// Begins a claim that finds nothing, and returns when it waits. A job that rides along with
    /// it tells: once that is gone, the claim has reached the queue and looked.
    pub async fn parked(&self, mut claim: Claim) -> JoinHandle<Result<Claimed>> {
        let herald = self.herald().await;
        claim.settle.acks.push(herald.into());
        let door = self.clone();
        let waiting = tokio::spawn(async move { door.claim(claim).await });
        self.gone(herald.job()).await;
        assert!(!waiting.is_finished(), "it found something");
        waiting
    }

    /// Begins a claim that finds nothing, and goes away while it waits; returns when the queue
    /// has been told so.
    pub async fn abandoned(&self, claim: Claim) {
        match self {
            Door::Embedded(_) => {
                let waiting = self.parked(claim).await;
                waiting.abort();
                assert!(waiting.await.unwrap_err().is_cancelled());
            }
            Door::Http(_, address) => {
                let mut claim = claim;
                let herald = self.herald().await;
                claim.settle.acks.push(herald.into());
                let body = http::claim_body(&claim);
                let mut connection = crate::node::Connection::open(address).await;
                connection.send(post_head("/v1/claim", body.len())).await;
                connection.send(body).await;
                self.gone(herald.job()).await;
                // The node ends its side when it has seen that ours is gone.
                assert_eq!(connection.close_and_read().await, "");
            }
        }
    }

    async fn herald(&self) -> LeaseToken {
        self.put(NewJob::new("herald").queue("herald")).await;
        self.take("herald").await.token
    }

    /// Asks until the job is gone.
    async fn gone(&self, id: JobId) {
        let gone = async {
            while self.job(id).await.map_err(|error| error.kind()) != Err(ErrorKind::NotFound) {}
        };
        within("the end of a job", gone).await;
    }
}

/// A claim of one job of a queue that waits for it.
pub fn claim_in(queue: &str) -> Claim {
    Claim { queues: vec![queue.to_owned()], wait_ms: 30_000, ..Claim::default() }
}

/// The same with a lease of this length.
pub fn lease_in(queue: &str, lease_ms: u64) -> Claim {
    Claim { lease_ms, ..claim_in(queue) }
}

/// The same with a name for the worker.
pub fn claim_as(queue: &str, worker: &str) -> Claim {
    Claim { worker: Some(worker.to_owned()), ..claim_in(queue) }
}
