//! Many dead letters in one call: replayed at once or at a rate, or purged.

use pulk::queue::{
    Claim, DeadChoice, DeadFilter, DeadPurged, ManyReplayed, PurgeDead, ReplayCounts, ReplayMany,
    ReplayState,
};
use pulk::{ErrorKind, JobState, NewJob, Priority};

use crate::dead::{bury, of_queue};
use crate::harness::Harness;
use crate::state_of;

fn replay(choice: DeadChoice) -> ReplayMany {
    ReplayMany { choice, ..ReplayMany::default() }
}

fn told(matched: u64, replayed: u64) -> ManyReplayed {
    ManyReplayed { matched, replayed, skipped: 0, replay: None }
}

async fn dead(queue: &Harness, name: &str) -> u64 {
    queue.queue(name).await.unwrap().counts[Priority::Default].dead
}

pub async fn many_are_replayed_by_filter_or_by_ids(queue: &Harness) {
    let ids = bury(queue, "a", 400).await;
    bury(queue, "b", 3).await;
    let few = ReplayMany { limit: Some(5), ..replay(DeadChoice::Filter(of_queue("a"))) };
    assert_eq!(queue.replay_many(few).await.unwrap(), told(5, 5));
    let all = replay(DeadChoice::Filter(of_queue("a")));
    assert_eq!(queue.replay_many(all).await.unwrap(), told(395, 395));
    assert_eq!((dead(queue, "a").await, dead(queue, "b").await), (0, 3));
    let mut got = Vec::new();
    while got.len() < ids.len() {
        let claim = Claim { queues: vec!["a".to_owned()], limit: 1_000, ..Claim::default() };
        let jobs = queue.claim(claim).await.unwrap().jobs;
        assert!(!jobs.is_empty() && jobs.iter().all(|job| job.attempt == 1));
        got.extend(jobs.into_iter().map(|job| job.id));
    }
    got.sort_unstable();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(got, expected);

    let c = bury(queue, "c", 3).await;
    let named = vec![c[1], got[0], c[1]];
    assert_eq!(queue.replay_many(replay(DeadChoice::Ids(named))).await.unwrap(), told(1, 1));
    assert_eq!(state_of(queue, c[1]).await, Some(JobState::Ready));
    // Nothing named means all.
    assert_eq!(queue.replay_many(ReplayMany::default()).await.unwrap(), told(5, 5));
}

pub async fn many_are_purged_by_filter_or_by_ids(queue: &Harness) {
    let a = bury(queue, "a", 400).await;
    let b = bury(queue, "b", 3).await;
    let alive = queue.put(NewJob::new("mail").queue("b")).await;
    let purge = async |choice: DeadChoice| {
        queue.purge_dead_letters(PurgeDead { choice, dry_run: false }).await.unwrap()
    };
    let purged = purge(DeadChoice::Filter(of_queue("a"))).await;
    assert_eq!(purged, DeadPurged { matched: 400, removed: 400 });
    assert_eq!(state_of(queue, a[7]).await, None);
    let purged = purge(DeadChoice::Ids(vec![alive, b[0]])).await;
    assert_eq!(purged, DeadPurged { matched: 1, removed: 1 });
    assert_eq!(state_of(queue, alive).await, Some(JobState::Ready));
    assert_eq!(purge(DeadChoice::default()).await, DeadPurged { matched: 2, removed: 2 });
}

pub async fn a_dry_run_changes_nothing(queue: &Harness) {
    bury(queue, "a", 4).await;
    let choice = DeadChoice::Filter(of_queue("a"));
    let dry = ReplayMany { dry_run: true, limit: Some(3), ..replay(choice.clone()) };
    assert_eq!(queue.replay_many(dry.clone()).await.unwrap(), told(3, 0));
    let with_rate = ReplayMany { rate_per_s: Some(1.0), ..dry };
    assert_eq!(queue.replay_many(with_rate).await.unwrap(), told(3, 0));
    assert!(queue.replays().await.unwrap().is_empty());
    let purged = queue.purge_dead_letters(PurgeDead { choice, dry_run: true }).await.unwrap();
    assert_eq!(purged, DeadPurged { matched: 4, removed: 0 });
    assert_eq!(dead(queue, "a").await, 4);
}

pub async fn a_bulk_call_beyond_its_limits_names_the_field(queue: &Harness) {
    let all = ReplayMany::default;
    let refused = async |request: ReplayMany| {
        let refused = queue.replay_many(request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        refused.field().unwrap().to_owned()
    };
    let id = queue.put_dead(NewJob::new("mail")).await;
    assert_eq!(refused(replay(DeadChoice::Ids(vec![]))).await, "ids");
    assert_eq!(refused(replay(DeadChoice::Ids(vec![id; 1_001]))).await, "ids");
    assert_eq!(refused(replay(DeadChoice::Filter(of_queue("")))).await, "queue");
    let error = Some("e".repeat(1_025));
    let filter = DeadFilter { error, ..DeadFilter::default() };
    assert_eq!(refused(replay(DeadChoice::Filter(filter))).await, "error");
    assert_eq!(refused(ReplayMany { limit: Some(0), ..all() }).await, "limit");
    assert_eq!(refused(ReplayMany { rate_per_s: Some(0.0), ..all() }).await, "rate_per_s");
    assert_eq!(refused(ReplayMany { rate_per_s: Some(10_001.0), ..all() }).await, "rate_per_s");
    let share = ReplayMany { max_error_share: Some(0.5), ..all() };
    assert_eq!(refused(share.clone()).await, "max_error_share");
    let share = ReplayMany { max_error_share: Some(1.5), rate_per_s: Some(1.0), ..share };
    assert_eq!(refused(share).await, "max_error_share");
    let purge = PurgeDead { choice: DeadChoice::Ids(vec![]), dry_run: false };
    let refused = queue.purge_dead_letters(purge).await.unwrap_err();
    assert_eq!(refused.field(), Some("ids"));
    assert_eq!(state_of(queue, id).await, Some(JobState::Dead));
    let unknown = queue.replay_status(7).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert_eq!(queue.cancel_replay(7).await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub async fn a_replay_with_a_rate_goes_on_in_the_background(queue: &Harness) {
    bury(queue, "a", 5).await;
    let filter = DeadFilter { error: Some("hope".to_owned()), ..of_queue("a") };
    let request = ReplayMany {
        limit: Some(3),
        rate_per_s: Some(100.0),
        ..replay(DeadChoice::Filter(filter.clone()))
    };
    let answer = queue.replay_many(request).await.unwrap();
    assert_eq!((answer.matched, answer.replayed, answer.skipped), (3, 0, 0));
    let begun = answer.replay.unwrap();
    assert_eq!((begun.state, begun.ended_at), (ReplayState::Running, None));
    assert_eq!((&begun.filter, begun.limit, begun.rate_per_s), (&filter, Some(3), 100.0));
    for _ in 0..3 {
        let job = queue.take("a").await;
        queue.ack(job.token).await.unwrap();
    }
    let ended = queue.replay_status(begun.id).await.unwrap();
    let counts = ReplayCounts { matched: 3, replayed: 3, ..ReplayCounts::default() };
    assert_eq!((ended.state, ended.counts), (ReplayState::Done, counts));
    assert_eq!(queue.replays().await.unwrap(), [ended]);
    assert_eq!(dead(queue, "a").await, 2);
}

pub async fn a_replay_stops_when_too_many_die_again(queue: &Harness) {
    bury(queue, "a", 50).await;
    let request = ReplayMany {
        rate_per_s: Some(5.0),
        max_error_share: Some(0.5),
        ..replay(DeadChoice::Filter(of_queue("a")))
    };
    let id = queue.replay_many(request).await.unwrap().replay.unwrap().id;
    // The first two are done, those after them fail for good.
    for number in 0.. {
        let job = queue.take("a").await;
        if number < 2 {
            queue.ack(job.token).await.unwrap();
            continue;
        }
        let error = "still hopeless".to_owned();
        let token = job.token;
        let failure = pulk::queue::Failure { token, error, retry: false, retry_in_ms: None };
        queue.fail(failure).await.unwrap();
        if queue.replay_status(id).await.unwrap().state == ReplayState::Stopped {
            break;
        }
        assert!(number < 50, "it goes on and on");
    }
    let stopped = queue.replay_status(id).await.unwrap();
    let counts = stopped.counts;
    assert!(counts.died_again * 2 > counts.replayed && counts.replayed < 50, "{stopped:?}");
    assert!(stopped.ended_at.is_some());
}

pub async fn a_replay_that_was_stopped_stays_so(queue: &Harness) {
    bury(queue, "a", 2).await;
    let slow = ReplayMany { rate_per_s: Some(0.001), ..ReplayMany::default() };
    for expected in 1..=16 {
        let begun = queue.replay_many(slow.clone()).await.unwrap().replay.unwrap();
        assert_eq!(begun.id, expected);
    }
    let refused = queue.replay_many(slow.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let cancelled = queue.cancel_replay(5).await.unwrap();
    assert_eq!(cancelled.state, ReplayState::Cancelled);
    assert_eq!(queue.cancel_replay(5).await.unwrap(), cancelled);
    assert_eq!(queue.replay_many(slow).await.unwrap().replay.unwrap().id, 17);
    let states = queue.replays().await.unwrap();
    assert_eq!(
        states.iter().map(|replay| replay.id).collect::<Vec<_>>(),
        (1..=17).rev().collect::<Vec<_>>()
    );
}
