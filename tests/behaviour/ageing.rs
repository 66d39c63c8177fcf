//! Ageing: what waits long counts as more urgent, so that nothing starves; and what is told of it.
//!
//! With a clock that the test moves, in memory.

use std::sync::Arc;

use pulk::clock::ManualClock;
use pulk::priority::PerPriority;
use pulk::queue::{Claim, ClaimedJob, Next, Skipped};
use pulk::store::memory::MemoryStore;
use pulk::{Config, JobId, NewJob, Priority, Queue, RunAt, StoreKind, Timestamp};

use crate::node::{Node, within};

/// How long high, default, low and bulk jobs wait before they count one level up.
const LIMITS_MS: [u64; 5] = [0, 2_000, 3_000, 4_000, 5_000];
/// From one job of a flood to the next.
const STEP_MS: u64 = 250;

struct Trial {
    queue: Queue,
    clock: ManualClock,
}

impl Trial {
    async fn with(change: impl FnOnce(&mut Config)) -> Trial {
        let clock = ManualClock::new(Timestamp::from_ms(1_800_000_000_000));
        let mut config = Config { store: StoreKind::Memory, ..Config::default() };
        config.ageing_ms =
            PerPriority::from_fn(|priority| LIMITS_MS[usize::from(priority.number())]);
        change(&mut config);
        let store = Arc::new(MemoryStore::new());
        let queue = Queue::open_with(config, store, Arc::new(clock.clone())).await.unwrap();
        Trial { queue, clock }
    }

    async fn new() -> Trial {
        Trial::with(|_| ()).await
    }

    async fn put(&self, name: &str, priority: Priority) -> JobId {
        let job = NewJob::new("k").queue(name).priority(priority);
        self.queue.enqueue(job).await.unwrap().id
    }

    async fn pass(&self, ms: u64) {
        self.clock.advance_ms(ms);
        self.queue.tick().await.unwrap();
    }

    async fn claim(&self, limit: usize) -> Vec<ClaimedJob> {
        let claim = Claim { limit, ..Claim::default() };
        self.queue.claim(claim).await.unwrap().jobs
    }

    async fn next(&self) -> Next {
        self.queue.explain_next().await.unwrap().1
    }

    /// Claims one job, which must be the one that was told to be next, and finishes it.
    async fn finish_next(&self) -> ClaimedJob {
        let next = self.next().await.job.unwrap();
        let job = self.claim(1).await.remove(0);
        assert_eq!((next.id, next.queue, next.priority), (job.id, job.queue.clone(), job.priority));
        self.queue.ack(job.token).await.unwrap();
        job
    }
}

/// More jobs than can be done, of this priority, in these queues: how long a bulk job waits.
async fn waited_under(flood: Priority, queues: &[&str]) -> u64 {
    let trial = Trial::new().await;
    for _ in 0..5 {
        for name in queues {
            trial.put(name, flood).await;
        }
    }
    let bulk = trial.put("here", Priority::Bulk).await;
    let mut waited_ms = 0;
    while trial.finish_next().await.id != bulk {
        for name in queues {
            trial.put(name, flood).await;
        }
        trial.pass(STEP_MS).await;
        waited_ms += STEP_MS;
    }
    waited_ms
}

#[tokio::test]
async fn a_bulk_job_starts_within_its_limit_under_a_flood_of_more_urgent_ones() {
    for queues in [&["here"][..], &["there"], &["a", "here", "z"]] {
        // The flood gets older too, and what counts alike takes turns.
        let turns_ms = (queues.len() as u64 + 1) * STEP_MS;
        for flood in [Priority::Low, Priority::Default, Priority::High, Priority::Critical] {
            let waited_ms = within("the flood", waited_under(flood, queues)).await;
            let least_ms = if flood == Priority::Critical { 14_000 } else { 5_000 };
            assert!(waited_ms >= least_ms, "{waited_ms} ms under {flood}: it came too early");
            let most_ms = 14_000 + turns_ms;
            assert!(waited_ms <= most_ms, "{waited_ms} ms under {flood} in {queues:?}");
        }
    }
}

#[tokio::test]
async fn a_job_counts_one_level_up_after_each_limit() {
    let trial = Trial::new().await;
    trial.put("a", Priority::Bulk).await;
    for (wait_ms, counts_as) in [
        (4_999, Priority::Bulk),
        (1, Priority::Low),
        (3_999, Priority::Low),
        (1, Priority::Default),
        (3_000, Priority::High),
        (2_000, Priority::Critical),
        (3_600_000, Priority::Critical),
    ] {
        trial.pass(wait_ms).await;
        let next = trial.next().await;
        let job = next.job.unwrap();
        assert_eq!((job.priority, job.counts_as), (Priority::Bulk, counts_as), "{}", next.why);
        assert_eq!(next.candidates[0].waited_ms, job.waited_ms);
    }
    // What came back from a worker waits where it stood, since it was ready.
    let job = trial.claim(1).await.remove(0);
    trial.queue.release(job.token, None).await.unwrap();
    assert_eq!(trial.next().await.job.unwrap().counts_as, Priority::Critical);
    // What comes due waits from then on.
    let job = trial.claim(1).await.remove(0);
    trial.queue.release(job.token, Some(1_000)).await.unwrap();
    trial.pass(1_000).await;
    assert_eq!(trial.next().await.job.unwrap().counts_as, Priority::Bulk);
}

#[tokio::test]
async fn filters_mean_a_jobs_own_priority() {
    let trial =
        Trial::with(|config| config.priorities = vec![Priority::Bulk, Priority::High]).await;
    let low = trial.put("a", Priority::Low).await;
    trial.pass(3_600_000).await;
    let bulk = trial.put("a", Priority::Bulk).await;
    assert_eq!(trial.finish_next().await.id, bulk, "a low job is not handed out, however old");
    let next = trial.next().await;
    assert_eq!((next.job, next.candidates.len()), (None, 1));
    assert_eq!(next.candidates[0].skipped, Some(Skipped::Filtered));
    assert!(next.why.contains("priorities"), "{}", next.why);
    assert!(trial.claim(9).await.is_empty());

    let trial = Trial::new().await;
    let old = trial.put("a", Priority::Bulk).await;
    trial.pass(3_600_000).await;
    let urgent = trial.put("a", Priority::Critical).await;
    let claim = |priority| Claim { priorities: vec![priority], limit: 9, ..Claim::default() };
    let only_critical = trial.queue.claim(claim(Priority::Critical)).await.unwrap().jobs;
    assert_eq!(only_critical.iter().map(|job| job.id).collect::<Vec<_>>(), [urgent]);
    let only_bulk = trial.queue.claim(claim(Priority::Bulk)).await.unwrap().jobs;
    assert_eq!(only_bulk.iter().map(|job| job.id).collect::<Vec<_>>(), [old]);
    assert_ne!(low, old);
}

#[tokio::test]
async fn without_limits_bulk_jobs_wait_for_ever() {
    let trial = Trial::with(|config| config.ageing_ms = PerPriority::default()).await;
    trial.put("a", Priority::Bulk).await;
    for _ in 0..20 {
        trial.put("a", Priority::Critical).await;
        trial.pass(3_600_000).await;
        assert_eq!(trial.finish_next().await.priority, Priority::Critical);
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_takes_the_age_with_it() {
    let trial = Trial::new().await;
    let bulk = trial.put("a", Priority::Bulk).await;
    trial.pass(20_000).await;
    assert_eq!(trial.next().await.job.unwrap().counts_as, Priority::Critical);
    trial.clock.set(Timestamp::from_ms(1_700_000_000_000));
    trial.queue.tick().await.unwrap();
    let job = trial.next().await.job.unwrap();
    assert_eq!((job.counts_as, job.waited_ms), (Priority::Bulk, 0));
    let high = trial.put("a", Priority::High).await;
    assert_eq!(trial.finish_next().await.id, high);
    assert_eq!(trial.finish_next().await.id, bulk);
}

#[tokio::test]
async fn who_is_next_is_told_with_the_reason() {
    let trial = Trial::new().await;
    assert_eq!(trial.next().await.why, "No job is ready.");
    trial.put("a", Priority::Bulk).await;
    trial.put("rests", Priority::Critical).await;
    let later = NewJob::new("k").queue("later").run_at(RunAt::DelayMs(60_000));
    trial.queue.enqueue(later).await.unwrap();
    trial.queue.pause("rests").await.unwrap();
    trial.pass(14_000).await;
    trial.put("b", Priority::Critical).await;
    trial.put("b", Priority::High).await;
    let next = trial.next().await;
    let job = next.job.as_ref().unwrap();
    assert_eq!(
        (job.queue.as_str(), job.counts_as, job.waited_ms),
        ("a", Priority::Critical, 14_000)
    );
    assert!(next.why.contains("14000 ms") && next.why.contains("1 other does"), "{}", next.why);
    let candidates = next.candidates.iter();
    let candidates: Vec<_> = candidates
        .map(|one| (one.queue.as_str(), one.priority, one.counts_as, one.skipped))
        .collect();
    let (critical, high, bulk) = (Priority::Critical, Priority::High, Priority::Bulk);
    let paused = Some(Skipped::Paused);
    assert_eq!(
        candidates,
        [
            ("a", bulk, critical, None),
            ("b", critical, critical, None),
            ("b", high, high, None),
            ("rests", critical, critical, paused),
        ]
    );
    for expected in ["a", "b", "b"] {
        assert_eq!(trial.finish_next().await.queue, expected);
    }
    assert_eq!(trial.next().await.why, "Every queue with ready jobs is paused.");

    let off = Trial::with(|config| config.scheduler_enabled = false).await;
    off.put("a", Priority::Bulk).await;
    let next = off.next().await;
    assert_eq!(next.candidates[0].skipped, Some(Skipped::SchedulerDisabled));
    assert!(next.job.is_none() && next.why.contains("scheduler_enabled"), "{}", next.why);
}

#[tokio::test]
async fn over_http_who_is_next_is_what_the_next_claim_gets() {
    let node = Node::start_with(["--store", "memory", "--ageing-ms-bulk", "1"]).await;
    let none = node.http.get("/v1/queues?explain=next").await.json();
    assert_eq!(none["next"], serde_json::json!({"why": "No job is ready.", "candidates": []}));
    let jobs = [("a", "bulk"), ("b", "high"), ("c", "critical")];
    for (queue, priority) in jobs {
        let job = format!(r#"{{"kind":"k","queue":"{queue}","priority":"{priority}"}}"#);
        assert_eq!(node.http.post("/v1/jobs", job).await.status, 201);
    }
    for left in (0..jobs.len()).rev() {
        let told = node.http.get("/v1/queues?explain=next").await.json();
        let claimed = node.http.post("/v1/claim", "{}").await.json();
        let (next, job) = (&told["next"], &claimed["jobs"][0]);
        for member in ["id", "queue", "kind", "priority"] {
            assert_eq!(next["job"][member], job[member], "{next}");
        }
        assert_eq!(job["queue"], jobs[left].0);
        assert!(next["waited_ms"].is_u64() && next["counts_as"].is_string(), "{next}");
        assert_eq!(next["candidates"].as_array().unwrap().len(), left + 1);
        assert_eq!(next["candidates"][0]["ready"], 1);
        assert_eq!(told["queues"].as_array().unwrap().len(), 3);
    }
    for odd in ["explain=all", "explain=Next", "explian=next"] {
        let refused = node.http.get(&format!("/v1/queues?{odd}")).await;
        let field = odd.split('=').next().unwrap();
        assert_eq!((refused.status, &refused.json()["field"]), (400, &field.into()), "{odd}");
    }
    assert!(node.http.get("/v1/queues").await.json()["next"].is_null());
    let (status, log) = node.stop().await;
    assert!(status.success(), "{log}");
}
