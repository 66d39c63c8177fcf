use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::config::Config;
use crate::dead_letter::DeadReason;
use crate::job::{Enqueued, NewJob};
use crate::priority::Priority;
use crate::queue::state::Context;
use crate::queue::{Claim, Event, Failure, Report, examine};
use crate::store::Store;
use crate::store::memory::MemoryStore;

/// A queue in memory with a clock of its own; each call is a group.
pub(in crate::queue) struct Node {
    pub(in crate::queue) store: MemoryStore,
    pub(in crate::queue) state: QueueState,
    pub(in crate::queue) now: Timestamp,
    pub(in crate::queue) events: Vec<Event>,
    /// Groups that the last call took.
    pub(in crate::queue) groups: usize,
    random: StdRng,
}

impl Node {
    pub(in crate::queue) fn new(config: Config) -> Node {
        Self::open(MemoryStore::new(), config, Timestamp::from_ms(1_800_000_000_000))
    }

    fn open(store: MemoryStore, config: Config, now: Timestamp) -> Node {
        let mut random = StdRng::seed_from_u64(1);
        let state = QueueState::open(Arc::new(store.clone()), config, now, &mut random).unwrap();
        Node { store, state, now, events: Vec::new(), groups: 0, random }
    }

    /// Ends as a crash would, and opens again after a while.
    pub(in crate::queue) fn reopen_after(self, ms: u64) -> Node {
        let config = self.state.config.clone();
        Self::open(self.store, config, self.now.plus_ms(ms))
    }

    /// What opening the store a second time would find.
    pub(in crate::queue) fn reopen_copy(&self) -> Node {
        Self::open(self.store.clone(), self.state.config.clone(), self.now)
    }

    /// Applies a command in as many groups as it takes.
    pub(in crate::queue) fn run<T>(
        &mut self,
        mut run: impl FnMut(&mut QueueState, &mut Context<'_>) -> Result<Option<T>>,
    ) -> Result<T> {
        self.groups = 0;
        loop {
            self.groups += 1;
            let outcome =
                run(&mut self.state, &mut Context { now: self.now, random: &mut self.random });
            self.store.commit(self.state.finish_group(self.now)).unwrap();
            self.events.append(&mut self.state.take_events());
            if let Some(outcome) = outcome.transpose() {
                return outcome;
            }
        }
    }

    /// Applies a command in one group.
    pub(in crate::queue) fn apply<T>(
        &mut self,
        mut run: impl FnMut(&mut QueueState, &mut Context<'_>) -> Result<T>,
    ) -> Result<T> {
        self.run(|state, context| run(state, context).map(Some))
    }

    /// Lets time pass, and does what is due then.
    pub(in crate::queue) fn wait(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.tick();
    }

    /// Does what is due.
    pub(in crate::queue) fn tick(&mut self) {
        self.run(|state, context| Ok((!state.tick(context)?).then_some(()))).unwrap();
    }

    pub(in crate::queue) fn enqueue(&mut self, job: NewJob, count: usize) -> Vec<JobId> {
        let jobs = vec![job; count];
        let ids = |enqueued: Vec<Enqueued>| enqueued.into_iter().map(|one| one.id).collect();
        self.apply(|state, context| state.enqueue(jobs.clone(), context)).map(ids).unwrap()
    }

    /// Lets every job that is ready fail for good with this error.
    pub(in crate::queue) fn bury_all(&mut self, error: &str) -> usize {
        let mut buried = 0;
        loop {
            let claim = Claim { limit: 1_000, ..Claim::default() };
            let taken = self.apply(|state, context| state.claim(&claim, context)).unwrap();
            if taken.jobs.is_empty() {
                return buried;
            }
            for job in taken.jobs {
                buried += 1;
                let (token, error) = (job.token, error.to_owned());
                let failure = Failure { token, error, retry: false, retry_in_ms: None };
                self.apply(|state, context| state.fail(&failure, context)).unwrap();
            }
        }
    }

    /// Enqueues so many jobs, and makes dead letters of them.
    pub(in crate::queue) fn bury(&mut self, job: NewJob, count: usize) -> Vec<JobId> {
        let ids = self.enqueue(job, count);
        assert_eq!(self.bury_all("no route to host"), count);
        ids
    }

    pub(in crate::queue) fn page(&mut self, query: &DeadQuery) -> DeadPage {
        let mut listing = DeadListing::new(query.clone()).unwrap();
        self.run(|state, _| state.list_dead(&mut listing)).unwrap()
    }

    pub(in crate::queue) fn dead(&self, queue: &str) -> u64 {
        let id = self.state.queues.by_name[queue];
        self.state.queues.by_id[&id].counts.iter().map(|(_, counts)| counts.dead).sum()
    }

    /// Every invariant holds.
    pub(in crate::queue) fn assert_sound(&self) -> Report {
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:#?}", report.problems);
        report
    }
}

pub(in crate::queue) fn filter(queue: &str) -> DeadFilter {
    DeadFilter { queue: Some(queue.to_owned()), ..DeadFilter::default() }
}

#[test]
fn each_part_of_a_filter_is_kept_and_all_hold_together() {
    let mut node = Node::new(Config::default());
    let a = node.bury(NewJob::new("mail").queue("a"), 2);
    let b = node.bury(NewJob::new("mail").queue("b"), 2);
    let c = node.enqueue(NewJob::new("sms").queue("b").priority(Priority::Low), 1);
    node.bury_all("no credit left");
    let mut found = |filter: DeadFilter| -> Vec<JobId> {
        let page = node.page(&DeadQuery { filter, ..DeadQuery::default() });
        assert_eq!(page.next_cursor, None);
        page.jobs.iter().map(|job| job.id).collect()
    };
    let some = |text: &str| Some(text.to_owned());
    let none = DeadFilter::default;
    assert_eq!(found(none()), [a.clone(), b.clone(), c.clone()].concat());
    assert_eq!(found(filter("b")), [b.clone(), c.clone()].concat());
    assert_eq!(found(DeadFilter { kind: some("sms"), ..none() }), c);
    assert_eq!(found(DeadFilter { kind: some("mail"), ..filter("b") }), b);
    assert_eq!(found(DeadFilter { error: some("credit"), ..none() }), c);
    assert_eq!(found(DeadFilter { error: some("Credit"), ..none() }), []);
    assert_eq!(found(DeadFilter { error: some("route to"), ..filter("a") }), a);
    assert_eq!(found(DeadFilter { reason: Some(DeadReason::Crashed), ..none() }), []);
    let rejected = DeadFilter { reason: Some(DeadReason::Rejected), ..filter("a") };
    assert_eq!(found(rejected), a);
}

#[test]
fn looking_for_few_among_many_lets_others_in_between_and_ends_with_a_short_page() {
    let mut node = Node::new(Config::default());
    let mut ids = node.bury(NewJob::new("rare").queue("a"), 1);
    for _ in 0..3 {
        node.bury(NewJob::new("mail").queue("b"), 7_200);
    }
    ids.extend(node.bury(NewJob::new("rare").queue("c"), 1));
    let kind = Some("rare".to_owned());
    let mut query = DeadQuery { filter: DeadFilter { kind, ..filter("") }, ..DeadQuery::default() };
    query.filter.queue = None;
    let page = node.page(&query);
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(node.groups, 20, "about a thousand are looked at in a group");
    query.cursor = page.next_cursor;
    assert!(query.cursor.is_some(), "there are more to look at");
    let page = node.page(&query);
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids[1..]);
    assert_eq!(page.next_cursor, None);
    assert!(node.groups <= 3, "{}", node.groups);
}

#[test]
fn a_filter_beyond_its_limits_is_refused_by_name() {
    let refused = |filter: DeadFilter| {
        let refused = filter.validate().unwrap_err();
        refused.field().unwrap().to_owned()
    };
    let none = DeadFilter::default;
    assert_eq!(refused(filter("")), "queue");
    assert_eq!(refused(filter(&"q".repeat(129))), "queue");
    assert_eq!(refused(DeadFilter { kind: Some(String::new()), ..none() }), "kind");
    assert_eq!(refused(DeadFilter { error: Some("e".repeat(1_025)), ..none() }), "error");
    assert!(none().validate().is_ok());
}
