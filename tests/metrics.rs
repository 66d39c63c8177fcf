//! Every metric of the contract is there, with its labels, a help text and a unit.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use std::collections::BTreeMap;

use node::{Http, Node};
use serde_json::{Value, json};

/// Name, kind and labels of each metric.
const METRICS: [(&str, &str, &[&str]); 43] = [
    ("pulk_build_info", "gauge", &["store", "version"]),
    ("pulk_commit_commands", "histogram", &[]),
    ("pulk_commit_seconds", "histogram", &[]),
    ("pulk_cpu_seconds_total", "counter", &[]),
    ("pulk_dlq_depth", "gauge", &["queue"]),
    ("pulk_enqueue_rejected_total", "counter", &["reason"]),
    ("pulk_http_request_duration_seconds", "histogram", &["method", "route", "status"]),
    ("pulk_job_duration_seconds", "histogram", &["priority", "queue"]),
    ("pulk_job_wait_seconds", "histogram", &["priority", "queue"]),
    ("pulk_jobs_cancelled_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_completed_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_dead_total", "counter", &["priority", "queue", "reason"]),
    ("pulk_jobs_enqueued_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_expired_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_failed_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_in_lines", "gauge", &["queue"]),
    ("pulk_jobs_interrupted_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_retried_total", "counter", &["priority", "queue"]),
    ("pulk_jobs_retrying", "gauge", &["queue"]),
    ("pulk_jobs_running", "gauge", &["queue"]),
    ("pulk_jobs_scheduled", "gauge", &["queue"]),
    ("pulk_jobs_started_total", "counter", &["priority", "queue"]),
    ("pulk_push_breaker_open", "gauge", &["target"]),
    ("pulk_push_duration_seconds", "histogram", &["target"]),
    ("pulk_push_requests_total", "counter", &["outcome", "target"]),
    ("pulk_queue_concurrency_limit", "gauge", &["queue"]),
    ("pulk_queue_depth", "gauge", &["priority", "queue"]),
    ("pulk_queue_limited", "gauge", &["limit", "queue"]),
    ("pulk_queue_oldest_age_seconds", "gauge", &["priority", "queue"]),
    ("pulk_queue_paused", "gauge", &["queue"]),
    ("pulk_queue_rate_limit_per_second", "gauge", &["queue"]),
    ("pulk_records_damaged_total", "counter", &[]),
    ("pulk_schedule_late_seconds", "histogram", &[]),
    ("pulk_schedule_runs_total", "counter", &["schedule"]),
    ("pulk_schedule_skipped_total", "counter", &["reason", "schedule"]),
    ("pulk_schedules", "gauge", &[]),
    ("pulk_store_disk_bytes", "gauge", &[]),
    ("pulk_store_live_bytes", "gauge", &[]),
    ("pulk_worker_slots", "gauge", &["state"]),
    ("pulk_written_bytes_total", "counter", &[]),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
];

/// What a scrape says of one metric.
#[derive(Debug, Default)]
struct Metric {
    help: String,
    kind: String,
    labels: Vec<String>,
    value: Option<f64>,
}

fn scraped(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::<String, Metric>::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                metrics.entry(name.to_owned()).or_default().help = help.to_owned()
            }
            ["#", "TYPE", name, kind] => {
                metrics.entry(name.to_owned()).or_default().kind = kind.to_owned()
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let of_histogram = ["_bucket", "_sum", "_count"]
                    .iter()
                    .filter_map(|end| name.strip_suffix(end))
                    .find(|base| metrics.contains_key(*base));
                let metric = metrics.get_mut(of_histogram.unwrap_or(name)).unwrap();
                let mut names: Vec<String> = labels
                    .split("\",")
                    .filter_map(|label| Some(label.split_once('=')?.0.trim().to_owned()))
                    .filter(|label| label != "le")
                    .collect();
                names.sort();
                metric.labels = names;
                metric.value = value.parse().ok();
            }
        }
    }
    metrics
}

async fn post(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, body.to_string()).await;
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

#[tokio::test]
async fn every_metric_is_there_with_its_labels_help_and_unit() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pulk.toml");
    std::fs::write(&file, "[[push]]\nurl = 'http://127.0.0.1:1/'\nkinds = ['pushed']").unwrap();
    let node = Node::start_with(["--store", "memory", "--config", file.to_str().unwrap()]).await;
    let http = &node.http;
    let limits = json!({"concurrency": 5, "rate": {"jobs": 5, "per_ms": 1_000}});
    http.put("/v1/queues/default/limits", limits.to_string()).await;
    post(http, "/v1/jobs", json!({"kind": "pushed"})).await;
    let pushed =
        async { while !http.get("/metrics").await.text().contains("pulk_push_requests_total{") {} };
    node::within("a push", pushed).await;
    post(http, "/v1/jobs", json!({"kind": "k"})).await;
    post(http, "/v1/jobs", json!({"kind": "k", "priority": "no"})).await;
    let token =
        post(http, "/v1/claim", json!({"kinds": ["k"]})).await["jobs"][0]["lease"]["token"].take();
    let id = token.as_str().unwrap().split('-').next().unwrap().to_owned();
    post(http, &format!("/v1/jobs/{id}/ack"), json!({"token": token})).await;
    let schedule = json!({"cron": "@yearly", "job": {"kind": "k"}}).to_string();
    let put = http.call(reqwest::Method::PUT, "/v1/schedules/s", schedule).await.unwrap();
    assert_eq!(put.status, 201);
    let text = http.get("/q/metrics").await.text();
    assert_eq!(http.get("/metrics").await.status, 200);
    let metrics = scraped(&text);
    for (name, kind, labels) in METRICS {
        let metric = metrics.get(name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        assert_eq!(
            (metric.kind.as_str(), &metric.labels[..]),
            (kind, &labels.map_names()[..]),
            "{name}"
        );
        assert!(metric.value.is_some(), "{name}: {metric:?}");
    }
    for (name, metric) in &metrics {
        assert!(metric.help.len() > 10, "{name}: {metric:?}");
        let ours = name.starts_with("pulk_");
        assert!(!ours || metric.help.ends_with('.'), "{name}: {metric:?}");
        // A duration or a size says its unit in its name.
        let unit =
            ["_seconds", "_bytes", "_total", "_info"].iter().any(|unit| name.ends_with(unit));
        let counts = metric.help.contains("obs") || metric.help.contains("Dead letters");
        let switch = metric.help.starts_with("1 when");
        assert!(!ours || unit || counts || switch || name == "pulk_commit_commands", "{name}");
    }
}

trait MapNames {
    fn map_names(&self) -> Vec<String>;
}

impl MapNames for &[&str] {
    fn map_names(&self) -> Vec<String> {
        self.iter().map(|name| (*name).to_owned()).collect()
    }
}
