//! Bad usage, bad settings and a taken address end with one sentence and the promised exit code.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::TcpListener;
use std::process::Command;

/// Runs the program without the caller's environment; gives its exit code, stdout and stderr.
fn pulk(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pulk"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32, named: &str) {
    let (found, _, stderr) = pulk(arguments, environment);
    assert_eq!(found, code, "{stderr}");
    assert!(stderr.starts_with("pulk: ") && stderr.contains(named), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let (code, stdout, stderr) = pulk(&[flag], &[]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{flag}");
        assert!(stdout.contains("pulk"), "{stdout}");
    }
    let (_, help, _) = pulk(&["serve", "--help"], &[]);
    assert!(help.contains("WORKER_PRIORITY_FILTER"), "{help}");
}

#[test]
fn bad_usage_exits_with_64() {
    assert_eq!(pulk(&[], &[]).0, 64);
    refused(&["dance"], &[], 64, "dance");
    refused(&["serve", "--nonsense"], &[], 64, "--nonsense");
    refused(&["serve", "--shard", "65536"], &[], 64, "--shard");
    refused(&["serve", "--priorities", "urgent"], &[], 64, "urgent");
    refused(&["serve", "--listen", "nowhere"], &[], 64, "nowhere");
    refused(&["serve", "--log", "a=b=c"], &[], 64, "PULK_LOG");
}

#[test]
fn a_bad_setting_is_named() {
    refused(&["serve"], &[("JOBS_RETRY_BASE_MS", "soon")], 64, "JOBS_RETRY_BASE_MS");
    refused(&["serve"], &[("JOBS_RETRY_MAX_ATTEMPTS_HIGH", "0")], 64, "max_attempts of high");
    refused(&["serve"], &[("JOBS_RETRY_JITTER", "2")], 64, "retry.jitter");
    let old_name = "QUARKUS_SCHEDULER_ENABLED";
    refused(&["serve"], &[(old_name, "perhaps")], 64, old_name);
    let both = [("JOBS_SCHEDULER_ENABLED", "perhaps"), (old_name, "true")];
    refused(&["serve"], &both, 64, "JOBS_SCHEDULER_ENABLED");
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
