//! The thread that moves writes into sled, and compacts it in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::lost;
use crate::error::{Error, ErrorKind, Result};
use crate::store::sled::{Copying, SledStore};
use crate::store::space::{AHEAD_BYTES, Space};
use crate::store::{Tree, WriteSet, journal};

/// The most bytes of one portion that is moved into sled (its rule 4).
const PORTION_BYTES: usize = 1 << 20;
/// The most keys of one portion (the same rule).
const PORTION_KEYS: usize = 300;

/// What the thread is to do.
pub(super) enum Order {
    /// Move these writes into sled, and then give up their journal file.
    Move { writes: Arc<WriteSet>, number: u64, path: PathBuf },
    /// See to space: make the reserve again, compact if it is time.
    TidyUp,
}

/// How far a move has come.
#[derive(Debug)]
pub(super) enum Moved {
    /// A portion with so many bytes of keys and values is behind sled's barrier.
    Portion(usize),
    /// The move is over; there is one for each.
    All(Result<()>),
}

/// The thread that moves writes into sled.
pub(super) struct Mover {
    pub(super) orders: Sender<Order>,
    pub(super) moved: Receiver<Moved>,
    pub(super) thread: JoinHandle<()>,
}

impl Mover {
    pub(super) fn start(sled: Arc<SledStore>, space: Arc<Space>, dir: PathBuf) -> Result<Mover> {
        let (orders, received) = mpsc::channel();
        let (tell, moved) = mpsc::channel();
        let worker = Worker { sled, space, dir, received, tell, copying: None };
        let thread = std::thread::Builder::new()
            .name("pulk-mover".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| {
                Error::new(ErrorKind::Storage, format!("no thread can be started: {error}"))
            })?;
        Ok(Mover { orders, moved, thread })
    }

    /// Waits until the thread has ended; gives the end of its last move, if nobody has taken it.
    pub(super) fn stop(self) -> Option<Result<()>> {
        drop(self.orders);
        // Whether it panicked does not matter any more: what it was to do is in the journal.
        let _ = self.thread.join();
        self.moved.try_iter().find_map(|moved| match moved {
            Moved::Portion(_) => None,
            Moved::All(done) => Some(done),
        })
    }
}

/// The thread's own things.
struct Worker {
    sled: Arc<SledStore>,
    space: Arc<Space>,
    dir: PathBuf,
    received: Receiver<Order>,
    tell: Sender<Moved>,
    /// The copy that a compaction makes; it goes on while there are no orders.
    copying: Option<Copying>,
}

impl Worker {
    fn run(mut self) {
        loop {
            let order = match &self.copying {
                Some(_) => self.received.try_recv(),
                None => self.received.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match order {
                Ok(Order::Move { writes, number, path }) => {
                    let done = self.carry_out(&writes, number, path);
                    if self.tell.send(Moved::All(done)).is_err() {
                        return self.stop_copying();
                    }
                    self.tidy_up();
                }
                Ok(Order::TidyUp) => self.tidy_up(),
                Err(TryRecvError::Empty) => self.copy_on(),
                Err(TryRecvError::Disconnected) => return self.stop_copying(),
            }
        }
    }

    fn tidy_up(&mut self) {
        self.space.restore();
        // A step for each order at least, however many there are.
        self.copy_on();
        if self.copying.is_none() && self.sled.is_worth_compacting(None) {
            self.copying = self.sled.begin_copy();
        }
    }

    fn carry_out(&mut self, writes: &WriteSet, number: u64, path: PathBuf) -> Result<()> {
        // What a copy has taken is needed now.
        if self.space.at_hand_bytes() < AHEAD_BYTES
            && let Some(copying) = self.copying.take()
        {
            self.sled.give_up_copy(copying, &self.space.too_full(AHEAD_BYTES));
        }
        let copying = &mut self.copying;
        let mut failure = None;
        move_into(&self.sled, writes.iter(), |portion| {
            if let (Some(copying), None) = (copying.as_mut(), &failure) {
                failure = copying.follow(portion).err();
            }
            // Nobody listens any more once the store is being closed.
            drop(self.tell.send(Moved::Portion(portion.bytes())));
        })
        .map_err(|error| Error::new(ErrorKind::Poisoned, error.to_string()))?;
        if let Some(why) = failure
            && let Some(copying) = self.copying.take()
        {
            self.sled.give_up_copy(copying, &why);
        }
        journal::give_up(&self.dir, (number, &path)).map_err(|error| lost(&error))
    }

    fn copy_on(&mut self) {
        let Some(mut copying) = self.copying.take() else { return };
        match copying.step() {
            Ok(false) => self.copying = Some(copying),
            // What failed poisons the store: the next move tells of it.
            Ok(true) => {
                if let Err(error) = self.sled.go_on_with(copying) {
                    tracing::error!(%error, "compacting the database failed");
                } else if self.sled.is_worth_compacting(None) {
                    // Much of what it copied was removed meanwhile.
                    self.copying = self.sled.begin_copy();
                }
            }
            Err(why) => self.sled.give_up_copy(copying, &why),
        }
    }

    fn stop_copying(self) {
        if let Some(copying) = self.copying {
            let why = Error::new(ErrorKind::Draining, "the store is being closed");
            self.sled.give_up_copy(copying, &why);
        }
    }
}

/// Moves writes into sled, in portions, each behind sled's barrier when this returns; `after` sees
/// each portion that is. None of them is empty: sled panics at a transaction over no tree.
pub(super) fn move_into<'a>(
    sled: &SledStore,
    writes: impl Iterator<Item = (Tree, &'a Vec<u8>, &'a Option<Bytes>)>,
    mut after: impl FnMut(&WriteSet),
) -> Result<()> {
    let (mut portion, mut keys) = (WriteSet::default(), 0);
    let mut commit = |portion: WriteSet| {
        sled.commit_all(&portion)?;
        after(&portion);
        Ok(())
    };
    for (tree, key, value) in writes {
        match value {
            Some(value) => portion.put(tree, key.clone(), value.clone()),
            None => portion.remove(tree, key.clone()),
        }
        keys += 1;
        if keys == PORTION_KEYS || portion.bytes() >= PORTION_BYTES {
            commit(std::mem::take(&mut portion))?;
            keys = 0;
        }
    }
    if portion.is_empty() { Ok(()) } else { commit(portion) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::space::Reserve;

    #[test]
    fn no_portion_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let sled = SledStore::open(dir.path()).unwrap();
        for (keys, expected) in
            [(0, vec![]), (PORTION_KEYS, vec![PORTION_KEYS]), (301, vec![300, 1])]
        {
            let mut writes = WriteSet::default();
            for key in 0..keys {
                writes.put(Tree::Dead, key.to_be_bytes().to_vec(), Bytes::from_static(b"v"));
            }
            let mut portions = Vec::new();
            move_into(&sled, writes.iter(), |portion| portions.push(portion.iter().count()))
                .unwrap();
            assert_eq!(portions, expected);
        }
        sled.close().unwrap();
    }

    #[test]
    fn a_move_is_told_portion_by_portion_and_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let sled = Arc::new(SledStore::open(&dir.path().join("sled")).unwrap());
        let space = Arc::new(Space::open(dir.path(), Reserve::Bytes(0)).unwrap());
        let mover = Mover::start(sled.clone(), space, dir.path().to_owned()).unwrap();
        let mut writes = WriteSet::default();
        for key in 0..2 * PORTION_KEYS + 1 {
            writes.put(Tree::Dead, key.to_be_bytes().to_vec(), Bytes::from_static(b"v"));
        }
        let path = dir.path().join("journal.1");
        std::fs::write(&path, "").unwrap();
        let writes = Arc::new(writes);
        mover.orders.send(Order::Move { writes: writes.clone(), number: 1, path }).unwrap();
        let entry_bytes = writes.bytes() / (2 * PORTION_KEYS + 1);
        for keys in [PORTION_KEYS, PORTION_KEYS, 1] {
            let told = mover.moved.recv().unwrap();
            assert!(matches!(told, Moved::Portion(bytes) if bytes == keys * entry_bytes));
        }
        assert!(matches!(mover.moved.recv().unwrap(), Moved::All(Ok(()))));
        assert!(mover.stop().is_none());
        sled.close().unwrap();
    }
}
