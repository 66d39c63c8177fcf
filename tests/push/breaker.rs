//! A target that is away: it is left alone, and no job pays for it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::node::{Node, serve};
use crate::target::{Refusing, Target};
use crate::{enqueue, job_in, metric, pushing, scheduler_where};

const OPEN: &str = r#"pulk_push_breaker_open{target="default"}"#;
const UNREACHABLE: &str = r#"pulk_push_requests_total{outcome="unreachable",target="default"}"#;
const DEAD: &str = r#"pulk_dlq_depth{queue="default"}"#;

#[tokio::test]
async fn a_target_that_is_away_for_long_costs_one_attempt_of_one_job() {
    let away = Refusing::new();
    // The second attempt would be the last: were probes charged, jobs would die.
    let arguments = ["--concurrency=4", "--push-breaker-max-ms=20", "--retry-base-ms=0"];
    let node = pushing(&away.url(), &arguments).await;
    let jobs: Vec<_> = (0..20).map(|_| json!({"kind": "k", "max_attempts": 2})).collect();
    node.http.post("/v1/jobs/batch", json!({"jobs": jobs}).to_string()).await;
    while metric(&node.http, UNREACHABLE).await < 60.0 {
        assert_eq!(metric(&node.http, DEAD).await, 0.0, "a probe was charged");
    }
    assert_eq!(metric(&node.http, OPEN).await, 1.0);
    // The node itself is well, and takes jobs.
    assert_eq!(node.http.get("/q/health/ready").await.status, 200);

    let mut target = away.listen();
    let mut attempts = BTreeMap::new();
    for _ in 0..20 {
        let delivery = target.next().await;
        *attempts.entry(delivery.header("ce-attempt").to_owned()).or_insert(0) += 1;
        delivery.answer(200);
    }
    assert_eq!(attempts, BTreeMap::from([("1".to_owned(), 19), ("2".to_owned(), 1)]));
    scheduler_where(&node.http, |data| data["targets"][0]["state"] == "closed").await;
    assert_eq!(metric(&node.http, OPEN).await, 0.0);
    let queue = node.http.get("/v1/queues/default").await.json();
    for priority in queue["counts"].as_object().unwrap().values() {
        assert_eq!(priority, 0, "{queue}");
    }
}

#[tokio::test]
async fn failures_in_a_row_open_it_and_one_probe_closes_it() {
    let mut target = Target::start();
    let arguments = [
        "--concurrency=4",
        "--push-breaker-failures=3",
        "--push-breaker-max-ms=50",
        "--retry-base-ms=3600000",
    ];
    let mut node = pushing(&target.url(), &arguments).await;
    for _ in 0..3 {
        enqueue(&node.http, json!({"kind": "k"})).await;
        target.next().await.answer(500);
    }
    node.line("A push target does not work").await;
    let waiting: Vec<_> = (0..6).map(|_| json!({"kind": "k"})).collect();
    node.http.post("/v1/jobs/batch", json!({"jobs": waiting}).to_string()).await;
    // The probe fails, and the next one.
    for status in [500, 503, 200] {
        let probe = target.next().await;
        let half_open = |data: &serde_json::Value| {
            let target = &data["targets"][0];
            target["state"] == "half_open" && target["in_flight"] != 0
        };
        scheduler_where(&node.http, half_open).await;
        probe.answer(status);
    }
    node.line("A push target works again").await;
    for _ in 0..3 {
        target.next().await.answer(200);
    }
    scheduler_where(&node.http, |data| data["targets"][0]["state"] == "closed").await;
}

#[tokio::test]
async fn one_dead_target_does_not_hold_up_another() {
    let (away, mut mails) = (Refusing::new(), Target::start());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pulk.toml");
    let text = format!(
        "[[push]]\nname = 'mails'\nurl = '{}'\nkinds = ['mail.welcome']\n\
         [[push]]\nname = 'rest'\nurl = '{}'\nkinds = ['scale']\n",
        mails.url(),
        away.url()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = serve(["--store", "memory", "--push-breaker-max-ms", "60000"]);
    command.arg("--config").arg(&file).args(["--concurrency", "2", "--retry-base-ms", "0"]);
    let node = Node::spawn(command).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(enqueue(&node.http, json!({"kind": "scale", "max_attempts": 2})).await);
    }
    let none = enqueue(&node.http, json!({"kind": "nobody"})).await;
    for _ in 0..8 {
        let id = enqueue(&node.http, json!({"kind": "mail.welcome"})).await;
        let delivery = mails.next().await;
        assert_eq!(delivery.id(), id);
        delivery.answer(200);
        job_in(&node.http, &id, "gone").await;
    }
    let check = scheduler_where(&node.http, |data| data["targets"][1]["state"] == "open").await;
    assert_eq!(check["targets"][0]["state"], "closed");
    assert_eq!(check["targets"][1]["name"], "rest");
    for id in &waiting {
        let job = node.http.get(&format!("/v1/jobs/{id}")).await.json();
        assert_ne!(job["state"], "dead", "{job}");
        assert_eq!(job["interruptions"], 0);
    }
    // No target takes it, so it is left to other workers.
    let claimed = node.http.post("/v1/claim", r#"{"kinds":["nobody"]}"#).await.json();
    assert_eq!(claimed["jobs"][0]["id"], json!(none));
}
