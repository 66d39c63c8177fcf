//! Jobs listed in pages, in the order of the queue.

use std::collections::BTreeSet;

use pulk::queue::{Claim, JobPage, JobQuery};
use pulk::{ErrorKind, JobId, JobState, NewJob, Payload, Priority, RunAt};

use crate::door::claim_in;
use crate::harness::Harness;

fn all() -> JobQuery {
    JobQuery { limit: 1_000, ..JobQuery::default() }
}

async fn ids(queue: &Harness, query: JobQuery) -> Vec<JobId> {
    let page = queue.jobs(query).await.unwrap();
    assert_eq!(page.next_cursor, None);
    page.jobs.into_iter().map(|job| job.id).collect()
}

/// A job in each state, and their ids in the order of the list.
async fn one_in_each_state(queue: &Harness) -> Vec<(JobId, JobState)> {
    let dead = queue.put_dead(NewJob::new("mail").queue("other")).await;
    let scheduled = NewJob::new("print").run_at(RunAt::DelayMs(60_000));
    let scheduled = queue.enqueue(scheduled).await.unwrap().id;
    let retrying = queue.put(NewJob::new("mail").priority(Priority::Low)).await;
    let job = queue.take("default").await;
    queue.fail_once(&job, Some(3_600_000)).await;
    let running = queue.put(NewJob::new("mail")).await;
    queue.take("default").await;
    let ready = queue.put(NewJob::new("print")).await;
    let urgent = queue.put(NewJob::new("mail").priority(Priority::High)).await;
    vec![
        (urgent, JobState::Ready),
        (running, JobState::Running),
        (ready, JobState::Ready),
        (scheduled, JobState::Scheduled),
        (retrying, JobState::Retrying),
        (dead, JobState::Dead),
    ]
}

pub async fn jobs_are_listed_in_the_order_of_the_queue(queue: &Harness) {
    assert_eq!(queue.jobs(JobQuery::default()).await.unwrap(), JobPage::default());
    let expected = one_in_each_state(queue).await;
    let page = queue.jobs(JobQuery::default()).await.unwrap();
    let found: Vec<_> = page.jobs.iter().map(|job| (job.id, job.state)).collect();
    assert_eq!((found, page.next_cursor), (expected, None));
    for job in page.jobs {
        assert_eq!(queue.job(job.id).await.unwrap(), job);
    }
}

pub async fn every_filter_names_what_it_gives(queue: &Harness) {
    let jobs = one_in_each_state(queue).await;
    let picked = |places: &[usize]| places.iter().map(|place| jobs[*place].0).collect::<Vec<_>>();
    for (query, places) in [
        (JobQuery { states: vec![JobState::Ready], ..all() }, &[0, 2][..]),
        (JobQuery { states: vec![JobState::Running], ..all() }, &[1]),
        (JobQuery { states: vec![JobState::Scheduled], ..all() }, &[3]),
        (JobQuery { states: vec![JobState::Retrying], ..all() }, &[4]),
        (JobQuery { states: vec![JobState::Dead], ..all() }, &[5]),
        (JobQuery { states: vec![JobState::Dead, JobState::Running], ..all() }, &[1, 5]),
        (JobQuery { priority: Some(Priority::High), ..all() }, &[0]),
        (JobQuery { priority: Some(Priority::Low), ..all() }, &[4]),
        (JobQuery { priority: Some(Priority::Bulk), ..all() }, &[]),
        (JobQuery { kind: Some("print".into()), ..all() }, &[2, 3]),
        (JobQuery { kind: Some("nothing".into()), ..all() }, &[]),
        (JobQuery { queue: Some("other".into()), ..all() }, &[5]),
        (JobQuery { queue: Some("default".into()), ..all() }, &[0, 1, 2, 3, 4]),
        (JobQuery { queue: Some("nobody".into()), ..all() }, &[]),
        (
            JobQuery {
                queue: Some("default".into()),
                kind: Some("mail".into()),
                priority: Some(Priority::Default),
                ..all()
            },
            &[1],
        ),
    ] {
        assert_eq!(ids(queue, query.clone()).await, picked(places), "{query:?}");
    }
}

/// What does not move is seen once, whatever becomes of the others meanwhile.
pub async fn pages_have_no_gap_and_no_double_while_others_move(queue: &Harness) {
    queue.enqueue_many(vec![NewJob::new("moves"); 60]).await.unwrap();
    let stays = NewJob::new("stays").priority(Priority::Low);
    let mut expected = queue.enqueue_many(vec![stays; 20]).await.unwrap();
    let later = NewJob::new("stays").run_at(RunAt::DelayMs(600_000));
    expected.extend(queue.enqueue_many(vec![later; 20]).await.unwrap());
    let mut seen = Vec::new();
    let mut query = JobQuery { limit: 7, ..JobQuery::default() };
    let mut dead = Vec::new();
    for page_number in 0.. {
        let page = queue.jobs(query.clone()).await.unwrap();
        seen.extend(page.jobs.into_iter().filter(|job| job.kind == "stays").map(|job| job.id));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
        // Every job seen or to be seen may move: gone, retrying, dead, back in its lane.
        let claim = Claim { limit: 4, kinds: vec!["moves".into()], ..Claim::default() };
        let jobs = queue.claim(claim).await.unwrap().jobs;
        for (number, job) in jobs.into_iter().enumerate() {
            match number {
                0 => queue.ack(job.token).await.unwrap(),
                1 => drop(queue.fail_once(&job, Some(1)).await),
                2 => {
                    let (token, error) = (job.token, "no".to_owned());
                    let failure =
                        pulk::queue::Failure { token, error, retry: false, retry_in_ms: None };
                    queue.fail(failure).await.unwrap();
                    dead.push(job.id);
                }
                _ => drop(queue.release(job.token, None).await.unwrap()),
            }
        }
        if page_number % 3 == 2
            && let Some(id) = dead.pop()
        {
            queue.replay(id).await.unwrap();
        }
    }
    assert_eq!(seen, expected);
}

pub async fn a_page_holds_no_more_than_its_limit(queue: &Harness) {
    let expected = queue.enqueue_many(vec![NewJob::new("mail"); 50]).await.unwrap();
    for limit in [1, 7, 49, 50, 51] {
        let (mut query, mut found) = (JobQuery { limit, ..all() }, Vec::new());
        loop {
            let page = queue.jobs(query.clone()).await.unwrap();
            assert!(page.jobs.len() <= limit);
            found.extend(page.jobs.into_iter().map(|job| job.id));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "in pages of {limit}");
    }
    assert_eq!(queue.jobs(JobQuery::default()).await.unwrap().jobs.len(), 50);
}

pub async fn a_page_of_large_payloads_is_short(queue: &Harness) {
    let job = NewJob::new("mail").payload(Payload::Binary(vec![7; 1 << 20].into()));
    for _ in 0..6 {
        queue.put(job.clone()).await;
    }
    let first = queue.jobs(all()).await.unwrap();
    assert_eq!(first.jobs.len(), 4);
    let second = queue.jobs(JobQuery { cursor: first.next_cursor, ..all() }).await.unwrap();
    assert_eq!((second.jobs.len(), second.next_cursor), (2, None));
    let ids: BTreeSet<JobId> = first.jobs.iter().chain(&second.jobs).map(|job| job.id).collect();
    assert_eq!(ids.len(), 6);
    assert!(first.jobs.iter().all(|listed| listed.payload == job.payload));
}

pub async fn a_bad_query_names_the_field(queue: &Harness) {
    let refused = async |query: JobQuery| {
        let refused = queue.jobs(query).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        refused.field().unwrap().to_owned()
    };
    assert_eq!(refused(JobQuery { limit: 0, ..all() }).await, "limit");
    assert_eq!(refused(JobQuery { limit: 1_001, ..all() }).await, "limit");
    let nobody = "0".repeat(26);
    for cursor in [
        "nonsense".to_owned(),
        "lane.low.1".to_owned(),
        "lane.low.1.-1".to_owned(),
        format!("timer.x.{nobody}"),
        format!("dead.1.1.{nobody}0"),
    ] {
        assert_eq!(refused(JobQuery { cursor: Some(cursor), ..all() }).await, "cursor");
    }
    // One that no page gave, but that a page could have given, does no harm.
    queue.enqueue_many(vec![NewJob::new("mail"); 3]).await.unwrap();
    for cursor in ["lane.critical.0.0".to_owned(), format!("timer.0.{nobody}")] {
        let page = queue.jobs(JobQuery { cursor: Some(cursor.clone()), ..all() }).await.unwrap();
        assert_eq!(page.jobs.len(), if cursor.starts_with("lane") { 3 } else { 0 });
    }
    assert_eq!(queue.claim(Claim { limit: 5, ..claim_in("default") }).await.unwrap().jobs.len(), 3);
}
