//! The README's lines run as they stand there: the shell's against a real node, Rust's as an
//! example; and the limits it names are the code's.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// A node on a free port, killed when it is dropped.
struct Node {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Node {
    fn start() -> Node {
        let data = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_pulk"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        // "Serving address=127.0.0.1:12345 …" is told once the queue is open.
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the node ended: {seen}");
            if let Some((_, rest)) = line.split_once(" address=") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
            seen += &line;
        };
        // Read to the end, so that the node never waits for room in the pipe.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Node { process, url: format!("http://{address}"), _data: data }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn file(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The README's blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = file("README.md");
    let start = format!("```{language}\n");
    readme.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The README's life of a job: the block that enqueues one.
fn life_of_a_job() -> String {
    let found = blocks("bash").into_iter().find(|block| block.contains("post /v1/jobs "));
    found.unwrap()
}

#[test]
fn the_life_of_a_job_ends_with_nothing_left() {
    let node = Node::start();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &life_of_a_job()])
        .env("PULK_URL", &node.url)
        .output()
        .expect("bash and curl are needed to run the README's lines");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let answers: Vec<serde_json::Value> = stdout
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let states: Vec<&str> = answers.iter().filter_map(|answer| answer["state"].as_str()).collect();
    assert_eq!(states, ["ready", "retrying", "dead", "ready"], "{stdout}");
    let letter = answers.iter().find_map(|answer| answer["jobs"].get(0)).unwrap();
    assert_eq!(letter["reason"], "exhausted");
    assert_eq!(letter["errors"][1]["error"], "still no route");
    let counts = answers.last().unwrap()["counts"].as_object().unwrap();
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|count| count == 0), "{stdout}");
}

#[test]
fn a_line_that_fails_would_be_noticed() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = life_of_a_job();
    let status = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .env("PULK_URL", format!("http://{nobody}"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
}

#[test]
fn the_script_and_the_example_are_what_the_readme_shows() {
    let script = file("examples/life_of_a_job.sh");
    assert!(script.ends_with(&life_of_a_job()), "examples/life_of_a_job.sh differs");
    let example = file("examples/embedded.rs");
    let shown = blocks("rust");
    assert_eq!(shown.len(), 1);
    assert!(example.ends_with(shown.first().unwrap()), "examples/embedded.rs differs");
}

#[test]
fn the_limits_in_the_readme_are_those_of_the_code() {
    use pulk::job::limits;
    let readme = file("README.md");
    let table = readme.split("## Limits").nth(1).unwrap().split("\n## ").next().unwrap();
    for (what, limit) in [
        ("payload", format!("{} MiB", limits::PAYLOAD_BYTES_MAX >> 20)),
        ("request body", format!("{} MiB", pulk::api::BODY_BYTES_MAX >> 20)),
        ("batch", format!("{} jobs", grouped(limits::BATCH_JOBS_MAX))),
        ("batch", format!("{} MiB", limits::BATCH_BYTES_MAX >> 20)),
        ("headers", format!("{}", limits::HEADERS_MAX)),
        ("headers", format!("{} KiB", limits::HEADERS_BYTES_MAX >> 10)),
        ("queue or kind", format!("{} bytes", limits::NAME_BYTES_MAX)),
        ("attempts", grouped(limits::ATTEMPTS_MAX as usize)),
        ("interruptions", grouped(limits::INTERRUPTIONS_MAX as usize)),
        ("timeout", format!("{} days", limits::TIMEOUT_MS_MAX / 86_400_000)),
        ("lease", format!("{} h", pulk::lease::LEASE_MS_MAX / 3_600_000)),
        (
            "delay before a retry",
            format!("{} days", pulk::retry::RetryPolicy::DELAY_MS_MAX / 86_400_000),
        ),
        ("errors kept", format!("{}", pulk::dead_letter::ERRORS_KEPT_MAX)),
        ("errors kept", format!("{} KiB", pulk::dead_letter::ERROR_BYTES_MAX >> 10)),
        ("claim", format!("{} jobs", grouped(pulk::queue::CLAIM_JOBS_MAX))),
        ("claim", format!("{} MiB", pulk::queue::CLAIM_BYTES_MAX >> 20)),
        ("claim", format!("{} s", pulk::queue::CLAIM_WAIT_MS_MAX / 1_000)),
        ("settle", grouped(pulk::queue::SETTLE_MAX)),
        ("page of jobs or dead letters", grouped(pulk::queue::PAGE_MAX)),
        ("name of a worker", format!("{} bytes", pulk::queue::WORKER_BYTES_MAX)),
        ("queues", grouped(pulk::job::QueueId::MAX as usize)),
    ] {
        let said = table.lines().any(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            cells.next().is_some_and(|cell| cell.contains(what))
                && cells.next().is_some_and(|cell| cell.contains(&limit))
        });
        assert!(said, "the README's table of limits has no {limit:?} for {what:?}");
    }
}

/// 10000 as 10,000.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What the program prints to stdout, without the caller's environment.
fn printed(arguments: &[&str]) -> String {
    let program = Command::new(env!("CARGO_BIN_EXE_pulk")).args(arguments).env_clear().output();
    String::from_utf8(program.unwrap().stdout).unwrap()
}

/// The README's table of settings, row by row: variable, flag, key and default as they stand there.
fn settings_told() -> Vec<[String; 4]> {
    let readme = file("README.md");
    let table = readme.split("## Configuration").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| -> Vec<String> {
        row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()).collect()
    };
    rows.map(|row| cells(row).first_chunk::<4>().unwrap().clone()).collect()
}

#[test]
fn every_setting_in_the_readme_is_one_of_the_program_and_the_other_way_round() {
    let help = printed(&["serve", "--help"]) + &printed(&["stats", "--help"]);
    let mut known: Vec<&str> =
        help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap()).collect();
    known.sort_unstable();
    let told = settings_told();
    let mut variables: Vec<&str> = told.iter().map(|[variable, ..]| &**variable).collect();
    variables.sort_unstable();
    assert_eq!(variables, known);
    for [_, flag, ..] in &told {
        assert!(help.contains(&format!("{flag} ")), "{flag}");
    }
}

#[test]
fn the_keys_and_defaults_in_the_readme_are_those_of_the_program() {
    let printed = printed(&["serve", "--print-config"]);
    let mut known: Vec<[String; 3]> = Vec::new();
    for line in printed.lines() {
        let (setting, source) = line.split_once(" # ").unwrap();
        let (key, value) = setting.split_once(" = ").unwrap();
        let default = match (key, source) {
            ("priorities", _) => "all".to_owned(),
            ("concurrency", _) => "2 × cores".to_owned(),
            ("reserved", _) => "a quarter".to_owned(),
            (_, "default") if value == "\"\"" => "none".to_owned(),
            // A list is printed as TOML has it, and told as a variable takes it.
            (_, "default") => value.replace(['[', ']', '"', ' '], ""),
            _ => "as default".to_owned(),
        };
        known.push([format!("--{}", key.replace('_', "-")), key.into(), default]);
    }
    let told = settings_told().into_iter().map(|[_, flag, key, default]| [flag, key, default]);
    let told: Vec<_> = told.filter(|[_, key, _]| key != "–").collect();
    assert_eq!(told, known);
}
