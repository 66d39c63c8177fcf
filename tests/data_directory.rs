//! A data directory that cannot be used, and settings that make no sense, end with one sentence
//! and the promised exit code; nothing in the directory is changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use std::fs;
use std::path::Path;

use node::{Node, assert_sound, run, serve};
use tokio::process::Command;

/// The format that this program writes.
const FORMAT: u8 = 2;

/// The program must refuse to run, with this exit code and these words in its sentence.
async fn refused(command: Command, code: i32, words: &[&str]) {
    let (found, _, stderr) = run(command).await;
    assert_eq!(found, Some(code), "{stderr}");
    // Above it the log may tell how far it came.
    let sentence = stderr.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("pulk: "), "{stderr}");
    for word in words {
        assert!(sentence.contains(word), "no {word} in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn serve_on(path: &Path) -> Command {
    serve(["--data-dir".as_ref(), path.as_os_str()])
}

fn doctor(path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
    command.arg("doctor").arg(path).env_clear();
    command
}

/// A record as it is on the disk, of this format version and with the right checksum.
fn record(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(&[&[version, kind], body].concat());
    [&[version, kind], sum.to_le_bytes().as_slice(), body].concat()
}

/// The database in a data directory, opened as it was made: sled refuses another segment size.
fn database(directory: &Path) -> sled::Db {
    let path = directory.join("sled");
    let made = String::from_utf8_lossy(&fs::read(path.join("conf")).unwrap()).into_owned();
    let segment_bytes = made.lines().find_map(|line| line.strip_prefix("segment_size: "));
    let segment_bytes = segment_bytes.unwrap().parse().unwrap();
    sled::Config::new().path(path).segment_size(segment_bytes).open().unwrap()
}

/// Makes a directory with one job in it, and changes the record that describes its store.
async fn with_meta(directory: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let node = Node::start(directory).await;
    assert_eq!(node.http.post("/v1/jobs", r#"{"kind":"mail"}"#).await.status, 201);
    node.stop().await;
    let database = database(directory);
    let meta = database.open_tree("meta").unwrap();
    let found = meta.get("meta").unwrap().unwrap().to_vec();
    meta.insert("meta", change(found)).unwrap();
    database.flush().unwrap();
}

#[tokio::test]
async fn a_file_is_no_data_directory() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "precious").unwrap();
    let path = file.to_str().unwrap();
    refused(serve_on(&file), 74, &[path, "is a file"]).await;
    refused(doctor(&file), 74, &[path]).await;
    refused(serve_on(&file.join("below")), 74, &["a part of its path is a file"]).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    refused(serve_on(Path::new("/proc/pulk/data")), 74, &["/proc/pulk/data"]).await;
}

#[tokio::test]
async fn doctor_makes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("missing");
    refused(doctor(&missing), 74, &["missing"]).await;
    refused(doctor(parent.path()), 74, &["holds no pulk data"]).await;
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_that_another_process_holds_names_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let holder = format!("process {} ", node.pid());
    let path = directory.path().to_str().unwrap();
    refused(serve_on(directory.path()), 75, &[path, &holder, "stop it"]).await;
    refused(doctor(directory.path()), 75, &[path, &holder]).await;
    assert_eq!(node.http.post("/v1/jobs", r#"{"kind":"mail"}"#).await.status, 201);
    // The lock dies with its holder, however it ends.
    node.kill().await;
    let node = Node::start(directory.path()).await;
    node.stop().await;
    assert_sound(directory.path()).await;
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut old = Vec::new();
    with_meta(directory.path(), |found| {
        assert_eq!(found, record(FORMAT, found[1], &found[6..]));
        let newer = record(FORMAT + 1, found[1], b"who knows");
        old = found;
        newer
    })
    .await;
    let format = format!("format {}", FORMAT + 1);
    let words = ["newer pulk", &format, "use that version"];
    refused(serve_on(directory.path()), 74, &words).await;
    refused(serve_on(directory.path()), 74, &words).await;
    // With the record as it was, all is as it was.
    let database = database(directory.path());
    database.open_tree("meta").unwrap().insert("meta", old).unwrap();
    database.flush().unwrap();
    drop(database);
    let node = Node::start(directory.path()).await;
    let claimed = node.http.post("/v1/claim", "").await.json();
    assert_eq!(claimed["jobs"][0]["kind"], "mail");
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_meta_record_is_told() {
    for change in [
        |mut found: Vec<u8>| {
            *found.last_mut().unwrap() ^= 1;
            found
        },
        |found: Vec<u8>| record(FORMAT, found[1] + 1, &found[6..]),
        |found: Vec<u8>| record(FORMAT, found[1], b"cut"),
        |_: Vec<u8>| Vec::new(),
    ] {
        let directory = tempfile::tempdir().unwrap();
        with_meta(directory.path(), change).await;
        refused(serve_on(directory.path()), 74, &["can't be read", "restore"]).await;
        let (code, stdout, stderr) = run(doctor(directory.path())).await;
        assert_ne!(code, Some(0), "{stdout}{stderr}");
    }
}

#[tokio::test]
async fn a_damaged_job_does_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    for queue in ["a", "b"] {
        let body = format!(r#"{{"kind":"mail","queue":"{queue}"}}"#);
        assert_eq!(node.http.post("/v1/jobs", body).await.status, 201);
    }
    node.stop().await;
    {
        let database = database(directory.path());
        let ready = database.open_tree("ready.default").unwrap();
        let (key, chunk) = ready.first().unwrap().unwrap();
        let mut chunk = chunk.to_vec();
        *chunk.last_mut().unwrap() ^= 1;
        ready.insert(key, chunk).unwrap();
        database.flush().unwrap();
    }
    let (code, stdout, stderr) = run(doctor(directory.path())).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    let node = Node::start(directory.path()).await;
    let claimed = node.http.post("/v1/claim", r#"{"limit":5}"#).await.json();
    assert_eq!(claimed["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(claimed["jobs"][0]["queue"], "b");
    let metrics = node.http.get("/q/metrics").await.text();
    assert!(metrics.contains("pulk_records_damaged_total 1"), "{metrics}");
    let (status, log) = node.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn a_bad_setting_is_named_before_anything_is_touched() {
    let parent = tempfile::tempdir().unwrap();
    let untouched = parent.path().join("untouched");
    for (name, value, named) in [
        ("JOBS_RETRY_BASE_MS", "-1", "JOBS_RETRY_BASE_MS"),
        ("JOBS_RETRY_MAX_MS", "1h", "JOBS_RETRY_MAX_MS"),
        ("JOBS_RETRY_JITTER", "1.5", "JOBS_RETRY_JITTER"),
        ("JOBS_RETRY_MAX_ATTEMPTS_CRITICAL", "0", "JOBS_RETRY_MAX_ATTEMPTS_CRITICAL"),
        ("JOBS_RETRY_MAX_ATTEMPTS_DEFAULT", "many", "JOBS_RETRY_MAX_ATTEMPTS_DEFAULT"),
        ("JOBS_SCHEDULER_ENABLED", "perhaps", "JOBS_SCHEDULER_ENABLED"),
        ("QUARKUS_SCHEDULER_ENABLED", "perhaps", "QUARKUS_SCHEDULER_ENABLED"),
        ("WORKER_PRIORITY_FILTER", "CRITICAL,URGENT", "WORKER_PRIORITY_FILTER"),
        ("PULK_STORE", "redis", "PULK_STORE"),
        ("PULK_LOG", "a=b=c", "PULK_LOG"),
        ("PULK_LOG_FORMAT", "xml", "PULK_LOG_FORMAT"),
        ("PULK_SHUTDOWN_GRACE_MS", "soon", "PULK_SHUTDOWN_GRACE_MS"),
    ] {
        let mut command = serve_on(&untouched);
        command.env(name, value);
        refused(command, 64, &[named]).await;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
    command.arg("serve").env_clear().env("PULK_LISTEN", "nowhere").env("PULK_DATA_DIR", &untouched);
    refused(command, 64, &["nowhere"]).await;
    assert!(!untouched.exists());
}

#[tokio::test]
async fn a_taken_port_is_named_before_the_directory_is_touched() {
    let parent = tempfile::tempdir().unwrap();
    let untouched = parent.path().join("untouched");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulk"));
    command.arg("serve").env_clear().env("PULK_LISTEN", &address).env("PULK_DATA_DIR", &untouched);
    refused(command, 1, &[&address, "taken"]).await;
    assert!(!untouched.exists());
}
