//! Problems: the only map from an error to a status, a stable code and JSON (RFC 9457).

use std::any::Any;
use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::BODY_BYTES_MAX;
use crate::error::{Error, ErrorKind};

/// How long a client should wait before it tries a node again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;
/// The same while its disk is full, which takes longer to change.
const RETRY_AFTER_FULL_SECONDS: u32 = 10;

/// What a client is told when its call was not done.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    field: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { status, code, detail: detail.into(), field: None }
    }

    /// The stable code.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn starting() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting",
            "the queue is being opened; try again in a moment",
        )
    }

    pub(super) fn body_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is over {BODY_BYTES_MAX} bytes; send less in one call"),
        )
    }

    pub(super) fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    fn retry_after_seconds(&self) -> Option<u32> {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some(RETRY_AFTER_SECONDS)
            }
            StatusCode::INSUFFICIENT_STORAGE => Some(RETRY_AFTER_FULL_SECONDS),
            _ => None,
        }
    }
}

/// The status and the stable code of each kind of error.
fn status_and_code(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "bad_request"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorKind::Conflict => (StatusCode::CONFLICT, "conflict"),
        ErrorKind::LeaseLost => (StatusCode::CONFLICT, "lease_lost"),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        ErrorKind::Full => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
        ErrorKind::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
        ErrorKind::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        ErrorKind::Poisoned
        | ErrorKind::Corrupt
        | ErrorKind::Storage
        | ErrorKind::Locked
        | ErrorKind::Configuration => (StatusCode::SERVICE_UNAVAILABLE, "storage_failed"),
    }
}

/// The stable code of an error that is told inside an answer.
pub(super) fn code(error: &Error) -> &'static str {
    status_and_code(error.kind()).1
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = status_and_code(error.kind());
        let field = error.field().map(str::to_owned);
        Problem { status, code, detail: error.to_string().into(), field }
    }
}

#[derive(Serialize)]
struct ProblemReply<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let reply = ProblemReply {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        let body = serde_json::to_vec(&reply).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The answer to a path that no route matches.
pub(super) async fn unknown_route(uri: Uri) -> Problem {
    let detail = format!("there is no {} here; the calls are listed in the manual", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// The answer to a method that a route does not have; the router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; see the Allow header", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// The answer when a handler panicked, which is a defect of pulk. The node goes on.
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> axum::http::Response<Body> {
    let reason = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(reason, "A request met a defect of pulk; please report it");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "defect",
        "this request met a defect of pulk; whether it was done is not known",
    )
    .into_response()
}
