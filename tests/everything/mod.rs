//! A queue in which every tree holds something, and all that can be asked of it.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pulk::clock::ManualClock;
use pulk::job::{Found, JobResult, OnConflict, Unique};
use pulk::priority::PerPriority;
use pulk::queue::{
    Claim, ClaimedJob, DeadChoice, Failure, JobQuery, Limits, QueueView, Rate, ReplayMany,
    ReplayView, StateCounts,
};
use pulk::retry::RetryPolicy;
use pulk::store::{JournaledStore, Sizes};
use pulk::{
    Config, ErrorKind, JobId, JobView, NewJob, Payload, Priority, Queue, Result, RunAt, Timestamp,
};

/// When everything happens.
pub const NOW_MS: u64 = 1_760_000_000_000;
/// Small, so that directories are.
const JOURNAL_FILE_BYTES: u64 = 150_000;
const DAY_MS: u64 = 24 * 3_600_000;
const YEAR_MS: u64 = 365 * DAY_MS;

/// The queue of a directory, at a time that stands still.
pub async fn open(directory: &Path) -> Result<(Queue, ManualClock)> {
    open_at(directory, Timestamp::from_ms(NOW_MS)).await
}

/// The same at a later time.
pub async fn open_at(directory: &Path, now: Timestamp) -> Result<(Queue, ManualClock)> {
    let path = directory.to_owned();
    let sizes = Sizes { journal_file_bytes: JOURNAL_FILE_BYTES, ..Sizes::default() };
    let open = move || JournaledStore::open_with_sizes(&path, 0, sizes);
    let store = tokio::task::spawn_blocking(open).await.unwrap()?;
    let clock = ManualClock::new(now);
    let config = Config {
        data_dir: directory.to_owned(),
        disk_reserve_bytes: 0,
        result_ttl_ms: 30 * DAY_MS,
        ..Config::default()
    };
    let queue = Queue::open_with(config, Arc::new(store), Arc::new(clock.clone())).await?;
    Ok((queue, clock))
}

fn payload(number: usize, bytes: usize) -> Payload {
    Payload::Binary((0..bytes).map(|at| (at * 7 + at / 251 + number) as u8).collect())
}

async fn take(queue: &Queue, from: &str, limit: usize) -> Vec<ClaimedJob> {
    let claim = Claim {
        queues: vec![from.to_owned()],
        limit,
        lease_ms: DAY_MS / 2,
        worker: Some(format!("worker of {from}")),
        ..Claim::default()
    };
    queue.claim(claim).await.unwrap().jobs
}

fn failure(job: &ClaimedJob, retry: bool) -> Failure {
    let error = format!("no luck with attempt {}", job.attempt);
    let retry_in_ms = retry.then_some(30 * DAY_MS);
    Failure { token: job.token, error, retry, retry_in_ms }
}

/// Fills every tree with something of its own, told apart by `life`, and gives the jobs that left
/// a result.
pub async fn fill(queue: &Queue, life: &str) -> Vec<JobId> {
    let name = |what: &str| format!("{what}-{life}");
    for priority in Priority::ALL {
        let jobs = |count: usize| {
            (0..count).map(move |number| {
                NewJob::new(format!("kind-{number}"))
                    .priority(priority)
                    .payload(payload(number, number * number * 3))
            })
        };
        let waiting = jobs(20).map(|job| job.queue(name("waiting")));
        queue.enqueue_many(waiting.collect()).await.unwrap();
        queue.enqueue_many(jobs(3).map(|job| job.queue(name("more"))).collect()).await.unwrap();
    }
    begun(queue, &name("begun")).await;
    kept(queue, &name("kept")).await;
    large(queue, &name("large")).await;
    dead(queue, &name("dead")).await;
    shared(queue, &name("shared")).await;
    queue.enqueue_many(vec![NewJob::new("idle").queue(name("paused")); 4]).await.unwrap();
    queue.pause(&name("paused")).await.unwrap();
    let rate = Some(Rate { jobs: 1, per_ms: DAY_MS, burst: 3 });
    let limits = Limits { concurrency: Some(2), rate, concurrency_per_key: Some(4) };
    queue.set_limits(&name("paused"), limits).await.unwrap();
    results(queue, &name("results")).await
}

/// Jobs that wait for others with the same key, two of which run.
async fn shared(queue: &Queue, name: &str) {
    let job = |kind: &str| NewJob::new(kind).queue(name);
    let ordered = vec![job("turns").ordering_key("a"); 3];
    let limited = vec![job("places").concurrency_key("b"); 3];
    queue.enqueue_many([ordered, limited].concat()).await.unwrap();
    let both = job("both").ordering_key("a").concurrency_key("b");
    queue.enqueue(both).await.unwrap();
    assert_eq!(take(queue, name, 9).await.len(), 2);
}

/// Chunks of which some jobs are gone, leased and given back.
async fn begun(queue: &Queue, name: &str) {
    let jobs = (0..12).map(|number| NewJob {
        headers: BTreeMap::from([("trace".to_owned(), format!("{number}"))]),
        timeout_ms: Some(DAY_MS),
        retry: Some(RetryPolicy { base_ms: 5_000, max_ms: 60_000, jitter: 0.25 }),
        max_attempts: Some(7),
        max_interruptions: Some(9),
        ..NewJob::new("begun").queue(name).payload(payload(number, 100))
    });
    queue.enqueue_many(jobs.collect()).await.unwrap();
    let taken = take(queue, name, 8).await;
    queue.ack(taken[0].token).await.unwrap();
    queue.ack(taken[3].token).await.unwrap();
    queue.release(taken[1].token, None).await.unwrap();
    queue.release(taken[2].token, Some(5 * YEAR_MS)).await.unwrap();
    queue.extend(taken[4].token, Some(DAY_MS / 2), Some(40)).await.unwrap();
    queue.cancel(taken[5].id).await.unwrap();
    queue.fail(failure(&taken[6], true)).await.unwrap();
}

/// What has a name or an end.
async fn kept(queue: &Queue, name: &str) {
    let job = |kind: &str| NewJob::new(kind).queue(name);
    let unique = |key: &str| Unique { key: key.to_owned(), ..Unique::new(key) };
    queue.enqueue(job("unique").unique(unique("a"))).await.unwrap();
    let replaced = Unique { on_conflict: OnConflict::Replace, ..unique("b") };
    queue.enqueue(job("unique").unique(unique("b"))).await.unwrap();
    queue.enqueue(job("unique").unique(replaced)).await.unwrap();
    let timed = Unique { ttl_ms: Some(YEAR_MS), ..unique("c") };
    let later = RunAt::DelayMs(4 * YEAR_MS);
    queue.enqueue(job("unique").unique(timed).run_at(later)).await.unwrap();
    queue.enqueue(job("idempotent").idempotency_key("once")).await.unwrap();
    queue.enqueue(job("expires").expires_in_ms(5 * YEAR_MS)).await.unwrap();
    let at = RunAt::At(Timestamp::from_ms(NOW_MS + 6 * YEAR_MS));
    queue.enqueue(job("scheduled").run_at(at).payload(payload(3, 500))).await.unwrap();
}

async fn large(queue: &Queue, name: &str) {
    for (number, bytes) in [9_000, 20_000, 40_000].into_iter().enumerate() {
        let text = format!("\"{}\"", "pulk ".repeat(bytes / 5));
        let job = |payload| NewJob::new("large").queue(name).payload(payload);
        queue.enqueue(job(payload(number, bytes))).await.unwrap();
        queue.enqueue(job(Payload::Json(text.into()))).await.unwrap();
    }
    let taken = take(queue, name, 1).await;
    queue.fail(failure(&taken[0], false)).await.unwrap();
}

/// Dead letters, one of them replayed, and a replay in the background that looks for more.
async fn dead(queue: &Queue, name: &str) {
    let jobs = (0..10).map(|number| NewJob::new("dies").queue(name).payload(payload(number, 60)));
    queue.enqueue_many(jobs.collect()).await.unwrap();
    for job in take(queue, name, 10).await {
        queue.fail(failure(&job, false)).await.unwrap();
    }
    let letters = queue.dead_letters(pulk::queue::DeadQuery {
        filter: pulk::queue::DeadFilter { queue: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    });
    let letters: Vec<JobId> = letters.await.unwrap().jobs.iter().map(|job| job.id).collect();
    queue.replay(letters[0]).await.unwrap();
    let choice = DeadChoice::Ids(letters[1..4].to_vec());
    let replay = ReplayMany { choice, rate_per_s: Some(0.001), ..ReplayMany::default() };
    queue.replay_many(replay).await.unwrap();
}

async fn results(queue: &Queue, name: &str) -> Vec<JobId> {
    queue.enqueue_many(vec![NewJob::new("gives").queue(name); 5]).await.unwrap();
    let taken = take(queue, name, 4).await;
    for job in &taken {
        let result = Bytes::from(format!("{{\"of\":\"{}\"}}", job.id));
        queue.ack_with_result(job.token, result).await.unwrap();
    }
    taken.iter().map(|job| job.id).collect()
}

/// All that a queue says of what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    pub jobs: BTreeMap<JobId, JobView>,
    pub results: BTreeMap<JobId, JobResult>,
    pub queues: Vec<QueueFound>,
    pub replays: Vec<ReplayView>,
    pub damaged_records: u64,
}

/// What of a queue lies on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueFound {
    pub name: String,
    pub paused: bool,
    pub limits: Limits,
    pub counts: PerPriority<StateCounts>,
}

impl From<QueueView> for QueueFound {
    fn from(queue: QueueView) -> Self {
        let QueueView { name, paused, limits, counts, .. } = queue;
        QueueFound { name, paused, limits, counts }
    }
}

/// Asks for everything; the results are those of these jobs.
pub async fn contents(queue: &Queue, of: &[JobId]) -> Result<Contents> {
    // What was found damaged is counted anew before the next group.
    let mut jobs = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = queue.jobs(JobQuery { limit: 1_000, cursor, ..JobQuery::default() }).await?;
        jobs.extend(page.jobs.into_iter().map(|job| (job.id, job)));
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let mut results = BTreeMap::new();
    for id in of {
        match queue.find(*id).await {
            Ok(Found::Done(result)) => drop(results.insert(*id, result)),
            Ok(Found::Job(_)) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let snapshot = queue.snapshot().await?;
    Ok(Contents {
        jobs,
        results,
        queues: snapshot.queues.into_iter().map(QueueFound::from).collect(),
        replays: queue.replays().await?,
        damaged_records: snapshot.damaged_records,
    })
}

/// A directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Waits until no journal file is being moved, so that the files stand still.
pub async fn settle(directory: &Path) {
    let is_journal = |name: &str| name.starts_with("journal.") && !name.contains("spare");
    loop {
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        if names.filter(|name| is_journal(name.to_str().unwrap())).count() <= 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// The keys that [`fill`] took are known.
pub async fn assert_keys_hold(queue: &Queue, life: &str) {
    let name = format!("kept-{life}");
    let job = |kind: &str| NewJob::new(kind).queue(&name);
    for key in ["a", "b", "c"] {
        let refused = queue.enqueue(job("unique").unique(Unique::new(key))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{key}");
    }
    let again = queue.enqueue(job("idempotent").idempotency_key("once")).await.unwrap();
    assert!(!again.is_new);
}
