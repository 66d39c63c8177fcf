//! Settings of the node's own worker and its targets.

use std::path::PathBuf;

use serde_json::json;

use crate::node::{Node, serve};
use crate::program::{pulk, refused};
use crate::scheduler_where;
use crate::target::Target;

/// A file in a directory of its own.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pulk.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn a_url_that_cannot_be_pushed_to_is_named_with_its_setting() {
    for url in ["localhost:3000", "ftp://host/", "http://", "http://host:port/", "http:///jobs"] {
        refused(&["serve"], &[("WORKER_PUSH_URL", url)], 64, &format!("WORKER_PUSH_URL: {url:?}"));
        refused(&["serve", "--push-url", url], &[], 64, &format!("--push-url: {url:?}"));
        let (_directory, path) = file(&format!("push_url = '{url}'"));
        let path = path.to_str().unwrap();
        refused(&["serve", "--config", path], &[], 64, "push_url (line 1, column 1)");
    }
    let ended = pulk(&["serve", "--push-url=ftp://me:s3cr3t@host/"], &[]);
    assert!(ended.code == 64 && !ended.stderr.contains("s3cr3t"), "{ended:?}");
}

#[test]
fn other_settings_of_the_worker_are_checked_too() {
    for (variable, value) in [
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_RESERVED", "-1"),
        ("WORKER_PUSH_RETRY_STATUSES", "2xx"),
        ("WORKER_PUSH_BREAKER_MAX_MS", "0"),
        ("WORKER_PUSH_TIMEOUT_MS", "never"),
        ("WORKER_PUSH_SECRET_FILE", "/nowhere/secret"),
    ] {
        refused(&["serve"], &[(variable, value)], 64, variable);
    }
    refused(&["serve", "--concurrency=2", "--reserved=2"], &[], 64, "reserved: 2 of 2");
    refused(&["serve", "--push-retry-statuses=4xx"], &[], 64, "4xx is in both");
    let both = [("WORKER_PUSH_SECRET", "s3cr3t"), ("WORKER_PUSH_SECRET_FILE", "/etc/hosts")];
    refused(
        &["serve"],
        &both,
        64,
        "WORKER_PUSH_SECRET: there is a secret in WORKER_PUSH_SECRET_FILE",
    );
    let ended = pulk(&["serve"], &[("WORKER_PUSH_SECRET", "whsec_s3cr3t!")]);
    assert!(ended.code == 64 && !ended.stderr.contains("s3cr3t"), "{ended:?}");
}

#[test]
fn a_bad_table_is_named_with_its_place() {
    let in_file = |text: &str, named: &str| {
        let (_directory, path) = file(text);
        let named = format!("{}: {named}", path.display());
        refused(&["serve", "--config", path.to_str().unwrap()], &[], 64, &named);
    };
    in_file("[[push]]\nkinds = ['a']", "push (line 1, column 1): the table has no url");
    in_file("[[push]]\nurl = 'x'\n", "push.url (line 2, column 1): this is not where to push to");
    in_file("push = 'http://host'", "push (line 1, column 1): write each target as a table");
    in_file("[push]\nurl = 'http://host'", "push (line 1, column 2): write each target");
    let table = "shard = 1\n[[push]]\nurl = 'http://host/'\n";
    in_file(
        &format!("{table}qeues = ['a']"),
        "push.qeues (line 4, column 1): there is no such key",
    );
    in_file(&format!("{table}queues = []"), "push.queues (line 4, column 1): use a list");
    in_file(&format!("{table}kinds = ['a b']"), "push.kinds (line 4, column 1): \"a b\"");
    in_file(&format!("{table}timeout_ms = -1"), "push.timeout_ms (line 4, column 1): use a whole");
    in_file(&format!("{table}secret = 'whsec_?'"), "push.secret (line 4, column 1): the secret is");
    in_file(
        &format!("{table}secret_file = '/nowhere'"),
        "push.secret_file (line 4, column 1): /nowhere can't be read",
    );
    let twice = "[[push]]\nname = 'a'\nurl = 'http://host/'\n".repeat(2);
    let (_directory, path) = file(&twice);
    let path = path.to_str().unwrap();
    refused(&["serve", "--config", path], &[], 64, "two push targets are called \"a\"");
    let apart = "[[push]]\nurl = 'http://a/'\nkinds = ['a']\n\
                 [[push]]\nurl = 'http://b/'\nqueues = ['b']\n";
    let (_directory, path) = file(apart);
    let path = path.to_str().unwrap();
    refused(&["serve", "--config", path], &[], 64, "without a target for all jobs");
    // With one they may.
    assert_eq!(
        pulk(&["serve", "--print-config", "--config", path, "--push-url=http://c/"], &[]).code,
        0
    );
}

#[test]
fn secrets_are_not_printed_and_tables_are() {
    let (_directory, path) = file(
        "[[push]]\nname = 'mails'\nurl = 'http://me:s3cr3t@host/a'\nqueues = ['a', 'b']\n\
         timeout_ms = 0x10\nsecret = 's3cr3t'\n",
    );
    let arguments = ["serve", "--print-config", "--config", path.to_str().unwrap()];
    let ended = pulk(&arguments, &[("WORKER_PUSH_SECRET", "s3cr3t")]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stdout.contains("s3cr3t"), "{ended:?}");
    assert!(ended.stdout.contains("push_secret = \"***\" # WORKER_PUSH_SECRET"), "{ended:?}");
    let table = "[[push]]\nname = \"mails\" # file\nurl = \"http://***@host/a\" # file\n\
                 queues = [\"a\", \"b\"] # file\ntimeout_ms = 16 # file\nsecret = \"***\" # file\n";
    assert!(ended.stdout.ends_with(table), "{ended:?}");
}

#[tokio::test]
async fn the_first_table_that_takes_a_job_gets_it_and_the_default_is_last() {
    let (mut by_kind, mut by_queue, mut rest) = (Target::start(), Target::start(), Target::start());
    let (_directory, path) = file(&format!(
        "[[push]]\nurl = '{}'\nkinds = ['a']\nsecret = 'one'\n\
         [[push]]\nname = 'q'\nurl = '{}'\nqueues = ['q']\nconcurrency = 1\n",
        by_kind.url(),
        by_queue.url()
    ));
    let mut command = serve(["--store", "memory", "--push-url", &rest.url(), "--concurrency=8"]);
    command.arg("--config").arg(&path);
    let node = Node::spawn(command).await;
    let check = scheduler_where(&node.http, |data| data["enabled"] == true).await;
    let names: Vec<_> = (0..3).map(|n| check["targets"][n]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["push-1", "q", "default"]);
    assert_eq!(check["concurrency"], 8);
    for (kind, queue) in [("a", "q"), ("b", "q"), ("b", "r")] {
        crate::enqueue(&node.http, json!({"kind": kind, "queue": queue})).await;
    }
    let first = by_kind.next().await;
    assert_eq!((first.header("ce-type"), first.header("ce-queue")), ("a", "q"));
    assert!(first.headers.contains_key("webhook-signature"));
    let second = by_queue.next().await;
    assert_eq!((second.header("ce-type"), second.header("ce-queue")), ("b", "q"));
    let third = rest.next().await;
    assert_eq!((third.header("ce-type"), third.header("ce-queue")), ("b", "r"));
    assert!(!third.headers.contains_key("webhook-signature"));
    for delivery in [first, second, third] {
        delivery.answer(200);
    }
}

#[tokio::test]
async fn a_node_without_its_scheduler_pushes_nothing() {
    let target = Target::start();
    let node = crate::pushing(&target.url(), &["--scheduler-enabled=false"]).await;
    crate::enqueue(&node.http, json!({"kind": "k"})).await;
    let check = scheduler_where(&node.http, |data| data["enabled"] == false).await;
    assert!(check.get("targets").is_none(), "{check}");
    assert_eq!(target.connections(), 0);
}
