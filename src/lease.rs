//! The right to finish a job, and the token that proves it.
//!
//! # Overview
//! Every claim of a job makes a lease: its holder may ack, fail, extend or release the job until
//! the lease ends. Its token is the job's id and the number of the delivery.
//!
//! # Who is authoritative
//! The queue alone. A lease lives until the queue ends it; a worker's own clock decides nothing.
//!
//! # Time
//! A deadline is a moment of the queue's clock. When that clock steps backwards, deadlines step
//! with it; after a restart, leases that ran out meanwhile get some seconds more, because the
//! worker had nobody to tell.
//!
//! # Failure handling
//! The delivery number goes up with every claim and is never used again: an old token meets
//! [`LeaseLost`](crate::ErrorKind::LeaseLost) and changes nothing, whoever sends it, whenever.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::error::{Error, Result};
use crate::job::JobId;

/// The shortest lease, in milliseconds.
pub const LEASE_MS_MIN: u64 = 1;
/// The lease of a claim that names none, in milliseconds.
pub const LEASE_MS_DEFAULT: u64 = 30_000;
/// The longest lease, in milliseconds: 24 hours. Longer work extends it.
pub const LEASE_MS_MAX: u64 = 24 * 3_600_000;

/// A fencing token: this delivery of this job. Opaque to those who hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    pub(crate) job: JobId,
    pub(crate) delivery: u32,
}

impl LeaseToken {
    /// The job it is for.
    #[must_use]
    pub fn job(self) -> JobId {
        self.job
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.job, self.delivery)
    }
}

impl FromStr for LeaseToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split_once('-')
            .and_then(|(job, delivery)| {
                Some(LeaseToken { job: job.parse().ok()?, delivery: delivery.parse().ok()? })
            })
            .filter(|token| token.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::invalid("token", format!("{text:?} is not a token that a claim handed out"))
            })
    }
}

impl Serialize for LeaseToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl ToSchema for LeaseToken {}

impl PartialSchema for LeaseToken {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        let description = "Proves the right to finish this delivery of a job, as a claim handed \
            it out. Opaque: keep it, send it back, don't take it apart.";
        let token = ObjectBuilder::new().schema_type(Type::String).max_length(Some(37));
        let token = token.description(Some(description));
        token.examples(["01M839HZ1R0000005000000001-1"]).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_goes_there_and_back(job: u128, delivery: u32) {
            let token = LeaseToken { job: JobId::from_u128(job), delivery };
            prop_assert_eq!(token.to_string().parse::<LeaseToken>().unwrap(), token);
        }

        #[test]
        fn any_text_is_a_token_or_an_error(text in ".{0,40}") {
            prop_assert!(text.parse::<LeaseToken>().is_err() || text.contains('-'));
        }
    }
}
