//! A thousand queues cost no more than one: counted in reads of the store for each command.

mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{ErrorKind, Result};
use crate::job::{NewJob, Payload};
use crate::priority::Priority;
use crate::queue::Claim;
use crate::queue::plan::Plan;
use crate::queue::state::{Context, QueueState};
use crate::store::key::LaneId;
use crate::store::memory::MemoryStore;
use crate::store::{Direction, KeyRange, Scan, Store, Tree, WriteSet};

/// A store that counts how often it is read.
struct Counting {
    store: MemoryStore,
    reads: AtomicU64,
}

impl Store for Counting {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Bytes>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let counted = self.store.scan(tree, range, direction);
        Box::new(counted.inspect(|_| {
            self.reads.fetch_add(1, Ordering::Relaxed);
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
    store: Arc<Counting>,
    state: QueueState,
    random: StdRng,
    now: Timestamp,
}

impl Node {
    /// So many queues, in each of them three jobs.
    fn with_queues(queues: usize, config: Config) -> Node {
        let store = Arc::new(Counting { store: MemoryStore::new(), reads: AtomicU64::new(0) });
        let (mut random, now) = (StdRng::seed_from_u64(1), Timestamp::from_ms(1_800_000_000_000));
        let state = QueueState::open(store.clone(), config, now, &mut random).unwrap();
        let mut node = Node { store, state, random, now };
        for number in 0..queues {
            let job = NewJob::new("mail").queue(format!("queue-{number}"));
            node.cost(|state, context| state.enqueue(vec![job; 3], context).map(drop)).unwrap();
        }
        node
    }

    /// Applies a command, commits it, and counts the reads; the error, if it was refused.
    fn cost(
        &mut self,
        run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> Result<()>,
    ) -> Result<u64> {
        let before = self.store.reads.load(Ordering::Relaxed);
        let context = &mut Context { now: self.now, random: &mut self.random };
        while self.state.tick(context)? {}
        run(&mut self.state, context)?;
        self.store.commit(self.state.finish_group(self.now))?;
        Ok(self.store.reads.load(Ordering::Relaxed) - before)
    }

    fn claim(&mut self, claim: &Claim, jobs: usize) -> u64 {
        self.cost(|state, context| {
            assert_eq!(state.claim(claim, context)?.jobs.len(), jobs);
            Ok(())
        })
        .unwrap()
    }
}

#[test]
fn a_thousand_queues_cost_no_more_than_one_for_each_command() {
    let costs = |queues: usize| -> Vec<u64> {
        let mut node = Node::with_queues(queues, Config::default());
        let named = Claim { queues: vec!["queue-0".to_owned()], ..Claim::default() };
        let other_kind = Claim { kinds: vec!["report".to_owned()], ..Claim::default() };
        let enqueue = NewJob::new("mail").queue("queue-0");
        let mut costs = vec![
            node.claim(&named, 1),
            node.claim(&Claim::default(), 1),
            node.cost(|state, context| state.enqueue(vec![enqueue], context).map(drop)).unwrap(),
        ];
        // Looks at all of them once, a portion at a time; then there is nothing new to look at.
        for _ in 0..queues {
            node.claim(&other_kind, 0);
        }
        costs.push(node.claim(&other_kind, 0));
        costs
    };
    // A seek, and the chunk it finds.
    for queues in [1, 1_000] {
        let costs = costs(queues);
        assert!(costs.iter().all(|reads| *reads <= 2), "{queues} queues: {costs:?}");
    }
}

#[test]
fn one_queue_more_than_the_most_is_refused_and_those_there_are_go_on() {
    let mut node = Node::with_queues(3, Config { max_queues: 3, ..Config::default() });
    let mut enqueue = |queues: &[&str]| {
        let jobs = queues.iter().map(|queue| NewJob::new("mail").queue(*queue)).collect();
        node.cost(|state, context| state.enqueue(jobs, context).map(drop))
    };
    let refused = enqueue(&["queue-0", "more"]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooManyQueues);
    assert!(refused.to_string().contains("\"more\""), "{refused}");
    enqueue(&["queue-0", "queue-2"]).unwrap();
    let ready = node.state.queues.by_id.values().map(|one| one.counts[Priority::Default].ready);
    assert_eq!(ready.sum::<u64>(), 11, "the batch was refused whole");
    node.state.config.max_queues = 4;
    let twice = vec![NewJob::new("mail").queue("more"); 2];
    node.cost(|state, context| state.enqueue(twice, context).map(drop)).unwrap();
}

#[test]
fn a_full_lane_refuses_a_batch_whole_and_says_when_to_come_back() {
    let mut config = Config::default();
    config.queue_capacity[Priority::Default] = 5;
    let mut node = Node::with_queues(1, config);
    let batch = |jobs: usize| vec![NewJob::new("mail").queue("queue-0"); jobs];
    let refuse = |node: &mut Node, jobs: usize| {
        let outcome = node.cost(|state, context| state.enqueue(batch(jobs), context).map(drop));
        let refused = outcome.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Full);
        refused.retry_after().unwrap()
    };
    // Three wait; nothing drains.
    assert_eq!(refuse(&mut node, 3), 60_000);
    node.cost(|state, context| state.enqueue(batch(2), context).map(drop)).unwrap();
    // Another queue and another priority have room of their own.
    let elsewhere = batch(1).pop().unwrap().priority(Priority::Bulk);
    let elsewhere = vec![elsewhere, NewJob::new("mail").queue("other")];
    node.cost(|state, context| state.enqueue(elsewhere, context).map(drop)).unwrap();
    // Two are handed out within ten seconds: room for two, and a rate to tell from.
    let claim = Claim { queues: vec!["queue-0".to_owned()], limit: 2, ..Claim::default() };
    node.claim(&claim, 2);
    node.now = node.now.plus_ms(10_000);
    assert_eq!(refuse(&mut node, 4), 10_000, "two too many, at one in five seconds");
    node.cost(|state, context| state.enqueue(batch(2), context).map(drop)).unwrap();
}

#[test]
fn what_is_short_of_bytes_sheds_bulk_first_and_critical_last() {
    let mut node = Node::with_queues(1, Config::default());
    let large = NewJob::new("k").payload(Payload::Binary(vec![0; 500_000].into()));
    node.cost(|state, context| state.enqueue(vec![large], context).map(drop)).unwrap();
    let live_bytes = node.state.draft.live_bytes();
    for (percent, taken) in [(72, 4), (82, 3), (91, 2), (96, 1), (101, 0)] {
        node.state.config.max_bytes = live_bytes * 100 / percent;
        let outcomes = Priority::ALL.map(|priority| {
            let job = NewJob::new("k").queue("queue-0").priority(priority);
            let context = &Context { now: node.now, random: &mut node.random };
            let plan = [Plan::New { replaces: None }];
            node.state.check_room_for(&[job], &plan, context).map_err(|error| error.kind())
        });
        let expected = Priority::ALL.map(|priority| {
            if usize::from(priority.number()) < taken { Ok(()) } else { Err(ErrorKind::Full) }
        });
        assert_eq!(outcomes, expected, "at {percent} %");
    }
}

#[test]
fn a_job_wakes_only_claims_that_may_take_it() {
    let node = Node::with_queues(3, Config::default());
    let lane = |queue: &str, priority: Priority| LaneId {
        priority,
        queue: node.state.queues.by_name[queue],
    };
    let claim = |queues: &[&str], priorities: &[Priority]| Claim {
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        priorities: priorities.to_vec(),
        ..Claim::default()
    };
    let became_ready = [lane("queue-0", Priority::High), lane("queue-1", Priority::Bulk)].into();
    let wakes = |queues: &[&str], priorities: &[Priority]| {
        node.state.concerns(&claim(queues, priorities), &became_ready)
    };
    assert!(wakes(&[], &[]));
    assert!(wakes(&[], &[Priority::Low, Priority::Bulk]));
    assert!(wakes(&["queue-2", "queue-1"], &[]));
    assert!(wakes(&["queue-1"], &[Priority::Bulk]));
    assert!(!wakes(&[], &[Priority::Default]));
    assert!(!wakes(&["queue-2", "nobody"], &[]));
    assert!(!wakes(&["queue-1"], &[Priority::High]), "that one is in another queue");
    assert!(!node.state.concerns(&claim(&[], &[]), &BTreeSet::new()));
}
