//! Many jobs of a queue removed at once, and the queue itself.

use pulk::queue::{Claim, JobQuery, Purge, Purged};
use pulk::{ErrorKind, JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::claim_in;
use crate::harness::Harness;
use crate::state_of;

fn all_of(queue: &str) -> Purge {
    Purge { queue: queue.to_owned(), states: Vec::new(), priority: None }
}

fn removed(removed: u64) -> Purged {
    Purged { removed, cancelled: 0 }
}

/// Two jobs in each state, of two priorities, in one queue; the running ones last.
async fn two_in_each_state(queue: &Harness) -> Vec<JobId> {
    let mut ids = Vec::new();
    for priority in [Priority::High, Priority::Low] {
        let job = || {
            let payload = Payload::Binary(vec![7; 20_000].into());
            NewJob::new("mail").queue("many").priority(priority).payload(payload)
        };
        ids.push(queue.put_dead(job()).await);
        ids.push(queue.enqueue(job().run_at(RunAt::DelayMs(60_000))).await.unwrap().id);
        ids.push(queue.put(job()).await);
        let failed = queue.take("many").await;
        queue.fail_once(&failed, Some(60_000)).await;
        ids.push(queue.put(job()).await);
        queue.take_with(Claim { priorities: vec![priority], ..claim_in("many") }).await;
        ids.push(queue.put(job().queue("kept")).await);
    }
    for priority in [Priority::High, Priority::Low] {
        ids.push(queue.put(NewJob::new("mail").queue("many").priority(priority)).await);
    }
    ids
}

async fn states(queue: &Harness) -> Vec<(String, JobState)> {
    let page = queue.jobs(JobQuery { limit: 1_000, ..JobQuery::default() }).await.unwrap();
    assert_eq!(page.next_cursor, None);
    let mut states: Vec<_> = page.jobs.into_iter().map(|job| (job.queue, job.state)).collect();
    states.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    states
}

fn expected(many: &[JobState]) -> Vec<(String, JobState)> {
    let kept = [("kept".to_owned(), JobState::Ready), ("kept".to_owned(), JobState::Ready)];
    kept.into_iter().chain(many.iter().map(|state| ("many".to_owned(), *state))).collect()
}

pub async fn what_waits_is_purged_and_nothing_else(queue: &Harness) {
    two_in_each_state(queue).await;
    assert_eq!(queue.purge(all_of("many")).await.unwrap(), removed(6));
    let (running, dead) = (JobState::Running, JobState::Dead);
    assert_eq!(states(queue).await, expected(&[running, running, dead, dead]));
    assert_eq!(queue.purge(all_of("many")).await.unwrap(), removed(0));
    // A queue that was purged works as before.
    let id = queue.put(NewJob::new("mail").queue("many")).await;
    let job = queue.take("many").await;
    assert_eq!(job.id, id);
    queue.ack(job.token).await.unwrap();
}

pub async fn a_purge_takes_only_the_state_and_the_priority_it_names(queue: &Harness) {
    two_in_each_state(queue).await;
    let of = |state, priority| Purge { states: vec![state], priority, ..all_of("many") };
    let (high, low) = (Some(Priority::High), Some(Priority::Low));
    assert_eq!(queue.purge(of(JobState::Ready, Some(Priority::Bulk))).await.unwrap(), removed(0));
    assert_eq!(queue.purge(of(JobState::Dead, high)).await.unwrap(), removed(1));
    assert_eq!(queue.purge(of(JobState::Scheduled, low)).await.unwrap(), removed(1));
    assert_eq!(queue.purge(of(JobState::Retrying, None)).await.unwrap(), removed(2));
    assert_eq!(queue.purge(of(JobState::Ready, high)).await.unwrap(), removed(1));
    let left = [
        JobState::Scheduled,
        JobState::Ready,
        JobState::Running,
        JobState::Running,
        JobState::Dead,
    ];
    assert_eq!(states(queue).await, expected(&left));
    let both = vec![JobState::Ready, JobState::Dead];
    assert_eq!(queue.purge(Purge { states: both, ..all_of("many") }).await.unwrap(), removed(2));
    let text = queue.metrics().await;
    for line in [
        r#"pulk_jobs_cancelled_total{priority="high",queue="many"} 2"#,
        r#"pulk_jobs_cancelled_total{priority="low",queue="many"} 3"#,
        r#"pulk_dlq_removed_total{queue="many",reason="purged"} 2"#,
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
}

pub async fn running_jobs_are_cancelled_only_if_asked_for(queue: &Harness) {
    queue.enqueue_many(vec![NewJob::new("mail"); 5]).await.unwrap();
    let jobs = queue.claim(Claim { limit: 3, ..claim_in("default") }).await.unwrap().jobs;
    let running = Purge { states: vec![JobState::Running], ..all_of("default") };
    let purged = queue.purge(running.clone()).await.unwrap();
    assert_eq!(purged, Purged { removed: 3, cancelled: 3 });
    assert_eq!(queue.purge(running).await.unwrap(), removed(0));
    assert!(queue.extend(jobs[0].token, None, None).await.unwrap().cancelled);
    for job in &jobs {
        assert!(queue.job(job.id).await.unwrap().running.unwrap().cancelled);
        assert_eq!(queue.ack(job.token).await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(state_of(queue, job.id).await, None);
    }
    assert_eq!(queue.purge(all_of("default")).await.unwrap(), removed(2));
    let line = r#"pulk_jobs_cancelled_total{priority="default",queue="default"} 5"#;
    let text = queue.metrics().await;
    assert!(text.lines().any(|found| found == line), "no {line} in {text}");
}

pub async fn a_backlog_is_purged_while_the_queue_is_used(queue: &Harness) {
    for _ in 0..3 {
        queue.enqueue_many(vec![NewJob::new("mail"); 3_000]).await.unwrap();
    }
    queue
        .enqueue_many(vec![NewJob::new("mail").run_at(RunAt::DelayMs(60_000)); 900])
        .await
        .unwrap();
    let held = queue.take("default").await;
    // Portions of the purge and these calls take turns; nothing of either is lost.
    let others = async {
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(queue.put(NewJob::new("later").queue("other")).await);
        }
        ids
    };
    let (purged, others) = tokio::join!(queue.purge(all_of("default")), others);
    assert_eq!(purged.unwrap(), removed(9_899));
    queue.ack(held.token).await.unwrap();
    let counts = queue.queue("default").await.unwrap().counts;
    assert!(counts.iter().all(|(_, counts)| *counts == Default::default()), "{counts:?}");
    let left = queue.jobs(JobQuery::default()).await.unwrap().jobs;
    assert_eq!(left.iter().map(|job| job.id).collect::<Vec<_>>(), others);
}

pub async fn an_unknown_queue_is_not_found(queue: &Harness) {
    assert_eq!(queue.purge(all_of("nobody")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(queue.remove_queue("nobody").await.unwrap_err().kind(), ErrorKind::NotFound);
}

pub async fn an_empty_queue_can_be_removed(queue: &Harness) {
    let name = "odd/name:1";
    let first = queue.put_dead(NewJob::new("mail").queue(name)).await;
    queue.pause(name).await.unwrap();
    assert_eq!(queue.remove_queue(name).await.unwrap_err().kind(), ErrorKind::Conflict);
    queue.cancel(first).await.unwrap();
    assert!(queue.metrics().await.contains(name));
    queue.remove_queue(name).await.unwrap();
    assert_eq!(queue.queue(name).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(queue.queues().await.unwrap(), []);
    assert_eq!(queue.remove_queue(name).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!queue.metrics().await.contains(name), "its series are still told");
    // The next of its name is new: not paused, and told apart from the first.
    let second = queue.put(NewJob::new("mail").queue(name)).await;
    assert_eq!(queue.take(name).await.id, second);
    assert_eq!(state_of(queue, first).await, None);
}

pub async fn a_queue_that_holds_a_job_is_kept(queue: &Harness) {
    let id = queue.enqueue(NewJob::new("mail").run_at(RunAt::DelayMs(200))).await.unwrap().id;
    assert_eq!(queue.remove_queue("default").await.unwrap_err().kind(), ErrorKind::Conflict);
    let job = queue.take("default").await;
    assert_eq!(job.id, id);
    assert_eq!(queue.remove_queue("default").await.unwrap_err().kind(), ErrorKind::Conflict);
    queue.ack(job.token).await.unwrap();
    queue.remove_queue("default").await.unwrap();
}

pub async fn purged_jobs_and_removed_queues_stay_away(queue: &mut Harness) {
    let ids = two_in_each_state(queue).await;
    let states = JobState::ALL.to_vec();
    let purged = queue.purge(Purge { states, ..all_of("many") }).await.unwrap();
    assert_eq!(purged, Purged { removed: 10, cancelled: 2 });
    queue.purge(all_of("kept")).await.unwrap();
    queue.remove_queue("kept").await.unwrap();
    queue.restart().await;
    let left = queue.jobs(JobQuery::default()).await.unwrap().jobs;
    assert!(left.len() == 2 && left.iter().all(|job| job.running.as_ref().unwrap().cancelled));
    assert_eq!(queue.queue("kept").await.unwrap_err().kind(), ErrorKind::NotFound);
    let new = queue.put(NewJob::new("mail").queue("kept")).await;
    assert!(!ids.contains(&new));
    assert_eq!(queue.take("kept").await.id, new);
}
