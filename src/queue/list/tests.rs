use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::position::tests::position;
use super::*;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::job::{JobId, NewJob, Payload, RunAt};
use crate::queue::locate::Place;
use crate::queue::state::Context;
use crate::queue::{Claim, Failure, examine};
use crate::store::Store;
use crate::store::memory::MemoryStore;

/// A queue in memory with the jobs of a test.
pub(in crate::queue) struct Node {
    pub(in crate::queue) store: MemoryStore,
    pub(in crate::queue) state: QueueState,
    random: StdRng,
    pub(in crate::queue) now: Timestamp,
    pub(in crate::queue) tokens: Vec<crate::LeaseToken>,
}

impl Node {
    pub(in crate::queue) fn new() -> Node {
        Node::open(MemoryStore::new())
    }

    pub(in crate::queue) fn open(store: MemoryStore) -> Node {
        let (mut random, now) = (StdRng::seed_from_u64(3), Timestamp::from_ms(1_800_000_000_000));
        let queue_capacity = crate::priority::PerPriority::default();
        let config = Config { queue_capacity, ..Config::default() };
        let state = QueueState::open(Arc::new(store.clone()), config, now, &mut random).unwrap();
        Node { store, state, random, now, tokens: Vec::new() }
    }

    pub(in crate::queue) fn with<T>(
        &mut self,
        run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T,
    ) -> T {
        run(&mut self.state, &mut Context { now: self.now, random: &mut self.random })
    }

    pub(in crate::queue) fn commit(&mut self) {
        while self.state.merge_small_chunks().unwrap() {}
        self.store.commit(self.state.finish_group(self.now)).unwrap();
    }

    pub(in crate::queue) fn put(&mut self, jobs: Vec<NewJob>) -> Vec<JobId> {
        let enqueued = self.with(|state, context| state.enqueue(jobs, context)).unwrap();
        enqueued.into_iter().map(|one| one.id).collect()
    }

    pub(in crate::queue) fn claim(&mut self, queue: &str, limit: usize) -> Vec<JobId> {
        let claim = Claim { queues: vec![queue.to_owned()], limit, ..Claim::default() };
        let taken = self.with(|state, context| state.claim(&claim, context)).unwrap();
        self.tokens.extend(taken.jobs.iter().map(|job| job.token));
        taken.jobs.into_iter().map(|job| job.id).collect()
    }

    fn fail(&mut self, token: crate::LeaseToken, retry: bool) {
        let failure =
            Failure { token, error: "no".to_owned(), retry, retry_in_ms: Some(60_000_000) };
        let _ = self.with(|state, context| state.fail(&failure, context));
    }

    /// One page; `between` runs between the applications that it takes.
    fn page_while(
        &mut self,
        query: &JobQuery,
        looks_at_once: usize,
        mut between: impl FnMut(&mut Node),
    ) -> JobPage {
        let mut listing = Listing { looks_at_once, ..Listing::new(query.clone()).unwrap() };
        loop {
            if let Some(page) = self.state.list(&mut listing).unwrap() {
                assert!(page.jobs.len() <= query.limit);
                return page;
            }
            between(self);
        }
    }

    fn all_while(
        &mut self,
        query: &JobQuery,
        looks_at_once: usize,
        mut between: impl FnMut(&mut Node),
    ) -> Vec<JobView> {
        let (mut query, mut jobs) = (query.clone(), Vec::new());
        loop {
            let page = self.page_while(&query, looks_at_once, &mut between);
            jobs.extend(page.jobs);
            between(self);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return jobs;
            }
        }
    }

    pub(in crate::queue) fn all(&mut self, query: &JobQuery) -> Vec<JobView> {
        self.all_while(query, LOOKS_AT_ONCE, |_| ())
    }

    fn position(&mut self, id: JobId) -> Option<Position> {
        Some(match self.state.locate(id).unwrap()? {
            Place::Slot(chunk, slot) => {
                let chunk = self.state.chunk(chunk).unwrap()?;
                Position::Lane(chunk.id.lane, chunk.slots[slot].place)
            }
            Place::Line(place) => Position::Line(place),
            Place::Timer(due) => Position::Timer(due, id),
            Place::Dead(died_at) => Position::Dead(id.queue(), died_at, id),
        })
    }

    /// Jobs of all queues, kinds, priorities and states.
    pub(in crate::queue) fn with_jobs(jobs: usize) -> Node {
        let mut node = Node::new();
        for (number, queue) in ["a", "b", "c"].into_iter().cycle().take(jobs / 5).enumerate() {
            let priority = Priority::ALL[number % 4];
            let bytes = if number % 23 == 0 { 20_000 } else { number };
            let job = |kind: &str| {
                let payload = Payload::Binary(vec![1; bytes].into());
                NewJob::new(kind).queue(queue).priority(priority).payload(payload)
            };
            let later = |ms| RunAt::DelayMs(ms + number as u64 % 7);
            node.put(vec![job("x"), job("y"), job("x").run_at(later(60_000_000)), job("y")]);
            node.put(vec![job("y").run_at(later(1_000))]);
            if number % 3 == 0 {
                node.claim(queue, 2);
            }
            if number % 4 == 0 {
                node.commit();
            }
        }
        for (number, token) in node.tokens.clone().into_iter().enumerate() {
            match number % 5 {
                0 => node.fail(token, false),
                1 => node.fail(token, true),
                2 => drop(node.with(|state, context| state.release(token, None, context))),
                3 => drop(node.with(|state, context| state.ack(token, context))),
                _ => {}
            }
        }
        node.commit();
        node
    }
}

fn ids(jobs: &[JobView]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

#[test]
fn all_jobs_are_listed_once_and_in_order() {
    let mut node = Node::with_jobs(400);
    let all = node.all(&JobQuery { limit: 1_000, ..JobQuery::default() });
    let report = examine(&node.store).unwrap();
    assert!(report.is_sound(), "{:#?}", report.problems);
    for state in JobState::ALL {
        let listed = all.iter().filter(|job| job.state == state).count() as u64;
        assert_eq!(listed, report.jobs.of(state), "{state}");
        assert!(listed > 5, "{listed} jobs are {state}");
    }
    assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>().len(), all.len());
    let positions: Vec<_> = all.iter().map(|job| node.position(job.id).unwrap()).collect();
    assert!(positions.is_sorted(), "not in order");
    for job in &all {
        assert_eq!(node.state.job(job.id).unwrap(), *job);
    }
    // Within a lane the order is that of claims, whatever was claimed and given back before.
    let query = JobQuery { states: vec![JobState::Ready], limit: 1_000, ..JobQuery::default() };
    let of_a = JobQuery { queue: Some("a".to_owned()), ..query };
    let ready = ids(&node.all(&of_a));
    assert_eq!(node.claim("a", 1_000), ready);
}

#[test]
fn pages_of_any_size_are_the_same_list() {
    let mut node = Node::with_jobs(300);
    let all = ids(&node.all(&JobQuery { limit: 1_000, ..JobQuery::default() }));
    for (limit, looks_at_once) in [(1, 1), (2, 9), (3, 1_000), (7, 30), (99, 100), (1_000, 2)] {
        let query = JobQuery { limit, ..JobQuery::default() };
        let found = node.all_while(&query, looks_at_once, |_| ());
        assert_eq!(ids(&found), all, "{limit} {looks_at_once}");
    }
}

fn query() -> impl Strategy<Value = JobQuery> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("nobody")];
    let kind = prop_oneof![Just("x"), Just("y"), Just("z")];
    let states = prop::sample::subsequence(JobState::ALL.to_vec(), 0..=5);
    let priority = prop::sample::select(Priority::ALL.to_vec());
    (prop::option::of(name), states, prop::option::of(priority), prop::option::of(kind), 1..60usize)
        .prop_map(|(queue, states, priority, kind, limit)| JobQuery {
            queue: queue.map(str::to_owned),
            states,
            priority,
            kind: kind.map(str::to_owned),
            limit,
            cursor: None,
        })
}

fn matches(query: &JobQuery, job: &JobView) -> bool {
    query.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && (query.states.is_empty() || query.states.contains(&job.state))
        && query.priority.is_none_or(|priority| priority == job.priority)
        && query.kind.as_ref().is_none_or(|kind| *kind == job.kind)
}

#[test]
fn every_filter_gives_what_it_names_and_all_of_it() {
    let mut node = Node::with_jobs(300);
    let all = node.all(&JobQuery { limit: 1_000, ..JobQuery::default() });
    let runner = &mut prop::test_runner::TestRunner::default();
    let strategy = (query(), 1..200usize);
    let node = std::cell::RefCell::new(&mut node);
    runner
        .run(&strategy, |(query, looks_at_once)| {
            let found = node.borrow_mut().all_while(&query, looks_at_once, |_| ());
            let expected: Vec<_> = all.iter().filter(|job| matches(&query, job)).collect();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            Ok(())
        })
        .unwrap();
}

/// Also one of another filter, of another queue, of a job that never was.
#[test]
fn any_cursor_does_no_harm() {
    let mut node = Node::with_jobs(200);
    let all = node.all(&JobQuery { limit: 1_000, ..JobQuery::default() });
    let positions: Vec<_> = all.iter().map(|job| node.position(job.id).unwrap()).collect();
    let node = std::cell::RefCell::new(&mut node);
    prop::test_runner::TestRunner::default()
        .run(&(query(), position(), any::<Option<Index>>()), |(query, made_up, given)| {
            let at = given.map_or(made_up, |given| given.get(&positions).clone());
            let query = JobQuery { cursor: Some(at.to_string()), ..query };
            let found = node.borrow_mut().all(&query);
            let before = positions.partition_point(|position| *position <= at);
            let expected = all.iter().skip(before).filter(|job| matches(&query, job));
            prop_assert_eq!(ids(&found), expected.map(|job| job.id).collect::<Vec<_>>());
            Ok(())
        })
        .unwrap();
}

#[derive(Clone, Debug)]
enum Change {
    Enqueue { queue: u8, delayed: bool, jobs: usize },
    Claim { queue: u8, limit: usize },
    Ack(Index),
    Fail { token: Index, retry: bool },
    Release { token: Index, delay_ms: u64 },
    Cancel(Index),
    Replay(Index),
    Commit,
    Wait { ms: u64 },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..3u8, any::<bool>(), 1..20usize).prop_map(|(queue, delayed, jobs)| Change::Enqueue {
            queue,
            delayed,
            jobs
        }),
        (0..3u8, 1..20usize).prop_map(|(queue, limit)| Change::Claim { queue, limit }),
        any::<Index>().prop_map(Change::Ack),
        (any::<Index>(), any::<bool>()).prop_map(|(token, retry)| Change::Fail { token, retry }),
        (any::<Index>(), prop_oneof![Just(0), 1..9_000u64])
            .prop_map(|(token, delay_ms)| Change::Release { token, delay_ms }),
        any::<Index>().prop_map(Change::Cancel),
        any::<Index>().prop_map(Change::Replay),
        Just(Change::Commit),
        (1..2_000u64).prop_map(|ms| Change::Wait { ms }),
    ]
}

impl Node {
    fn positions(&mut self, known: &BTreeSet<JobId>) -> BTreeMap<JobId, Position> {
        known.iter().filter_map(|id| Some((*id, self.position(*id)?))).collect()
    }

    fn apply(&mut self, change: &Change, known: &BTreeSet<JobId>) {
        let any = |index: &Index| *index.get(&known.iter().copied().collect::<Vec<_>>());
        let token = |index: &Index, tokens: &Vec<crate::LeaseToken>| {
            (!tokens.is_empty()).then(|| *index.get(tokens))
        };
        match change {
            Change::Enqueue { queue, delayed, jobs } => {
                let run_at = if *delayed { RunAt::DelayMs(500) } else { RunAt::Now };
                let job = NewJob::new("x").queue(["a", "b", "c"][usize::from(*queue)]);
                self.put(vec![job.run_at(run_at); *jobs]);
            }
            Change::Claim { queue, limit } => {
                self.claim(["a", "b", "c"][usize::from(*queue)], *limit);
            }
            Change::Ack(index) => {
                if let Some(token) = token(index, &self.tokens) {
                    let _ = self.with(|state, context| state.ack(token, context));
                }
            }
            Change::Fail { token: index, retry } => {
                if let Some(token) = token(index, &self.tokens) {
                    self.fail(token, *retry);
                }
            }
            Change::Release { token: index, delay_ms } => {
                if let Some(token) = token(index, &self.tokens) {
                    let delay_ms = Some(*delay_ms);
                    let _ = self.with(|state, context| state.release(token, delay_ms, context));
                }
            }
            Change::Cancel(index) => drop(self.state.cancel(any(index))),
            Change::Replay(index) => {
                let id = any(index);
                let _ = self.with(|state, context| state.replay(id, context));
            }
            Change::Commit => self.commit(),
            Change::Wait { ms } => {
                self.commit();
                self.now = self.now.plus_ms(*ms);
                while self.with(|state, context| state.tick(context)).unwrap() {
                    self.commit();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens between the pages, and between the portions of one page.
    #[test]
    fn a_job_that_does_not_move_is_seen_exactly_once(
        query in query(),
        looks_at_once in 1..60usize,
        changes in prop::collection::vec(change(), 1..60),
    ) {
        let mut node = Node::with_jobs(200);
        let everything = JobQuery { limit: 1_000, ..JobQuery::default() };
        let all = node.all(&everything);
        let known: BTreeSet<JobId> = ids(&all).into_iter().collect();
        let before = node.positions(&known);
        let mut moved = BTreeSet::new();
        let mut changes = changes.iter();
        // The state of a job is not its place: a claim moves nothing.
        let query = JobQuery { states: Vec::new(), ..query };
        let found = node.all_while(&query, looks_at_once, |node| {
            for change in changes.by_ref().take(3) {
                node.apply(change, &known);
                let now = node.positions(&known);
                moved.extend(known.iter().filter(|id| before.get(id) != now.get(id)).copied());
            }
        });
        let stayed = |id: &JobId| known.contains(id) && !moved.contains(id);
        let found: Vec<JobId> = ids(&found).into_iter().filter(stayed).collect();
        let expected = all.iter().filter(|job| matches(&query, job)).map(|job| job.id);
        prop_assert_eq!(found, expected.filter(stayed).collect::<Vec<_>>());
    }
}

#[test]
fn however_many_jobs_there_are_one_application_looks_at_a_thousand() {
    let mut node = Node::new();
    for number in 0..30 {
        let job = NewJob::new(if number == 29 { "rare" } else { "x" });
        node.put(vec![job; 10_000]);
        node.commit();
    }
    let mut applications = 0;
    let query = JobQuery { limit: 1_000, kind: Some("rare".to_owned()), ..JobQuery::default() };
    let page = node.page_while(&query, LOOKS_AT_ONCE, |_| applications += 1);
    assert!(page.jobs.is_empty() && page.next_cursor.is_some(), "{page:?}");
    assert!((15..=20).contains(&applications), "{applications} for a page in vain");
    applications = 0;
    let rare = node.all_while(&query, LOOKS_AT_ONCE, |_| applications += 1);
    assert_eq!(rare.len(), 10_000);
    assert!((300..400).contains(&applications), "{applications} for all");

    // What the filter excludes is not looked at.
    let states = vec![JobState::Running, JobState::Dead, JobState::Scheduled];
    let query = JobQuery { states, ..JobQuery::default() };
    let nothing = node.page_while(&query, LOOKS_AT_ONCE, |_| panic!("looked at the backlog"));
    assert_eq!(nothing, JobPage::default());
    let claimed = node.claim("default", 3);
    let running = node.page_while(&query, LOOKS_AT_ONCE, |_| panic!("looked at the backlog"));
    assert_eq!(ids(&running.jobs), claimed);
    assert_eq!(running.next_cursor, None);
    let low = JobQuery { priority: Some(Priority::Low), ..JobQuery::default() };
    let page = node.page_while(&low, LOOKS_AT_ONCE, |_| panic!("looked at the backlog"));
    assert_eq!(page, JobPage::default());
}

#[test]
fn a_page_ends_at_four_mebibytes() {
    let mut node = Node::new();
    let job = NewJob::new("x").payload(Payload::Binary(vec![9; 1 << 20].into()));
    for _ in 0..7 {
        node.put(vec![job.clone()]);
        node.commit();
    }
    let query = JobQuery { limit: 1_000, ..JobQuery::default() };
    let page = node.page_while(&query, LOOKS_AT_ONCE, |_| panic!("a page of 4 MiB at once"));
    assert_eq!(page.jobs.len(), 4);
    let next = JobQuery { cursor: page.next_cursor, ..query };
    let page = node.page_while(&next, LOOKS_AT_ONCE, |_| ());
    assert_eq!((page.jobs.len(), page.next_cursor), (3, None));
}

#[test]
fn a_long_list_leaves_the_chunks_at_work_in_memory() {
    let mut node = Node::new();
    let job = NewJob::new("x").payload(Payload::Binary(vec![9; 8_000].into()));
    for _ in 0..20 {
        node.put(vec![job.clone(); 100]);
        node.commit();
    }
    node.claim("default", 1);
    let running = node.tokens[0].job();
    let Some(Place::Slot(hot, _)) = node.state.locate(running).unwrap() else { panic!("it runs") };
    assert_eq!(node.all(&JobQuery::default()).len(), 2_000);
    assert!(node.state.cache.peek(hot).is_some(), "16 MiB went through the cache");
}
