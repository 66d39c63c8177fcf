//! A store that keeps a digest of everything that is committed to it.

use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use pulk::store::{Direction, DiskSpace, KeyRange, Scan, Store, Tree, WriteSet};

use super::history::Digest;

/// A store, watched. What a commit does is digested before it is tried.
pub(super) struct Watched {
    store: Arc<dyn Store>,
    committed: Mutex<(Digest, u64)>,
}

impl Watched {
    pub(super) fn new(store: Arc<dyn Store>) -> Watched {
        Watched { store, committed: Mutex::default() }
    }

    /// The digest of all commits, and how many there were.
    pub(super) fn committed(&self) -> (Digest, u64) {
        *self.committed.lock().unwrap()
    }
}

impl Store for Watched {
    fn get(&self, tree: Tree, key: &[u8]) -> pulk::Result<Option<Bytes>> {
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.store.scan(tree, range, direction)
    }

    fn commit(&self, writes: WriteSet) -> pulk::Result<()> {
        {
            let (digest, commits) = &mut *self.committed.lock().unwrap();
            *commits += 1;
            for (tree, key, value) in writes.iter() {
                digest.add(tree.name().as_bytes());
                digest.add(key);
                digest.add(value.as_deref().unwrap_or(b"removed"));
            }
        }
        self.store.commit(writes)
    }

    fn disk_bytes(&self) -> pulk::Result<u64> {
        self.store.disk_bytes()
    }

    fn disk_space(&self) -> pulk::Result<Option<DiskSpace>> {
        self.store.disk_space()
    }

    fn disk_room_bytes(&self) -> pulk::Result<Option<u64>> {
        self.store.disk_room_bytes()
    }

    fn problems(&self) -> pulk::Result<Vec<String>> {
        self.store.problems()
    }

    fn close(&self) -> pulk::Result<()> {
        self.store.close()
    }
}
