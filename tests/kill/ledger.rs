//! What clients were told, and what follows from it.
//!
//! # Invariants
//! - L1 A job whose ack was answered is never handed out by a later delivery.
//! - L2 A delivery is handed out once: no token is given twice, over any crash.
//! - L3 A token under a lease that was not ended by a call of its holder is good, over any crash.
//! - L4 A job whose enqueue was answered ends acked, or a dead letter that a worker made of it.
//! - L5 Of a batch all jobs are there or none; if it was answered, all. No payload is there twice.
//! - L6 No job is handed out before its time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::Notify;

use crate::node::Http;

#[derive(Default)]
pub struct Ledger {
    book: Mutex<Book>,
    turned: Notify,
}

#[derive(Default)]
struct Book {
    answers: u64,
    /// Jobs whose enqueue was answered, with their payload.
    enqueued: HashMap<String, String>,
    /// For each payload the moment before which its job must not run.
    not_before: HashMap<String, u64>,
    /// Batches: how many jobs each has, and whether it was answered.
    batches: BTreeMap<String, (usize, bool)>,
    /// Every token ever handed out.
    tokens: HashSet<String>,
    /// Every payload ever seen, and under which id.
    seen: HashMap<String, String>,
    /// Jobs whose ack was answered, by which delivery.
    acked: HashMap<String, u64>,
    /// The highest delivery handed out.
    delivered: HashMap<String, u64>,
    /// Jobs that a worker made dead letters of, answered.
    buried: HashSet<String>,
    /// Jobs with an ack that has no answer (yet).
    maybe_acked: HashSet<String>,
    /// Jobs with a burial that has no answer (yet).
    maybe_buried: HashSet<String>,
}

/// A job in a worker's hands.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: String,
    pub token: String,
}

impl Held {
    fn delivery(&self) -> u64 {
        self.token.rsplit_once('-').unwrap().1.parse().unwrap()
    }
}

impl Ledger {
    fn write<T>(&self, write: impl FnOnce(&mut Book) -> T) -> T {
        let mut book = self.book.lock().unwrap();
        book.answers += 1;
        let written = write(&mut book);
        drop(book);
        self.turned.notify_waiters();
        written
    }

    pub fn answers(&self) -> u64 {
        self.book.lock().unwrap().answers
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

    // ---- what was asked, before the answer ----

    pub fn enqueues(&self, payload: &str, not_before_ms: u64) {
        let mut book = self.book.lock().unwrap();
        book.not_before.insert(payload.to_owned(), not_before_ms);
    }

    pub fn enqueues_batch(&self, batch: &str, jobs: usize) {
        self.book.lock().unwrap().batches.insert(batch.to_owned(), (jobs, false));
    }

    // ---- what was answered ----

    pub fn answered(&self) {
        self.write(|_| ());
    }

    pub fn enqueued(&self, id: &str, payload: &str) {
        self.write(|book| {
            let twice = book.enqueued.insert(id.to_owned(), payload.to_owned());
            assert_eq!(twice, None, "the id {id} was given twice");
        });
    }

    pub fn enqueued_batch(&self, batch: &str, ids: &[Value]) {
        self.write(|book| {
            let (jobs, answered) = book.batches.get_mut(batch).unwrap();
            *answered = true;
            assert_eq!(ids.len(), *jobs);
            for (number, id) in ids.iter().enumerate() {
                let id = id.as_str().unwrap().to_owned();
                let twice = book.enqueued.insert(id, format!("{batch}/{number}"));
                assert_eq!(twice, None);
            }
        });
    }

    /// A claim handed out a job: `payload` of `id` under `token`.
    pub fn claimed(&self, held: &Held, payload: &str, now_ms: u64) {
        self.write(|book| {
            let (id, delivery) = (&held.id, held.delivery());
            assert!(book.tokens.insert(held.token.clone()), "L2: {} twice", held.token);
            if let Some(acked) = book.acked.get(id) {
                assert!(delivery <= *acked, "L1: {} after the ack of {acked}", held.token);
            }
            let highest = book.delivered.entry(id.clone()).or_default();
            *highest = delivery.max(*highest);
            let known = book.seen.entry(payload.to_owned()).or_insert_with(|| id.clone());
            assert_eq!(known, id, "L5: {payload} is there twice");
            if let Some(expected) = book.enqueued.get(id) {
                assert_eq!(expected, payload, "{id} has another payload");
            }
            let not_before = book.not_before.get(payload).copied().unwrap_or(0);
            assert!(now_ms >= not_before, "L6: {payload} came {} ms early", not_before - now_ms);
        });
    }

    pub fn acked(&self, held: &Held) {
        self.write(|book| {
            book.maybe_acked.remove(&held.id);
            book.acked.insert(held.id.clone(), held.delivery());
            let highest = book.delivered[&held.id];
            assert!(highest <= held.delivery(), "L1: {} was acked, {highest} is out", held.token);
        });
    }

    pub fn buried(&self, held: &Held) {
        self.write(|book| {
            book.maybe_buried.remove(&held.id);
            book.buried.insert(held.id.clone());
        });
    }

    pub fn maybe_acked(&self, held: &Held) {
        self.book.lock().unwrap().maybe_acked.insert(held.id.clone());
    }

    pub fn maybe_buried(&self, held: &Held) {
        self.book.lock().unwrap().maybe_buried.insert(held.id.clone());
    }

    // ---- the end ----

    /// Everything is drained, and these are the dead letters: is it as it was told?
    pub async fn check(&self, node: &Http, dead: &HashSet<String>) {
        let book = std::mem::take(&mut *self.book.lock().unwrap());
        println!(
            "{} answers: {} jobs, {} batches, {} deliveries, {} acks, {} dead letters; unheard: \
             {} acks, {} burials",
            book.answers,
            book.enqueued.len(),
            book.batches.len(),
            book.tokens.len(),
            book.acked.len(),
            dead.len(),
            book.maybe_acked.len(),
            book.maybe_buried.len(),
        );
        for id in &book.buried {
            assert!(dead.contains(id), "L4: {id} was made a dead letter, and is none");
        }
        for id in dead {
            let told = book.buried.contains(id) || book.maybe_buried.contains(id);
            assert!(told, "L4: nobody made a dead letter of {id}");
        }
        for (id, payload) in &book.enqueued {
            let ends =
                [book.acked.contains_key(id) || book.maybe_acked.contains(id), dead.contains(id)];
            assert!(ends.contains(&true), "L4: {id} ({payload}) was enqueued and is lost");
            assert!(!(book.acked.contains_key(id) && dead.contains(id)), "L4: {id} ended twice");
        }
        // A sample is asked for by name: done is gone.
        for id in book.acked.keys().take(100) {
            assert_eq!(node.get(&format!("/v1/jobs/{id}")).await.status, 404);
        }
        let mut unheard_batches = 0;
        for (batch, (jobs, answered)) in &book.batches {
            let is_there = |number: &usize| book.seen.contains_key(&format!("{batch}/{number}"));
            let there = (0..*jobs).filter(is_there).count();
            assert!(there == *jobs || there == 0, "L5: {there} of {jobs} of the batch {batch}");
            assert!(there == *jobs || !answered, "L5: the batch {batch} was answered");
            unheard_batches += usize::from(!answered && there == *jobs);
        }
        println!("{unheard_batches} batches were taken whole though nobody heard of it");
    }
}
