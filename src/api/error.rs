//! Problems: the only map from an error to a status, a stable code and JSON (RFC 9457).

use std::any::Any;
use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::BODY_BYTES_MAX;
use crate::error::{Error, ErrorKind};

/// How long a client should wait before it tries again when the error does not say, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A stable code, the status it comes with, and what it tells a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) name: &'static str,
    pub(super) status: StatusCode,
    pub(super) meaning: &'static str,
}

/// One line for each code; `/openapi.json` lists them in this order.
macro_rules! codes {
    ($($code:ident $status:ident $name:literal $meaning:literal)*) => {
        impl Code {
            $(pub(super) const $code: Code =
                Code { name: $name, status: StatusCode::$status, meaning: $meaning };)*

            /// Every code that a client can get.
            pub(super) const ALL: &[Code] = &[$(Code::$code),*];
        }
    };
}

codes! {
    BAD_REQUEST BAD_REQUEST "bad_request"
        "The call is wrong; `field` names what to change."
    NOT_FOUND NOT_FOUND "not_found"
        "There is no such thing here (any more)."
    METHOD_NOT_ALLOWED METHOD_NOT_ALLOWED "method_not_allowed"
        "This path takes other methods; `Allow` names them."
    TIMEOUT REQUEST_TIMEOUT "timeout"
        "The body did not come in time; send it faster or in smaller parts."
    CONFLICT CONFLICT "conflict"
        "It is not in a state in which this can be done."
    LEASE_LOST CONFLICT "lease_lost"
        "The token holds no lease (any more); drop the result."
    CANCELLED CONFLICT "cancelled"
        "The job was cancelled while it ran; drop the result."
    TOO_LARGE PAYLOAD_TOO_LARGE "too_large"
        "More bytes than a limit allows; send less in one call."
    UNSUPPORTED_MEDIA_TYPE UNSUPPORTED_MEDIA_TYPE "unsupported_media_type"
        "The body is not JSON, or says that it is not."
    QUEUE_FULL TOO_MANY_REQUESTS "queue_full"
        "No more of this is taken for now; try again after `Retry-After` seconds."
    TOO_MANY_QUEUES TOO_MANY_REQUESTS "too_many_queues"
        "A new queue would be one too many; use one that is there."
    DISK_FULL INSUFFICIENT_STORAGE "disk_full"
        "The disk has no room for more jobs; what is here can still be finished."
    DEFECT INTERNAL_SERVER_ERROR "defect"
        "A defect of pulk; whether the call was done is not known."
    STARTING SERVICE_UNAVAILABLE "starting"
        "The queue is being opened; try again after `Retry-After` seconds."
    DRAINING SERVICE_UNAVAILABLE "draining"
        "The node is shutting down; try again after its restart."
    TOO_MANY_CONNECTIONS SERVICE_UNAVAILABLE "too_many_connections"
        "All connections of the node are in use; try again after `Retry-After` seconds."
    STORAGE_FAILED SERVICE_UNAVAILABLE "storage_failed"
        "The store has failed; the node must be started again."
}

/// What a client is told when its call was not done.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    field: Option<String>,
    /// The job that stands in the way.
    id: Option<String>,
    retry_after_ms: Option<u64>,
}

impl Problem {
    fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { code, detail: detail.into(), field: None, id: None, retry_after_ms: None }
    }

    /// The stable code.
    pub(super) fn code(&self) -> &'static str {
        self.code.name
    }

    pub(super) fn starting() -> Self {
        Self::new(Code::STARTING, "the queue is being opened; try again in a moment")
    }

    pub(super) fn body_too_large() -> Self {
        Self::new(
            Code::TOO_LARGE,
            format!("the body is over {BODY_BYTES_MAX} bytes; send less in one call"),
        )
    }

    pub(super) fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// The body of a request took longer than `timeout_ms`.
    pub(super) fn body_timeout(timeout_ms: u64) -> Self {
        let detail = format!(
            "the body was not complete after {timeout_ms} ms; send it faster or in smaller parts"
        );
        Self::new(Code::TIMEOUT, detail)
    }

    /// Every connection that the node may have is at work.
    pub(crate) fn too_many_connections() -> Self {
        Self::new(
            Code::TOO_MANY_CONNECTIONS,
            "every connection of the node is in use; try again in a moment, and reuse connections",
        )
    }

    /// What the error says, rounded up; a second where it says nothing and waiting may help.
    fn retry_after_seconds(&self) -> Option<u64> {
        let told = self.retry_after_ms.map(|ms| ms.div_ceil(1_000).max(1));
        told.or(self.code.asks_to_wait().then_some(RETRY_AFTER_SECONDS))
    }
}

impl Code {
    /// True when the answer has a `Retry-After`.
    pub(super) fn asks_to_wait(self) -> bool {
        matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        )
    }
}

/// The code of each kind of error; with it goes the status.
fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::BAD_REQUEST,
        ErrorKind::NotFound => Code::NOT_FOUND,
        ErrorKind::Conflict => Code::CONFLICT,
        ErrorKind::LeaseLost => Code::LEASE_LOST,
        ErrorKind::Cancelled => Code::CANCELLED,
        ErrorKind::TooLarge => Code::TOO_LARGE,
        ErrorKind::Full => Code::QUEUE_FULL,
        ErrorKind::TooManyQueues => Code::TOO_MANY_QUEUES,
        ErrorKind::DiskFull => Code::DISK_FULL,
        ErrorKind::Draining => Code::DRAINING,
        ErrorKind::Poisoned
        | ErrorKind::Corrupt
        | ErrorKind::Storage
        | ErrorKind::Locked
        | ErrorKind::Configuration => Code::STORAGE_FAILED,
    }
}

/// The stable code of an error that is told inside an answer.
pub(super) fn code(error: &Error) -> &'static str {
    code_of(error.kind()).name
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let field = error.field().map(str::to_owned);
        let id = error.job().map(str::to_owned);
        let (code, retry_after_ms) = (code_of(error.kind()), error.retry_after());
        Problem { code, detail: error.to_string().into(), field, id, retry_after_ms }
    }
}

/// Why a call was not done, as problem+json (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemReply<'a> {
    /// Always `about:blank`: the code says what happened.
    r#type: &'static str,
    /// The status in words.
    title: &'a str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened, for programs; it stays the same from version to version.
    #[schema(schema_with = super::openapi::code_schema)]
    code: &'a str,
    /// What happened, to what, and what to do: a sentence for people.
    detail: &'a str,
    /// The field of the call that is at fault, with its place: `jobs[3].kind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'a str>,
    /// The job that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let reply = ProblemReply {
            r#type: "about:blank",
            title: self.code.status.canonical_reason().unwrap_or("Error"),
            status: self.code.status.as_u16(),
            code: self.code.name,
            detail: &self.detail,
            field: self.field.as_deref(),
            id: self.id.as_deref(),
        };
        let body = serde_json::to_vec(&reply).unwrap_or_default();
        let mut response = (self.code.status, body).into_response();
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == Code::TIMEOUT {
            // What is missing of the body may still come; nothing can follow it.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// The answer to a path that no route matches.
pub(super) async fn unknown_route(uri: Uri) -> Problem {
    let detail = format!("there is no {} here; the calls are listed in the manual", uri.path());
    Problem::new(Code::NOT_FOUND, detail)
}

/// The answer to a method that a route does not have; the router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; see the Allow header", uri.path());
    Problem::new(Code::METHOD_NOT_ALLOWED, detail)
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
        Code::DEFECT,
        "this request met a defect of pulk; whether it was done is not known",
    )
    .into_response()
}
