//! What the worlds must have met, all together: else they prove less than they say.

use std::collections::BTreeMap;

/// Every call, with all that it can come to here. `lost` is an answer that nobody got.
const CALLS: &[(&str, &str)] = &[
    ("enqueue", "ok lost Conflict Full TooManyQueues Draining Invalid"),
    ("enqueue_many", "ok Conflict Full Invalid"),
    ("claim", "ok lost Poisoned Draining"),
    ("ack", "ok lost LeaseLost Cancelled Poisoned"),
    ("ack_with_result", "ok LeaseLost Invalid"),
    ("fail", "ok LeaseLost Cancelled"),
    ("settle", "ok"),
    ("extend", "ok LeaseLost Invalid"),
    ("release", "ok LeaseLost Cancelled"),
    ("job", "ok NotFound"),
    ("find", "ok NotFound"),
    ("cancel", "ok NotFound"),
    ("queue", "ok NotFound"),
    ("pause", "ok NotFound"),
    ("resume", "ok NotFound"),
    ("set_limits", "ok Invalid"),
    ("remove_queue", "ok NotFound Conflict"),
    ("purge", "ok NotFound"),
    ("jobs", "ok Invalid"),
    ("dead_letters", "ok"),
    ("dead_letter", "ok NotFound Conflict"),
    ("edit_dead_letter", "ok NotFound Conflict Invalid"),
    ("delete_dead_letter", "ok NotFound Conflict"),
    ("purge_dead_letters", "ok"),
    ("replay", "ok NotFound Conflict"),
    ("replay_many", "ok Invalid"),
    ("replay_status", "ok NotFound"),
    ("cancel_replay", "ok NotFound"),
    ("put_schedule", "ok Invalid"),
    ("schedule", "ok NotFound"),
    ("schedules", "ok"),
    ("remove_schedule", "ok NotFound"),
    ("pause_schedule", "ok NotFound"),
    ("resume_schedule", "ok NotFound"),
    ("run_schedule", "ok NotFound"),
    ("snapshot", "ok"),
    ("tick", "ok"),
    ("drain", "ok"),
    ("close", "ok"),
];

/// Everything else.
const EVENTS: &[&str] = &[
    "fault: Lost",
    "fault: Applied",
    "fault while it catches up",
    "a crash",
    "a crash right after opening",
    "calls under way at a crash",
    "a stop in good order",
    "a worker crashes",
    "a claim waited",
    "a claim waited in vain",
    "jobs for a caller that has gone away",
    "a restart at once",
    "a restart soon",
    "a restart after hours",
    "a restart after weeks",
    "a restart in the past",
    "the clock goes forwards",
    "the clock goes forwards by hours",
    "the clock goes forwards by weeks",
    "the clock goes to an edge",
    "the clock goes to the end of a key",
    "the clock goes backwards by less",
    "the clock goes backwards by hours",
    "the clock goes backwards by days",
    "a job is taken in",
    "a job replaces another",
    "an enqueue gets the answer of another",
    "a failure is retried",
    "a failure is exhausted",
    "a failure is rejected",
    "a job is dead: crashed",
    "a job is dead: expired",
    "a job waits for its turn",
    "a job waits for a place",
    "a job counts as more urgent than it is",
    "a result is kept",
    "a replay is running",
    "a replay is done",
    "a replay is stopped",
    "a replay is cancelled",
    "a schedule fires",
    "a schedule misses",
    "a schedule meets its key",
];

/// What did not happen.
pub(crate) fn missed(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let calls = CALLS.iter().flat_map(|(call, outcomes)| {
        outcomes.split(' ').map(move |outcome| format!("{call}: {outcome}"))
    });
    let all = calls.chain(EVENTS.iter().map(|event| (*event).to_owned()));
    all.filter(|what| !counts.contains_key(what)).collect()
}

/// The figures of a run on one line.
pub(crate) fn line(counts: &BTreeMap<String, u64>) -> String {
    let sum = |is_meant: &dyn Fn(&str) -> bool| -> u64 {
        counts.iter().filter(|(what, _)| is_meant(what)).map(|(_, count)| count).sum()
    };
    let [steps, jobs, deliveries, commits] =
        ["steps", "jobs", "deliveries", "commits"].map(|name| sum(&|what| what == name));
    let crashes = sum(&|what| what.starts_with("a crash"));
    let faults = sum(&|what| what.starts_with("fault"));
    let stops = sum(&|what| what == "a stop in good order");
    let jumps = sum(&|what| what.starts_with("the clock goes"));
    let back = sum(&|what| what.starts_with("the clock goes backwards"));
    format!(
        "{steps} steps, {commits} commits, {jobs} jobs, {deliveries} deliveries, {crashes} \
         crashes, {faults} failed commits, {stops} stops, {jumps} moves of the clock ({back} back)"
    )
}
