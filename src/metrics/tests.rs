use super::queues::OTHER;
use super::*;
use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, Removal};
use crate::job::JobId;
use crate::priority::{PerPriority, Priority};
use crate::queue::{
    Happened, Limited, Limits, QueueView, Rate, ReplayCounts, ReplayState, StateCounts,
};

use crate::store::DiskSpace;

const QUEUES_MAX: usize = 20;

fn snapshot(queues: Vec<QueueView>) -> Snapshot {
    Snapshot {
        now: Timestamp::from_ms(10_000),
        queues,
        live_bytes: 11,
        disk_bytes: 22,
        disk: Some(DiskSpace {
            total_bytes: 400,
            free_bytes: 44,
            reserve_bytes: 66,
            room_bytes: 33,
        }),
        damaged_records: 3,
        schedules: 2,
    }
}

fn view(name: &str) -> QueueView {
    let mut counts = PerPriority::<StateCounts>::default();
    counts[Priority::High] =
        StateCounts { scheduled: 1, ready: 2, running: 3, retrying: 4, dead: 5 };
    counts[Priority::Bulk].dead = 1;
    let mut oldest_ready_at = PerPriority::default();
    oldest_ready_at[Priority::High] = Some(Timestamp::from_ms(8_500));
    let rates = PerPriority::default();
    let rate = Some(Rate { jobs: 5, per_ms: 2_000, burst: 7 });
    let limits = Limits { concurrency: Some(3), rate, concurrency_per_key: Some(4) };
    let (name, limited) = (name.to_owned(), Some(Limited::Concurrency));
    let mut in_lines = PerPriority::default();
    in_lines[Priority::High] = 1;
    QueueView { name, paused: true, limits, limited, counts, in_lines, oldest_ready_at, rates }
}

fn happened(queue: &str, what: Happened) -> Event {
    Event { queue: queue.into(), priority: Some(Priority::High), what }
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line} in:\n{text}");
}

#[test]
fn gauges_come_from_the_snapshot() {
    let metrics = Metrics::new("memory", QUEUES_MAX).unwrap();
    let text = metrics.encode(&snapshot(vec![view("mails")])).unwrap();
    has(&text, r#"pulk_queue_depth{priority="high",queue="mails"} 2"#);
    has(&text, r#"pulk_queue_depth{priority="low",queue="mails"} 0"#);
    has(&text, r#"pulk_queue_oldest_age_seconds{priority="high",queue="mails"} 1.5"#);
    has(&text, r#"pulk_queue_oldest_age_seconds{priority="low",queue="mails"} 0"#);
    has(&text, r#"pulk_jobs_running{queue="mails"} 3"#);
    has(&text, r#"pulk_jobs_scheduled{queue="mails"} 1"#);
    has(&text, r#"pulk_jobs_retrying{queue="mails"} 4"#);
    has(&text, r#"pulk_jobs_in_lines{queue="mails"} 1"#);
    has(&text, r#"pulk_dlq_depth{queue="mails"} 6"#);
    has(&text, r#"pulk_queue_paused{queue="mails"} 1"#);
    has(&text, r#"pulk_queue_limited{limit="concurrency",queue="mails"} 1"#);
    has(&text, r#"pulk_queue_limited{limit="rate",queue="mails"} 0"#);
    has(&text, r#"pulk_queue_concurrency_limit{queue="mails"} 3"#);
    has(&text, r#"pulk_queue_rate_limit_per_second{queue="mails"} 2.5"#);
    has(&text, "pulk_store_disk_bytes 22");
    has(&text, "pulk_disk_free_bytes 44");
    has(&text, "pulk_disk_room_bytes 33");
    has(&text, "pulk_store_live_bytes 11");
    has(&text, "pulk_records_damaged_total 3");
    let version = env!("CARGO_PKG_VERSION");
    has(&text, &format!(r#"pulk_build_info{{store="memory",version="{version}"}} 1"#));
    let text = metrics.encode(&snapshot(vec![])).unwrap();
    assert!(!text.contains("mails"), "a queue that is gone is still told");
}

#[test]
fn events_are_counted() {
    let metrics = Metrics::new("memory", QUEUES_MAX).unwrap();
    let id = JobId::from_u128(1);
    let run_at = Timestamp::from_ms(1);
    let (kind, error) = ("mail".to_owned(), "no route".to_owned());
    for what in [
        Happened::Enqueued { jobs: 7, details: vec![] },
        Happened::Started { wait_ms: 20, detail: None },
        Happened::Completed { duration_ms: 30, detail: None },
        Happened::Failed { id, kind, attempt: 1, error, duration_ms: 70 },
        Happened::Retried { id, run_at },
        Happened::Interrupted { id, interruptions: 1 },
        Happened::Dead { id, kind: "mail".to_owned(), reason: DeadReason::Crashed },
        Happened::Replayed { id },
        Happened::Edited { id },
        Happened::DeadRemoved { jobs: 4, why: Removal::Age },
        Happened::ReplayStarted { id: 1, matched: 9, rate_per_s: 0.5 },
        Happened::ReplayEnded {
            id: 1,
            state: ReplayState::Stopped,
            counts: ReplayCounts { replayed: 3, skipped: 1, died_again: 2, ..Default::default() },
        },
    ] {
        let event = happened("mails", what);
        metrics.observe(&event);
        log_event(&event);
    }
    metrics.committed(0.003, 8);
    metrics.rejected("queue_full");
    let text = metrics.encode(&snapshot(vec![])).unwrap();
    for (name, count) in [
        ("enqueued", 7),
        ("started", 1),
        ("completed", 1),
        ("failed", 1),
        ("retried", 1),
        ("interrupted", 1),
    ] {
        has(&text, &format!(r#"pulk_jobs_{name}_total{{priority="high",queue="mails"}} {count}"#));
    }
    has(&text, r#"pulk_jobs_dead_total{priority="high",queue="mails",reason="crashed"} 1"#);
    has(&text, r#"pulk_jobs_dead_total{priority="high",queue="mails",reason="exhausted"} 0"#);
    has(&text, r#"pulk_dlq_removed_total{queue="mails",reason="age"} 4"#);
    has(&text, r#"pulk_dlq_removed_total{queue="mails",reason="purged"} 0"#);
    has(&text, r#"pulk_job_duration_seconds_count{priority="high",queue="mails"} 2"#);
    has(&text, r#"pulk_job_wait_seconds_sum{priority="high",queue="mails"} 0.02"#);
    has(&text, "pulk_commit_seconds_count 1");
    has(&text, r#"pulk_commit_commands_bucket{le="8"} 1"#);
    has(&text, r#"pulk_enqueue_rejected_total{reason="queue_full"} 1"#);
    #[cfg(target_os = "linux")]
    assert!(text.contains("process_resident_memory_bytes"), "{text}");
}

#[test]
fn processor_time_goes_on_by_less_than_a_second() {
    let metrics = Metrics::new("memory", QUEUES_MAX).unwrap();
    let told = || -> f64 {
        let text = metrics.encode(&snapshot(vec![])).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("pulk_cpu_seconds_total "));
        line.unwrap().parse().unwrap()
    };
    let before = told();
    let sum: u64 = (0..1_000_000).map(std::hint::black_box).sum();
    let spent = told() - before;
    assert!(spent > 0.0, "{sum}");
}

#[test]
fn a_queue_that_is_removed_takes_its_series_along() {
    let metrics = Metrics::new("memory", QUEUES_MAX).unwrap();
    let removed =
        |queue: &str| Event { queue: queue.into(), priority: None, what: Happened::QueueRemoved };
    for queue in ["mails", "prints"] {
        metrics.observe(&happened(queue, Happened::Enqueued { jobs: 4, details: vec![] }));
        metrics.observe(&happened(queue, Happened::Cancelled { id: JobId::from_u128(1) }));
        metrics.observe(&happened(queue, Happened::Purged { jobs: 3 }));
    }
    let text = metrics.encode(&snapshot(vec![])).unwrap();
    has(&text, r#"pulk_jobs_cancelled_total{priority="high",queue="mails"} 4"#);
    for event in [removed("mails"), removed("nobody"), removed("mails")] {
        metrics.observe(&event);
        log_event(&event);
    }
    let text = metrics.encode(&snapshot(vec![])).unwrap();
    assert!(!text.contains("mails"), "{text}");
    has(&text, r#"pulk_jobs_cancelled_total{priority="high",queue="prints"} 4"#);
    // The next of its name begins from nothing, and has its own label again.
    metrics.observe(&happened("mails", Happened::Enqueued { jobs: 1, details: vec![] }));
    let text = metrics.encode(&snapshot(vec![])).unwrap();
    has(&text, r#"pulk_jobs_enqueued_total{priority="high",queue="mails"} 1"#);
}

#[test]
fn the_labels_of_clients_are_bounded() {
    let metrics = Metrics::new("memory", QUEUES_MAX).unwrap();
    metrics.http_request("unmatched", "BREW", "405", 0.1);
    for number in 0..QUEUES_MAX + 5 {
        metrics.observe(&happened(
            &format!("q{number}"),
            Happened::Enqueued { jobs: 1, details: vec![] },
        ));
    }
    let queues = vec![view("q1"), view("new"), view("newer")];
    let text = metrics.encode(&snapshot(queues)).unwrap();
    has(
        &text,
        concat!(
            "pulk_http_request_duration_seconds_count",
            r#"{method="other",route="unmatched",status="405"} 1"#,
        ),
    );
    has(&text, &format!(r#"pulk_jobs_enqueued_total{{priority="high",queue="{OTHER}"}} 5"#));
    has(&text, r#"pulk_jobs_running{queue="q1"} 3"#);
    has(&text, &format!(r#"pulk_jobs_running{{queue="{OTHER}"}} 6"#));
}

#[test]
fn every_metric_has_help_and_a_known_prefix() {
    let metrics = Metrics::new("memory", QUEUES_MAX).unwrap();
    metrics.observe(&happened("mails", Happened::Enqueued { jobs: 1, details: vec![] }));
    let text = metrics.encode(&snapshot(vec![view("mails")])).unwrap();
    let mut types = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        types += 1;
        let name = line.split(' ').next().unwrap();
        assert!(name.starts_with("pulk_") || name.starts_with("process_"), "{name}");
        let help = format!("# HELP {name} ");
        let told = text.lines().find_map(|line| line.strip_prefix(&help));
        assert!(told.is_some_and(|help| !help.is_empty()), "{name} has no help");
    }
    assert!(types > 20, "{types} metrics");
}
