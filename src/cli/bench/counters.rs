//! What the work costs: commits, processor time, bytes written. Taken before and after a round.

use super::super::failed;
use super::target::Target;
use crate::error::Result;

/// What a target has used up since it was started.
pub(super) struct Counters {
    commits: f64,
    cpu_seconds: Option<f64>,
    written_bytes: Option<f64>,
}

/// What it used up in a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) commits: f64,
    /// Of the process that has the queue, so with the load itself when it is embedded; `None` when
    /// it can't be told.
    pub(super) cpu_seconds: Option<f64>,
    /// Bytes that it caused to be written to a disk; `None` when it can't be told.
    pub(super) written_bytes: Option<f64>,
}

impl Counters {
    /// # Errors
    /// When a node does not tell its metrics.
    pub(super) async fn of(target: &Target) -> Result<Counters> {
        let text = target.metrics().await?;
        let commits = value(&text, "pulk_commit_seconds_count")
            .ok_or_else(|| failed("the metrics have no pulk_commit_seconds_count".to_owned()))?;
        Ok(Counters {
            commits,
            cpu_seconds: value(&text, "pulk_cpu_seconds_total"),
            written_bytes: value(&text, "pulk_written_bytes_total"),
        })
    }

    /// What was used from `earlier` until now.
    pub(super) fn since(&self, earlier: &Counters) -> Used {
        let used = |now: Option<f64>, earlier: Option<f64>| Some(now? - earlier?);
        Used {
            commits: self.commits - earlier.commits,
            cpu_seconds: used(self.cpu_seconds, earlier.cpu_seconds),
            written_bytes: used(self.written_bytes, earlier.written_bytes),
        }
    }
}

/// The value of a metric that has no labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_the_whole_name() {
        let text = "# TYPE a counter\na_more 1\na{b=\"c\"} 2\na 3.5\n";
        assert_eq!(value(text, "a"), Some(3.5));
        assert_eq!(value(text, "c"), None);
    }
}
