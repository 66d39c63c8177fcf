//! A queue under test: one of the four ways in, and the store behind it.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use pulk::clock::SystemClock;
use pulk::store::{self, Store};
use pulk::{Config, NewJob, Queue, StoreKind, Timestamp};
use tempfile::TempDir;

use crate::door::{Door, claim_in};
use crate::node::{self, Node, within};

/// A way into a queue, and what keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    EmbeddedMemory,
    EmbeddedSled,
    HttpMemory,
    HttpSled,
}

impl Way {
    pub fn is_embedded(self) -> bool {
        matches!(self, Way::EmbeddedMemory | Way::EmbeddedSled)
    }
}

/// A queue under test. It has all verbs of its [`Door`].
pub struct Harness {
    pub way: Way,
    door: Door,
    behind: Behind,
    directory: TempDir,
}

/// What is behind the door.
enum Behind {
    Store(Arc<dyn Store>),
    Node(Box<Node>),
    Nothing,
}

impl Deref for Harness {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

/// Opens a queue, checks one promise on it, closes it, and checks every invariant of its store.
pub async fn keep(way: Way, promise: impl AsyncFnOnce(&mut Harness)) {
    let mut harness = Harness::start(way).await;
    within("what was promised", promise(&mut harness)).await;
    harness.finish().await;
}

impl Harness {
    async fn start(way: Way) -> Harness {
        let directory = tempfile::tempdir().unwrap();
        let behind = match way {
            Way::EmbeddedMemory => Behind::Store(Arc::new(store::memory::MemoryStore::new())),
            _ => Behind::Nothing,
        };
        let (door, behind) = open(way, directory.path(), behind).await;
        Harness { way, door, behind, directory }
    }

    /// Closes the queue and opens it again: a new handle, or a new process.
    pub async fn restart(&mut self) {
        self.restart_after(Timestamp::from_ms(0)).await;
    }

    /// Closes the queue, and opens it again once this moment has passed.
    pub async fn restart_after(&mut self, moment: Timestamp) {
        let behind = std::mem::replace(&mut self.behind, Behind::Nothing);
        let behind = match (behind, &self.door) {
            (Behind::Store(kept), Door::Embedded(queue)) => {
                queue.close().await.unwrap();
                if self.way == Way::EmbeddedSled { Behind::Nothing } else { Behind::Store(kept) }
            }
            (Behind::Node(node), _) => {
                let (status, log) = node.stop().await;
                assert!(status.success(), "{log}");
                Behind::Nothing
            }
            _ => unreachable!("a harness has a queue"),
        };
        if moment > crate::now() {
            elsewhere_until(moment).await;
        }
        (self.door, self.behind) = open(self.way, self.directory.path(), behind).await;
    }

    async fn finish(self) {
        match (self.behind, &self.door) {
            (Behind::Store(kept), Door::Embedded(queue)) => {
                queue.close().await.unwrap();
                let kept = match self.way {
                    Way::EmbeddedSled => open_sled(self.directory.path()),
                    _ => kept,
                };
                let report = pulk::queue::examine(&*kept).unwrap();
                assert!(report.is_sound(), "{report:#?}");
                kept.close().unwrap();
            }
            (Behind::Node(node), _) => {
                let (status, log) = node.stop().await;
                assert_eq!(status.code(), Some(0), "{log}");
                assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
                if self.way == Way::HttpSled {
                    node::assert_sound(self.directory.path()).await;
                }
            }
            _ => unreachable!("a harness has a queue"),
        }
    }
}

fn open_sled(directory: &Path) -> Arc<dyn Store> {
    store::open(StoreKind::Sled, directory, 0).unwrap()
}

async fn open(way: Way, directory: &Path, behind: Behind) -> (Door, Behind) {
    match (way, behind) {
        (Way::EmbeddedMemory, Behind::Store(kept)) => embedded(kept).await,
        (Way::EmbeddedSled, _) => embedded(open_sled(directory)).await,
        (Way::HttpMemory, _) => over_http(Node::start_with(["--store", "memory"]).await),
        (Way::HttpSled, _) => over_http(Node::start(directory).await),
        (Way::EmbeddedMemory, _) => unreachable!("memory is kept from the start"),
    }
}

async fn embedded(kept: Arc<dyn Store>) -> (Door, Behind) {
    let queue =
        Queue::open_with(Config::default(), kept.clone(), Arc::new(SystemClock)).await.unwrap();
    (Door::Embedded(queue), Behind::Store(kept))
}

fn over_http(node: Node) -> (Door, Behind) {
    (Door::Http(node.http.clone(), node.address.clone()), Behind::Node(Box::new(node)))
}

/// Waits for a moment without the queue under test: a job of another queue comes due then.
async fn elsewhere_until(moment: Timestamp) {
    let config = Config { store: StoreKind::Memory, ..Config::default() };
    let clock = Queue::open(config).await.unwrap();
    let job = NewJob::new("tick").run_at(pulk::RunAt::At(moment));
    clock.enqueue(job).await.unwrap();
    let ticked = clock.claim(claim_in("default")).await.unwrap();
    assert_eq!(ticked.jobs.len(), 1);
    clock.close().await.unwrap();
}
