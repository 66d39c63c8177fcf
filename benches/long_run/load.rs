//! The clients: producers, workers that ask at a pace, and workers that wait for jobs.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::mix::{self, Chance, Enqueue};
use crate::process::Connection;
use crate::tally::Tally;

const PRODUCERS: usize = 32;
const WORKERS: usize = 24;
const POLLERS: usize = 2;
/// How much more the workers ask for than is enqueued: for retries, and to catch up.
const CLAIM_SURPLUS: f64 = 1.3;
/// Beyond so many jobs that wait, producers without a pace give way to the workers.
const UNFINISHED_MAX: u64 = 2_000;

#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) address: String,
    pub(crate) tally: Arc<Tally>,
}

/// How calls follow each other.
#[derive(Clone, Copy)]
pub(crate) enum Phase {
    /// Each after the answer to the one before.
    Closed { until: Instant },
    /// By the clock.
    Open { jobs_per_s: f64, until: Instant },
}

/// The clients at work.
pub(crate) struct Running {
    clients: Vec<JoinHandle<()>>,
    pollers: Vec<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn start(&self, phase: Phase) -> Running {
        let (enqueues, claims) = match phase {
            Phase::Closed { until } => (closed(PRODUCERS, until), closed(WORKERS, until)),
            Phase::Open { jobs_per_s, until } => (
                open(PRODUCERS, jobs_per_s / mix::JOBS_PER_ENQUEUE, until),
                open(WORKERS, jobs_per_s * CLAIM_SURPLUS / mix::JOBS_PER_CLAIM, until),
            ),
        };
        let ended = Arc::new(AtomicBool::new(false));
        let producers = enqueues.into_iter().map(|pace| tokio::spawn(self.clone().produce(pace)));
        let mut clients: Vec<_> = producers.collect();
        clients.extend(claims.into_iter().map(|pace| tokio::spawn(self.clone().work(pace))));
        let poll = |_| tokio::spawn(self.clone().poll(Arc::clone(&ended)));
        Running { clients, pollers: (0..POLLERS).map(poll).collect(), ended }
    }

    async fn produce(self, mut pace: Pace) {
        let mut connection = Connection::open(&self.address).await;
        let mut chance = Chance::new(number());
        while let Some(due) = pace.next().await {
            let call = Enqueue::new(&mut chance);
            connection.post(call.path, call.body.into(), 201).await;
            self.tally.enqueue_took(due);
            self.tally.enqueued.fetch_add(call.jobs, Relaxed);
            self.tally.later.fetch_add(call.later, Relaxed);
            self.tally.straggler_bytes.fetch_add(call.later_bytes, Relaxed);
            while pace.is_closed() && self.tally.unfinished() > UNFINISHED_MAX {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn work(self, mut pace: Pace) {
        let mut worker = Worker::new(&self, mix::paced_queues()).await;
        let mut chance = Chance::new(number());
        let wait_ms = if pace.is_closed() { 100 } else { 0 };
        while let Some(due) = pace.next().await {
            worker.claim(mix::claim_limit(&mut chance), wait_ms, Some(due)).await;
        }
        worker.settle().await;
    }

    async fn poll(self, ended: Arc<AtomicBool>) {
        let mut worker = Worker::new(&self, format!(r#""{}""#, mix::POLLED)).await;
        while !ended.load(Relaxed) {
            worker.claim(5, 500, None).await;
        }
        worker.settle().await;
    }
}

impl Running {
    /// Panics when a client has ended before its time.
    pub(crate) fn must_go_on(&self) {
        let mut clients = self.clients.iter().chain(&self.pollers);
        assert!(!clients.any(JoinHandle::is_finished), "a client has ended");
    }

    /// Waits until all calls are answered.
    pub(crate) async fn end(self) {
        for client in self.clients {
            client.await.unwrap();
        }
        self.ended.store(true, Relaxed);
        for poller in self.pollers {
            poller.await.unwrap();
        }
    }
}

/// Another number for each client.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed) + 1
}

/// When a client's calls are due.
enum Pace {
    Closed { until: Instant },
    Open(UnboundedReceiver<Instant>),
}

impl Pace {
    async fn next(&mut self) -> Option<Instant> {
        match self {
            Pace::Closed { until } => {
                let now = Instant::now();
                (now < *until).then_some(now)
            }
            Pace::Open(due) => due.recv().await,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self, Pace::Closed { .. })
    }
}

fn closed(clients: usize, until: Instant) -> Vec<Pace> {
    (0..clients).map(|_| Pace::Closed { until }).collect()
}

/// Spreads calls evenly over time, and in turn over the clients. A thread of its own keeps the
/// time: tokio's timers may be a millisecond late.
fn open(clients: usize, calls_per_s: f64, until: Instant) -> Vec<Pace> {
    let (senders, paces): (Vec<UnboundedSender<Instant>>, Vec<Pace>) = (0..clients)
        .map(|_| unbounded_channel())
        .map(|(sender, due)| (sender, Pace::Open(due)))
        .unzip();
    std::thread::spawn(move || {
        let started = Instant::now();
        for (call, sender) in senders.iter().cycle().enumerate() {
            let due = started + Duration::from_secs_f64(call as f64 / calls_per_s);
            if due >= until {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A client that has ended is missed by the next sample.
            let _ = sender.send(due);
        }
    });
    paces
}

/// A worker: takes jobs, and says with its next claim what became of them.
struct Worker<'a> {
    tally: &'a Tally,
    connection: Connection,
    queues: String,
    acks: Vec<String>,
    fails: Vec<Fail>,
}

struct Fail {
    text: String,
    payload_bytes: u64,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    jobs: Vec<Job<'a>>,
    #[serde(borrow, default)]
    outcomes: Vec<Outcome<'a>>,
}

#[derive(Deserialize)]
struct Job<'a> {
    id: &'a str,
    kind: &'a str,
    attempt: u32,
    #[serde(borrow)]
    payload: &'a RawValue,
    lease: Lease<'a>,
}

#[derive(Deserialize)]
struct Lease<'a> {
    token: &'a str,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    outcome: &'a str,
}

impl<'a> Worker<'a> {
    async fn new(load: &'a Load, queues: String) -> Worker<'a> {
        let connection = Connection::open(&load.address).await;
        Worker { tally: &load.tally, connection, queues, acks: Vec::new(), fails: Vec::new() }
    }

    async fn claim(&mut self, limit: u64, wait_ms: u64, due: Option<Instant>) {
        let queues = &self.queues;
        let head = format!(r#""limit":{limit},"wait_ms":{wait_ms},"queues":[{queues}],"#);
        let answer = self.connection.post("/v1/claim", self.words(&head).into(), 200).await;
        if let Some(due) = due {
            self.tally.claim_took(due);
        }
        let reply: Reply<'_> = serde_json::from_slice(&answer).unwrap();
        self.told(&reply.outcomes);
        for job in &reply.jobs {
            self.run(job).await;
        }
    }

    /// Says the last words.
    async fn settle(&mut self) {
        let answer = self.connection.post("/v1/settle", self.words("").into(), 200).await;
        let reply: Reply<'_> = serde_json::from_slice(&answer).unwrap();
        self.told(&reply.outcomes);
    }

    fn words(&self, head: &str) -> String {
        let fails: Vec<&str> = self.fails.iter().map(|fail| fail.text.as_str()).collect();
        let (acks, fails) = (self.acks.join(","), fails.join(","));
        format!(r#"{{{head}"acks":[{acks}],"fails":[{fails}]}}"#)
    }

    fn told(&mut self, outcomes: &[Outcome<'_>]) {
        assert_eq!(outcomes.len(), self.acks.len() + self.fails.len(), "one outcome for each");
        let payloads = self.acks.drain(..).map(|_| 0);
        let payloads = payloads.chain(self.fails.drain(..).map(|fail| fail.payload_bytes));
        for (payload_bytes, outcome) in payloads.zip(outcomes) {
            let counter = match outcome.outcome {
                "acked" => &self.tally.acked,
                "retrying" => &self.tally.retried,
                "dead" => {
                    self.tally.straggler_bytes.fetch_add(payload_bytes, Relaxed);
                    &self.tally.dead
                }
                "error" => &self.tally.refused,
                other => panic!("an outcome that nobody knows: {other}"),
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    async fn run(&mut self, job: &Job<'_>) {
        let (id, token) = (job.id, job.lease.token);
        let is_first = token.ends_with("-1");
        let mut item = format!(r#"{{"id":"{id}","token":"{token}""#);
        match job.kind {
            "lost" if is_first => {
                self.tally.abandoned.fetch_add(1, Relaxed);
                return;
            }
            "return" if is_first => {
                let path = format!("/v1/jobs/{id}/release");
                let body = format!(r#"{{"token":"{token}"}}"#);
                self.connection.post(&path, body.into(), 200).await;
                self.tally.released.fetch_add(1, Relaxed);
                return;
            }
            "flaky" | "doomed" if job.attempt == 1 => {
                item.push_str(r#","error":"the other side did not answer","retry_in_ms":200}"#);
            }
            "doomed" => {
                let error = "no account has this number, and none ever had: ".repeat(4);
                write!(item, r#","error":"{error}","retry":false}}"#).unwrap();
            }
            // One in a hundred has a result that is kept for a while.
            _ if token.ends_with("00-1") => item.push_str(r#","result":{"status":"sent"}}"#),
            _ => item.push('}'),
        }
        match item.contains(r#""error""#) {
            true => {
                let payload_bytes = job.payload.get().len() as u64;
                self.fails.push(Fail { text: item, payload_bytes });
            }
            false => self.acks.push(item),
        }
    }
}
