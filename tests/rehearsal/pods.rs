//! The StatefulSet: pods with a name, an ordinal and a directory that stay theirs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::watch;

use crate::node::{Http, Node, assert_sound};

/// The pods that are ready, by ordinal: what a Service knows.
pub type Endpoints = watch::Receiver<Vec<Option<Http>>>;

pub struct StatefulSet {
    volumes: tempfile::TempDir,
    pods: Vec<Option<Node>>,
    /// Once a pod has one, it keeps it: a name that leads to another address after each start.
    addresses: Vec<Option<String>>,
    ready: watch::Sender<Vec<Option<Http>>>,
}

impl StatefulSet {
    pub async fn new(replicas: usize) -> StatefulSet {
        let nobody = || (0..replicas).map(|_| None).collect::<Vec<_>>();
        let mut set = StatefulSet {
            volumes: tempfile::tempdir().unwrap(),
            pods: (0..replicas).map(|_| None).collect(),
            addresses: vec![None; replicas],
            ready: watch::Sender::new(nobody()),
        };
        set.scale_up().await;
        set
    }

    pub fn endpoints(&self) -> Endpoints {
        self.ready.subscribe()
    }

    fn volume(&self, ordinal: usize) -> PathBuf {
        self.volumes.path().join(format!("data-workers-{ordinal}"))
    }

    /// Starts all pods that do not run, at once (`podManagementPolicy: Parallel`).
    pub async fn scale_up(&mut self) {
        let mut starting = Vec::new();
        for ordinal in 0..self.pods.len() {
            if self.pods[ordinal].is_none() {
                starting.push((ordinal, Node::launch(self.command(ordinal))));
            }
        }
        for (ordinal, mut node) in starting {
            node.serving().await;
            assert_eq!(node.http.get("/q/health/ready").await.status, 200);
            self.addresses[ordinal] = Some(node.address.clone());
            self.ready.send_modify(|ready| ready[ordinal] = Some(node.http.clone()));
            self.pods[ordinal] = Some(node);
        }
    }

    /// As in statefulset/: the shard is the pool's digit and the ordinal.
    fn command(&self, ordinal: usize) -> Command {
        // An address of its own for each, as pods have.
        let first = format!("127.0.0.{}:0", 10 + ordinal);
        let address = self.addresses[ordinal].as_ref().unwrap_or(&first);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
        command.arg("serve").env_clear().kill_on_drop(true);
        command.env("PULK_LISTEN", address).env("PULK_SHARD", format!("1{ordinal}"));
        command.env("PULK_DATA_DIR", self.volume(ordinal).join("queue"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// SIGTERM, and the end that follows it. The pod leaves the Service when it is asked to stop.
    pub async fn stop(&mut self, ordinal: usize) {
        let node = self.pods[ordinal].take().unwrap();
        node.signal(Signal::TERM);
        self.ready.send_modify(|ready| ready[ordinal] = None);
        let (status, log) = node.ended().await;
        assert!(status.success(), "{status}: {log}");
    }

    pub async fn kill(&mut self, ordinal: usize) {
        let node = self.pods[ordinal].take().unwrap();
        node.kill().await;
        self.ready.send_modify(|ready| ready[ordinal] = None);
    }

    /// From the last pod to the first, each ready before the next one goes.
    pub async fn rolling_restart(&mut self) {
        for ordinal in (0..self.pods.len()).rev() {
            self.stop(ordinal).await;
            self.scale_up().await;
        }
    }

    pub async fn scale_to_zero(&mut self) {
        for ordinal in (0..self.pods.len()).rev() {
            self.stop(ordinal).await;
        }
    }

    /// The ids of all jobs of a pod, sorted.
    pub async fn ids(&self, ordinal: usize) -> Vec<String> {
        let http = &self.pods[ordinal].as_ref().unwrap().http;
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = http.get(&format!("/v1/jobs?limit=1000{cursor}")).await.json();
            let jobs = page["jobs"].as_array().unwrap();
            ids.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        ids.sort();
        ids
    }

    /// Stops all, and looks at what is left on each volume.
    pub async fn close(mut self) {
        self.scale_to_zero().await;
        for ordinal in 0..self.pods.len() {
            assert_sound(Path::new(&self.volume(ordinal).join("queue"))).await;
        }
    }
}

/// Waits until the Service has a pod, the one that comes first after `turn`.
pub async fn any(endpoints: &mut Endpoints, turn: usize) -> Http {
    let found = endpoints.wait_for(|ready| ready.iter().any(Option::is_some)).await.unwrap();
    let ready: Vec<&Http> = found.iter().flatten().collect();
    ready[turn % ready.len()].clone()
}

/// Waits until this pod is there.
pub async fn one(endpoints: &mut Endpoints, ordinal: usize) -> Http {
    let found = endpoints.wait_for(|ready| ready[ordinal].is_some()).await.unwrap();
    found[ordinal].clone().unwrap()
}

/// What a test and its clients share.
pub type Shared<T> = Arc<std::sync::Mutex<T>>;
