//! What a target's answer means for the job: one table from status to outcome.
//!
//! | answer | outcome | costs an attempt |
//! |---|---|---|
//! | 2xx | done; a JSON body is the result | |
//! | 429 or 503 with `Retry-After` | snooze: it runs again then | no |
//! | 408, 429 and 5xx otherwise | failure, by the job's retry policy | yes |
//! | 3xx, 4xx otherwise, anything else | rejected: a dead letter | |
//!
//! The statuses of the last three rows are settings. A status named by its number counts before
//! one named by its class.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

use super::breaker::Verdict;
use super::statuses::AnswerRules;
use crate::clock::Timestamp;
use crate::job::limits::RESULT_BYTES_MAX;
use crate::worker::Outcome;

/// The shortest wait that a target may ask for: `Retry-After: 0` must not become a loop.
const WAIT_MS_MIN: u64 = 1_000;
/// The longest: a day.
const WAIT_MS_MAX: u64 = 24 * 3_600_000;
/// What is shown of the text of an answer.
const SHOWN_CHARS_MAX: usize = 200;

/// An answer that is there whole.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// `None` when it was too long to be read.
    pub(super) body: Option<Bytes>,
}

impl AnswerRules {
    /// What becomes of the job, and what the answer says of the target.
    pub(super) fn judge(&self, answer: &Answer, now: Timestamp) -> (Outcome, Verdict) {
        let status = answer.status;
        if status.is_success() {
            return (answer.result().map_or(Outcome::Done, Outcome::DoneWith), Verdict::Answered);
        }
        let wait_ms = answer.retry_after_ms(now).filter(|_| self.wait.rank(status.as_u16()) > 0);
        if let Some(wait_ms) = wait_ms {
            let delay_ms = wait_ms.clamp(WAIT_MS_MIN, WAIT_MS_MAX);
            return (Outcome::Snooze { delay_ms }, Verdict::Answered);
        }
        let verdict = if status.is_server_error() { Verdict::Failed } else { Verdict::Answered };
        let error = answer.sentence();
        match self.retry.rank(status.as_u16()) > self.reject.rank(status.as_u16()) {
            true => (Outcome::fail(error), verdict),
            false => (Outcome::reject(error), verdict),
        }
    }
}

impl Answer {
    /// The body when it can be kept as the job's result.
    fn result(&self) -> Option<Bytes> {
        let media_type = self.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = media_type.split(';').next()?.trim().to_ascii_lowercase();
        if media_type != "application/json" && !media_type.ends_with("+json") {
            return None;
        }
        let body = self.body.as_ref().filter(|body| body.len() <= RESULT_BYTES_MAX)?;
        let _: serde::de::IgnoredAny = serde_json::from_slice(body).ok()?;
        Some(body.clone())
    }

    /// `Retry-After` in seconds or as an HTTP date, from now.
    fn retry_after_ms(&self, now: Timestamp) -> Option<u64> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(
                text.parse().map_or(u64::MAX, |seconds: u64| seconds.saturating_mul(1_000)),
            );
        }
        let moment = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
        Some(Timestamp::from_ms(u64::try_from(moment).unwrap_or(0)).ms_since(now))
    }

    /// Why the job did not get done, for the people who look at it.
    fn sentence(&self) -> String {
        let status = self.status;
        let text = self.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let shown: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        let shown: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let sentence = match status.is_redirection() {
            true => format!("the target answered {status}; push follows no redirects"),
            false => format!("the target answered {status}"),
        };
        if shown.is_empty() { sentence } else { format!("{sentence}: {shown}") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::statuses::Statuses;
    use super::*;

    /// 2026-11-23T08:15:30Z
    const NOW_MS: u64 = 1_795_421_730_000;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), value.parse().unwrap())
        });
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: headers.collect(), body: Some(Bytes::from(body.to_owned())) }
    }

    fn judged(answer: &Answer) -> (Outcome, Verdict) {
        AnswerRules::default().judge(answer, Timestamp::from_ms(NOW_MS))
    }

    #[test]
    fn every_status_has_its_outcome() {
        for status in 200..600 {
            let (outcome, verdict) = judged(&answer(status, &[], ""));
            let as_it_should = match (status, &outcome) {
                (200..300, Outcome::Done) => true,
                (408 | 429 | 500.., Outcome::Fail { retry_in_ms: None, .. }) => true,
                (408 | 429, _) => false,
                (300..500, Outcome::Reject { .. }) => true,
                _ => false,
            };
            assert!(as_it_should, "{status}: {outcome:?}");
            let told = if status >= 500 { Verdict::Failed } else { Verdict::Answered };
            assert_eq!(verdict, told, "{status}");
        }
    }

    #[test]
    fn a_wait_that_the_target_asks_for_costs_no_attempt() {
        for (text, delay_ms) in [
            ("7", 7_000),
            (" 120 ", 120_000),
            ("0", WAIT_MS_MIN),
            ("99999999999999999999999", WAIT_MS_MAX),
            ("18446744073709551615", WAIT_MS_MAX),
            ("Mon, 23 Nov 2026 08:15:40 GMT", 10_000),
            ("Mon, 23 Nov 2026 08:15:20 GMT", WAIT_MS_MIN),
            ("Thu, 31 Dec 9998 23:59:59 GMT", WAIT_MS_MAX),
        ] {
            for status in [429, 503] {
                let judged = judged(&answer(status, &[("retry-after", text)], ""));
                assert_eq!(judged, (Outcome::Snooze { delay_ms }, Verdict::Answered), "{text}");
            }
        }
        for text in ["", "soon", "-1", "1.5", "+3"] {
            let (outcome, _) = judged(&answer(429, &[("retry-after", text)], ""));
            assert!(matches!(outcome, Outcome::Fail { .. }), "{text:?}: {outcome:?}");
        }
        let (outcome, _) = judged(&answer(500, &[("retry-after", "7")], ""));
        assert!(matches!(outcome, Outcome::Fail { .. }), "{outcome:?}");
    }

    #[test]
    fn json_of_a_success_is_the_result() {
        let json = "application/json; charset=utf-8";
        let kept = |kind, body: &str| match judged(&answer(200, &[("content-type", kind)], body)) {
            (Outcome::DoneWith(result), Verdict::Answered) => Some(result),
            (Outcome::Done, Verdict::Answered) => None,
            other => panic!("{other:?}"),
        };
        let largest = format!("\"{}\"", "x".repeat(RESULT_BYTES_MAX - 2));
        let cases = ["{\"pages\":3}", "null", &largest];
        for body in cases {
            assert_eq!(kept(json, body).as_deref(), Some(body.as_bytes()));
            assert!(kept("application/problem+JSON", body).is_some());
            assert_eq!(kept("text/plain", body), None);
        }
        for body in ["", "{", "1 2", &format!("{largest} ")] {
            assert_eq!(kept(json, body), None, "{body}");
        }
        let too_long = Answer { body: None, ..answer(200, &[("content-type", json)], "") };
        assert_eq!(judged(&too_long).0, Outcome::Done);
    }

    #[test]
    fn the_number_counts_before_the_class() {
        let rules = AnswerRules {
            wait: Statuses::default(),
            retry: "404, 5XX".parse().unwrap(),
            reject: "4xx,501".parse().unwrap(),
        };
        rules.validate().unwrap();
        let now = Timestamp::from_ms(NOW_MS);
        let is_retried =
            |status| match rules.judge(&answer(status, &[("retry-after", "1")], ""), now) {
                (Outcome::Fail { .. }, _) => true,
                (Outcome::Reject { .. }, _) => false,
                other => panic!("{other:?}"),
            };
        assert_eq!([404, 500, 503].map(is_retried), [true; 3]);
        assert_eq!([400, 501, 429, 302].map(is_retried), [false; 4]);
    }

    #[test]
    fn the_error_says_what_the_target_said() {
        let said = |status, body| match judged(&answer(status, &[], body)).0 {
            Outcome::Reject { error } | Outcome::Fail { error, .. } => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            said(422, " no\nsuch user "),
            "the target answered 422 Unprocessable Entity: no such user"
        );
        assert_eq!(said(500, ""), "the target answered 500 Internal Server Error");
        assert!(said(301, "").contains("no redirects"));
        assert!(said(400, &"é".repeat(5_000)).chars().count() < 300);
    }
}
