//! What a store holds, and what it must hold after some commits.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pulk::Result;
use pulk::store::{Direction, DiskSpace, KeyRange, Scan, Store, Tree, WriteSet};
use pulk_proof_disk::Recording;

/// Every key of every tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents(pub(super) BTreeMap<(Tree, Vec<u8>), Bytes>);

impl Contents {
    /// All that a store holds.
    pub(super) fn of(store: &dyn Store) -> Result<Contents> {
        let mut found = BTreeMap::new();
        for tree in Tree::ALL {
            let all = (Bound::Unbounded, Bound::Unbounded);
            for entry in store.scan(tree, all, Direction::Ascending) {
                let (key, value) = entry?;
                found.insert((tree, key), value);
            }
        }
        Ok(Contents(found))
    }

    pub(super) fn apply(&mut self, writes: &WriteSet) {
        for (tree, key, value) in writes.iter() {
            let key = (tree, key.clone());
            match value {
                Some(value) => drop(self.0.insert(key, value.clone())),
                None => drop(self.0.remove(&key)),
            }
        }
    }

    /// The keys in which another differs, for people.
    pub(super) fn difference(&self, other: &Contents) -> String {
        let (mut told, mut count) = (String::new(), 0);
        let both = self.0.keys().chain(other.0.keys());
        let keys: std::collections::BTreeSet<_> = both.collect();
        for key in keys {
            let (here, there) = (self.0.get(key), other.0.get(key));
            if here != there {
                count += 1;
                if count <= 10 {
                    let bytes = |value: Option<&Bytes>| value.map(Bytes::len);
                    let (here, there) = (bytes(here), bytes(there));
                    let _ = writeln!(told, "  {key:?}: {here:?} bytes there, {there:?} expected");
                }
            }
        }
        format!("{count} keys differ\n{told}")
    }
}

/// The product's store, watched: remembers what was committed, and marks in the recording when a
/// commit was acknowledged.
pub(super) struct Witness {
    store: Box<dyn Store>,
    recording: Arc<Recording>,
    commits: Mutex<Vec<WriteSet>>,
}

impl Witness {
    pub(super) fn new(store: Box<dyn Store>, recording: Arc<Recording>) -> Witness {
        Witness { store, recording, commits: Mutex::default() }
    }

    /// All commits that were begun, in their order.
    pub(super) fn commits(&self) -> Vec<WriteSet> {
        self.commits.lock().unwrap().clone()
    }

    pub(super) fn commits_count(&self) -> usize {
        self.commits.lock().unwrap().len()
    }
}

impl Store for Witness {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.store.scan(tree, range, direction)
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        let number = {
            let mut commits = self.commits.lock().unwrap();
            commits.push(writes.clone());
            commits.len()
        };
        self.store.commit(writes)?;
        self.recording.mark(number as u64);
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.store.disk_bytes()
    }

    fn disk_space(&self) -> Result<Option<DiskSpace>> {
        self.store.disk_space()
    }

    fn disk_room_bytes(&self) -> Result<Option<u64>> {
        self.store.disk_room_bytes()
    }

    fn problems(&self) -> Result<Vec<String>> {
        self.store.problems()
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}
