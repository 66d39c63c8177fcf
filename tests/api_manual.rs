//! docs/API.md runs as it stands there: every block of shell lines in its order, in one shell,
//! against one node; each answer has the status and the members that the manual shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "node/mod.rs"]
mod node;

use std::collections::BTreeSet;
use std::fs;

use node::{Node, within};
use serde_json::Value;

/// A block of shell lines, and what is shown of the answer to the last call in it.
#[derive(Debug, Default)]
struct Example {
    /// Where it stands, for who must mend it.
    line: usize,
    script: String,
    status: Option<String>,
    answer: Option<String>,
}

/// The examples of the manual: ```bash blocks, each with a line like `→ 201` behind it, and the
/// ```json block after that, if there is one.
fn examples(manual: &str) -> Vec<Example> {
    let mut examples = Vec::<Example>::new();
    let mut lines = manual.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut block = || {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            inside.map(|line| format!("{line}\n")).collect::<String>()
        };
        match line {
            "```bash" => {
                let (line, script) = (number + 1, block());
                examples.push(Example { line, script, ..Example::default() });
            }
            "```json" => examples.last_mut().unwrap().answer = Some(block()),
            _ => {
                if let Some(status) = line.strip_prefix("→ ") {
                    examples.last_mut().unwrap().status = Some(status[..3].to_owned());
                }
            }
        }
    }
    examples
}

/// All examples as one script. Each call writes its status to the other stream; marks on both
/// tell where an example begins.
fn script(examples: &[Example]) -> String {
    let mut script = String::from(
        "curl() { command curl --fail-early -w '%{stderr}status %{http_code}\\n' \"$@\"; }\n",
    );
    for (number, example) in examples.iter().enumerate() {
        script += &format!("echo; echo '=== {number}'; echo '=== {number}' >&2\n");
        script += &example.script;
    }
    script + "echo; echo '=== end'; echo '=== end' >&2\n"
}

/// What was written between the marks.
fn parts(output: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in output.lines() {
        match (line.starts_with("=== "), parts.last_mut()) {
            (true, _) => parts.push(String::new()),
            (false, Some(part)) => *part += &format!("{line}\n"),
            (false, None) => {}
        }
    }
    parts
}

/// The paths of all members, by name; the items of a list count as one.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(format!("{path}.{name}"));
                members(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, path, found)),
        _ => {}
    }
}

fn shape(text: &str, example: &Example) -> BTreeSet<String> {
    let value = serde_json::from_str(text)
        .unwrap_or_else(|reason| panic!("{reason}: {example:#?}\n{text}"));
    let mut found = BTreeSet::new();
    members(&value, "", &mut found);
    found
}

fn manual() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/API.md")).unwrap()
}

#[tokio::test]
async fn every_call_of_the_manual_answers_as_it_shows() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(data.path()).await;
    let examples = examples(&manual());
    assert!(examples.len() > 40, "only {} examples were found", examples.len());
    let mut shell = tokio::process::Command::new("bash");
    shell
        .args(["-u", "-c", &script(&examples)])
        .env("PULK_URL", format!("http://{}", node.address));
    shell.current_dir(data.path());
    let output = within("the end of the manual", shell.output()).await.unwrap();
    let (answers, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let (answers, statuses) = (parts(&answers), parts(&log));
    assert_eq!(answers.len(), examples.len() + 1, "it broke off: {log}");
    let mut wrong = Vec::new();
    for ((example, answer), log) in examples.iter().zip(answers).zip(statuses) {
        let status = log.lines().filter_map(|line| line.strip_prefix("status ")).next_back();
        let shown = example.answer.as_ref().map(|shown| shape(shown, example));
        if status != example.status.as_deref() {
            wrong.push(format!("line {}: {status:?} {answer}{log}", example.line));
        } else if shown.is_some_and(|shown| shape(&answer, example) != shown) {
            wrong.push(format!("line {}: {answer}", example.line));
        }
    }
    assert!(wrong.is_empty(), "not as shown:\n{}", wrong.join("\n"));
    let (status, log) = node.stop().await;
    assert!(status.success() && !log.contains("ERROR"), "{log}");
}

#[test]
fn every_call_of_the_contract_is_in_the_manual() {
    let manual = manual();
    let examples = examples(&manual);
    let scripts: String = examples.iter().map(|example| example.script.as_str()).collect();
    for part in [
        "$pulk/v1/jobs ",
        "/v1/jobs/batch",
        "/v1/jobs/$id",
        "/v1/jobs?",
        "/v1/claim",
        "/ack",
        "/fail",
        "/extend",
        "/release",
        "/v1/settle",
        "/v1/queues",
        "/pause",
        "/resume",
        "/limits",
        "/jobs?state=",
        "/v1/dead?",
        "/v1/dead/$id",
        "/replay",
        "/v1/dead/replay",
        "/v1/dead/purge",
        "/v1/replays",
        "/v1/scaling",
        "/openapi.json",
        "/q/health",
        "/q/metrics",
        "-X DELETE",
        "-X PATCH",
        "Idempotency-Key",
        "application/x-ndjson",
    ] {
        assert!(scripts.contains(part), "no example calls {part}");
    }
}
