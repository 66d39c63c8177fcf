//! `pulk doctor` on real directories: what it finds, mends, and leaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use node::Node;
use program::{Ended, pulk};
use pulk::StoreKind;
use pulk::store::{self, Direction, Tree, WriteSet};

mod node;
mod program;

/// A directory with a job in it that no node has open.
async fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    node.http.post("/v1/jobs", r#"{"kind":"k","queue":"q"}"#).await;
    node.stop().await;
    directory
}

/// Changes the last entry of a tree whose value is as long as this; any without a length.
fn change(directory: &Path, tree: Tree, length: Option<usize>, change: impl Fn(&mut Vec<u8>)) {
    let store = store::open(StoreKind::Sled, directory, 0).unwrap();
    let entries: Vec<_> =
        store.scan(tree, (Bound::Unbounded, Bound::Unbounded), Direction::Descending).collect();
    let mut entries = entries.into_iter().map(Result::unwrap);
    let (key, value) =
        entries.find(|(_, value)| length.is_none_or(|length| value.len() == length)).unwrap();
    let mut value = value.to_vec();
    change(&mut value);
    let mut writes = WriteSet::default();
    writes.put(tree, key, Bytes::from(value));
    store.commit(writes).unwrap();
    store.close().unwrap();
}

fn doctor(directory: &Path, flags: &[&str]) -> Ended {
    pulk(&[&["doctor", directory.to_str().unwrap()], flags].concat(), &[])
}

fn findings(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test]
async fn every_invariant_is_told() {
    let directory = directory().await;
    let ended = doctor(directory.path(), &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for name in ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "damage"] {
        let line = ended.stdout.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        assert!(line.contains(" ok ") || line.contains(" not to be seen "), "{line}");
    }
    let found = findings(&doctor(directory.path(), &["--json"]));
    assert_eq!((&found["sound"], &found["jobs"]["ready"]), (&true.into(), &1.into()));
    assert_eq!(found["invariants"].as_array().unwrap().len(), 11);
    assert_eq!(found["repair"], serde_json::Value::Null);
}

#[tokio::test]
async fn counters_are_repaired_and_the_node_goes_on() {
    let directory = directory().await;
    // The sum of the bytes alive is the only value of eight bytes in its tree.
    change(directory.path(), Tree::Meta, Some(8), |value| value.fill(0));
    let ended = doctor(directory.path(), &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.stdout.contains("1 problem"), "{ended:?}");
    assert!(ended.stderr.contains("--repair"), "{ended:?}");
    let found = findings(&doctor(directory.path(), &["--json"]));
    assert_eq!(found["violations"], serde_json::json!({"I2": 1}));
    let ended = doctor(directory.path(), &["--repair"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.starts_with("Repaired: bytes of records alive: 0, now "), "{ended:?}");
    let again = doctor(directory.path(), &["--repair"]);
    assert!(again.stdout.starts_with("There was nothing to repair"), "{again:?}");
    let node = Node::start(directory.path()).await;
    let claimed = node.http.post("/v1/claim", "{}").await.json();
    assert_eq!(claimed["jobs"][0]["kind"], "k");
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_repaired_is_told() {
    let directory = directory().await;
    let tree = Tree::Ready(pulk::Priority::Default);
    change(directory.path(), tree, None, |value| *value.last_mut().unwrap() ^= 1);
    let ended = doctor(directory.path(), &["--repair"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("a repair can't mend them"), "{ended:?}");
    assert!(ended.stdout.contains("damage: a record in ready.default"), "{ended:?}");
    let found = findings(&doctor(directory.path(), &["--repair", "--json"]));
    assert_eq!(found["repair"]["after"]["violations"]["damage"], 1);
}

#[tokio::test]
async fn no_directory_and_one_in_use_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for flags in [&[][..], &["--repair"]] {
        assert_eq!(doctor(directory.path(), flags).code, 74);
    }
    let node = Node::start(directory.path()).await;
    for flags in [&[][..], &["--repair"]] {
        assert_eq!(doctor(directory.path(), flags).code, 75);
    }
    node.stop().await;
}
