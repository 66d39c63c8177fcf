//! A job as an HTTP request: CloudEvents 1.0 in binary mode, with the payload as the body.

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::signature::{Secret, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use super::url::TargetUrl;
use crate::clock::Timestamp;
use crate::job::Payload;
use crate::worker::{Job, TRACEPARENT};

/// Stands before the names of the job's own headers.
const JOB_HEADER: &str = "pulk-header-";
/// Goes with `traceparent` (W3C Trace Context).
const TRACESTATE: &str = "tracestate";
const SENDER: &str = concat!("pulk/", env!("CARGO_PKG_VERSION"));

/// What a value is escaped by: the CloudEvents HTTP binding wants the space, `"`, `%` and all
/// but printable ASCII as `%` and two digits.
const VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// A name: all that a header's name may not have, and `%` itself. Capitals become small letters.
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The headers of the request for a job.
pub(super) fn headers(
    job: &Job,
    url: &TargetUrl,
    secret: Option<&Secret>,
    now: Timestamp,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        // Escaped, each is good; and an empty name can't be.
        if let (Ok(name), Ok(value)) = (name, escaped(value).parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    };
    let id = job.id.to_string();
    put("ce-specversion", "1.0");
    put("ce-id", &id);
    put("ce-source", &format!("/pulk/queues/{}", job.queue));
    put("ce-type", &job.kind);
    put("ce-time", &job.id.born_at().to_string());
    put("ce-queue", &job.queue);
    put("ce-priority", job.priority.as_str());
    put("ce-attempt", &job.attempt.to_string());
    put("ce-maxattempts", &job.max_attempts.to_string());
    if let Some(deadline) = job.deadline {
        put("ce-deadline", &deadline.to_string());
    }
    for (name, value) in &job.headers {
        match name.as_str() {
            TRACEPARENT | TRACESTATE => put(name, value),
            _ => put(&format!("{JOB_HEADER}{}", utf8_percent_encode(name, NAME)), value),
        }
    }
    put(WEBHOOK_ID, &id);
    put(WEBHOOK_TIMESTAMP, &(now.as_ms() / 1_000).to_string());
    if let Some(secret) = secret {
        put(WEBHOOK_SIGNATURE, &secret.sign(&id, now, job.payload.bytes()));
    }
    let media_type = match job.payload {
        Payload::Json(_) => "application/json",
        Payload::Binary(_) => "application/octet-stream",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(USER_AGENT, HeaderValue::from_static(SENDER));
    if let Some(authorization) = url.authorization() {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    headers
}

fn escaped(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::job::JobId;
    use crate::priority::Priority;
    use crate::queue::ClaimedJob;
    use crate::worker::job::Progress;

    fn job(headers: BTreeMap<String, String>, timeout_ms: Option<u64>) -> Job {
        let id: JobId = "01M839HZ1R0000005000000001".parse().unwrap();
        let claimed = ClaimedJob {
            id,
            queue: "mails".to_owned(),
            kind: "mail.welcome".to_owned(),
            priority: Priority::High,
            payload: Payload::Json("{}".into()),
            headers,
            attempt: 2,
            max_attempts: 3,
            timeout_ms,
            token: format!("{id}-1").parse().unwrap(),
            expires_at: Timestamp::from_ms(0),
        };
        let started = Timestamp::from_ms(1_795_421_730_000);
        Job::new(claimed, started, CancellationToken::new(), Progress::default())
    }

    fn sent(job: &Job, secret: Option<&str>) -> HeaderMap {
        let secret = secret.map(|text| Secret::new(text).unwrap());
        let url = "http://me:pw@host/".parse().unwrap();
        headers(job, &url, secret.as_ref(), Timestamp::from_ms(1_795_421_731_500))
    }

    #[test]
    fn a_job_is_an_event_in_binary_mode() {
        let own = [("traceparent", "00-ab-cd-01"), ("Tenant", "Zoë \"&\" 100%")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sent = sent(&job(own.into(), Some(1_000)), Some("secret"));
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "01M839HZ1R0000005000000001"),
            ("ce-source", "/pulk/queues/mails"),
            ("ce-type", "mail.welcome"),
            ("ce-queue", "mails"),
            ("ce-priority", "high"),
            ("ce-attempt", "2"),
            ("ce-maxattempts", "3"),
            ("ce-deadline", "2026-11-23T08:15:31.000Z"),
            ("content-type", "application/json"),
            ("authorization", "Basic bWU6cHc="),
            ("traceparent", "00-ab-cd-01"),
            ("pulk-header-tenant", "Zo%C3%AB%20%22&%22%20100%25"),
            ("webhook-id", "01M839HZ1R0000005000000001"),
            ("webhook-timestamp", "1795421731"),
        ] {
            assert_eq!(sent.get(name).map(|value| value.to_str().unwrap()), Some(value), "{name}");
        }
        let time = sent["ce-time"].to_str().unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        assert!(sent["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    }

    #[test]
    fn what_is_not_there_is_not_sent() {
        let sent = sent(&job(BTreeMap::new(), None), None);
        for name in ["ce-deadline", "webhook-signature", "traceparent"] {
            assert!(!sent.contains_key(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_header_of_a_job_can_be_read_back(name in ".{1,40}", value in ".{0,80}") {
            let own = BTreeMap::from([(name.clone(), value.clone())]);
            let sent = sent(&job(own, None), None);
            let read = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            let found = sent.iter().find_map(|(sent, value)| {
                let own = sent.as_str().strip_prefix(JOB_HEADER)?;
                Some((read(own), read(value.to_str().unwrap())))
            });
            prop_assert_eq!(found, Some((name.to_ascii_lowercase(), value)));
        }
    }
}
