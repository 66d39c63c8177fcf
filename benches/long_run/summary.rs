//! The run in a table: its quarters, and the last against the first.

use crate::sample::Sample;

/// What of a sample is shown, under which name.
type Row = (&'static str, fn(&Sample) -> f64);

const ROWS: [Row; 14] = [
    ("offered, jobs/s", |sample| sample.offered_per_s),
    ("done, jobs/s", |sample| sample.done_per_s),
    ("RSS, MB", |sample| sample.resident_mb),
    ("disk, MB", |sample| sample.disk_mb),
    ("disk less stragglers, MB", |sample| sample.disk_mb - sample.stragglers_mb),
    ("live records less stragglers, MB", |sample| sample.live_mb - sample.stragglers_mb),
    ("live bytes for each straggler", |sample| sample.live_mb * 1e6 / sample.stragglers as f64),
    ("enqueue p50, ms", |sample| sample.enqueue.p50_ms),
    ("enqueue p99, ms", |sample| sample.enqueue.p99_ms),
    ("claim p50, ms", |sample| sample.claim.p50_ms),
    ("claim p99, ms", |sample| sample.claim.p99_ms),
    ("fdatasync alone p99, ms", |sample| sample.fdatasync.p99_ms),
    ("waiting + running + retrying", |sample| {
        (sample.counts.waiting + sample.counts.running + sample.counts.retrying) as f64
    }),
    ("processors of the node", |sample| sample.node_processors),
];

pub(crate) fn print(samples: &[Sample]) {
    let quarter = samples.len().div_ceil(4);
    let quarters: Vec<&[Sample]> = samples.chunks(quarter).collect();
    println!("\nMedians of the samples of each quarter; {} samples", samples.len());
    let heads = ["1st", "2nd", "3rd", "4th", "4th / 1st"].map(|head| format!("{head:>10}"));
    println!("{:<34}{}", "", heads.concat());
    for (name, value) in ROWS {
        let medians: Vec<f64> =
            quarters.iter().map(|part| median(part.iter().map(value).collect())).collect();
        let cells: Vec<String> = medians.iter().map(|median| format!("{median:>10.2}")).collect();
        let ratio = medians[medians.len() - 1] / medians[0];
        println!("{name:<34}{}{ratio:>10.2}", cells.concat());
    }
    let last = &samples[samples.len() - 1];
    let most = |value: fn(&Sample) -> f64| samples.iter().map(value).fold(0.0, f64::max);
    println!("stragglers kept: {}, {:.1} MB of payload", last.stragglers, last.stragglers_mb);
    println!("compactions: {}", samples.iter().map(|sample| sample.compactions).sum::<u64>());
    println!(
        "worst: enqueue {:.0} ms, claim {:.0} ms, fdatasync alone {:.0} ms; RSS {:.0} MB",
        most(|sample| sample.enqueue.max_ms),
        most(|sample| sample.claim.max_ms),
        most(|sample| sample.fdatasync.max_ms),
        most(|sample| sample.resident_mb),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
