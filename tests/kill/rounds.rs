//! The life of a node that is killed again and again.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::by_itself::ByItself;
use crate::clients::calls::Calls;
use crate::clients::{Client, pool};
use crate::ledger::{Ledger, RESULT_TTL_MS};
use crate::node::{self, Node, within};

const CLIENTS: u64 = 16;
/// How long a node is under load before it is killed.
const LOAD_MS: std::ops::Range<u64> = 60..600;
/// The answers that it gives at most, every other time.
const ANSWERS: std::ops::Range<u64> = 1..900;
/// In every other round jobs are large: journal files of 4 MiB fill up, and are moved.
const LARGE_EVERY: u64 = 2;
/// The database is filled, so that it is compacted, once in so many kills.
const FILL_EVERY: u64 = 30;
/// `pulk doctor` looks at the directory after every so many kills.
const DOCTOR_EVERY: u64 = 12;
/// So many jobs that have ended are looked at in the end, and all whose result must be there.
const LOOKS_AT_THE_END: usize = 500;

pub struct Rounds {
    random: StdRng,
    directory: TempDir,
    ledger: Arc<Ledger>,
    clients: Vec<Client>,
    by_itself: ByItself,
    pub kills: u64,
    kills_at_start: u64,
    compactions: usize,
    leases_over_kills: usize,
    /// The database is made worth compacting after so many kills.
    fill_at: u64,
    /// How long the last start took.
    start_took: Duration,
}

impl Rounds {
    pub async fn new(seed: u64) -> Rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let clients = (0..CLIENTS).map(|number| Client::new(number, random.random())).collect();
        Rounds {
            random,
            directory: tempfile::tempdir().unwrap(),
            ledger: Arc::default(),
            clients,
            by_itself: ByItself::start().await,
            kills: 0,
            kills_at_start: 0,
            compactions: 0,
            leases_over_kills: 0,
            fill_at: 3,
            start_took: Duration::from_millis(200),
        }
    }

    fn command(&self) -> Command {
        let (result_ttl_ms, config) = (RESULT_TTL_MS.to_string(), self.by_itself.config());
        let arguments = [
            ["--config".as_ref(), config.as_os_str()],
            ["--data-dir".as_ref(), self.directory.path().as_os_str()],
            ["--result-ttl-ms".as_ref(), result_ttl_ms.as_ref()],
            ["--queue-capacity-critical".as_ref(), OsStr::new("0")],
        ];
        node::serve(arguments.into_iter().flatten())
    }

    async fn killed(&mut self, node: Node) {
        let log = node.kill().await;
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
        self.compactions += log.matches("compacting the database").count();
        self.kills += 1;
        if self.kills.is_multiple_of(DOCTOR_EVERY) {
            node::assert_sound(self.directory.path()).await;
        }
    }

    /// Starts it, and kills it before it serves; often not at all, sometimes a few times.
    pub async fn kill_while_it_starts(&mut self) {
        let times = [0, 0, 0, 1, 1, 3][self.random.random_range(0..6)];
        for _ in 0..times {
            let most_us = self.start_took.as_micros() as u64;
            let after = Duration::from_micros(self.random.random_range(0..most_us));
            let mut node = Node::launch(self.command());
            if tokio::time::timeout(after, node.serving()).await.is_err() {
                self.kills_at_start += 1;
            }
            self.killed(node).await;
        }
    }

    async fn start(&mut self) -> Node {
        let begun = Instant::now();
        let node = Node::spawn(self.command()).await;
        self.start_took = begun.elapsed();
        node
    }

    /// Lets all clients work for a while, and kills it under their hands.
    pub async fn kill_under_load(&mut self) {
        let node = self.start().await;
        self.compare_counts(&node).await;
        self.by_itself.begin(&node, &mut self.random).await;
        if self.kills >= self.fill_at {
            self.fill_at = self.kills + FILL_EVERY;
            self.fill(&node).await;
        }
        let is_large = self.random.random_range(0..LARGE_EVERY) == 0;
        // At a moment of time, or at an answer; then what comes next is about to be committed.
        let longest = Duration::from_millis(self.random.random_range(LOAD_MS));
        let answers = match self.random.random_bool(0.5) {
            true => self.ledger.answers() + self.random.random_range(ANSWERS),
            false => u64::MAX,
        };
        let pushing = self.by_itself.load(&node.http);
        let mut working = JoinSet::new();
        for mut client in self.clients.drain(..) {
            let (http, ledger) = (node.http.clone(), self.ledger.clone());
            working.spawn(async move {
                client.work(&http, &ledger, is_large).await;
                client
            });
        }
        // A client ends only when its connection breaks, or when something is wrong.
        let ended = tokio::select! {
            ended = working.join_next() => Some(ended),
            _ = tokio::time::timeout(longest, self.ledger.reached(answers)) => None,
        };
        if let Some(ended) = ended {
            ended.unwrap().unwrap();
            let (status, log) = node.ended().await;
            panic!("the node ended by itself: {status}: {log}");
        }
        self.killed(node).await;
        within("the last job to push", pushing).await.unwrap();
        self.clients = within("the end of the clients", working.join_all()).await;
        self.leases_over_kills += self.clients.iter().map(Client::held).sum::<usize>();
    }

    /// Moves so much through the database that it is worth compacting: the next kills come while
    /// it is copied, in use and at its start.
    async fn fill(&self, node: &Node) {
        let calls = Calls::new(&node.http, &self.ledger);
        let pad = "x".repeat(100_000);
        let job = json!({"queue": "filling", "kind": "filling", "payload": pad}).to_string();
        let batch = format!(r#"{{"jobs":[{}]}}"#, vec![job; 40].join(","));
        for _ in 0..20 {
            let answer = node.http.post("/v1/jobs/batch", batch.clone()).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        calls.delete("purge", "/v1/queues/filling/jobs").await.unwrap();
    }

    /// What the queues count is what the lists show, as far as time moves nothing from one list
    /// to the other.
    async fn compare_counts(&self, node: &Node) {
        let calls = Calls::new(&node.http, &self.ledger);
        let queues = calls.get("/v1/queues").await.unwrap().json();
        let mut backlog = 0;
        for queue in queues["queues"].as_array().unwrap() {
            let (name, counts) = (queue["name"].as_str().unwrap(), &queue["counts"]);
            if !pool::QUEUES.contains(&name) {
                continue;
            }
            for state in ["running", "dead"] {
                let path = format!("/v1/jobs?queue={name}&state={state}");
                let began = self.ledger.answers();
                let listed = calls.list(&path, 500).await.unwrap();
                for job in &listed {
                    self.ledger.listed(job["id"].as_str().unwrap(), state, began);
                }
                assert_eq!(counts[state], listed.len(), "{name}: {state}: {counts}");
            }
            let waiting = ["scheduled", "ready", "retrying"].map(|state| count(&counts[state]));
            backlog += waiting.iter().sum::<i64>();
        }
        self.ledger.backlog_is(backlog);
    }

    /// Drains what is left, and checks every job that was ever acknowledged.
    pub async fn finish(mut self) -> String {
        let node = self.start().await;
        assert!(self.leases_over_kills > 0, "nobody held a lease over a kill");
        let mut finishing = JoinSet::new();
        for mut client in self.clients.drain(..) {
            let (http, ledger) = (node.http.clone(), self.ledger.clone());
            finishing.spawn(async move { client.finish(&http, &ledger).await });
        }
        within("the end of the clients", finishing.join_all()).await;
        let calls = Calls::new(&node.http, &self.ledger);
        within("the end of lost leases", pool::end_lost_leases(&calls)).await.unwrap();
        within("the end of all jobs", pool::drain(&calls)).await.unwrap();
        let by_itself = self.by_itself.finish(&node, &calls).await;
        let letters = calls.list("/v1/dead?", 100).await.unwrap();
        let ids: Vec<String> = letters.iter().map(|letter| text(&letter["id"])).collect();
        let dead: HashSet<String> = ids.iter().cloned().collect();
        assert_eq!(dead.len(), ids.len(), "a letter is listed twice");
        for id in self.ledger.ended_jobs(LOOKS_AT_THE_END) {
            pool::look_at(&calls, &id).await.unwrap();
        }
        self.ledger.check_the_end(&dead);
        let (status, log) = node.stop().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
        node::assert_sound(self.directory.path()).await;
        format!(
            "{} kills, {} of them while it started; {} compactions begun; {} leases held over a \
             kill; {}, {} dead letters; {by_itself}",
            self.kills,
            self.kills_at_start,
            self.compactions,
            self.leases_over_kills,
            self.ledger.summary(),
            dead.len()
        )
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn count(value: &Value) -> i64 {
    value.as_i64().unwrap()
}
