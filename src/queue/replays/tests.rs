use super::*;
use crate::config::Config;
use crate::job::{JobState, NewJob};
use crate::queue::Event;
use crate::queue::dead::tests::{Node, filter};
use crate::queue::dead_walk::DeadChoice;
use crate::queue::replay::{ManyReplayed, ReplayWork};

fn all(rate_per_s: f64) -> ReplayMany {
    ReplayMany { rate_per_s: Some(rate_per_s), ..ReplayMany::default() }
}

fn replay(node: &mut Node, request: &ReplayMany) -> Result<ManyReplayed> {
    request.validate().unwrap();
    let mut work = ReplayWork::new(request.clone());
    node.run(|state, context| state.replay_many(&mut work, context))
}

fn begin(node: &mut Node, request: &ReplayMany) -> u64 {
    replay(node, request).unwrap().replay.unwrap().id
}

fn seen(node: &Node, id: u64) -> ReplayView {
    node.state.replay_status(id).unwrap()
}

fn counts(matched: u64, replayed: u64, skipped: u64, died_again: u64) -> ReplayCounts {
    ReplayCounts { matched, replayed, skipped, died_again }
}

fn ended(event: &Event) -> bool {
    matches!(event.what, Happened::ReplayEnded { .. })
}

#[test]
fn a_replay_goes_on_at_its_rate_and_no_faster() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 100);
    let told = replay(&mut node, &all(2.5)).unwrap();
    let id = told.replay.as_ref().unwrap().id;
    assert_eq!((told.matched, told.replayed, told.skipped, id), (100, 0, 0, 1));
    assert_eq!(node.state.next_due(), Some(node.now.plus_ms(400)));
    node.wait(399);
    assert_eq!(seen(&node, id).counts.replayed, 0);
    node.wait(1);
    assert_eq!(seen(&node, id).counts.replayed, 1);
    for second in 1..=20 {
        node.wait(if second == 1 { 600 } else { 1_000 });
        assert_eq!(seen(&node, id).counts.replayed, second * 5 / 2, "after {second} s");
    }
    // A standstill of an hour is not caught up with.
    node.wait(3_600_000);
    assert_eq!(seen(&node, id).counts.replayed, 53);
    while seen(&node, id).state == ReplayState::Running {
        let due = node.state.next_due().unwrap();
        assert!(due > node.now, "it would spin");
        node.now = due;
        node.tick();
    }
    let view = seen(&node, id);
    assert_eq!((view.state, view.counts), (ReplayState::Done, counts(100, 100, 0, 0)));
    assert_eq!((view.ended_at, node.dead("default")), (Some(node.now), 0));
    assert_eq!(node.events.iter().filter(|event| ended(event)).count(), 1);
    assert_eq!(node.state.next_due(), None);
    node.assert_sound();
}

#[test]
fn a_fast_replay_shares_the_groups() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 2_000);
    let id = begin(&mut node, &all(10_000.0));
    node.wait(100);
    assert_eq!(seen(&node, id).counts.replayed, 1_000);
    assert!(node.groups > 2, "{} groups", node.groups);
    node.wait(100);
    assert_eq!(seen(&node, id).state, ReplayState::Done);
    node.assert_sound();
}

#[test]
fn a_restart_goes_on_without_a_burst_and_without_a_new_wait() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 10);
    let id = begin(&mut node, &all(0.01));
    node.wait(100_000);
    assert_eq!(seen(&node, id).counts.replayed, 1);
    node.wait(60_000);
    let mut node = node.reopen_after(1_000);
    node.tick();
    assert_eq!(seen(&node, id).counts, counts(10, 1, 0, 0));
    node.wait(38_999);
    assert_eq!(seen(&node, id).counts.replayed, 1);
    node.wait(1);
    assert_eq!(seen(&node, id).counts.replayed, 2, "the wait before the restart counts");
    let mut node = node.reopen_after(100_000_000);
    node.tick();
    node.tick();
    assert_eq!(seen(&node, id).counts.replayed, 3, "one was due, and no more");
    assert_eq!(node.state.next_due(), Some(node.now.plus_ms(100_000)));
    // The numbers go on, too.
    assert_eq!(begin(&mut node, &all(1.0)), id + 1);
    node.assert_sound();
}

#[test]
fn a_clock_that_steps_back_neither_stalls_nor_bursts() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 10);
    let id = begin(&mut node, &all(1.0));
    node.wait(1_000);
    node.now = node.now.minus_ms(100_000_000);
    node.tick();
    assert_eq!(seen(&node, id).counts.replayed, 1);
    node.wait(1_000);
    assert_eq!(seen(&node, id).counts.replayed, 2);
    node.now = node.now.minus_ms(50_000);
    let mut node = node.reopen_after(0);
    node.tick();
    assert!(node.state.next_due().unwrap() <= node.now.plus_ms(1_000));
    node.wait(1_000);
    assert_eq!(seen(&node, id).counts.replayed, 3);
    node.assert_sound();
}

#[test]
fn what_dies_again_is_counted_and_left_alone_and_too_much_of_it_stops_the_replay() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 10);
    let careful = ReplayMany { max_error_share: Some(0.5), ..all(1.0) };
    let id = begin(&mut node, &careful);
    let carefree = begin(&mut node, &ReplayMany { limit: Some(2), ..all(1.0) });
    node.wait(1_000);
    let sum = |node: &Node| seen(node, id).counts.replayed + seen(node, carefree).counts.replayed;
    assert_eq!(sum(&node), 2);
    // The first of the careful one dies: more than half of one.
    assert_eq!(node.bury_all("still no route"), 2);
    assert_eq!(seen(&node, id).state, ReplayState::Stopped);
    assert_eq!(seen(&node, id).counts, counts(10, 1, 0, 1));
    assert_eq!(seen(&node, carefree).counts, counts(2, 1, 0, 1));
    assert_eq!(seen(&node, id).ended_at, Some(node.now));
    let mut node = node.reopen_after(0);
    node.wait(1_000);
    assert_eq!(seen(&node, id).counts.replayed, 1, "it has stopped for good");
    let view = seen(&node, carefree);
    assert_eq!((view.state, view.counts), (ReplayState::Done, counts(2, 2, 0, 1)));
    // Done, and still counting.
    node.bury_all("still no route");
    assert_eq!(seen(&node, carefree).counts.died_again, 2);
    // A replay by hand is none of theirs.
    let died = node.page(&Default::default()).jobs.last().unwrap().id;
    node.apply(|state, context| state.replay(died, context)).unwrap();
    node.bury_all("still no route");
    assert_eq!(seen(&node, carefree).counts.died_again, 2);
    node.assert_sound();
}

#[test]
fn letters_that_die_after_it_began_are_not_replayed_whatever_the_clock_does() {
    for back_ms in [0, 3_600_000] {
        let mut node = Node::new(Config::default());
        node.bury(NewJob::new("mail"), 3);
        let id = begin(&mut node, &all(1.0));
        let began = node.now;
        node.now = node.now.minus_ms(back_ms);
        node.tick();
        node.bury(NewJob::new("late"), 4);
        for _ in 0..20 {
            node.wait(1_000);
            node.bury_all("again");
        }
        assert_eq!(seen(&node, id).counts, counts(3, 3, 0, 3));
        assert_eq!(seen(&node, id).state, ReplayState::Done);
        assert_eq!((node.dead("default"), seen(&node, id).started_at), (7, began));
    }
}

#[test]
fn a_replay_can_be_ended_and_what_it_put_back_stays_so() {
    let mut node = Node::new(Config::default());
    let ids = node.bury(NewJob::new("mail").queue("a"), 3);
    let choice = DeadChoice::Ids(vec![ids[2], ids[0]]);
    let id = begin(&mut node, &ReplayMany { choice, ..all(1.0) });
    assert_eq!(seen(&node, id).counts.matched, 2);
    node.wait(1_000);
    let mut node = node.reopen_after(10);
    let now = node.now;
    let view = node.apply(|state, _| state.cancel_replay(id, now)).unwrap();
    assert_eq!((view.state, view.counts.replayed), (ReplayState::Cancelled, 1));
    assert_eq!(node.apply(|state, _| state.cancel_replay(id, now.plus_ms(9))).unwrap(), view);
    let mut node = node.reopen_after(10_000);
    node.wait(10_000);
    assert_eq!((seen(&node, id), node.dead("a")), (view, 2));
    // The first of the ids went first.
    let state_of = |node: &mut Node, id| node.apply(|state, _| state.job(id)).unwrap().state;
    assert_eq!(state_of(&mut node, ids[2]), JobState::Ready);
    assert_eq!(state_of(&mut node, ids[0]), JobState::Dead);
    let unknown = node.apply(|state, _| state.cancel_replay(99, now)).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

#[test]
fn sixteen_run_at_once_and_a_hundred_are_kept() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 5);
    let none = ReplayMany { choice: DeadChoice::Filter(filter("nobody")), ..all(1.0) };
    let first = begin(&mut node, &none);
    assert_eq!(seen(&node, first).state, ReplayState::Done, "there is nothing to do");
    let running: Vec<u64> = (0..16).map(|_| begin(&mut node, &all(0.001))).collect();
    let refused = replay(&mut node, &all(1.0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let now = node.now;
    node.apply(|state, _| state.cancel_replay(running[0], now)).unwrap();
    for _ in 0..110 {
        begin(&mut node, &none);
    }
    for node in [&node, &node.reopen_copy()] {
        let kept = node.state.replays();
        assert_eq!(kept.len(), REPLAYS_KEPT_MAX);
        assert_eq!(kept[0].id, running[15] + 110);
        let runs = kept.iter().filter(|replay| replay.state == ReplayState::Running);
        assert_eq!(runs.count(), 15, "those that run are never forgotten");
    }
}

#[test]
fn a_full_disk_holds_a_replay_up_and_does_not_end_it() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail"), 3);
    let id = begin(&mut node, &all(10.0));
    node.state.disk_room_bytes = Some(0);
    node.wait(100);
    assert_eq!(node.state.next_due(), Some(node.now.plus_ms(1_000)));
    node.wait(1_000);
    assert_eq!((seen(&node, id).counts.replayed, node.dead("default")), (0, 3));
    node.state.disk_room_bytes = None;
    node.wait(1_000);
    assert_eq!(seen(&node, id).counts.replayed, 1);
    node.wait(200);
    assert_eq!(seen(&node, id).state, ReplayState::Done);
}
