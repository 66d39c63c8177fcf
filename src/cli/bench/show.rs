//! What a run measured, for people: one table, or two runs side by side.

use super::super::table::{Column, Table, terminal_width};
use super::report::{Measurement, Report};

/// What could not be told, or is in one of two runs only.
const NONE: &str = "-";
/// Columns that a table with all numbers wants.
const WIDTH_OF_ALL: u16 = 96;

/// The table of a run, with what must be known to read it.
pub(super) fn measured(report: &Report) -> String {
    let mut columns = vec![Column::Whole("WORKLOAD")];
    columns.extend(["JOBS/S", "P50 MS", "P99 MS", "MAX MS"].map(Column::Number));
    columns.extend(["CPU US/JOB", "LIMIT/S", "RATIO"].map(Column::Number));
    let is_wide = is_wide();
    if is_wide {
        columns.insert(4, Column::Number("P99.9 MS"));
        columns.insert(6, Column::Number("BYTES/JOB"));
    }
    let mut table = Table::new(&columns);
    for it in &report.workloads {
        let mut row = vec![it.name.clone(), rate(it.jobs_per_s)];
        row.extend([it.p50_us, it.p99_us, it.max_us].map(ms));
        if is_wide {
            row.insert(4, ms(it.p999_us));
            row.push(optional(it.written_bytes_per_job, |bytes| format!("{bytes:.0}")));
        }
        row.push(optional(it.cpu_us_per_job, |cpu_us| format!("{cpu_us:.1}")));
        row.push(optional(it.limit_jobs_per_s, rate));
        row.push(optional(it.ratio, ratio));
        table.row(row);
    }
    let limit = match &report.limit_directory {
        Some(directory) => format!(
            "LIMIT: the same payloads appended in {directory} in as many groups as there were \
             commits, each with an fdatasync."
        ),
        None => "No limit was measured; name a directory on the node's disk with --limit-dir."
            .to_owned(),
    };
    let Report { target, rounds, processors, .. } = report;
    let rounds = match rounds {
        1 => "one round".to_owned(),
        many => format!("medians of {many} rounds"),
    };
    format!("{target}, {processors} processors, {rounds}\n{}{limit}\n", table.text())
}

/// Two runs side by side, each ratio being the later one over the earlier one.
pub(super) fn compared(before: &Report, now: &Report) -> String {
    let mut columns = vec![Column::Whole("WORKLOAD")];
    columns.extend(["JOBS/S", "NOW", "RATIO", "P99 MS", "NOW", "RATIO"].map(Column::Number));
    let is_wide = is_wide();
    if is_wide {
        columns.extend(["OF LIMIT", "NOW", "RATIO"].map(Column::Number));
    }
    columns.push(Column::Whole(""));
    let mut table = Table::new(&columns);
    for name in names(before, now) {
        let (then, now) = (named(before, name), named(now, name));
        let mut row = vec![name.to_owned()];
        let rates = |it: &Measurement| Some(it.jobs_per_s);
        row.extend(pair(then.and_then(rates), now.and_then(rates), rate));
        let p99_ms = |it: &Measurement| Some(it.p99_us as f64 / 1e3);
        row.extend(pair(then.and_then(p99_ms), now.and_then(p99_ms), |ms| format!("{ms:.2}")));
        if is_wide {
            let of_limit = |it: &Measurement| it.ratio;
            row.extend(pair(then.and_then(of_limit), now.and_then(of_limit), ratio));
        }
        let differs = then.zip(now).is_some_and(|(then, now)| size(then) != size(now));
        row.push(if differs { "of another size" } else { "" }.to_owned());
        table.row(row);
    }
    let run = |report: &Report| {
        let Report { target, pulk, started_at, .. } = report;
        format!("{target}, pulk {pulk}, {started_at}")
    };
    format!("{}\nNOW: {}\n{}", run(before), run(now), table.text())
}

/// True where there is room for all columns.
fn is_wide() -> bool {
    terminal_width().is_none_or(|width| width >= WIDTH_OF_ALL)
}

/// The workloads of both, those of the earlier run first.
fn names<'a>(before: &'a Report, now: &'a Report) -> Vec<&'a str> {
    let is_new = |it: &&Measurement| named(before, &it.name).is_none();
    let all = before.workloads.iter().chain(now.workloads.iter().filter(is_new));
    all.map(|it| it.name.as_str()).collect()
}

fn named<'a>(report: &'a Report, name: &str) -> Option<&'a Measurement> {
    report.workloads.iter().find(|it| it.name == name)
}

/// What makes two measurements ones of different things.
fn size(it: &Measurement) -> [usize; 5] {
    [it.clients, it.jobs_per_call, it.payload_bytes, it.backlog, it.jobs]
}

fn pair(then: Option<f64>, now: Option<f64>, text: fn(f64) -> String) -> [String; 3] {
    let quotient = then.zip(now).filter(|(then, _)| *then > 0.0).map(|(then, now)| now / then);
    [optional(then, text), optional(now, text), optional(quotient, ratio)]
}

fn optional(number: Option<f64>, text: fn(f64) -> String) -> String {
    number.map_or(NONE.to_owned(), text)
}

fn rate(rate: f64) -> String {
    format!("{rate:.0}")
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

fn ms(us: u64) -> String {
    format!("{:.2}", us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn report(workloads: Vec<Measurement>, limit_directory: Option<&str>) -> Report {
        Report {
            pulk: "0.1.0".to_owned(),
            started_at: Timestamp::from_ms(0),
            target: "embedded".to_owned(),
            limit_directory: limit_directory.map(str::to_owned),
            processors: 2,
            rounds: 3,
            workloads,
        }
    }

    fn measurement(name: &str, jobs_per_s: f64, ratio: Option<f64>) -> Measurement {
        Measurement {
            name: name.to_owned(),
            clients: 1,
            jobs_per_call: 1,
            payload_bytes: 256,
            backlog: 0,
            jobs: 10,
            jobs_per_s,
            p50_us: 1_000,
            p99_us: 2_000,
            p999_us: 3_000,
            max_us: 4_500,
            jobs_per_commit: 1.0,
            written_bytes_per_job: None,
            cpu_us_per_job: Some(12.34),
            limit_jobs_per_s: ratio.map(|ratio| jobs_per_s / ratio),
            ratio,
        }
    }

    /// The line of a table that begins so, cell by cell.
    fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect()
    }

    #[test]
    fn a_run_is_a_table_and_what_was_not_measured_is_said() {
        let text = measured(&report(vec![measurement("cycle", 500.4, Some(0.5))], Some("here")));
        let cells = ["cycle", "500", "1.00", "2.00", "3.00", "4.50", "-", "12.3", "1001", "0.50"];
        assert_eq!(row(&text, "cycle"), cells);
        assert!(text.contains("appended in here"), "{text}");
        let text = measured(&report(vec![measurement("cycle", 500.0, None)], None));
        assert_eq!(row(&text, "cycle")[8..], ["-", "-"]);
        assert!(text.contains("--limit-dir"), "{text}");
    }

    #[test]
    fn two_runs_stand_side_by_side_by_name() {
        let before = vec![measurement("a", 100.0, Some(0.5)), measurement("gone", 1.0, None)];
        let mut larger = measurement("new", 7.0, None);
        larger.jobs = 20;
        let now = vec![larger, measurement("a", 150.0, Some(0.25))];
        let text = compared(&report(before, None), &report(now, None));
        let cells = ["100", "150", "1.50", "2.00", "2.00", "1.00", "0.50", "0.25", "0.50"];
        assert_eq!(row(&text, "a ")[1..], cells);
        assert_eq!(row(&text, "gone")[1..4], ["1", "-", "-"]);
        assert_eq!(row(&text, "new")[1..4], ["-", "7", "-"]);
    }

    #[test]
    fn runs_of_different_sizes_are_told_apart() {
        let mut larger = measurement("a", 1.0, None);
        larger.payload_bytes = 1_024;
        let before = report(vec![measurement("a", 1.0, None)], None);
        let text = compared(&before, &report(vec![larger], None));
        assert!(text.contains("of another size"), "{text}");
    }
}
