//! Claim: who gets what, in which order.

use std::collections::{BTreeMap, HashSet};

use pulk::queue::{Claim, ClaimedJob};
use pulk::{ErrorKind, JobId, NewJob, Payload, Priority};
use tokio::task::JoinSet;

use crate::door::{Door, claim_as, claim_in};
use crate::harness::Harness;
use crate::now;

async fn claim_all(queue: &Door, limit: usize) -> Vec<ClaimedJob> {
    queue.claim(Claim { limit, ..Claim::default() }).await.unwrap().jobs
}

fn ids(jobs: &[ClaimedJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

pub async fn within_a_priority_the_oldest_comes_first(queue: &Harness) {
    let mut put = Vec::new();
    for _ in 0..10 {
        put.push(queue.put(NewJob::new("mail")).await);
    }
    put.extend(queue.enqueue_many(vec![NewJob::new("mail"); 10]).await.unwrap());
    let mut got = Vec::new();
    for limit in [1, 1, 7, 3, 8] {
        got.extend(ids(&claim_all(queue, limit).await));
    }
    assert_eq!(got, put);
}

pub async fn a_more_urgent_job_always_comes_first(queue: &Harness) {
    let mut put = BTreeMap::<Priority, Vec<JobId>>::new();
    for priority in Priority::ALL.into_iter().rev().chain(Priority::ALL) {
        let job = NewJob::new("mail").priority(priority);
        put.entry(priority).or_default().push(queue.put(job).await);
    }
    let expected: Vec<JobId> = put.into_values().flatten().collect();
    let mut got = Vec::new();
    for limit in [1, 2, 3, 4] {
        got.extend(ids(&claim_all(queue, limit).await));
    }
    assert_eq!(got, expected);

    queue.put(NewJob::new("mail").priority(Priority::Bulk)).await;
    queue.put(NewJob::new("mail").queue("other").priority(Priority::Critical)).await;
    let got: Vec<Priority> = claim_all(queue, 2).await.iter().map(|job| job.priority).collect();
    assert_eq!(got, [Priority::Critical, Priority::Bulk]);
}

pub async fn a_wanted_kind_is_found_behind_a_long_line_of_others(queue: &Harness) {
    // More chunks than one look goes through, and unwanted jobs at the next priority as well.
    let other = NewJob::new("other").payload(Payload::Binary(vec![7; 8_000].into()));
    queue.enqueue_many(vec![other.clone(); 300]).await.unwrap();
    queue.put(other.priority(Priority::Low)).await;
    let wanted = queue.put(NewJob::new("wanted").priority(Priority::Bulk)).await;
    let claim = Claim { kinds: vec!["wanted".into()], ..Claim::default() };
    assert_eq!(ids(&queue.claim(claim).await.unwrap().jobs), [wanted]);
}

pub async fn queues_of_one_priority_take_turns(queue: &Harness) {
    for name in ["a", "b", "c"] {
        queue.enqueue_many(vec![NewJob::new("mail").queue(name); 10]).await.unwrap();
    }
    let mut served = BTreeMap::<String, usize>::new();
    for _ in 0..9 {
        *served.entry(claim_all(queue, 1).await.remove(0).queue).or_default() += 1;
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    let mut served = BTreeMap::<String, usize>::new();
    for job in claim_all(queue, 12).await {
        *served.entry(job.queue).or_default() += 1;
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    // What one queue has not, the others give.
    assert_eq!(claim_all(queue, 100).await.len(), 9);
}

pub async fn a_claim_sees_only_what_it_asks_for(queue: &Harness) {
    let low = queue.put(NewJob::new("mail").priority(Priority::Low)).await;
    let other = queue.put(NewJob::new("mail").queue("other")).await;
    let print = queue.put(NewJob::new("print")).await;
    let none = Claim { queues: vec!["nobody".into()], ..Claim::default() };
    assert!(queue.claim(none).await.unwrap().jobs.is_empty());
    let none = Claim { priorities: vec![Priority::High], ..Claim::default() };
    assert!(queue.claim(none).await.unwrap().jobs.is_empty());
    let none = Claim { kinds: vec!["mai".into(), "MAIL".into()], ..Claim::default() };
    assert!(queue.claim(none).await.unwrap().jobs.is_empty());

    let by_kind = Claim { kinds: vec!["print".into()], limit: 9, ..Claim::default() };
    assert_eq!(ids(&queue.claim(by_kind).await.unwrap().jobs), [print]);
    let by_queue = Claim { queues: vec!["other".into()], limit: 9, ..Claim::default() };
    assert_eq!(ids(&queue.claim(by_queue).await.unwrap().jobs), [other]);
    let priorities = vec![Priority::Bulk, Priority::Low];
    let by_priority = Claim { priorities, limit: 9, ..Claim::default() };
    assert_eq!(ids(&queue.claim(by_priority).await.unwrap().jobs), [low]);
}

pub async fn filters_hold_together(queue: &Harness) {
    let mut wanted = Vec::new();
    for number in 0..60 {
        let (name, kind) = (["a", "b", "c"][number % 3], ["x", "y"][number % 2]);
        let priority = Priority::ALL[number % 5];
        let job = NewJob::new(kind).queue(name).priority(priority);
        let id = queue.put(job).await;
        if name != "b" && kind == "y" && priority >= Priority::Default {
            wanted.push(id);
        }
    }
    let claim = Claim {
        queues: vec!["c".into(), "a".into(), "nobody".into()],
        kinds: vec!["y".into(), "z".into()],
        priorities: vec![Priority::Default, Priority::Low, Priority::Bulk],
        limit: 2,
        ..Claim::default()
    };
    let mut got = Vec::new();
    loop {
        let jobs = queue.claim(claim.clone()).await.unwrap().jobs;
        if jobs.is_empty() {
            break;
        }
        got.extend(ids(&jobs));
    }
    got.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    assert_eq!(claim_all(queue, 100).await.len(), 60 - wanted.len());
}

pub async fn a_hundred_jobs_in_one_claim(queue: &Harness) {
    let put = queue.enqueue_many(vec![NewJob::new("mail"); 150]).await.unwrap();
    let claim = Claim { limit: 100, ..claim_as("default", "anna") };
    let first = queue.claim(claim.clone()).await.unwrap().jobs;
    assert_eq!(ids(&first), put[..100]);
    let tokens: HashSet<_> = first.iter().map(|job| job.token).collect();
    assert_eq!(tokens.len(), 100);
    assert_eq!(ids(&queue.claim(claim).await.unwrap().jobs), put[100..]);
    queue.assert_none_ready().await;
}

pub async fn no_job_goes_to_two_workers(queue: &Harness) {
    let put = queue.enqueue_many(vec![NewJob::new("mail"); 200]).await.unwrap();
    let mut workers = JoinSet::new();
    for _ in 0..10 {
        let door: Door = (**queue).clone();
        workers.spawn(async move {
            let mut got = Vec::new();
            loop {
                let jobs = claim_all(&door, 7).await;
                if jobs.is_empty() {
                    return got;
                }
                got.extend(ids(&jobs));
            }
        });
    }
    let mut got: Vec<JobId> = workers.join_all().await.into_iter().flatten().collect();
    got.sort_unstable();
    assert!(put.is_sorted() && got == put);
}

pub async fn a_claim_that_waits_in_vain_gets_an_empty_list(queue: &Harness) {
    let before = now();
    assert!(queue.claim(Claim { wait_ms: 50, ..Claim::default() }).await.unwrap().jobs.is_empty());
    assert!(now() >= before.plus_ms(50));
}

pub async fn a_claim_beyond_its_limits_names_the_field(queue: &Harness) {
    queue.put(NewJob::new("mail")).await;
    let claim = Claim::default;
    for (claim, field) in [
        (Claim { limit: 0, ..claim() }, "limit"),
        (Claim { limit: 1_001, ..claim() }, "limit"),
        (Claim { wait_ms: 60_001, ..claim() }, "wait_ms"),
        (Claim { lease_ms: 0, ..claim() }, "lease_ms"),
        (Claim { lease_ms: 24 * 3_600_000 + 1, ..claim() }, "lease_ms"),
        (Claim { worker: Some("w".repeat(65)), ..claim() }, "worker"),
        (Claim { queues: vec!["q".into(); 1_001], ..claim() }, "queues"),
        (Claim { kinds: vec!["k".into(); 1_001], ..claim() }, "kinds"),
    ] {
        let refused = queue.claim(claim).await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some(field)));
    }
    assert_eq!(claim_all(queue, 1_000).await.len(), 1);
}

pub async fn a_claimed_job_is_what_was_enqueued(queue: &Harness) {
    let job = NewJob {
        max_attempts: Some(9),
        timeout_ms: Some(60_000),
        headers: [("trace".to_owned(), "ä b".to_owned())].into(),
        ..NewJob::new("mail.welcome")
            .queue("mails")
            .priority(Priority::High)
            .payload(Payload::Json("{\"to\": \"ann\"}".into()))
    };
    let id = queue.put(job.clone()).await;
    let before = now();
    let mut claim = claim_in("mails");
    claim.lease_ms = 20_000;
    let got = queue.take_with(claim).await;
    assert_eq!((got.id, got.token.job()), (id, id));
    assert_eq!((got.queue.as_str(), got.kind.as_str()), ("mails", "mail.welcome"));
    assert_eq!((got.priority, got.payload), (Priority::High, job.payload));
    assert_eq!((got.headers, got.timeout_ms), (job.headers, job.timeout_ms));
    assert_eq!((got.attempt, got.max_attempts), (1, 9));
    assert!(before.plus_ms(20_000) <= got.expires_at && got.expires_at <= now().plus_ms(20_000));
}
