use super::*;
use crate::config::Config;
use crate::job::NewJob;
use crate::queue::dead::tests::{Node, filter};

fn replay(node: &mut Node, request: ReplayMany) -> Result<ManyReplayed> {
    request.validate().unwrap();
    let mut work = ReplayWork::new(request);
    node.run(|state, context| state.replay_many(&mut work, context))
}

fn of(queue: &str) -> ReplayMany {
    ReplayMany { choice: DeadChoice::Filter(filter(queue)), ..ReplayMany::default() }
}

fn told(matched: u64, replayed: u64, skipped: u64) -> ManyReplayed {
    ManyReplayed { matched, replayed, skipped, replay: None }
}

#[test]
fn all_that_are_meant_are_replayed_in_portions() {
    let mut node = Node::new(Config::default());
    node.bury(NewJob::new("mail").queue("a"), 900);
    node.bury(NewJob::new("mail").queue("b"), 5);
    let dry_run = replay(&mut node, ReplayMany { dry_run: true, ..of("a") }).unwrap();
    assert_eq!((dry_run, node.dead("a")), (told(900, 0, 0), 900));
    assert_eq!(replay(&mut node, of("a")).unwrap(), told(900, 900, 0));
    assert!(node.groups > 2, "other commands run in between");
    assert_eq!((node.dead("a"), node.dead("b")), (0, 5));
    node.assert_sound();
    assert_eq!(replay(&mut node, of("a")).unwrap(), told(0, 0, 0));
    assert_eq!(replay(&mut node, of("nobody")).unwrap(), told(0, 0, 0));
    assert_eq!(replay(&mut node, ReplayMany::default()).unwrap(), told(5, 5, 0));
}

#[test]
fn a_limit_takes_the_oldest() {
    let mut node = Node::new(Config::default());
    let ids = node.bury(NewJob::new("mail").queue("a"), 5);
    let limit = Some(2);
    let dry_run = replay(&mut node, ReplayMany { limit, dry_run: true, ..of("a") }).unwrap();
    assert_eq!(dry_run, told(2, 0, 0));
    assert_eq!(replay(&mut node, ReplayMany { limit, ..of("a") }).unwrap(), told(2, 2, 0));
    let left = node.page(&Default::default()).jobs;
    assert_eq!(left.iter().map(|job| job.id).collect::<Vec<_>>(), ids[2..]);
}

#[test]
fn ids_that_are_no_dead_letters_are_passed_over() {
    let mut node = Node::new(Config::default());
    let ids = node.bury(NewJob::new("mail").queue("a"), 3);
    let ready = node.enqueue(NewJob::new("mail"), 1)[0];
    let unknown = JobId::from_u128(7);
    let choice = DeadChoice::Ids(vec![ids[2], ready, unknown, ids[0], ids[2]]);
    let request = ReplayMany { choice, ..ReplayMany::default() };
    let dry_run = replay(&mut node, ReplayMany { dry_run: true, ..request.clone() }).unwrap();
    assert_eq!(dry_run, told(2, 0, 0));
    assert_eq!(replay(&mut node, request).unwrap(), told(2, 2, 0));
    node.assert_sound();
}

#[test]
fn what_dies_while_it_goes_on_is_left_alone_whatever_the_clock_does() {
    for back_ms in [0, 3_600_000] {
        let mut node = Node::new(Config::default());
        node.bury(NewJob::new("mail").queue("b"), 700);
        let mut work = ReplayWork::new(ReplayMany::default());
        let mut portions = 0;
        let done = loop {
            portions += 1;
            let done = node.apply(|state, context| state.replay_many(&mut work, context)).unwrap();
            if let Some(done) = done {
                break done;
            }
            // What was put back dies at once, before and behind the place where it goes on.
            node.now = node.now.minus_ms(back_ms);
            node.bury_all("again");
            node.bury(NewJob::new("late").queue("c"), 1);
        };
        assert!(portions > 2);
        assert_eq!(done, told(700, 700, 0));
        node.assert_sound();
    }
}

#[test]
fn a_full_disk_refuses_and_tells_what_was_done() {
    let mut node = Node::new(Config::default());
    let ids = node.bury(NewJob::new("mail"), 400);
    node.state.disk_room_bytes = Some(5);
    let refused = node.apply(|state, context| state.replay(ids[0], context)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    assert_eq!(
        (refused.clone(), node.dead("default")),
        (replay(&mut node, ReplayMany::default()).unwrap_err(), 400)
    );
    node.state.disk_room_bytes = None;
    let mut work = ReplayWork::new(ReplayMany::default());
    let first = node.apply(|state, context| state.replay_many(&mut work, context)).unwrap();
    assert_eq!(first, None);
    node.state.disk_room_bytes = Some(5);
    let refused = node.run(|state, context| state.replay_many(&mut work, context)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    let done = 400 - node.dead("default");
    assert!(done > 0 && refused.to_string().contains(&format!("{done} dead letters")), "{refused}");
    node.assert_sound();
}

#[test]
fn a_request_beyond_its_limits_is_refused_by_name() {
    let refused = |request: ReplayMany| request.validate().unwrap_err().field().unwrap().to_owned();
    let all = ReplayMany::default;
    let ids = |count: usize| DeadChoice::Ids(vec![JobId::from_u128(1); count]);
    assert_eq!(refused(ReplayMany { choice: ids(0), ..all() }), "ids");
    assert_eq!(refused(ReplayMany { choice: ids(1_001), ..all() }), "ids");
    for limit in [0, 1_000_000_000_001, u64::MAX] {
        assert_eq!(refused(ReplayMany { limit: Some(limit), ..all() }), "limit");
    }
    for rate in [0.0, 0.000_9, 10_000.1, f64::NAN, f64::INFINITY] {
        assert_eq!(refused(ReplayMany { rate_per_s: Some(rate), ..all() }), "rate_per_s");
    }
    assert_eq!(refused(ReplayMany { max_error_share: Some(0.5), ..all() }), "max_error_share");
    let rate_per_s = Some(1.0);
    for share in [-0.1, 1.1, f64::NAN] {
        let max_error_share = Some(share);
        let request = ReplayMany { rate_per_s, max_error_share, ..all() };
        assert_eq!(refused(request), "max_error_share");
    }
}
