//! The bodies that a batch may have: one JSON object, or a line of JSON for each job.

use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::{JsonBody, WholeBody, is_lines, objects_at_most, parse, read_body};
use super::error::Problem;
use super::jobs::JobRequest;
use crate::error::{Error, Result};
use crate::job::{NewJob, limits};
use crate::retry::RetryPolicy;

/// The bytes of a batch.
#[derive(Debug)]
pub(super) enum BatchBody {
    Json(JsonBody),
    Lines(WholeBody),
}

impl<S: Send + Sync> FromRequest<S> for BatchBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (headers, body) = read_body(request).await?;
        match is_lines(&headers)? {
            true => Ok(BatchBody::Lines(body)),
            false => JsonBody::checked(&headers, body).map(BatchBody::Json),
        }
    }
}

/// Jobs to enqueue together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"jobs": [
    {"queue": "mails", "kind": "mail.welcome", "payload": {"to": "ann@example.org"}},
    {"queue": "mails", "kind": "mail.welcome", "payload": {"to": "ben@example.org"}},
]})))]
pub(super) struct BatchRequest<'a> {
    /// The jobs; together at most 4 MiB.
    #[serde(borrow, deserialize_with = "objects_at_most::<_, _, { limits::BATCH_JOBS_MAX }>")]
    #[schema(min_items = 1, max_items = 10_000)]
    jobs: Vec<JobRequest<'a>>,
}

/// The jobs of a batch, and where they stood.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) jobs: Vec<NewJob>,
    pub(super) places: Places,
}

/// The line of each job, counted from 1; none when the jobs were not on lines of their own.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<usize>);

impl BatchBody {
    /// Reads the jobs; `configured` is for those that say only a part of their retry policy.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), the field named as `jobs[3].kind`, with the line.
    pub(super) fn read(&self, configured: &RetryPolicy) -> Result<Batch> {
        match self {
            BatchBody::Json(body) => {
                let jobs = body.parse::<BatchRequest<'_>>()?.jobs.into_iter().enumerate();
                let jobs = jobs.map(|(number, job)| {
                    job.into_job(configured)
                        .map_err(|error| error.inside(&format!("jobs[{number}]")))
                });
                Ok(Batch { jobs: jobs.collect::<Result<_>>()?, places: Places::default() })
            }
            BatchBody::Lines(body) => lines(&body.bytes, configured),
        }
    }
}

fn lines(text: &[u8], configured: &RetryPolicy) -> Result<Batch> {
    let mut jobs = Vec::new();
    let mut places = Places::default();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if jobs.len() == limits::BATCH_JOBS_MAX {
            let most = limits::BATCH_JOBS_MAX;
            let message = format!("more than {most} are too many; send them in parts");
            return Err(Error::invalid("jobs", message));
        }
        let line_number = number + 1;
        let job = parse::<JobRequest<'_>>(line).and_then(|job| job.into_job(configured));
        jobs.push(job.map_err(|error| on_line(error, jobs.len(), line_number))?);
        places.0.push(line_number);
    }
    Ok(Batch { jobs, places })
}

/// An error in one line, as one in the whole body.
fn on_line(error: Error, job: usize, line: usize) -> Error {
    const IN_ITS_LINE: &str = " at line 1 column ";
    let field = match error.field() {
        None | Some("body") => format!("jobs[{job}]"),
        Some(field) => format!("jobs[{job}].{field}"),
    };
    error.retold(field, |message| match message.rsplit_once(IN_ITS_LINE) {
        Some((said, column)) => format!("{said} at line {line} column {column}"),
        None => format!("{message} (line {line})"),
    })
}

impl Places {
    /// What the queue says of a job, with the line of that job.
    pub(super) fn placed(&self, error: Error) -> Error {
        let field = error.field().map(str::to_owned).unwrap_or_default();
        let job = field.strip_prefix("jobs[").and_then(|rest| rest.split(']').next()?.parse().ok());
        match job.and_then(|job: usize| self.0.get(job)) {
            Some(line) => error.retold(field, |message| format!("{message} (line {line})")),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Batch> {
        BatchBody::Lines(text.into()).read(&RetryPolicy::default())
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn each_line_is_a_job() {
        let text =
            "{\"kind\":\"a\"}\n\n  \r\n {\"kind\":\"b\",\"payload\":[1,  2]} \r\n{\"kind\":\"c\"}";
        for text in [text.to_owned(), format!("{text}\n"), format!("\n\n{text}\n \n")] {
            let jobs = read(&text).unwrap().jobs;
            let kinds: Vec<&str> = jobs.iter().map(|job| job.kind.as_str()).collect();
            assert_eq!(kinds, ["a", "b", "c"]);
            assert_eq!(jobs[1].payload.bytes().as_ref(), b"[1,  2]");
        }
        assert!(read("").unwrap().jobs.is_empty());
        assert!(read(" \n\r\n\t\n").unwrap().jobs.is_empty());
    }

    #[test]
    fn an_error_names_the_job_the_field_and_the_line() {
        let good = "{\"kind\":\"a\"}\n\n";
        for (line, told) in [
            (
                "{\"kind\":7}",
                "jobs[1].kind: invalid type: integer `7`, expected a string at line 3 column 9",
            ),
            ("{}", "jobs[1].kind: missing field `kind` at line 3 column 2"),
            ("{\"kind\":\"a\"", "jobs[1]: EOF while parsing an object at line 3 column 11"),
            ("{\"kind\":\"a\"} {}", "jobs[1]: trailing characters at line 3 column 14"),
            ("[\"a\"]", "jobs[1]: invalid type: sequence, expected an object at line 3 column 0"),
            (
                "{\"kind\":\"a\",\"delay_ms\":1,\"run_at\":\"2026-01-01T00:00:00Z\"}",
                "jobs[1].delay_ms: give delay_ms or run_at, not both (line 3)",
            ),
            (
                "{\"kind\":\"a\",\"retry\":{\"x\":\" at line 1 column 9\"}}",
                "jobs[1].retry.x: unknown field `x`, expected one of `base_ms`, `max_ms`, \
                 `jitter` at line 3 column 24",
            ),
        ] {
            assert_eq!(refused(&format!("{good}{line}\n{good}")), told);
        }
        let many = "{\"kind\":\"a\"}\n".repeat(limits::BATCH_JOBS_MAX + 1);
        assert!(refused(&many).starts_with("jobs: more than 10000 are too many"));
        assert_eq!(read(&many[13..]).unwrap().jobs.len(), limits::BATCH_JOBS_MAX);
    }

    #[test]
    fn what_the_queue_refuses_has_its_line_too() {
        let batch = read("\n{\"kind\":\"a\"}\n\n{\"kind\":\"\"}\n").unwrap();
        let told = batch.places.placed(Error::invalid("jobs[1].kind", "must not be empty"));
        assert_eq!(told.to_string(), "jobs[1].kind: must not be empty (line 4)");
        let all = batch.places.placed(Error::too_large("jobs", "too many bytes"));
        assert_eq!(all.to_string(), "jobs: too many bytes");
        let beyond = batch.places.placed(Error::invalid("jobs[7].kind", "no"));
        assert_eq!(beyond.to_string(), "jobs[7].kind: no");
    }

    #[test]
    fn an_object_with_all_jobs_is_read_too() {
        let body = BatchBody::Json(JsonBody::from(
            r#"{"jobs":[{"kind":"k"},{"kind":"k","payload_base64":"!"}]}"#,
        ));
        let error = body.read(&RetryPolicy::default()).unwrap_err();
        assert_eq!(error.field(), Some("jobs[1].payload_base64"));
    }

    proptest! {
        #[test]
        fn any_text_is_jobs_or_an_error_with_a_field(
            lines in prop::collection::vec("(\\{\"kind\":\"a\"\\}|.{0,20}|\\{|\\r| )", 0..6),
        ) {
            if let Err(error) = read(&lines.join("\n")) {
                prop_assert!(error.field().unwrap().starts_with("jobs["), "{}", error);
            }
        }
    }
}
