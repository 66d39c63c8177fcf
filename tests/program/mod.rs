//! The program run to its end, without the caller's environment.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::Write;
use std::process::{Command, Stdio};

/// What a run of the program left.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program with these arguments and variables, and nothing on its stdin.
pub fn pulk(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    pulk_reading(arguments, environment, "")
}

/// Runs the program with a text on its stdin.
pub fn pulk_reading(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pulk"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The program may end without reading all of it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// The program must end with this code and one sentence that has this in it.
#[track_caller]
pub fn refused(arguments: &[&str], environment: &[(&str, &str)], code: i32, named: &str) {
    let ended = pulk(arguments, environment);
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.starts_with("pulk: ") && ended.stderr.contains(named), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}
