//! Settings: flag before environment before file before default, and every error names the one
//! at fault.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use node::Node;
use program::{pulk, refused};

mod node;
mod program;

/// A file of settings in a directory of its own.
struct File {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl File {
    fn with(text: &str) -> File {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulk.toml");
        fs::write(&path, text).unwrap();
        File { path, _directory: directory }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// The settings printed with these arguments: key to value and source.
#[track_caller]
fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
    let ended = pulk(&[&["serve", "--print-config"], arguments].concat(), environment);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let line = |line: &str| {
        let (key, rest) = line.split_once(" = ").unwrap();
        let (value, source) = rest.rsplit_once(" # ").unwrap();
        (key.to_owned(), (value.to_owned(), source.to_owned()))
    };
    ended.stdout.lines().map(line).collect()
}

#[track_caller]
fn is(settings: &BTreeMap<String, (String, String)>, key: &str, value: &str, source: &str) {
    assert_eq!(settings[key], (value.to_owned(), source.to_owned()), "{key}");
}

#[test]
fn a_flag_stands_above_the_environment_above_the_file_above_the_default() {
    let file = File::with("shard = 1\nmax_queues = 1\nmax_bytes = 1\npriorities = ['low']\n");
    let environment = [("PULK_CONFIG", file.path()), ("PULK_SHARD", "2"), ("PULK_MAX_QUEUES", "2")];
    let settings = printed(&["--shard=3"], &environment);
    is(&settings, "shard", "3", "flag");
    is(&settings, "max_queues", "2", "PULK_MAX_QUEUES");
    is(&settings, "max_bytes", "1", "file");
    is(&settings, "priorities", "[\"low\"]", "file");
    is(&settings, "retry_jitter", "0.5", "default");
    // An empty variable is none; a flag names another file than the variable does.
    let environment = [("PULK_CONFIG", file.path()), ("PULK_SHARD", "")];
    is(&printed(&[], &environment), "shard", "1", "file");
    let other = File::with("shard = 9");
    is(&printed(&["--config", other.path()], &environment), "shard", "9", "file");
    let old_name = [("QUARKUS_SCHEDULER_ENABLED", "off")];
    is(&printed(&[], &old_name), "scheduler_enabled", "false", old_name[0].0);
}

#[test]
fn one_default_stands_for_each_priority_without_a_value_of_its_own() {
    let file = File::with("queue_capacity_default = 7\nqueue_capacity_bulk = 9\n");
    let settings = printed(&["--config", file.path()], &[("JOBS_RETRY_MAX_ATTEMPTS_DEFAULT", "4")]);
    is(&settings, "queue_capacity_critical", "1000", "default");
    is(&settings, "queue_capacity_high", "7", "default, as queue_capacity_default");
    is(&settings, "queue_capacity_low", "7", "default, as queue_capacity_default");
    is(&settings, "queue_capacity_bulk", "9", "file");
    is(&settings, "max_attempts_high", "4", "default, as max_attempts_default");
}

#[test]
fn what_is_printed_can_be_given_back() {
    let odd = ["--data-dir=/a \"b\"\\c", "--retry-jitter=.25", "--shard=007", "--priorities=LOW"];
    let first = printed(&odd, &[("JOBS_QUEUE_CAPACITY_HIGH", "0"), ("PULK_LOG", "pulk=debug")]);
    let text: Vec<String> =
        first.iter().map(|(key, (value, source))| format!("{key} = {value} # {source}")).collect();
    let file = File::with(&text.join("\n"));
    let second = printed(&["--config", file.path()], &[]);
    assert_eq!(first.len(), second.len());
    for (key, (value, _)) in &first {
        is(&second, key, value, "file");
    }
}

#[test]
fn printing_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    printed(&["--data-dir", data_dir.to_str().unwrap(), "--listen", &address], &[]);
    assert!(!data_dir.exists());
}

#[test]
fn a_bad_setting_is_named_by_its_source() {
    refused(&["serve"], &[("JOBS_RETRY_BASE_MS", "soon")], 64, "JOBS_RETRY_BASE_MS");
    refused(&["serve"], &[("JOBS_RETRY_MAX_ATTEMPTS_HIGH", "0")], 64, "ATTEMPTS_HIGH: 0 is not in");
    refused(&["serve"], &[("JOBS_RETRY_JITTER", "2")], 64, "JOBS_RETRY_JITTER");
    refused(&["serve", "--retry-jitter=NaN"], &[], 64, "--retry-jitter");
    refused(&["serve", "--shutdown-grace-ms=0"], &[], 64, "--shutdown-grace-ms");
    refused(&["serve"], &[("PULK_MAX_QUEUES", "0")], 64, "PULK_MAX_QUEUES");
    refused(&["serve"], &[("PULK_LISTEN", "8080")], 64, "PULK_LISTEN");
    refused(&["serve"], &[("PULK_LOG", "a=b=c")], 64, "PULK_LOG");
    let old_name = "QUARKUS_SCHEDULER_ENABLED";
    refused(&["serve"], &[(old_name, "perhaps")], 64, old_name);
    let both = [("JOBS_SCHEDULER_ENABLED", "perhaps"), (old_name, "true")];
    refused(&["serve"], &both, 64, "JOBS_SCHEDULER_ENABLED");
}

#[test]
fn a_bad_file_is_named_with_the_place() {
    let in_file = |text: &str, named: &str| {
        let file = File::with(text);
        let named = format!("{}{named}", file.path());
        refused(&["serve", "--config", file.path()], &[], 64, &named);
    };
    in_file(
        "\nshrad = 1",
        ": shrad (line 2, column 1): there is no such setting; did you mean shard",
    );
    in_file("shard = 'x'", ": shard (line 1, column 1): is a text; use a whole number");
    in_file("max_queues = 0", ": max_queues (line 1, column 1): ");
    in_file("[server]\nlisten = 'x'", ": server (line 1, column 2): ");
    in_file("shard == 1", " (line 1, column 8): ");
    // It is wrong, though a flag stands above it.
    let file = File::with("shard = 65536");
    refused(&["serve", "--config", file.path(), "--shard=1"], &[], 64, "shard (line 1");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_who_asked_for_it() {
    refused(&["serve", "--config", "/nowhere.toml"], &[], 64, "--config: /nowhere.toml");
    refused(&["serve"], &[("PULK_CONFIG", "/nowhere.toml")], 64, "PULK_CONFIG: /nowhere.toml");
    refused(&["serve", "--config", "/"], &[], 64, "--config: /");
    refused(&["serve", "--config", "/dev/zero"], &[], 64, "--config: /dev/zero");
}

#[test]
fn settings_that_contradict_each_other_are_both_named() {
    let base = [("JOBS_RETRY_BASE_MS", "2000")];
    let ended = pulk(&["serve", "--retry-max-ms=1000"], &base);
    assert_eq!(ended.code, 64);
    assert!(ended.stderr.contains("JOBS_RETRY_BASE_MS: 2000"), "{ended:?}");
    assert!(ended.stderr.contains("1000 of --retry-max-ms"), "{ended:?}");
    let file = File::with("retry_max_ms = 10");
    let ended = pulk(&["serve", "--config", file.path()], &[]);
    assert!(ended.stderr.contains("--retry-base-ms (the default): 1000"), "{ended:?}");
    assert!(ended.stderr.contains("pulk.toml: retry_max_ms (line 1"), "{ended:?}");
    // Printed settings are ones a node would start with.
    assert_eq!(pulk(&["serve", "--print-config", "--retry-max-ms=1"], &[]).code, 64);
}

#[test]
fn memory_and_a_directory_contradict_unless_memory_stands_above() {
    let directory = [("PULK_DATA_DIR", "/data")];
    refused(&["serve", "--store=memory", "--data-dir=/x"], &[], 64, "--data-dir names a directory");
    let both = [directory[0], ("PULK_STORE", "memory")];
    refused(&["serve"], &both, 64, "PULK_STORE: memory keeps nothing, but PULK_DATA_DIR");
    is(&printed(&["--store=memory"], &directory), "store", "\"memory\"", "flag");
    let file = File::with("store = 'memory'");
    refused(
        &["serve", "--config", file.path()],
        &directory,
        64,
        "store (line 1, column 1): memory",
    );
}

#[test]
fn the_example_file_names_every_setting_with_its_default() {
    let path = format!("{}/examples/pulk.toml", env!("CARGO_MANIFEST_DIR"));
    let defaults = printed(&[], &[]);
    let settings = printed(&["--config", &path], &[]);
    let text = fs::read_to_string(&path).unwrap();
    for (key, (value, source)) in &defaults {
        let line = format!("{key} = {value}");
        if ["concurrency", "reserved"].contains(&key.as_str()) {
            // As many as the machine has.
            assert!(text.contains(&format!("\n# {key} = ")), "{key}");
        } else if source == "default" {
            is(&settings, key, value, "file");
        } else {
            // Set, it would no longer follow the other one.
            assert!(text.lines().any(|one| one == format!("# {line}")), "{line}");
        }
    }
    // The lines that are commented out are right too; settings end where the tables begin.
    let file = File::with(
        &text
            .lines()
            .take_while(|line| !line.contains("[[push]]"))
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    assert!(printed(&["--config", file.path()], &[]).values().all(|(_, from)| from == "file"));
}

#[tokio::test]
async fn a_node_serves_as_its_file_says() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("from-the-file");
    let file =
        File::with(&format!("data_dir = '{}'\nmax_attempts_default = 1", data_dir.display()));
    let node = Node::start_with(["--config", file.path()]).await;
    assert!(data_dir.is_dir());
    let answer = node.http.post("/v1/jobs", r#"{"kind":"k"}"#).await.json();
    let id = answer["id"].as_str().unwrap();
    let job = node.http.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["max_attempts"], 1);
    node.stop().await;
}
