//! What the worlds must have met, all together: else they prove less than they say.

use std::collections::BTreeMap;

const MUST_HAPPEN: &[&str] = &[];

/// What did not happen.
pub(crate) fn missed(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    MUST_HAPPEN.iter().copied().filter(|what| !counts.contains_key(*what)).collect()
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
