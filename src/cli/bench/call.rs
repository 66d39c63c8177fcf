//! Calls that enqueue, made once and sent often: making them is no part of what is measured.

use bytes::Bytes;

use super::workload::{Plan, Variety, jobs_in_a_batch};
use crate::error::Result;
use crate::job::{NewJob, Payload, RunAt};
use crate::priority::Priority;

/// The kind of every job that a bench enqueues.
const KIND: &str = "pulk-bench";
/// The first delayed job is due so long after its enqueue: after the end of any run.
const DELAY_MS: u64 = 3_600_000;

/// Jobs that are enqueued together.
pub(super) struct EnqueueCall {
    pub(super) jobs: Vec<NewJob>,
    /// The same for a node.
    pub(super) body: Bytes,
}

impl EnqueueCall {
    fn new(jobs: Vec<NewJob>) -> EnqueueCall {
        let bodies: Vec<String> = jobs.iter().map(body).collect();
        let body = match bodies.as_slice() {
            [one] => one.clone(),
            many => format!(r#"{{"jobs":[{}]}}"#, many.join(",")),
        };
        EnqueueCall { jobs, body: body.into() }
    }
}

/// The calls of a plan, to be made in turn.
///
/// # Errors
/// None that a caller could cause.
pub(super) fn calls(plan: &Plan, queue: &str) -> Result<Vec<EnqueueCall>> {
    let per_call = plan.workload.jobs_per_call;
    let plain = job(plan, queue)?;
    let calls = match plan.workload.variety {
        Variety::Plain => vec![vec![plain; per_call]],
        Variety::Priorities => {
            let each = Priority::ALL.map(|priority| vec![plain.clone().priority(priority)]);
            each.into()
        }
        Variety::Delayed => {
            let delays = (0..per_call as u64).map(|number| DELAY_MS + 1_000 * number);
            vec![delays.map(|ms| plain.clone().run_at(RunAt::DelayMs(ms))).collect()]
        }
    };
    Ok(calls.into_iter().map(EnqueueCall::new).collect())
}

/// The calls that put so many plain jobs in the queue, each with how often it is to be made.
///
/// # Errors
/// None that a caller could cause.
pub(super) fn filling(plan: &Plan, queue: &str, jobs: usize) -> Result<Vec<(EnqueueCall, usize)>> {
    let (plain, most) = (job(plan, queue)?, jobs_in_a_batch(plan.payload_bytes));
    let sizes = [(most, jobs / most), (jobs % most, usize::from(!jobs.is_multiple_of(most)))];
    let calls = sizes.into_iter().filter(|(_, times)| *times > 0);
    Ok(calls.map(|(size, times)| (EnqueueCall::new(vec![plain.clone(); size]), times)).collect())
}

fn job(plan: &Plan, queue: &str) -> Result<NewJob> {
    let payload = Payload::json(&"x".repeat(plan.payload_bytes.saturating_sub(2)))?;
    Ok(NewJob::new(KIND).queue(queue).payload(payload))
}

/// A job as JSON. No name here has a character in it that would need escaping.
fn body(job: &NewJob) -> String {
    let (queue, kind, priority) = (&job.queue, &job.kind, job.priority);
    let payload = String::from_utf8_lossy(job.payload.bytes());
    let delay = match job.run_at {
        RunAt::DelayMs(ms) => format!(r#","delay_ms":{ms}"#),
        RunAt::Now | RunAt::At(_) => String::new(),
    };
    let names = format!(r#""queue":"{queue}","kind":"{kind}","priority":"{priority}""#);
    format!(r#"{{{names},"payload":{payload}{delay}}}"#)
}

#[cfg(test)]
mod tests {
    use super::super::workload::{Size, WORKLOADS};
    use super::*;

    fn plan(name: &str) -> Plan {
        let size = Size { jobs: 10, round_bytes_max: 1 << 20, payload_bytes: 20, backlog: 0 };
        let workload = WORKLOADS.iter().find(|workload| workload.name == name).unwrap();
        Plan::new(workload, size).unwrap()
    }

    #[test]
    fn a_call_says_the_same_to_a_node_and_to_a_queue() {
        let single = calls(&plan("enqueue-1"), "q").unwrap();
        let said: serde_json::Value = serde_json::from_slice(&single[0].body).unwrap();
        assert_eq!(single[0].jobs[0].payload.bytes().len(), 20);
        assert_eq!(said["payload"].as_str().unwrap().len(), 18);
        assert_eq!((&said["queue"], &said["priority"]), (&"q".into(), &"default".into()));

        let delayed = calls(&plan("delayed"), "q").unwrap();
        let said: serde_json::Value = serde_json::from_slice(&delayed[0].body).unwrap();
        assert_eq!((delayed[0].jobs.len(), said["jobs"].as_array().unwrap().len()), (100, 100));
        assert_eq!(said["jobs"][99]["delay_ms"], DELAY_MS + 99_000);
        assert_eq!(calls(&plan("priorities"), "q").unwrap().len(), 5);
    }

    #[test]
    fn a_queue_is_filled_with_as_many_jobs_as_were_asked_for() {
        for jobs in [0, 1, 999, 1_000, 2_500] {
            let filling = filling(&plan("cycle"), "q", jobs).unwrap();
            let filled: usize = filling.iter().map(|(call, times)| call.jobs.len() * times).sum();
            assert_eq!(filled, jobs);
        }
    }
}
