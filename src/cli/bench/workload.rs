//! What can be measured: each workload by its name, and how large a run makes it.

use std::ops::RangeInclusive;

use crate::error::{Error, ErrorKind, Result};
use crate::job::limits::{BATCH_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// The payloads that a workload may be asked for, in bytes: a JSON text has two quotes at least.
pub(super) const PAYLOAD_BYTES: RangeInclusive<u64> = 2..=PAYLOAD_BYTES_MAX as u64;
/// What a job in a batch takes beside its payload, at most, in bytes.
const JOB_BYTES: usize = 200;

/// One thing to measure.
#[derive(Debug)]
pub(super) struct Workload {
    /// As `--only` takes it.
    pub(super) name: &'static str,
    pub(super) work: Work,
    /// Connections, or callers of an embedded queue; in a cycle so many that enqueue, and as many
    /// that claim.
    pub(super) clients: usize,
    /// Jobs that one call enqueues or claims.
    pub(super) jobs_per_call: usize,
    pub(super) variety: Variety,
    /// In bytes; `None`: as the run says.
    payload_bytes: Option<usize>,
    has_backlog: bool,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Enqueue,
    /// Claim what was enqueued before, the acks of one call in the next.
    Claim,
    /// Claim, the ack in the next call, while others enqueue.
    Cycle,
}

/// How the jobs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variety {
    Plain,
    /// The five priorities in turn.
    Priorities,
    /// Due in an hour and later.
    Delayed,
}

const ENQUEUE: Workload = Workload {
    name: "",
    work: Work::Enqueue,
    clients: 16,
    jobs_per_call: 1,
    variety: Variety::Plain,
    payload_bytes: None,
    has_backlog: false,
};
const BATCH: Workload = Workload { clients: 8, ..ENQUEUE };
const CLAIM: Workload = Workload { work: Work::Claim, clients: 8, ..ENQUEUE };
const CYCLE: Workload = Workload { work: Work::Cycle, clients: 64, ..ENQUEUE };

/// All there are, in the order in which they are run.
pub(super) static WORKLOADS: [Workload; 18] = [
    Workload { name: "enqueue-1", clients: 1, ..ENQUEUE },
    Workload { name: "enqueue-16", clients: 16, ..ENQUEUE },
    Workload { name: "enqueue-64", clients: 64, ..ENQUEUE },
    Workload { name: "enqueue-256", clients: 256, ..ENQUEUE },
    Workload { name: "batch-10", jobs_per_call: 10, ..BATCH },
    Workload { name: "batch-100", jobs_per_call: 100, ..BATCH },
    Workload { name: "batch-1000", jobs_per_call: 1_000, ..BATCH },
    Workload { name: "claim-1", jobs_per_call: 1, ..CLAIM },
    Workload { name: "claim-10", jobs_per_call: 10, ..CLAIM },
    Workload { name: "claim-100", jobs_per_call: 100, ..CLAIM },
    Workload { name: "cycle", ..CYCLE },
    Workload { name: "priorities", variety: Variety::Priorities, ..CYCLE },
    Workload { name: "backlog", has_backlog: true, ..CYCLE },
    Workload { name: "delayed", jobs_per_call: 100, variety: Variety::Delayed, ..BATCH },
    Workload { name: "payload-256", payload_bytes: Some(256), ..ENQUEUE },
    Workload { name: "payload-1k", payload_bytes: Some(1 << 10), ..ENQUEUE },
    Workload { name: "payload-16k", payload_bytes: Some(16 << 10), ..ENQUEUE },
    Workload { name: "payload-256k", payload_bytes: Some(256 << 10), ..ENQUEUE },
];

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Jobs of a round.
    pub(super) jobs: usize,
    /// Fewer jobs where their payloads together would be more than this, in bytes.
    pub(super) round_bytes_max: usize,
    pub(super) payload_bytes: usize,
    /// Jobs that wait in front, where a workload has some.
    pub(super) backlog: usize,
}

/// A workload as a run does it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) workload: &'static Workload,
    /// Jobs of a round: whole calls.
    pub(super) jobs: usize,
    pub(super) payload_bytes: usize,
    pub(super) backlog: usize,
}

impl Plan {
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when a call would be larger than a queue takes.
    pub(super) fn new(workload: &'static Workload, size: Size) -> Result<Plan> {
        let payload_bytes = workload.payload_bytes.unwrap_or(size.payload_bytes);
        let per_call = workload.jobs_per_call;
        if workload.work == Work::Enqueue && per_call > jobs_in_a_batch(payload_bytes) {
            let name = workload.name;
            let sentence = format!(
                "--payload-bytes {payload_bytes} is too much for {name}: a batch of {per_call} \
                 would be over {} MiB; take less, or leave {name} out with --only",
                BATCH_BYTES_MAX >> 20
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        let jobs = size.jobs.min(size.round_bytes_max / payload_bytes).max(1);
        let jobs = jobs.div_ceil(per_call) * per_call;
        let backlog = if workload.has_backlog { size.backlog } else { 0 };
        Ok(Plan { workload, jobs, payload_bytes, backlog })
    }
}

/// How many jobs with such payloads fit in one batch, at most 1,000.
pub(super) fn jobs_in_a_batch(payload_bytes: usize) -> usize {
    (BATCH_BYTES_MAX / (payload_bytes + JOB_BYTES)).clamp(1, 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> &'static Workload {
        WORKLOADS.iter().find(|workload| workload.name == name).unwrap()
    }

    #[test]
    fn a_round_is_whole_calls_and_not_too_many_bytes() {
        let size = Size { jobs: 205, round_bytes_max: 16 << 20, payload_bytes: 100, backlog: 7 };
        let jobs = |name: &str| Plan::new(named(name), size).unwrap().jobs;
        assert_eq!((jobs("enqueue-1"), jobs("batch-10"), jobs("batch-1000")), (205, 210, 1_000));
        assert_eq!(jobs("payload-256k"), 64);
        let backlog = |name: &str| Plan::new(named(name), size).unwrap().backlog;
        assert_eq!((backlog("backlog"), backlog("cycle")), (7, 0));
    }

    #[test]
    fn a_batch_that_no_queue_takes_is_refused() {
        let size = |payload_bytes| Size { jobs: 1, round_bytes_max: 1, payload_bytes, backlog: 0 };
        assert!(Plan::new(named("batch-1000"), size(3_000)).is_ok());
        let refused = Plan::new(named("batch-1000"), size(5_000)).unwrap_err().to_string();
        assert!(refused.contains("--payload-bytes 5000") && refused.contains("batch-1000"));
        assert!(Plan::new(named("enqueue-1"), size(PAYLOAD_BYTES_MAX)).is_ok());
    }

    #[test]
    fn no_two_workloads_have_one_name() {
        let names: std::collections::BTreeSet<_> = WORKLOADS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
    }
}
