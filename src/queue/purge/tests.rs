use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::job::{JobView, NewJob, Payload, RunAt};
use crate::queue::list::tests::Node;
use crate::queue::state::GROUP_BYTES_FULL;
use crate::queue::{Claim, JobQuery, examine};
use crate::store::Store;

const EVERYTHING: JobQuery = JobQuery {
    queue: None,
    states: vec![],
    priority: None,
    kind: None,
    limit: 1_000,
    cursor: None,
};

impl Node {
    /// Purges in portions, each in a commit of its own; `between` runs between them.
    fn purge_while(
        &mut self,
        purge: Purge,
        looks_at_once: usize,
        mut between: impl FnMut(&mut Node),
    ) -> Purged {
        let mut purging = Purging::new(purge).looks_at_once(looks_at_once);
        loop {
            let purged = self.state.purge(&mut purging).unwrap();
            self.commit();
            if let Some(purged) = purged {
                return purged;
            }
            between(self);
        }
    }

    #[track_caller]
    fn assert_sound(&self) {
        let report = examine(&self.store).unwrap();
        assert!(report.is_sound(), "{:#?}", report.problems);
    }
}

fn of(queue: &str) -> Purge {
    Purge { queue: queue.to_owned(), states: Vec::new(), priority: None }
}

fn wants(purge: &Purge, job: &JobView) -> bool {
    let waiting = [JobState::Scheduled, JobState::Ready, JobState::Retrying];
    let states = if purge.states.is_empty() { &waiting[..] } else { &purge.states };
    job.queue == purge.queue
        && states.contains(&job.state)
        && purge.priority.is_none_or(|priority| priority == job.priority)
}

fn purge() -> impl Strategy<Value = Purge> {
    let states = prop::sample::subsequence(JobState::ALL.to_vec(), 0..=5);
    let priority = prop::option::weighted(0.4, prop::sample::select(Priority::ALL.to_vec()));
    (prop::sample::select(vec!["a", "b"]), states, priority)
        .prop_map(|(queue, states, priority)| Purge { queue: queue.to_owned(), states, priority })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_it_names_is_gone(purge in purge(), looks_at_once in 1..400usize) {
        let mut node = Node::with_jobs(300);
        let before = node.all(&EVERYTHING);
        let purged = node.purge_while(purge.clone(), looks_at_once, |node| node.assert_sound());
        node.assert_sound();
        let goes = |job: &JobView| wants(&purge, job) && job.state != JobState::Running;
        let (gone, mut stay): (Vec<_>, Vec<_>) = before.into_iter().partition(goes);
        let mut cancelled = 0;
        for running in stay.iter_mut().filter(|job| wants(&purge, job)) {
            running.running.as_mut().unwrap().cancelled = true;
            cancelled += 1;
        }
        prop_assert_eq!(node.all(&EVERYTHING), stay);
        prop_assert_eq!(purged, Purged { removed: gone.len() as u64 + cancelled, cancelled });
        // Nothing is left for a second one.
        prop_assert_eq!(node.purge_while(purge, looks_at_once, |_| ()), Purged::default());
    }

    /// Jobs that come meanwhile stay; jobs that come due meanwhile do not escape.
    #[test]
    fn what_came_before_is_gone_and_what_comes_later_stays(
        looks_at_once in 1..60usize,
        wait_ms in prop::collection::vec(0..900u64, 1..30),
    ) {
        let mut node = Node::with_jobs(200);
        let jobs = node.all(&EVERYTHING);
        let jobs = jobs.iter().filter(|job| wants(&of("a"), job));
        let before: BTreeSet<JobId> = jobs.map(|job| job.id).collect();
        let mut wait_ms = wait_ms.iter();
        let mut later = BTreeSet::new();
        let purged = node.purge_while(of("a"), looks_at_once, |node| {
            let Some(ms) = wait_ms.next() else { return };
            let job = |n: u64| NewJob::new("z").queue("a").priority(Priority::ALL[n as usize % 5]);
            later.extend(node.put(vec![job(*ms), job(*ms).run_at(RunAt::DelayMs(300))]));
            node.commit();
            node.now = node.now.plus_ms(*ms);
            while node.with(|state, context| state.tick(context)).unwrap() {
                node.commit();
            }
        });
        node.assert_sound();
        prop_assert_eq!(purged, Purged { removed: before.len() as u64, cancelled: 0 });
        let left: BTreeSet<JobId> = node.all(&EVERYTHING).iter().map(|job| job.id).collect();
        prop_assert!(left.is_disjoint(&before));
        prop_assert!(left.is_superset(&later));
    }

    /// A crash between two portions, or in the middle of a commit that is not written.
    #[test]
    fn after_a_crash_in_the_middle_every_job_is_whole_or_gone(
        looks_at_once in 1..200usize,
        portions in 1..12usize,
    ) {
        let mut node = Node::with_jobs(200);
        let before: BTreeMap<JobId, JobView> =
            node.all(&EVERYTHING).into_iter().map(|job| (job.id, job)).collect();
        let mut states = JobState::ALL.to_vec();
        states.retain(|state| *state != JobState::Running);
        let mut purging = Purging::new(Purge { states, ..of("a") }).looks_at_once(looks_at_once);
        for _ in 0..portions {
            if node.state.purge(&mut purging).unwrap().is_some() {
                break;
            }
            node.commit();
        }
        // What the last portion did is lost with the process.
        let _ = node.state.purge(&mut purging);
        let now = node.now;
        let mut node = Node::open(node.store.clone());
        node.now = now;
        node.assert_sound();
        for job in node.all(&EVERYTHING) {
            prop_assert_eq!(&before[&job.id], &job);
        }
        // Whatever is left can be claimed, with its payload.
        let ready = JobQuery { states: vec![JobState::Ready], ..EVERYTHING };
        let ready = node.all(&ready).len();
        let claimed = ["a", "b", "c"].map(|queue| node.claim(queue, 1_000).len());
        prop_assert_eq!(claimed.iter().sum::<usize>(), ready);
    }
}

#[test]
fn a_large_backlog_goes_in_chunks_and_in_portions() {
    let mut node = Node::new();
    for _ in 0..10 {
        node.put(vec![NewJob::new("x"); 10_000]);
        node.commit();
    }
    // The first chunk is begun, by a job that runs.
    assert_eq!(node.claim("default", 1).len(), 1);
    node.commit();
    let (mut portions, mut writes_max) = (0, 0);
    let mut purging = Purging::new(of("default"));
    let purged = loop {
        let purged = node.state.purge(&mut purging).unwrap();
        let writes = node.state.finish_group(node.now);
        writes_max = writes_max.max(writes.iter().count());
        node.store.commit(writes).unwrap();
        portions += 1;
        if let Some(purged) = purged {
            break purged;
        }
    };
    assert_eq!(purged, Purged { removed: 99_999, cancelled: 0 });
    assert!((80..=120).contains(&portions), "{portions} portions");
    // A chunk is one write, not one a job.
    assert!(writes_max < 20, "{writes_max} writes in one commit");
    node.assert_sound();
    let report = examine(&node.store).unwrap();
    assert_eq!((report.jobs.running, report.chunks), (1, 1));
}

#[test]
fn large_payloads_go_in_groups_that_fit() {
    let mut node = Node::new();
    let job = NewJob::new("x").payload(Payload::Binary(vec![9; 1 << 20].into()));
    for _ in 0..20 {
        node.put(vec![job.clone()]);
        node.commit();
    }
    let mut groups = 0;
    let purged = node.purge_while(of("default"), LOOKS_AT_ONCE, |node| {
        groups += 1;
        assert!(node.state.pending_bytes() < GROUP_BYTES_FULL);
    });
    assert_eq!(purged.removed, 20);
    // Each of them has 64 parts, and a group takes about 300 records.
    assert!(groups >= 3, "{groups}");
    node.assert_sound();
    assert_eq!(examine(&node.store).unwrap().live_bytes, 0);
}

#[test]
fn a_claim_in_the_middle_keeps_its_job() {
    let mut node = Node::new();
    node.put(vec![NewJob::new("x"); 600]);
    node.commit();
    let mut claimed = Vec::new();
    let purged = node.purge_while(of("default"), 1, |node| {
        if claimed.is_empty() {
            let claim = Claim { limit: 1, ..Claim::default() };
            let taken = node.with(|state, context| state.claim(&claim, context)).unwrap();
            claimed.extend(taken.jobs);
        }
    });
    assert_eq!(purged.removed, 599);
    node.assert_sound();
    let token = claimed[0].token;
    node.with(|state, context| state.ack(token, context)).unwrap();
    node.commit();
    assert!(node.all(&EVERYTHING).is_empty());
}

#[test]
fn a_removed_queue_takes_its_number_along() {
    let mut node = Node::with_jobs(100);
    let refused = node.state.remove_queue("a").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(node.state.remove_queue("nobody").unwrap_err().kind(), ErrorKind::NotFound);
    let states = JobState::ALL.to_vec();
    node.purge_while(Purge { states, ..of("a") }, LOOKS_AT_ONCE, |_| ());
    // Those that run are marked only, and hold the queue.
    assert_eq!(node.state.remove_queue("a").unwrap_err().kind(), ErrorKind::Conflict);
    for token in node.tokens.clone() {
        let _ = node.with(|state, context| state.ack(token, context));
    }
    node.state.remove_queue("a").unwrap();
    assert_eq!(node.state.remove_queue("a").unwrap_err().kind(), ErrorKind::NotFound);
    // Also in the same commit: the new one is another.
    let new = node.put(vec![NewJob::new("x").queue("a")]);
    node.commit();
    node.assert_sound();
    let old = node.tokens.iter().map(|token| token.job().queue()).collect::<BTreeSet<_>>();
    assert!(!old.contains(&new[0].queue()));
    let mut node = Node::open(node.store.clone());
    assert_eq!(node.claim("a", 10), new);
    let token = node.tokens[0];
    node.with(|state, context| state.ack(token, context)).unwrap();
    node.state.remove_queue("a").unwrap();
    node.commit();
    let mut node = Node::open(node.store.clone());
    assert_eq!(node.state.remove_queue("a").unwrap_err().kind(), ErrorKind::NotFound);
    let newest = node.put(vec![NewJob::new("x").queue("a")]);
    assert!(newest[0].queue() > new[0].queue(), "its number came again after a restart");
}

#[test]
fn a_purged_job_is_not_the_oldest_any_more() {
    let mut node = Node::new();
    let oldest = |node: &mut Node| {
        let view = node.with(|state, context| state.queue("default", context.now)).unwrap();
        view.oldest_ready_at[Priority::Default]
    };
    node.put(vec![NewJob::new("x"); 3]);
    node.commit();
    assert_eq!(oldest(&mut node), Some(node.now));
    node.purge_while(of("default"), LOOKS_AT_ONCE, |_| ());
    assert_eq!(oldest(&mut node), None);
    node.now = node.now.plus_ms(5_000);
    node.put(vec![NewJob::new("x"); 3]);
    node.commit();
    assert_eq!(oldest(&mut node), Some(node.now));
}
