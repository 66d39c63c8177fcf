//! Why a call was not done: nobody there, no answer, or a refusal with the node's own sentence.

use serde::Deserialize;

use crate::error::{Error, ErrorKind};

/// What came back.
pub(in crate::cli) struct Reply {
    pub(in crate::cli) status: u16,
    pub(in crate::cli) retry_after_s: Option<u64>,
    pub(in crate::cli) body: Vec<u8>,
}

/// Why a call failed.
#[derive(Debug)]
pub(in crate::cli) enum Failure {
    /// Nothing was sent.
    Unreachable(String),
    /// It was sent, and what became of it is not known.
    Lost(String),
    /// The node did not do it.
    Refused(Refusal),
}

/// What a node says to a call that it did not do (RFC 9457).
#[derive(Debug)]
pub(in crate::cli) struct Refusal {
    pub(in crate::cli) code: String,
    pub(in crate::cli) sentence: String,
    pub(in crate::cli) field: Option<String>,
    pub(in crate::cli) retry_after_s: Option<u64>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    field: Option<String>,
}

impl Failure {
    pub(super) fn of(node: &str, is_read: bool, reason: &ureq::Error) -> Failure {
        use ureq::{Error, Timeout};
        let refused = |reason: &std::io::Error| {
            matches!(
                reason.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable
            )
        };
        match reason {
            Error::HostNotFound
            | Error::ConnectionFailed
            | Error::Http(_)
            | Error::BadUri(_)
            | Error::Timeout(Timeout::Resolve | Timeout::Connect) => {}
            Error::Io(reason) if refused(reason) => {}
            other => return Failure::broken_off(node, is_read, other),
        }
        let sentence = format!("{node} can't be reached: {reason}; is a node running there?");
        Failure::Unreachable(sentence)
    }

    pub(super) fn broken_off(node: &str, is_read: bool, reason: &ureq::Error) -> Failure {
        let doubt = if is_read { "" } else { "; whether it did the call is not known" };
        Failure::Lost(format!("{node} did not answer to the end: {reason}{doubt}"))
    }
}

impl Refusal {
    pub(in crate::cli) fn read(node: &str, reply: &Reply) -> Refusal {
        let retry_after_s = reply.retry_after_s;
        match serde_json::from_slice(&reply.body) {
            Ok(Problem { code, detail, field }) => {
                Refusal { code, sentence: detail, field, retry_after_s }
            }
            Err(_) => Refusal {
                code: String::new(),
                sentence: format!("{node} answers {}; is it a pulk node?", reply.status),
                field: None,
                retry_after_s,
            },
        }
    }

    fn kind(&self) -> ErrorKind {
        match self.code.as_str() {
            "bad_request" => ErrorKind::Invalid,
            "not_found" => ErrorKind::NotFound,
            "storage_failed" => ErrorKind::Poisoned,
            _ => ErrorKind::Conflict,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Unreachable(sentence) | Failure::Lost(sentence) => {
                Error::new(ErrorKind::Conflict, sentence)
            }
            Failure::Refused(refusal) => Error::new(refusal.kind(), refusal.sentence),
        }
    }
}
