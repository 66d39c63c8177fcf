use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::job::{NewJob, RunAt};
use crate::lease::LeaseToken;
use crate::priority::Priority;
use crate::queue::state::Context;
use crate::queue::{Claim, examine};
use crate::store::memory::MemoryStore;
use crate::store::{Direction, Store, WriteSet};

/// A queue over a store in memory, at a moment that tests move.
struct Node {
    store: MemoryStore,
    state: QueueState,
    random: StdRng,
    now: Timestamp,
}

fn start() -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000)
}

fn rate(jobs: u32, per_ms: u64, burst: u32) -> Limits {
    Limits { rate: Some(Rate { jobs, per_ms, burst }), ..Limits::default() }
}

fn at_once(concurrency: u32) -> Limits {
    Limits { concurrency: Some(concurrency), ..Limits::default() }
}

impl Node {
    fn new() -> Node {
        Self::open(MemoryStore::new(), start())
    }

    fn open(store: MemoryStore, now: Timestamp) -> Node {
        let mut random = StdRng::seed_from_u64(1);
        let shared = Arc::new(store.clone());
        let state = QueueState::open(shared, Config::default(), now, &mut random).unwrap();
        Node { store, state, random, now }
    }

    fn reopen(&mut self) {
        *self = Node::open(self.store.clone(), self.now);
    }

    fn apply<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
        let context = &mut Context { now: self.now, random: &mut self.random };
        while self.state.tick(context).unwrap() {}
        let outcome = run(&mut self.state, context);
        self.store.commit(self.state.finish_group(self.now)).unwrap();
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:#?}", report.problems);
        outcome
    }

    fn limit(&mut self, queue: &str, limits: Limits) {
        self.apply(|state, context| state.set_limits(queue, limits, context.now)).unwrap();
    }

    fn put(&mut self, queue: &str, jobs: usize) {
        let job = NewJob::new("mail").queue(queue);
        self.apply(|state, context| state.enqueue(vec![job; jobs], context).map(drop)).unwrap();
    }

    fn claim(&mut self, limit: usize) -> Vec<LeaseToken> {
        let claim = Claim { limit, ..Claim::default() };
        let taken = self.apply(|state, context| state.claim(&claim, context)).unwrap();
        taken.jobs.into_iter().map(|job| job.token).collect()
    }

    fn limited(&mut self, queue: &str) -> Option<Limited> {
        self.apply(|state, context| state.queue(queue, context.now)).unwrap().limited
    }
}

#[test]
fn no_more_run_at_once_than_may_whatever_their_priorities() {
    let mut node = Node::new();
    node.limit("a", at_once(2));
    for priority in [Priority::Bulk, Priority::Critical, Priority::Default] {
        let job = NewJob::new("mail").queue("a").priority(priority);
        node.apply(|state, context| state.enqueue(vec![job; 2], context).map(drop)).unwrap();
    }
    let first = node.claim(10);
    assert_eq!((first.len(), node.claim(10).len()), (2, 0));
    assert_eq!(node.limited("a"), Some(Limited::Concurrency));
    node.apply(|state, context| state.ack(first[0], context)).unwrap();
    assert_eq!(node.limited("a"), None);
    assert_eq!(node.claim(10).len(), 1);
    // A lower limit lets what runs go on, and waits until enough has ended.
    node.limit("a", at_once(1));
    node.apply(|state, context| state.ack(first[1], context)).unwrap();
    assert_eq!(node.claim(10).len(), 0);
    node.limit("a", Limits::default());
    assert_eq!(node.claim(10).len(), 3);
    assert_eq!(node.store.get(Tree::Limits, &key::queue(QueueId(1))).unwrap(), None);
}

#[test]
fn a_job_that_waits_after_a_failure_or_is_given_back_holds_no_slot() {
    let mut node = Node::new();
    node.limit("a", at_once(1));
    node.put("a", 3);
    let token = node.claim(3)[0];
    node.apply(|state, context| state.release(token, Some(60_000), context)).unwrap();
    let token = node.claim(3)[0];
    node.apply(|state, context| state.release(token, None, context)).unwrap();
    assert_eq!(node.claim(3).len(), 1);
    // A lease that ends is a job that does not run any more.
    node.now = node.now.plus_ms(31_000);
    assert_eq!(node.claim(3).len(), 1);
}

#[test]
fn a_rate_starts_a_burst_and_then_one_at_each_token() {
    let mut node = Node::new();
    node.limit("a", rate(2, 1_000, 3));
    node.put("a", 20);
    assert_eq!(node.claim(20).len(), 3);
    let until = start().plus_ms(500);
    assert_eq!(node.limited("a"), Some(Limited::Rate { until }));
    assert_eq!(node.state.next_due(), Some(until), "the writer sleeps for the next token");
    node.now = until.minus_ms(1);
    assert_eq!(node.claim(20).len(), 0);
    node.now = until;
    assert_eq!((node.claim(20).len(), node.claim(20).len()), (1, 0));
    node.now = until.plus_ms(5_000);
    assert_eq!(node.claim(20).len(), 3);
}

#[test]
fn a_restart_gives_no_second_burst_and_counts_the_time_meanwhile() {
    let mut node = Node::new();
    node.limit("a", rate(1, 10_000, 2));
    node.put("a", 20);
    assert_eq!(node.claim(1).len(), 1);
    node.reopen();
    assert_eq!((node.claim(20).len(), node.claim(20).len()), (1, 0));
    node.reopen();
    assert_eq!(node.limited("a"), Some(Limited::Rate { until: start().plus_ms(10_000) }));
    node.now = start().plus_ms(10_000);
    node.reopen();
    assert_eq!((node.claim(20).len(), node.claim(20).len()), (1, 0));
    node.put("b", 1);
    assert_eq!(node.claim(20).len(), 1, "other queues go on");
}

#[test]
fn limits_that_are_set_again_give_no_second_burst() {
    let mut node = Node::new();
    node.limit("a", rate(1, 10_000, 2));
    node.put("a", 20);
    assert_eq!(node.claim(20).len(), 2);
    node.limit("a", rate(1, 10_000, 2));
    node.limit("a", Limits { concurrency: Some(9), ..rate(1, 10_000, 5) });
    assert_eq!(node.claim(20).len(), 0);
}

#[test]
fn a_clock_that_steps_back_blocks_for_one_token_at_most_also_over_a_restart() {
    for restart in [false, true] {
        let mut node = Node::new();
        node.limit("a", rate(1, 10_000, 2));
        node.put("a", 20);
        node.now = start().plus_ms(3_600_000);
        assert_eq!(node.claim(20).len(), 2);
        node.now = start().plus_ms(5);
        if restart {
            node.reopen();
        }
        assert_eq!(node.claim(20).len(), 0);
        node.now = start().plus_ms(10_005);
        if restart {
            node.reopen();
        }
        assert_eq!((node.claim(20).len(), node.claim(20).len()), (1, 0));
    }
}

#[test]
fn waiting_claims_are_told_when_a_limit_lets_a_job_through() {
    let mut node = Node::new();
    node.limit("a", Limits { concurrency: Some(1), ..rate(1, 10_000, 5) });
    node.put("a", 9);
    let lane = |priority| key::LaneId { priority, queue: QueueId(1) };
    let token = node.claim(9)[0];
    node.state.became_ready.clear();
    node.apply(|state, context| state.ack(token, context)).unwrap();
    assert!(node.state.became_ready.contains(&lane(Priority::Default)), "a slot is free");
    for _ in 0..4 {
        let token = node.claim(9)[0];
        node.apply(|state, context| state.ack(token, context)).unwrap();
    }
    node.state.became_ready.clear();
    node.now = start().plus_ms(10_000);
    node.apply(|_, _| ());
    assert!(node.state.became_ready.contains(&lane(Priority::Default)), "a token is there");
}

#[test]
fn the_limits_of_a_queue_go_with_it() {
    let mut node = Node::new();
    node.limit("a", rate(1, 10_000, 1));
    node.put("a", 1);
    let token = node.claim(1)[0];
    node.apply(|state, context| state.ack(token, context)).unwrap();
    node.apply(|state, _| state.remove_queue("a")).unwrap();
    assert_eq!(node.state.next_token(), None);
    node.put("a", 3);
    assert_eq!(node.claim(3).len(), 3);
}

#[test]
fn limits_that_cannot_be_read_are_set_aside_and_those_of_no_queue_removed() {
    let mut node = Node::new();
    node.limit("a", at_once(1));
    node.put("a", 3);
    let key = key::queue(QueueId(1));
    let mut bytes = node.store.get(Tree::Limits, &key).unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let never = LimitsRecord { concurrency: Some(0), rate: None, concurrency_per_key: None };
    let alone = LimitsRecord { concurrency: Some(1), ..never };
    let mut writes = WriteSet::default();
    writes.put(Tree::Limits, key, bytes.into());
    writes.put(Tree::Limits, key::queue(QueueId(77)), codec::encode(&alone));
    writes.put(Tree::Limits, key::queue(QueueId(78)), codec::encode(&never));
    node.store.commit(writes).unwrap();
    let violations = examine(&node.store).unwrap().violations;
    assert_eq!(violations, [("I5", 2), ("damage", 1)].into());
    node.reopen();
    assert_eq!(node.claim(3).len(), 3);
    assert_eq!(node.state.meta.damaged_records, 2);
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    assert_eq!(node.store.scan(Tree::Limits, all, Direction::Ascending).count(), 0);
}

#[test]
fn a_limit_beyond_its_range_is_named() {
    let field = |limits: Limits| limits.validate().unwrap_err().field().unwrap().to_owned();
    assert!(Limits::default().validate().is_ok());
    assert!(at_once(1).validate().is_ok() && at_once(CONCURRENCY_MAX).validate().is_ok());
    assert_eq!(field(at_once(0)), "concurrency");
    assert_eq!(field(at_once(CONCURRENCY_MAX + 1)), "concurrency");
    let per_key = |most| Limits { concurrency_per_key: Some(most), ..Limits::default() };
    assert!(per_key(1).validate().is_ok() && per_key(CONCURRENCY_PER_KEY_MAX).validate().is_ok());
    assert_eq!(field(per_key(0)), "concurrency_per_key");
    assert_eq!(field(per_key(CONCURRENCY_PER_KEY_MAX + 1)), "concurrency_per_key");
    assert_eq!(field(rate(0, 1, 1)), "rate.jobs");
    assert_eq!(field(rate(RATE_JOBS_MAX + 1, 1, 1)), "rate.jobs");
    assert_eq!(field(rate(1, 0, 1)), "rate.per_ms");
    assert_eq!(field(rate(1, RATE_PER_MS_MAX + 1, 1)), "rate.per_ms");
    assert_eq!(field(rate(1, 1, 0)), "rate.burst");
    let mut node = Node::new();
    let set = |name: &str, node: &mut Node| {
        node.apply(|state, context| state.set_limits(name, at_once(1), context.now))
    };
    assert_eq!(set("a b", &mut node).unwrap_err().field(), Some("queue"));
    node.state.config.max_queues = 1;
    set("a", &mut node).unwrap();
    assert_eq!(set("b", &mut node).unwrap_err().kind(), ErrorKind::TooManyQueues);
}

#[test]
fn a_job_that_came_due_waits_for_its_queue() {
    let mut node = Node::new();
    node.limit("a", at_once(1));
    node.put("a", 1);
    let later = NewJob::new("mail").queue("a").run_at(RunAt::DelayMs(5));
    node.apply(|state, context| state.enqueue_one(later, context).map(drop)).unwrap();
    assert_eq!(node.claim(9).len(), 1);
    node.now = node.now.plus_ms(5);
    assert_eq!(node.claim(9).len(), 0);
}
