//! The thread that commits, so that one that gets stuck in sled can be given up.
//!
//! # Failure handling
//! - The caller waits for an answer, but no longer than sled may take to tell of an error it has
//!   met, and never longer than [`STALL_MS_MAX`].
//! - After a failure the database is never dropped: dropping it would write what may be half a
//!   commit. It stays in memory, and its directory locked, until the process ends.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::{Database, Failure, TreeWrites, closed, guarded};
use crate::error::{Error, ErrorKind, Result};

/// How long a commit may take. A disk that does not answer for that long is gone.
const STALL_MS_MAX: u64 = 60_000;
/// How often a waiting caller looks whether sled has met an error that it tells nobody.
const LOOK_EVERY_MS: u64 = 250;
/// How many times it looks before it gives up.
const LOOKS_MAX: u64 = STALL_MS_MAX / LOOK_EVERY_MS;
/// How many times the caller looks after such an error, for an answer that says more.
const LOOKS_AFTER_ERROR: u64 = 4;

/// The caller's end of the thread.
pub(super) struct Committer {
    /// None after closing.
    line: Option<Line>,
    failure: Arc<Failure>,
}

struct Line {
    orders: Sender<Order>,
    answers: Receiver<Result<(), String>>,
    /// To look for errors; dropped before closing.
    database: Arc<Database>,
}

enum Order {
    Commit(Vec<TreeWrites>),
    Close,
}

impl Committer {
    pub(super) fn start(database: Arc<Database>, failure: Arc<Failure>) -> Result<Committer> {
        let (orders, received) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let line = Line { orders, answers, database: Arc::clone(&database) };
        let seen = Arc::clone(&failure);
        thread::Builder::new()
            .name("pulk-commit".to_owned())
            .spawn(move || run(database, &received, &answer, &seen))
            .map_err(|error| {
                Error::new(ErrorKind::Storage, format!("no thread can be started: {error}"))
            })?;
        Ok(Committer { line: Some(line), failure })
    }

    /// Commits, and returns when it is durable or the store has failed.
    pub(super) fn commit(&mut self, writes: Vec<TreeWrites>) -> Result<()> {
        self.failure.check()?;
        let line = self.line.as_ref().ok_or_else(closed)?;
        if line.orders.send(Order::Commit(writes)).is_err() {
            return Err(self.failure.set("its thread has ended"));
        }
        let database = &line.database;
        wait(&line.answers, LOOKS_MAX, || database.has_failed())
            .map_err(|reason| self.failure.set(reason))
    }

    /// From now on a failure is one of this store.
    pub(super) fn belongs_to(&mut self, failure: Arc<Failure>) {
        self.failure = failure;
    }

    /// Lets go of the database; returns when it can be opened again.
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(Line { orders, answers, database }) = self.line.take() else {
            return Ok(());
        };
        if let Err(error) = self.failure.check() {
            // The thread keeps the database alive, or this does.
            std::mem::forget(database);
            return Err(error);
        }
        drop(database);
        if orders.send(Order::Close).is_err() {
            return Err(self.failure.set("its thread has ended"));
        }
        wait(&answers, LOOKS_MAX, || false).map_err(|reason| self.failure.set(reason))
    }
}

fn wait(
    answers: &Receiver<Result<(), String>>,
    mut looks_left: u64,
    has_failed: impl Fn() -> bool,
) -> Result<(), String> {
    loop {
        match answers.recv_timeout(Duration::from_millis(LOOK_EVERY_MS)) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => {
                return Err("its thread ended without an answer".to_owned());
            }
            Err(RecvTimeoutError::Timeout) if looks_left == 0 => {
                return Err(format!(
                    "the disk did not answer within {} seconds",
                    STALL_MS_MAX / 1000
                ));
            }
            Err(RecvTimeoutError::Timeout) if has_failed() => {
                looks_left = looks_left.min(LOOKS_AFTER_ERROR) - 1;
                if looks_left == 0 {
                    return Err("sled met an I/O error".to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) => looks_left -= 1,
        }
    }
}

fn run(
    database: Arc<Database>,
    orders: &Receiver<Order>,
    answer: &Sender<Result<(), String>>,
    failure: &Failure,
) {
    // Without an order to close, nobody is left who wants the database closed in an orderly way.
    while let Ok(Order::Commit(writes)) = orders.recv() {
        let done = guarded(|| database.commit(&writes));
        let gone_wrong = done.is_err() || failure.check().is_err();
        if gone_wrong {
            if let Err(reason) = &done {
                database.doubt(reason);
            }
            std::mem::forget(database);
            let _ = answer.send(done);
            return;
        }
        if answer.send(done).is_err() {
            return;
        }
    }
    let closed = match Arc::into_inner(database) {
        Some(database) => panic::catch_unwind(AssertUnwindSafe(|| database.close()))
            .unwrap_or_else(|_| Err("sled panicked while closing".to_owned())),
        None => Err("it was closed while a scan was going on".to_owned()),
    };
    let _ = answer.send(closed);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_sled_tells_nobody_ends_the_wait() {
        let (_silent, answers) = mpsc::channel();
        let reason = wait(&answers, LOOKS_MAX, || true).unwrap_err();
        assert_eq!(reason, "sled met an I/O error");
    }

    #[test]
    fn a_disk_that_does_not_answer_ends_the_wait() {
        let (_silent, answers) = mpsc::channel();
        let reason = wait(&answers, 2, || false).unwrap_err();
        assert_eq!(reason, "the disk did not answer within 60 seconds");
    }

    #[test]
    fn a_thread_that_died_ends_the_wait() {
        let (answer, answers) = mpsc::channel();
        drop(answer);
        let reason = wait(&answers, LOOKS_MAX, || false).unwrap_err();
        assert_eq!(reason, "its thread ended without an answer");
    }
}
