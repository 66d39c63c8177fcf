//! Alerts, recording rules and dashboard name metrics that the server has.

use std::collections::BTreeSet;
use std::fs;

use reqwest::Method;

use crate::node::Node;

const FILES: [&str; 4] =
    ["alerts.yaml", "storefront-names.yaml", "background-job-health.json", "tests/alerts.yaml"];

/// The words of a text that are names of our metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("pulk_") || word.starts_with("process_"));
    // pulk_records_damaged_total, not the words of a sentence.
    ours.filter(|word| word.matches('_').count() >= 2).collect()
}

/// The names of all series of a node that has had jobs, a push target and a schedule.
async fn served() -> BTreeSet<String> {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("pulk.toml");
    let push = "[[push]]\nname = \"app\"\nurl = \"http://127.0.0.1:9/\"\nqueues = [\"pushed\"]\n";
    fs::write(&config, push).unwrap();
    let (config, queue) = (config.to_str().unwrap(), data.path().join("queue"));
    let queue = queue.to_str().unwrap();
    let node = Node::start_with(["--config", config, "--data-dir", queue]).await;
    let http = &node.http;
    let nightly = r#"{"cron":"0 3 * * *","time_zone":"UTC","job":{"kind":"a"}}"#;
    let made = http.call(Method::PUT, "/v1/schedules/nightly", nightly).await.unwrap();
    assert_eq!(made.status, 201);
    assert_eq!(http.post("/v1/jobs", r#"{"kind":"a"}"#).await.status, 201);
    assert_eq!(http.post("/v1/jobs", r#"{"kind":""}"#).await.status, 400);
    let claimed = http.post("/v1/claim", "{}").await.json();
    let job = &claimed["jobs"][0];
    let (id, token) = (job["id"].as_str().unwrap(), &job["lease"]["token"]);
    let ack = serde_json::json!({ "token": token }).to_string();
    assert_eq!(http.post(&format!("/v1/jobs/{id}/ack"), ack).await.status, 204);
    let text = http.get("/q/metrics").await.text();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_metric_that_is_looked_at_is_there() {
    let served = served().await;
    assert!(served.contains("pulk_queue_depth"), "{served:?}");
    assert!(!served.contains("pulk_queue_deepth"), "a name that is not there is noticed");
    let mut seen = 0;
    for file in FILES {
        let path = format!("{}/k8s/monitoring/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        for name in named(&text) {
            assert!(served.contains(name), "{file}: the server has no {name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// Metrics of others: who is named here must be told in docs/OPERATIONS.md.
#[test]
fn metrics_of_others_are_said_to_be_needed() {
    let root = env!("CARGO_MANIFEST_DIR");
    let runbook = fs::read_to_string(format!("{root}/docs/OPERATIONS.md")).unwrap();
    let mut others = BTreeSet::new();
    for file in FILES {
        let text = fs::read_to_string(format!("{root}/k8s/monitoring/{file}")).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let foreign = words.filter(|it| it.starts_with("kube_") || it.starts_with("container_"));
        others.extend(foreign.map(str::to_owned));
    }
    assert!(others.len() >= 5, "{others:?}");
    for (prefix, exporter) in [("kube_", "kube-state-metrics"), ("container_", "cAdvisor")] {
        assert!(others.iter().any(|name| name.starts_with(prefix)));
        assert!(runbook.contains(exporter), "docs/OPERATIONS.md does not name {exporter}");
    }
}
