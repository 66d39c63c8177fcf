//! What clients were told, and what follows from it.
//!
//! # Invariants
//! - L1 A job whose ack was answered is never handed out by a later delivery.
//! - L2 A delivery is handed out once: no token is given twice, over any crash.
//! - L3 A token under a lease that has not ended is good, over any crash; one whose lease was
//!   ended is good for nothing.
//! - L4 A job whose enqueue was answered is there until a call, or its own time, ends it.
//! - L5 Of a batch all jobs are there or none; if it was answered, all. No payload is there twice,
//!   and none that nobody sent.
//! - L6 No job is handed out before its time, and none that must have been started before.
//! - L7 No job is under two tokens whose leases live.
//! - L8 A job that was cancelled or purged is never handed out again; who holds it is told.
//! - L9 The result of an ack that was answered is there for its time, and not after it.
//! - L10 A unique key has one holder that is alive at most, and every answer names it.
//! - L11 A repeat of an enqueue under its idempotency key gets the answer of the first one, and
//!   makes no job.
//! - L12 A queue in one client's hands shows what its calls made of it: each job once, in its
//!   state, with its edits and attempts. A call that was cut off did all of that to a job or
//!   nothing. Paused stays paused, removed stays removed, limited stays
//!   limited.
//! - L13 A replay of many ends with every letter moved that could be, and counts them right.
//! - L14 Of the jobs that share a key no two are under leases that live; of those that share an
//!   ordering key none is handed out while one that was is not done, dead or cancelled.
//!
//! A call that was cut off by a kill is "maybe" until somebody sees what became of it.

mod deliveries;
mod end;
mod look;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::Notify;

pub use deliveries::{Held, How, Outcome};

/// Results are kept so long in this test.
pub const RESULT_TTL_MS: u64 = 20_000;

#[derive(Default)]
pub struct Ledger {
    /// Answers that came; also the clock by which "told before that was asked" is known.
    answers: AtomicU64,
    turned: Notify,
    /// About how many jobs the shared queues hold; set right at every start.
    backlog: AtomicI64,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    jobs: HashMap<String, Job>,
    /// The jobs that share a key and were handed out, by the key.
    sharing: HashMap<Shared, HashSet<String>>,
    /// By what is in a payload: what is known of its job before its id is.
    names: HashMap<String, Name>,
    /// Batches: how many jobs each has, and whether it was answered.
    batches: BTreeMap<String, (usize, bool)>,
    /// Calls by kind that were cut off.
    unheard: BTreeMap<&'static str, u64>,
    /// The last jobs of the shared queues that were enqueued, to look at and to cancel.
    recent: VecDeque<String>,
    deliveries: u64,
    acks: u64,
    replays: u64,
}

#[derive(Default)]
struct Name {
    id: Option<String>,
    not_before_ms: u64,
    shared: Option<Shared>,
}

/// A key that a job shares with others of its queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shared {
    queue: String,
    text: String,
    is_ordering: bool,
}

/// A job with an id.
#[derive(Default)]
struct Job {
    name: String,
    /// Its enqueue was answered, or it was seen.
    is_there: bool,
    deliveries: BTreeMap<u64, Delivery>,
    /// Since it came back last.
    not_before_ms: u64,
    end: End,
    /// Calls that would end it, answered or not.
    ends_asked: u32,
    /// A call that would make it a dead letter has no answer yet.
    maybe_dead: bool,
    /// It was asked to cancel it.
    cancel_asked: bool,
    result: Option<Kept>,
    /// An ack with a result has no answer yet.
    maybe_result: bool,
}

/// How a job ended, and at which answer that was told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum End {
    #[default]
    None,
    Acked {
        at: u64,
        delivery: u64,
    },
    /// Cancelled or purged. One that runs is gone when its lease ends.
    Gone {
        at: u64,
    },
    Dead,
}

/// One lease, as far as its holder knows.
struct Delivery {
    /// It lives until then, or longer after a restart.
    until_ms: u64,
    /// Its holder asked for its end.
    asked_to_end: bool,
}

/// A result that was given back between two moments.
struct Kept {
    result: Value,
    from_ms: u64,
    until_ms: u64,
}

impl Ledger {
    fn book<T>(&self, write: impl FnOnce(&mut Book) -> T) -> T {
        write(&mut self.book.lock().unwrap())
    }

    /// How many answers came: what was told before is told at or below it.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    pub fn answered(&self) {
        self.answers.fetch_add(1, Ordering::SeqCst);
        self.turned.notify_waiters();
    }

    pub fn backlog(&self) -> i64 {
        self.backlog.load(Ordering::Relaxed)
    }

    pub fn backlog_is(&self, jobs: i64) {
        self.backlog.store(jobs, Ordering::Relaxed);
    }

    pub fn backlog_grows(&self, jobs: i64) {
        self.backlog.fetch_add(jobs, Ordering::Relaxed);
    }

    /// A call has no answer.
    pub fn unheard(&self, call: &'static str) {
        self.book(|book| *book.unheard.entry(call).or_default() += 1);
    }

    /// Returns when so many answers came.
    pub async fn reached(&self, answers: u64) {
        loop {
            let turned = self.turned.notified();
            if self.answers() >= answers {
                return;
            }
            turned.await;
        }
    }

    // ---- producers: what was asked, and what was told ----

    pub fn asks_for(&self, name: &str, not_before_ms: u64) {
        let asked = Name { not_before_ms, ..Name::default() };
        self.book(|book| {
            let twice = book.names.insert(name.to_owned(), asked).is_some();
            assert!(!twice, "the test gives {name} twice");
        });
    }

    pub fn asks_for_batch(&self, batch: &str, jobs: usize) {
        for number in 0..jobs {
            self.asks_for(&format!("{batch}/{number}"), 0);
        }
        self.book(|book| book.batches.insert(batch.to_owned(), (jobs, false)));
    }

    /// The key that a job which is asked for shares with others, if it does.
    pub fn shares(&self, name: &str, job: &Value) {
        let of = |field: &str, is_ordering: bool| {
            let (queue, text) = (job["queue"].as_str()?, job[field].as_str()?);
            Some(Shared { queue: queue.to_owned(), text: text.to_owned(), is_ordering })
        };
        let shared = of("ordering_key", true).or_else(|| of("concurrency_key", false));
        self.book(|book| book.names.get_mut(name).unwrap().shared = shared);
    }

    pub fn enqueued(&self, id: &str, name: &str) {
        self.book(|book| book.is_there(id, name));
    }

    pub fn enqueued_batch(&self, batch: &str, ids: &[Value]) {
        self.book(|book| {
            let (jobs, answered) = book.batches.get_mut(batch).unwrap();
            *answered = true;
            assert_eq!(ids.len(), *jobs);
            for (number, id) in ids.iter().enumerate() {
                book.is_there(id.as_str().unwrap(), &format!("{batch}/{number}"));
            }
        });
    }

    /// One that others may look at and cancel.
    pub fn may_be_cancelled(&self, id: &str) {
        self.book(|book| {
            book.recent.push_back(id.to_owned());
            if book.recent.len() > 300 {
                book.recent.pop_front();
            }
        });
    }

    /// A job of the shared queues, enqueued not long ago.
    pub fn recent(&self, place: usize) -> Option<String> {
        self.book(|book| book.recent.get(place % book.recent.len().max(1)).cloned())
    }

    // ---- those who cancel ----

    pub fn asks_to_cancel(&self, id: &str) {
        self.book(|book| {
            let job = book.jobs.get_mut(id).unwrap();
            job.cancel_asked = true;
            job.ends_asked += 1;
        });
    }

    /// The answer to a cancel: gone, or gone when its lease ends.
    pub fn cancelled(&self, id: &str) {
        let at = self.answers();
        self.book(|book| book.job(id).gone(at));
    }

    /// The answer to a cancel: there is none. Then somebody has ended it, or may have.
    pub fn cancelled_none(&self, id: &str) {
        self.book(|book| {
            let job = book.job(id);
            let known = matches!(job.end, End::Acked { .. } | End::Gone { .. });
            // One of those who asked is the one who was answered now.
            assert!(known || job.ends_asked > 1, "L4: {id} ({}) is lost", job.name);
        });
    }

    // ---- whoever has a queue of its own ----

    /// It is known to be gone.
    pub fn gone(&self, id: &str) {
        let at = self.answers();
        self.book(|book| {
            let job = book.job(id);
            if !matches!(job.end, End::Acked { .. }) {
                job.gone(at);
            }
        });
    }

    /// It is known to be a dead letter, or to be none and alive.
    pub fn seen(&self, id: &str, name: &str, is_dead: bool) {
        self.book(|book| {
            book.is_there(id, name);
            let job = book.job(id);
            let ended = matches!(job.end, End::Acked { .. });
            assert!(!ended, "L1: {id} ({name}) is there after its ack");
            job.end = if is_dead { End::Dead } else { End::None };
            (job.ends_asked, job.maybe_dead) = (0, false);
        });
    }

    pub fn replayed(&self, letters: u64) {
        self.book(|book| book.replays += letters);
    }
}

impl Book {
    fn job(&mut self, id: &str) -> &mut Job {
        self.jobs.entry(id.to_owned()).or_default()
    }

    /// A job is there, under the only id that its payload has.
    fn is_there(&mut self, id: &str, name: &str) {
        let Some(known) = self.names.get_mut(name) else {
            panic!("L5: nobody asked for {name} ({id})")
        };
        let known = known.id.get_or_insert_with(|| id.to_owned());
        assert_eq!(known, id, "L5: {name} is there twice");
        let job = self.job(id);
        if !job.is_there {
            (job.name, job.is_there) = (name.to_owned(), true);
        }
        assert_eq!(job.name, name, "L5: {id} has another payload");
    }
}

impl Job {
    fn gone(&mut self, at: u64) {
        let acked = matches!(self.end, End::Acked { .. });
        assert!(!acked, "L8: {} was acked and cancelled", self.name);
        if !matches!(self.end, End::Gone { .. }) {
            self.end = End::Gone { at };
        }
    }
}
