//! Which job is next, and why.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::priority::Priority;
use crate::queue::{Candidate, Next, NextJob, Skipped};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainQuery {
    /// `next`: tell also which job is next, and why.
    #[param(pattern = "^(next)?$", example = "next")]
    explain: Option<String>,
}

impl ExplainQuery {
    /// `?explain=` without a value asks for nothing.
    pub(super) fn wants_next(&self) -> Result<bool> {
        match self.explain.as_deref() {
            None | Some("") => Ok(false),
            Some("next") => Ok(true),
            Some(other) => {
                Err(Error::invalid("explain", format!("{other:?} can't be explained; use next")))
            }
        }
    }
}

/// Which job is next, and why: the one that a claim for one job of any queue, priority and kind
/// would get now.
#[derive(Serialize, ToSchema)]
#[schema(as = Next)]
pub(super) struct NextReply<'a> {
    /// The job; not there when none is to be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<NextJobReply<'a>>,
    /// What it counts as, having waited so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    counts_as: Option<Priority>,
    /// How long it has been ready, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    waited_ms: Option<u64>,
    /// Why it is this one, or why it is none: a sentence or two.
    why: &'a str,
    /// Queues and priorities with ready jobs in the order in which they are served, then those
    /// that are skipped; at most 100.
    candidates: Vec<CandidateReply<'a>>,
}

/// The job that is next.
#[derive(Serialize, ToSchema)]
#[schema(as = NextJob)]
struct NextJobReply<'a> {
    /// Its id.
    id: JobId,
    /// Its queue.
    queue: &'a str,
    /// What is to be done.
    kind: &'a str,
    /// How urgent it is by itself.
    priority: Priority,
}

/// A queue at one priority in which jobs are ready.
#[derive(Serialize, ToSchema)]
#[schema(as = Candidate)]
struct CandidateReply<'a> {
    /// The queue.
    queue: &'a str,
    /// The priority of its jobs.
    priority: Priority,
    /// What the first of them counts as.
    counts_as: Priority,
    /// How many jobs are ready.
    ready: u64,
    /// How long the first of them has been ready, in milliseconds.
    waited_ms: u64,
    /// Why it is not served; not there when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    skipped: Option<Skipped>,
    /// When that is over; only for `rate_limited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until: Option<Timestamp>,
}

impl<'a> NextReply<'a> {
    pub(super) fn new(next: &'a Next) -> Self {
        let job = next.job.as_ref();
        NextReply {
            job: job.map(|NextJob { id, queue, kind, priority, .. }| NextJobReply {
                id: *id,
                queue,
                kind,
                priority: *priority,
            }),
            counts_as: job.map(|job| job.counts_as),
            waited_ms: job.map(|job| job.waited_ms),
            why: &next.why,
            candidates: next.candidates.iter().map(CandidateReply::new).collect(),
        }
    }
}

impl<'a> CandidateReply<'a> {
    fn new(candidate: &'a Candidate) -> Self {
        let Candidate { queue, priority, counts_as, ready, waited_ms, skipped, until } = candidate;
        CandidateReply {
            queue,
            priority: *priority,
            counts_as: *counts_as,
            ready: *ready,
            waited_ms: *waited_ms,
            skipped: *skipped,
            until: *until,
        }
    }
}
