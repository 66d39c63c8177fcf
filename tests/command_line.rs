//! Bad usage, bad settings and a taken address end with one sentence and the promised exit code.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(unreachable_pub, reason = "a test is a program of its own")]

use std::net::TcpListener;

use program::{pulk, refused};

mod program;

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let ended = pulk(&[flag], &[]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{flag}");
        assert!(ended.stdout.contains("pulk"), "{ended:?}");
    }
    let help = pulk(&["serve", "--help"], &[]).stdout;
    assert!(help.contains("WORKER_PRIORITY_FILTER"), "{help}");
}

#[test]
fn bad_usage_exits_with_64() {
    assert_eq!(pulk(&[], &[]).code, 64);
    refused(&["dance"], &[], 64, "dance");
    refused(&["serve", "--nonsense"], &[], 64, "--nonsense");
    refused(&["serve", "--shard", "65536"], &[], 64, "--shard");
    refused(&["serve", "--priorities", "urgent"], &[], 64, "urgent");
    refused(&["serve", "--listen", "nowhere"], &[], 64, "nowhere");
    refused(&["serve", "--log", "a=b=c"], &[], 64, "--log");
}

#[test]
fn a_taken_address_exits_with_1_and_an_empty_setting_is_none() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [("PULK_LISTEN", address.as_str()), ("JOBS_RETRY_BASE_MS", "")];
    refused(&["serve"], &environment, 1, &address);
}

#[test]
fn a_healthcheck_of_nobody_exits_with_1() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&["healthcheck", "--url", &format!("http://{free}")], &[], 1, "can't be asked");
}
