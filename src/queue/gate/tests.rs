use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::config::Config;
use crate::dead_letter::DeadReason;
use crate::job::{JobState, NewJob, Payload, RunAt, Unique, WaitsFor};
use crate::lease::LeaseToken;
use crate::priority::Priority;
use crate::queue::list::Listing;
use crate::queue::purge::Purging;
use crate::queue::state::Context;
use crate::queue::{Claim, Failed, Failure, JobQuery, Limits, Purge, examine};
use crate::store::memory::MemoryStore;
use crate::store::{Direction, KeyRange, Scan, Store, WriteSet};

/// A store that counts how often it is read.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    reads: Arc<AtomicU64>,
}

impl Store for Counting {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.reads.fetch_add(1, Relaxed);
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        let reads = self.reads.clone();
        let entries = self.store.scan(tree, range, direction);
        Box::new(entries.inspect(move |_| {
            reads.fetch_add(1, Relaxed);
        }))
    }

    fn commit(&self, writes: WriteSet) -> Result<()> {
        self.store.commit(writes)
    }

    fn disk_bytes(&self) -> Result<u64> {
        self.store.disk_bytes()
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}

struct Node {
    store: MemoryStore,
    reads: Arc<AtomicU64>,
    state: QueueState,
    random: StdRng,
    now: Timestamp,
}

fn open(store: &MemoryStore, now: Timestamp) -> (QueueState, Arc<AtomicU64>) {
    let counting = Counting { store: store.clone(), ..Counting::default() };
    let (reads, mut random) = (counting.reads.clone(), StdRng::seed_from_u64(1));
    let config = Config { queue_capacity: Default::default(), ..Config::default() };
    (QueueState::open(Arc::new(counting), config, now, &mut random).unwrap(), reads)
}

impl Node {
    fn new() -> Node {
        let (store, now) = (MemoryStore::new(), Timestamp::from_ms(1_800_000_000_000));
        let (state, reads) = open(&store, now);
        Node { store, reads, state, random: StdRng::seed_from_u64(1), now }
    }

    /// Applies, and commits.
    fn apply<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
        let context = &mut Context { now: self.now, random: &mut self.random };
        let outcome = run(&mut self.state, context);
        self.commit();
        outcome
    }

    fn commit(&mut self) {
        self.store.commit(self.state.finish_group(self.now)).unwrap();
        self.assert_sound();
    }

    fn assert_sound(&self) {
        // A full count each time would be the time that the large ones take.
        if self.state.meta.next_sequence < 1_000 {
            let report = examine(&self.store).unwrap();
            assert!(report.is_sound(), "{:#?}", report.problems);
        }
    }

    fn enqueue(&mut self, job: NewJob) -> JobId {
        self.apply(|state, context| state.enqueue_one(job, context)).unwrap().id
    }

    fn claim_many(&mut self, limit: usize) -> Vec<LeaseToken> {
        let claim = Claim { limit, lease_ms: 1_000_000, ..Claim::default() };
        let taken = self.apply(|state, context| state.claim(&claim, context)).unwrap();
        taken.jobs.into_iter().map(|job| job.token).collect()
    }

    /// The jobs that are handed out now.
    fn claim(&mut self) -> Vec<JobId> {
        self.claim_many(1_000).into_iter().map(|token| token.job).collect()
    }

    fn ack(&mut self, token: LeaseToken) {
        self.apply(|state, context| state.ack(token, context)).unwrap();
    }

    fn fail(&mut self, token: LeaseToken, retry: bool) -> Failed {
        let failure = Failure { token, error: "no".into(), retry, retry_in_ms: Some(1_000) };
        self.apply(|state, context| state.fail(&failure, context)).unwrap()
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        while self.apply(|state, context| state.tick(context)).unwrap() {}
    }

    fn reopen(&mut self) {
        (self.state, self.reads) = open(&self.store, self.now);
        self.pass_ms(0);
    }

    /// All ready jobs, two a page.
    fn listed(&mut self) -> Vec<JobId> {
        let (mut listed, mut cursor) = (Vec::new(), None);
        loop {
            let query = JobQuery {
                queue: None,
                states: vec![JobState::Ready],
                priority: None,
                kind: None,
                limit: 2,
                cursor,
            };
            let mut listing = Listing::new(query).unwrap();
            let page = loop {
                if let Some(page) = self.state.list(&mut listing).unwrap() {
                    break page;
                }
            };
            listed.extend(page.jobs.into_iter().map(|job| job.id));
            let Some(next) = page.next_cursor else { return listed };
            cursor = Some(next);
        }
    }

    fn waits_for(&mut self, id: JobId) -> Option<WaitsFor> {
        self.state.job(id).unwrap().waits_for
    }
}

fn ordered(kind: &str) -> NewJob {
    NewJob::new(kind).ordering_key("o")
}

fn limited(kind: &str) -> NewJob {
    NewJob::new(kind).concurrency_key("c")
}

fn per_key(most: u32) -> Limits {
    Limits { concurrency_per_key: Some(most), ..Limits::default() }
}

#[test]
fn of_one_ordering_key_one_runs_at_a_time_in_the_order_of_their_coming() {
    let mut node = Node::new();
    let ids: Vec<JobId> = [Priority::Low, Priority::Critical, Priority::Bulk, Priority::High]
        .map(|priority| node.enqueue(ordered("k").priority(priority)))
        .to_vec();
    assert_eq!(node.waits_for(ids[0]), None);
    assert_eq!(node.waits_for(ids[1]), Some(WaitsFor::OrderingKey("o".into())));
    let next = |node: &mut Node| node.apply(|state, context| state.explain_next(context.now));
    for id in &ids {
        let tokens = node.claim_many(10);
        assert_eq!(tokens.iter().map(|token| token.job).collect::<Vec<_>>(), [*id]);
        assert_eq!(node.claim(), []);
        let waits = *id != ids[3];
        let why = next(&mut node).unwrap().unwrap().why;
        assert_eq!(why.contains("same key"), waits, "{why}");
        node.reopen();
        node.ack(tokens[0]);
    }
    assert_eq!(node.store.scan(Tree::Places, everything(), Direction::Ascending).count(), 0);
}

fn everything() -> KeyRange {
    (Bound::Unbounded, Bound::Unbounded)
}

#[test]
fn of_one_concurrency_key_as_many_run_as_may_the_most_urgent_of_those_who_wait_first() {
    let mut node = Node::new();
    node.apply(|state, context| state.set_limits("default", per_key(2), context.now)).unwrap();
    let ids: Vec<JobId> = [Priority::Low, Priority::Low, Priority::Bulk, Priority::High]
        .map(|priority| node.enqueue(limited("k").priority(priority)))
        .to_vec();
    let other = node.enqueue(limited("k").queue("other"));
    let tokens = node.claim_many(10);
    assert_eq!(tokens.len(), 3);
    assert!(tokens.iter().all(|token| [ids[0], ids[1], other].contains(&token.job)));
    assert_eq!(node.waits_for(ids[2]), Some(WaitsFor::ConcurrencyKey("c".into())));
    node.reopen();
    node.ack(*tokens.iter().find(|token| token.job == ids[1]).unwrap());
    assert_eq!(node.claim(), [ids[3]]);
    node.ack(*tokens.iter().find(|token| token.job == ids[0]).unwrap());
    assert_eq!(node.claim(), [ids[2]]);
}

#[test]
fn a_retrying_or_snoozed_job_keeps_its_turn_and_gives_up_its_place() {
    let mut node = Node::new();
    let first = node.enqueue(ordered("k").concurrency_key("c"));
    let second = node.enqueue(ordered("k"));
    let third = node.enqueue(limited("k"));
    let token = node.claim_many(10)[0];
    assert_eq!(token.job, first);
    node.fail(token, true);
    // The place goes on, the turn does not; and the first one comes back when it is there again.
    let tokens = node.claim_many(10);
    assert_eq!(tokens.iter().map(|token| token.job).collect::<Vec<_>>(), [third]);
    node.pass_ms(1_000);
    assert_eq!(node.waits_for(first), Some(WaitsFor::ConcurrencyKey("c".into())));
    assert_eq!(node.waits_for(second), Some(WaitsFor::OrderingKey("o".into())));
    node.reopen();
    node.ack(tokens[0]);
    let token = node.claim_many(10)[0];
    assert_eq!(token.job, first);
    node.apply(|state, context| state.release(token, Some(500), context)).unwrap();
    assert_eq!(node.claim(), []);
    node.pass_ms(500);
    let token = node.claim_many(10)[0];
    assert_eq!(token.job, first);
    node.apply(|state, context| state.release(token, None, context)).unwrap();
    let token = node.claim_many(10)[0];
    assert_eq!((token.job, token.delivery), (first, 4));
    node.ack(token);
    assert_eq!(node.claim(), [second]);
}

#[test]
fn whoever_leaves_lets_the_next_one_in_in_the_same_commit() {
    let job = || ordered("k").concurrency_key("c");
    type Leave = fn(&mut Node, JobId);
    let leave: [(&str, Leave); 6] = [
        ("cancelled in its lane", |node, id| {
            node.apply(|state, _| state.cancel(id)).unwrap();
        }),
        ("dead", |node, _| {
            let token = node.claim_many(1)[0];
            let dead = node.fail(token, false);
            assert_eq!(dead, Failed::Dead { reason: DeadReason::Rejected });
        }),
        ("cancelled while it runs", |node, id| {
            let token = node.claim_many(1)[0];
            node.apply(|state, _| state.cancel(id)).unwrap();
            node.apply(|state, context| state.ack(token, context)).unwrap_err();
        }),
        ("cancelled while it is retried", |node, id| {
            let token = node.claim_many(1)[0];
            node.fail(token, true);
            node.apply(|state, _| state.cancel(id)).unwrap();
        }),
        ("expired", |node, _| node.pass_ms(60_000)),
        ("purged", |node, _| {
            let purge =
                Purge { queue: "default".into(), states: vec![], priority: Some(Priority::Low) };
            let mut purging = Purging::new(purge);
            assert!(node.apply(|state, _| state.purge(&mut purging)).unwrap().is_some());
        }),
    ];
    for (how, leave) in leave {
        let mut node = Node::new();
        let first = node.enqueue(job().priority(Priority::Low).expires_in_ms(60_000));
        let second = node.enqueue(job());
        let third = node.enqueue(job());
        leave(&mut node, first);
        node.reopen();
        assert_eq!(node.claim(), [second], "{how}");
        assert_eq!(node.waits_for(third), Some(WaitsFor::OrderingKey("o".into())), "{how}");
    }
}

#[test]
fn a_job_that_is_replaced_lets_the_next_one_in() {
    let mut node = Node::new();
    let unique = || Unique::new("u").on_conflict(crate::job::OnConflict::Replace);
    node.enqueue(ordered("k").unique(unique()));
    let second = node.enqueue(ordered("k"));
    let third = node.enqueue(ordered("k").unique(unique()));
    assert_eq!(node.claim(), [second]);
    assert!(node.waits_for(third).is_some());
}

#[test]
fn a_job_in_a_line_is_counted_listed_expires_and_can_be_cancelled() {
    let mut node = Node::new();
    let ids: Vec<JobId> = (0..5).map(|_| node.enqueue(limited("k"))).collect();
    let late = node.enqueue(limited("k").expires_in_ms(1_000));
    let view = node.apply(|state, context| state.queue("default", context.now)).unwrap();
    assert_eq!(view.counts[Priority::Default].ready, 6);
    assert_eq!(view.in_lines[Priority::Default], 5);
    assert_eq!(node.listed(), [&ids[..], &[late]].concat());
    node.apply(|state, _| state.cancel(ids[1])).unwrap();
    node.pass_ms(1_000);
    assert_eq!(node.state.job(late).unwrap().state, JobState::Dead);
    let token = node.claim_many(10)[0];
    node.ack(token);
    assert_eq!(node.claim(), [ids[2]]);
    node.apply(|state, context| state.replay(late, context)).unwrap();
    assert_eq!(node.waits_for(late), Some(WaitsFor::ConcurrencyKey("c".into())));
    let purge = Purge { queue: "default".into(), states: vec![JobState::Ready], priority: None };
    let purged = node.apply(|state, _| state.purge(&mut Purging::new(purge))).unwrap().unwrap();
    assert_eq!(purged.removed, 3);
}

#[test]
fn a_job_for_later_joins_when_it_is_due() {
    let mut node = Node::new();
    let later = node.enqueue(ordered("k").run_at(RunAt::DelayMs(1_000)));
    let now = node.enqueue(ordered("k"));
    let token = node.claim_many(10)[0];
    assert_eq!(token.job, now);
    node.pass_ms(1_000);
    assert!(node.waits_for(later).is_some());
    node.ack(token);
    assert_eq!(node.claim(), [later]);
}

#[test]
fn raising_the_places_lets_in_a_portion_at_a_time_over_any_crash() {
    let mut node = Node::new();
    for _ in 0..20 {
        let jobs = vec![limited("k"); 100];
        node.apply(|state, context| state.enqueue(jobs, context)).unwrap();
    }
    node.apply(|state, context| state.set_limits("default", per_key(1_500), context.now)).unwrap();
    assert_eq!(node.state.next_due(), Some(node.now), "it goes on at once");
    let mut groups = 0;
    let mut context = Context { now: node.now, random: &mut node.random };
    while node.state.tick(&mut context).unwrap() {
        assert!(node.state.draft.live_writes() <= 2 * 300);
        node.store.commit(node.state.finish_group(node.now)).unwrap();
        groups += 1;
        (node.state, _) = open(&node.store, node.now);
    }
    node.commit();
    assert!(groups > 3, "{groups}");
    assert!(examine(&node.store).unwrap().is_sound());
    assert_eq!(node.claim().len() + node.claim().len(), 1_500);
}

#[test]
fn what_has_no_room_in_the_commit_comes_with_the_next_ones() {
    let mut node = Node::new();
    let unique =
        |n: usize| Unique::new(format!("u{n}")).on_conflict(crate::job::OnConflict::Replace);
    let large = || Payload::Binary(vec![7; 8_000].into());
    for n in 0..400 {
        let key = || NewJob::new("k").concurrency_key(format!("c{n}"));
        let jobs = vec![key().unique(unique(n)), key().payload(large())];
        node.apply(|state, context| state.enqueue(jobs, context)).unwrap();
    }
    let all: Vec<NewJob> = (0..400).map(|n| NewJob::new("new").unique(unique(n))).collect();
    let context = &mut Context { now: node.now, random: &mut node.random };
    node.state.enqueue(all, context).unwrap();
    let writes = node.state.finish_group(node.now);
    assert!(writes.bytes() < crate::store::COMMIT_BYTES_MAX, "{}", writes.bytes());
    node.store.commit(writes).unwrap();
    assert!(examine(&node.store).unwrap().is_sound());
    node.reopen();
    assert_eq!(node.claim().len(), 800);
}

/// Flips a bit in the record of this tree whose key is this long, and opens the store again.
fn damage(node: &mut Node, tree: Tree, key_bytes: Option<usize>) {
    let entries = node.store.scan(tree, everything(), Direction::Ascending).map(Result::unwrap);
    let mut entries = entries.filter(|(key, _)| key_bytes.is_none_or(|bytes| key.len() == bytes));
    let (key, value) = entries.next().unwrap();
    drop(entries);
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    let mut writes = WriteSet::default();
    writes.put(tree, key, value.into());
    node.store.commit(writes).unwrap();
    assert!(!examine(&node.store).unwrap().is_sound(), "the damage is seen");
    (node.state, node.reads) = open(&node.store, node.now);
}

/// What a node does with each group, whatever was set aside meanwhile.
fn mend(node: &mut Node) {
    for _ in 0..3 {
        let context = &mut Context { now: node.now, random: &mut node.random };
        node.state.tick(context).unwrap();
        node.store.commit(node.state.finish_group(node.now)).unwrap();
    }
    node.assert_sound();
}

#[test]
fn after_damage_nobody_runs_beside_another_and_nobody_waits_for_ever() {
    let with_jobs = || {
        let mut node = Node::new();
        let ids: Vec<JobId> = (0..3).map(|_| node.enqueue(ordered("k"))).collect();
        let token = node.claim_many(1)[0];
        (node, ids, token)
    };
    // How many there are of the key.
    let (mut node, _, token) = with_jobs();
    damage(&mut node, Tree::Places, Some(7));
    let context = &mut Context { now: node.now, random: &mut node.random };
    let fourth = node.state.enqueue_one(ordered("k"), context).unwrap().id;
    node.store.commit(node.state.finish_group(node.now)).unwrap();
    mend(&mut node);
    assert!(node.waits_for(fourth).is_some());
    assert_eq!(node.claim(), []);
    node.ack(token);
    assert_eq!(node.claim().len(), 1);
    // How many wait in the queue.
    let (mut node, ..) = with_jobs();
    damage(&mut node, Tree::Places, Some(5));
    mend(&mut node);
    assert_eq!(node.claim(), []);
    // The first who waits.
    let (mut node, ids, token) = with_jobs();
    damage(&mut node, Tree::Lines, None);
    let context = &mut Context { now: node.now, random: &mut node.random };
    node.state.ack(token, context).unwrap();
    node.store.commit(node.state.finish_group(node.now)).unwrap();
    mend(&mut node);
    assert_eq!(node.claim(), [ids[2]]);
    // The one whom they wait for.
    let (mut node, ids, _) = with_jobs();
    damage(&mut node, Tree::Ready(Priority::Default), None);
    assert!(node.state.chunk(chunk_of(ids[0])).unwrap().is_none());
    node.store.commit(node.state.finish_group(node.now)).unwrap();
    mend(&mut node);
    assert_eq!(node.claim(), [ids[1]]);
}

fn chunk_of(id: JobId) -> key::ChunkId {
    let lane = LaneId { priority: Priority::Default, queue: id.queue() };
    key::ChunkId { lane, first_place: id.sequence() }
}

/// With `jobs` of a blocked key in front, a job of another key is found at once.
fn a_blocked_key_costs_a_claim_nothing(jobs: usize) -> u64 {
    let mut node = Node::new();
    for _ in 0..jobs.div_ceil(1_000) {
        let batch = vec![limited("blocked").payload(Payload::Binary(Bytes::new())); 1_000];
        node.apply(|state, context| state.enqueue(batch, context)).unwrap();
    }
    let running = node.claim_many(10);
    assert_eq!(running.len(), 1);
    let other = node.enqueue(NewJob::new("k").concurrency_key("other"));
    node.reopen();
    node.reads.store(0, Relaxed);
    let tokens = node.claim_many(10);
    assert_eq!(tokens.iter().map(|token| token.job).collect::<Vec<_>>(), [other]);
    let claim = node.reads.swap(0, Relaxed);
    // What an ack costs, and the claim of the one that it lets in.
    node.ack(running[0]);
    assert_eq!(node.claim().len(), 1);
    assert_eq!(
        node.state.queues.ready_jobs(LaneId { priority: Priority::Default, queue: QueueId(1) }),
        0
    );
    claim + node.reads.load(Relaxed)
}

#[test]
fn a_million_jobs_of_a_blocked_key_cost_a_claim_nothing() {
    let few = a_blocked_key_costs_a_claim_nothing(1_000);
    assert_eq!(a_blocked_key_costs_a_claim_nothing(1_000_000), few);
    assert!(few < 40, "{few} reads");
}
