//! One job for a person: what is known of it, its payload, its errors.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Answer;
use super::output;
use super::table::{Column, Table, printable};
use crate::error::Result;

/// Members that are shown apart from the others.
const APART: [&str; 5] = ["payload", "payload_base64", "result", "headers", "errors"];

/// Prints the answer about one job.
pub(super) fn job(answer: &Answer, json: bool) -> Result<()> {
    if json {
        return output::print(&answer.text());
    }
    output::print(&in_words(&answer.json()?, &answer.json()?))
}

/// What a handler wrote, as it wrote it: 1.50 stays 1.50.
#[derive(Deserialize)]
struct Written {
    payload: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
}

fn in_words(job: &Value, written: &Written) -> String {
    let mut text = String::new();
    let members = job.as_object().into_iter().flatten();
    for (name, value) in members.filter(|(name, _)| !APART.contains(&name.as_str())) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text += &format!("{name:<18} {}\n", printable(&value));
    }
    let headers = job.get("headers").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in headers {
        let value = value.as_str().unwrap_or_default();
        text += &format!("{:<18} {}\n", "header", printable(&format!("{name}: {value}")));
    }
    if let Some(base64) = job.get("payload_base64").and_then(Value::as_str) {
        text += &format!("{:<18} {base64}\n", "payload_base64");
    }
    for (name, value) in [("payload", &written.payload), ("result", &written.result)] {
        let Some(value) = value else { continue };
        let lines: String =
            value.get().lines().map(|line| format!("{}\n", printable(line))).collect();
        text += &format!("\n{name}:\n{lines}");
    }
    let errors = job.get("errors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !errors.is_empty() {
        let columns =
            [Column::Number("ATTEMPT"), Column::Whole("FAILED AT"), Column::Text("ERROR")];
        let mut table = Table::new(&columns);
        for error in errors {
            table.row(["attempt", "failed_at", "error"].map(|name| output::text(error, name)));
        }
        text += &format!("\n{}", table.text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_with_its_payload_and_errors() {
        let job = r#"{"id": "01", "attempt": 2, "headers": {"trace": "a\u001b"},
            "payload": {"n": 1.50},
            "errors": [{"attempt": 1, "failed_at": "2026", "error": "no\nroute"}]}"#;
        let written = serde_json::from_str(job).unwrap();
        let text = in_words(&serde_json::from_str(job).unwrap(), &written);
        assert!(text.starts_with("attempt            2\n"), "{text}");
        assert!(text.contains("header             trace: a·\n"), "{text}");
        assert!(text.contains("\npayload:\n{\"n\": 1.50}\n"), "{text}");
        assert!(
            text.ends_with("\nATTEMPT  FAILED AT  ERROR\n      1  2026       no·route\n"),
            "{text}"
        );
    }
}
