use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::config::Config;
use crate::job::{
    CatchUp, NewJob, OnConflict, Payload, SCHEDULE_HEADER, SCHEDULED_AT_HEADER, Unique,
};
use crate::queue::{Ack, Claim, Event, examine};
use crate::store::memory::MemoryStore;
use crate::store::{Direction, Store, WriteSet};

const MINUTE: u64 = 60_000;

/// 2027-01-15T08:00:00Z.
fn start() -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000)
}

struct Node {
    store: MemoryStore,
    state: QueueState,
    random: StdRng,
    now: Timestamp,
    config: Config,
    /// Schedules that fired, with their slots in minutes after the start, and those that skipped.
    fired: Vec<(String, u64)>,
    skipped: Vec<(String, u64, Skipping)>,
}

impl Node {
    fn new() -> Node {
        Node::with(Config::default())
    }

    fn with(config: Config) -> Node {
        let (store, mut random) = (MemoryStore::new(), StdRng::seed_from_u64(1));
        let shared = Arc::new(store.clone());
        let state = QueueState::open(shared, config.clone(), start(), &mut random).unwrap();
        let (fired, skipped) = (Vec::new(), Vec::new());
        Node { store, state, random, now: start(), config, fired, skipped }
    }

    /// One group: what is due, a command, a commit.
    fn apply<T>(&mut self, run: impl FnOnce(&mut QueueState, &mut Context<'_>) -> T) -> T {
        let context = &mut Context { now: self.now, random: &mut self.random };
        self.state.tick(context).unwrap();
        let outcome = run(&mut self.state, context);
        self.store.commit(self.state.finish_group(self.now)).unwrap();
        for Event { what, .. } in self.state.take_events() {
            match what {
                Happened::ScheduleFired { schedule, slot, .. } => {
                    self.fired.push((schedule.to_string(), slot.ms_since(start()) / MINUTE));
                }
                Happened::ScheduleSkipped { schedule, slots, why, .. } => {
                    self.skipped.push((schedule.to_string(), slots, why));
                }
                _ => {}
            }
        }
        outcome
    }

    /// Groups until nothing is due.
    fn settle(&mut self) {
        self.apply(|_, _| ());
        while self.state.next_due().is_some_and(|due| due <= self.now) {
            self.apply(|_, _| ());
        }
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:#?}", report.problems);
    }

    fn at(&mut self, minutes: u64) {
        self.now = start().plus_ms(minutes * MINUTE);
        self.settle();
    }

    fn put(&mut self, name: &str, schedule: NewSchedule) -> SchedulePut {
        let checked = Checked::new(name, schedule).unwrap();
        self.apply(|state, context| state.put_schedule(checked, context)).unwrap()
    }

    /// The process is killed, and started again.
    fn reopen(&mut self) {
        let store = Arc::new(self.store.clone());
        let config = self.config.clone();
        self.state = QueueState::open(store, config, self.now, &mut self.random).unwrap();
        self.settle();
    }

    fn view(&self, name: &str) -> ScheduleView {
        self.state.schedule(name, self.now).unwrap()
    }

    fn take_fired(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fired).into_iter().map(|(_, slot)| slot).collect()
    }

    fn claim(&mut self) -> Vec<crate::queue::ClaimedJob> {
        let claim = Claim { limit: 1_000, lease_ms: 60 * MINUTE, ..Claim::default() };
        self.apply(|state, context| state.claim(&claim, context)).unwrap().jobs
    }
}

fn every_5() -> NewSchedule {
    NewSchedule::new("*/5 * * * *", NewJob::new("report").queue("reports"))
}

#[test]
fn a_slot_makes_a_job_at_its_moment_and_once() {
    let mut node = Node::new();
    assert!(node.put("s", every_5()).is_new);
    assert_eq!(node.state.next_due(), Some(start().plus_ms(5 * MINUTE)));
    node.at(4);
    assert_eq!(node.fired, []);
    node.at(5);
    node.at(5);
    assert_eq!(node.take_fired(), [5]);
    let jobs = node.claim();
    assert_eq!(jobs.len(), 1);
    let job = &jobs[0];
    assert_eq!((&*job.queue, &*job.kind), ("reports", "report"));
    assert_eq!(job.headers[SCHEDULE_HEADER], "s");
    assert_eq!(job.headers[SCHEDULED_AT_HEADER], "2027-01-15T08:05:00.000Z");
    let view = node.view("s");
    assert_eq!(view.last_run, Some(LastRun { slot: start().plus_ms(5 * MINUTE), job: job.id }));
    let next = view.next_runs(10);
    assert_eq!(next.len(), 10);
    assert_eq!(next[0].to_string(), "2027-01-15T08:10:00+00:00");
}

#[test]
fn a_crash_neither_doubles_nor_forgets_a_slot() {
    let mut node = Node::new();
    node.put("s", every_5());
    // Fired, but not on the disk: it fires again.
    node.now = start().plus_ms(5 * MINUTE);
    let context = &mut Context { now: node.now, random: &mut node.random };
    node.state.tick(context).unwrap();
    node.reopen();
    assert_eq!(node.take_fired(), [5]);
    node.reopen();
    assert_eq!(node.take_fired(), [] as [u64; 0]);
    assert_eq!(node.claim().len(), 1);
}

#[test]
fn what_was_missed_is_caught_up_with_as_the_schedule_says() {
    let mut node = Node::new();
    for (name, catch_up) in [("none", CatchUp::None), ("one", CatchUp::One), ("all", CatchUp::All)]
    {
        node.put(name, every_5().catch_up(catch_up));
    }
    node.now = start().plus_ms(22 * MINUTE);
    node.reopen();
    let of = |node: &Node, name: &str| -> Vec<u64> {
        let fired = node.fired.iter().filter(|(schedule, _)| schedule == name);
        fired.map(|(_, slot)| *slot).collect()
    };
    assert_eq!(of(&node, "none"), [] as [u64; 0]);
    assert_eq!(of(&node, "one"), [20]);
    assert_eq!(of(&node, "all"), [5, 10, 15, 20]);
    assert_eq!(node.view("none").skipped, 4);
    assert_eq!(node.view("one").skipped, 3);
    assert_eq!(node.view("all").skipped, 0);
    node.at(25);
    assert_eq!(of(&node, "none"), [25]);
}

#[test]
fn a_thousand_missed_slots_come_in_portions() {
    let mut node = Node::new();
    let payload = Payload::Binary(vec![7; 16 << 10].into());
    let job = NewJob::new("large").payload(payload);
    node.put("s", NewSchedule::new("* * * * *", job).catch_up(CatchUp::All));
    node.now = start().plus_ms(5_000 * MINUTE);
    node.apply(|_, _| ());
    let first = node.fired.len();
    assert!((1..1_000).contains(&first), "{first} at once");
    node.settle();
    let slots = node.take_fired();
    assert_eq!(slots, (3_999..=5_000).collect::<Vec<u64>>());
    assert_eq!(node.view("s").skipped, 3_998);
}

#[test]
fn a_clock_that_steps_back_fires_no_slot_again() {
    let mut node = Node::new();
    node.put("s", every_5());
    node.at(10);
    assert_eq!(node.take_fired(), [5, 10], "one was missed, and is made up for");
    node.at(2);
    node.at(5);
    node.at(10);
    assert_eq!(node.take_fired(), [] as [u64; 0]);
    node.at(15);
    assert_eq!(node.take_fired(), [15]);
    // Made while the clock was ahead: it counts from the time that is right.
    node.at(50_000);
    node.fired.clear();
    node.put("ahead", every_5());
    node.at(21);
    node.reopen();
    node.at(25);
    assert_eq!(node.fired, [("ahead".to_owned(), 25)]);
}

#[test]
fn a_key_that_is_held_skips_the_slot_and_counts_it() {
    let mut node = Node::new();
    let job =
        |on_conflict| NewJob::new("report").unique(Unique::new("report").on_conflict(on_conflict));
    for (name, on_conflict) in [("a", OnConflict::Reject), ("b", OnConflict::Return)] {
        let job = job(on_conflict).queue(name);
        node.put(name, NewSchedule::new("*/5 * * * *", job));
    }
    node.at(5);
    node.at(10);
    assert_eq!(node.take_fired(), [5, 5]);
    let skipped = |name: &str| (name.to_owned(), 1, Skipping::Conflict);
    assert_eq!(node.skipped, [skipped("a"), skipped("b")]);
    assert_eq!(node.view("a").skipped, 1);
    for job in node.claim() {
        node.apply(|state, context| state.ack(Ack::from(job.token), context)).unwrap();
    }
    node.at(15);
    assert_eq!(node.take_fired(), [15, 15], "when it is done the next one comes");
    let mut node = Node::new();
    node.put("s", NewSchedule::new("*/5 * * * *", job(OnConflict::Replace)));
    node.at(5);
    node.at(10);
    assert_eq!(node.take_fired(), [5, 10]);
    assert_eq!(node.claim().len(), 1, "the one that waited was replaced");
    node.at(15);
    assert_eq!(node.take_fired(), [] as [u64; 0], "one that runs is not");
}

#[test]
fn paused_slots_pass_by() {
    let mut node = Node::new();
    node.put("s", every_5().catch_up(CatchUp::All));
    node.at(5);
    let pause = |node: &mut Node, paused| {
        let now = node.now;
        node.apply(|state, _| state.pause_schedule("s", paused, now)).unwrap()
    };
    assert_eq!(pause(&mut node, true).next_runs(10), []);
    assert_eq!(node.state.next_due(), None);
    node.at(22);
    node.reopen();
    assert!(node.view("s").paused);
    pause(&mut node, false);
    node.at(25);
    assert_eq!(node.take_fired(), [5, 25]);
    // Put again it is not paused any more: that counts from now, too.
    pause(&mut node, true);
    node.at(42);
    assert!(!node.put("s", every_5().catch_up(CatchUp::All)).schedule.paused);
    node.at(45);
    assert_eq!(node.take_fired(), [45]);
}

#[test]
fn a_schedule_that_is_put_again_goes_on_or_begins_anew() {
    let mut node = Node::new();
    node.put("s", every_5().catch_up(CatchUp::All));
    node.at(5);
    // The same moments: those that were missed meanwhile are made up for.
    node.now = start().plus_ms(13 * MINUTE);
    let changed = NewSchedule { job: NewJob::new("other"), ..every_5().catch_up(CatchUp::All) };
    let checked = Checked::new("s", changed).unwrap();
    let context = &Context { now: node.now, random: &mut node.random };
    let put = node.state.put_schedule(checked, context).unwrap();
    assert!(!put.is_new && put.schedule.last_run.is_some());
    node.settle();
    assert_eq!(node.take_fired(), [5, 10]);
    let hourly = NewSchedule::new("30 * * * *", NewJob::new("hourly"));
    node.put("s", hourly);
    node.at(30);
    assert_eq!(node.take_fired(), [30]);
    node.apply(|state, _| state.remove_schedule("s")).unwrap();
    node.at(90);
    node.reopen();
    assert_eq!(node.take_fired(), [] as [u64; 0]);
    let gone = node.state.schedule("s", node.now).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[test]
fn a_job_now_touches_no_slot() {
    let mut node = Node::new();
    node.put("s", NewSchedule { paused: true, ..every_5() });
    node.at(7);
    let run = node.apply(|state, context| state.run_schedule("s", context)).unwrap();
    assert!(run.is_new);
    let job = node.claim().remove(0);
    assert_eq!(job.headers[SCHEDULED_AT_HEADER], "2027-01-15T08:07:00.000Z");
    let view = node.view("s");
    assert_eq!((view.last_run, view.skipped), (None, 0));
    let none = node.apply(|state, context| state.run_schedule("t", context)).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[test]
fn a_job_of_a_schedule_finds_room_but_on_a_full_disk() {
    let mut config = Config { max_queues: 1, ..Config::default() };
    config.queue_capacity[crate::Priority::Default] = 1;
    let mut node = Node::with(config);
    let job = NewJob::new("first");
    node.apply(|state, context| state.enqueue_one(job, context)).unwrap();
    node.put("s", every_5());
    node.at(5);
    node.at(10);
    assert_eq!(node.take_fired(), [5, 10]);
    node.now = start().plus_ms(15 * MINUTE);
    node.state.set_disk_room(Some(0));
    node.settle();
    assert_eq!(node.take_fired(), [] as [u64; 0]);
    assert_eq!(node.state.next_due(), Some(node.now.plus_ms(1_000)));
    node.now = node.now.plus_ms(1_000);
    node.state.set_disk_room(None);
    node.settle();
    assert_eq!(node.take_fired(), [15]);
    let full = Checked::new("t", every_5()).unwrap();
    node.state.set_disk_room(Some(0));
    let refused = node.apply(|state, context| state.put_schedule(full, context)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
}

#[test]
fn nothing_fires_while_the_scheduler_is_off() {
    let mut node = Node::with(Config { scheduler_enabled: false, ..Config::default() });
    node.put("s", every_5());
    node.at(22);
    assert_eq!((node.take_fired(), node.state.next_due()), (vec![], None));
    node.config.scheduler_enabled = true;
    node.reopen();
    assert_eq!(node.take_fired(), [20]);
}

#[test]
fn there_are_a_thousand_at_most_and_they_are_listed_in_pages() {
    let mut node = Node::new();
    for number in 0..SCHEDULES_MAX {
        node.put(&format!("s{number:04}"), every_5());
    }
    let one_more = Checked::new("t", every_5()).unwrap();
    let refused = node.apply(|state, context| state.put_schedule(one_more, context));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    node.put("s0000", every_5());
    let mut query = ScheduleQuery { limit: 300, cursor: None };
    let mut names = Vec::new();
    loop {
        let page = node.state.list_schedules(&query, node.now);
        names.extend(page.schedules.into_iter().map(|schedule| schedule.name));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), SCHEDULES_MAX);
    assert!(names.is_sorted());
    node.at(5);
    assert_eq!(node.take_fired().len(), SCHEDULES_MAX);
}

/// Flips a bit in the first record of schedules that begins so.
fn damage(store: &MemoryStore, first: u8) {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let mut found = store.scan(Tree::Schedules, everything, Direction::Ascending);
    let (key, value) =
        found.find_map(|entry| entry.ok().filter(|(key, _)| key[0] == first)).unwrap();
    drop(found);
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    let mut writes = WriteSet::default();
    writes.put(Tree::Schedules, key, value.into());
    store.commit(writes).unwrap();
    assert!(!examine(store).unwrap().is_sound());
}

#[test]
fn a_damaged_schedule_is_set_aside_and_the_others_go_on() {
    let mut node = Node::new();
    node.put("a", every_5());
    node.put("b", every_5());
    node.at(5);
    damage(&node.store, 0);
    node.reopen();
    assert_eq!(examine(&node.store).unwrap().set_aside, 1);
    assert_eq!(node.state.schedule("a", node.now).unwrap_err().kind(), ErrorKind::NotFound);
    node.fired.clear();
    node.at(10);
    assert_eq!(node.fired, [("b".to_owned(), 10)]);
    // Without its progress it begins to count now.
    damage(&node.store, 1);
    node.now = start().plus_ms(17 * MINUTE);
    node.fired.clear();
    node.reopen();
    assert_eq!(node.fired, []);
    assert_eq!(examine(&node.store).unwrap().set_aside, 2);
    assert_eq!(node.view("b").last_run, None);
    node.at(20);
    assert_eq!(node.fired, [("b".to_owned(), 20)]);
}
