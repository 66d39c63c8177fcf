use super::*;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::job::NewJob;
use crate::queue::dead::tests::{Node, filter};
use crate::queue::{Claim, DeadEdit, DeadFilter, DeadQuery, Failure, Settle};

const MINUTE_MS: u64 = 60_000;

fn removed(node: &Node, wanted: Removal) -> u64 {
    let of = |event: &crate::queue::Event| match event.what {
        Happened::DeadRemoved { jobs, why } if why == wanted => jobs,
        _ => 0,
    };
    node.events.iter().map(of).sum()
}

fn purge(node: &mut Node, choice: DeadChoice, dry_run: bool) -> DeadPurged {
    let mut work = PurgeWork::new(&PurgeDead { choice, dry_run });
    node.run(|state, _| state.purge_dead(&mut work)).unwrap()
}

#[test]
fn a_letter_is_deleted_with_all_it_has() {
    let mut node = Node::new(Config::default());
    let large = NewJob::new("mail").payload(crate::job::Payload::Binary(vec![7; 40_000].into()));
    let id = node.bury(large, 1)[0];
    node.apply(|state, _| state.delete_dead(id)).unwrap();
    assert_eq!(node.assert_sound().live_bytes, 0);
    assert_eq!(removed(&node, Removal::Deleted), 1);
    let again = node.apply(|state, _| state.delete_dead(id)).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    let alive = node.enqueue(NewJob::new("mail"), 1)[0];
    let refused = node.apply(|state, _| state.delete_dead(alive)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

#[test]
fn a_purge_removes_what_it_means_in_portions_and_nothing_else() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail").queue("a"), 700);
    let kept = node.bury(NewJob::new("sms").queue("a"), 3);
    node.bury(NewJob::new("mail").queue("b"), 2);
    let mails = DeadFilter { kind: Some("mail".to_owned()), ..filter("a") };
    let told = purge(&mut node, DeadChoice::Filter(mails.clone()), true);
    assert_eq!(told, DeadPurged { matched: 700, removed: 0 });
    assert_eq!(node.dead("a"), 703);
    let told = purge(&mut node, DeadChoice::Filter(mails), false);
    assert_eq!(told, DeadPurged { matched: 700, removed: 700 });
    assert!(node.groups > 1, "other commands run in between");
    assert_eq!((node.dead("a"), node.dead("b")), (3, 2));
    assert_eq!(removed(&node, Removal::Purged), 700);
    node.assert_sound();
    let ids = vec![kept[2], kept[0], kept[2]];
    let told = purge(&mut node, DeadChoice::Ids(ids), false);
    assert_eq!(told, DeadPurged { matched: 2, removed: 2 });
    let all = purge(&mut node, DeadChoice::default(), false);
    assert_eq!(all, DeadPurged { matched: 3, removed: 3 });
    assert_eq!(node.assert_sound().live_bytes, 0);
}

#[test]
fn of_too_many_letters_the_oldest_go() {
    let mut node = Node::new(Config { dead_max_per_queue: 3, ..Config::default() });
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(node.bury(NewJob::new("mail").queue("a"), 1));
        node.wait(1);
    }
    node.bury(NewJob::new("mail").queue("b"), 2);
    let page = node.page(&DeadQuery { filter: filter("a"), ..DeadQuery::default() });
    assert_eq!(page.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids[2..]);
    assert_eq!((node.dead("b"), removed(&node, Removal::Number)), (2, 2));
    // Many that die together are told of once.
    node.events.clear();
    node.enqueue(NewJob::new("mail").queue("a"), 10);
    let claim = Claim { limit: 10, ..Claim::default() };
    let jobs = node.apply(|state, context| state.claim(&claim, context)).unwrap().jobs;
    let fails = jobs.into_iter().map(|job| {
        let (token, error) = (job.token, "no".to_owned());
        Failure { token, error, retry: false, retry_in_ms: None }
    });
    let settle = Settle { fails: fails.collect(), ..Settle::default() };
    node.apply(|state, context| state.settle(&settle, &mut Vec::new(), context)).unwrap();
    let told = |event: &&crate::queue::Event| matches!(event.what, Happened::DeadRemoved { .. });
    assert_eq!(node.events.iter().filter(told).count(), 1);
    assert_eq!((node.dead("a"), removed(&node, Removal::Number)), (3, 10));
    node.assert_sound();
}

#[test]
fn what_was_over_a_limit_before_it_was_set_goes_at_opening() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail").queue("a"), 900);
    node.bury(NewJob::new("mail").queue("b"), 5);
    node.state.config.dead_max_per_queue = 10;
    let mut node = node.reopen_after(1);
    node.tick();
    assert!(node.groups > 1, "in portions");
    assert_eq!((node.dead("a"), node.dead("b")), (10, 5));
    assert_eq!(node.state.next_due(), None, "nothing more is planned");
    node.assert_sound();
}

#[test]
fn old_letters_go_within_a_minute() {
    let mut node = Node::new(Config { dead_max_age_ms: 100_000, ..Config::default() });
    node.tick();
    assert_eq!(node.state.next_due(), Some(node.now.plus_ms(MINUTE_MS)));
    node.bury(NewJob::new("mail").queue("a"), 400);
    node.wait(50_000);
    let young = node.bury(NewJob::new("mail").queue("a"), 1)[0];
    node.bury(NewJob::new("mail").queue("b"), 1);
    node.wait(10_000);
    assert_eq!(node.dead("a"), 401, "none is old enough");
    node.wait(MINUTE_MS - 1);
    assert_eq!(node.dead("a"), 401, "one sweep a minute");
    node.wait(1);
    assert_eq!((node.dead("a"), node.dead("b")), (1, 1));
    assert_eq!(removed(&node, Removal::Age), 400);
    // An edit does not make it younger; a replay does.
    let kind = Some("sms".to_owned());
    let edit = DeadEdit { kind, ..DeadEdit::default() };
    node.apply(|state, context| state.edit_dead(young, &edit, context.now)).unwrap();
    node.wait(MINUTE_MS);
    assert_eq!((node.dead("a"), node.dead("b")), (0, 0));
    assert_eq!(node.assert_sound().live_bytes, 0);
}

#[test]
fn a_clock_that_steps_back_does_not_put_the_sweep_off() {
    let mut node = Node::new(Config { dead_max_age_ms: 1_000, ..Config::default() });
    node.tick();
    node.now = node.now.minus_ms(10 * MINUTE_MS);
    node.tick();
    node.bury(NewJob::new("mail").queue("a"), 1);
    node.wait(MINUTE_MS);
    assert_eq!(node.dead("a"), 0);
}

#[test]
fn without_limits_nothing_is_planned() {
    let mut node = Node::new(Config::default());
    node.tick();
    node.bury(NewJob::new("mail"), 3);
    assert_eq!(node.state.next_due(), None);
}
