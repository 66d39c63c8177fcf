//! What the work costs: commits, processor time, bytes written. Taken before and after a round.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::super::failed;
use super::target::Target;
use crate::error::Result;

/// A node counts its processor time in whole seconds: of less than this, nothing can be said.
const NODE_CPU_SECONDS_MIN: f64 = 10.0;

/// What a target has used up since it was started.
pub(super) struct Counters {
    commits: f64,
    cpu_seconds: f64,
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
        let told = |name: &str| {
            value(&text, name).ok_or_else(|| failed(format!("the metrics have no {name}")))
        };
        let (cpu_seconds, written_bytes) = match target {
            Target::Embedded(_) => (own_cpu_seconds(), own_written_bytes()),
            Target::Node(_) => (told("process_cpu_seconds_total")?, None),
        };
        Ok(Counters { commits: told("pulk_commit_seconds_count")?, cpu_seconds, written_bytes })
    }

    /// What was used from `earlier` until now.
    pub(super) fn since(&self, earlier: &Counters, target: &Target) -> Used {
        let cpu_seconds = self.cpu_seconds - earlier.cpu_seconds;
        let is_exact = matches!(target, Target::Embedded(_)) || cpu_seconds >= NODE_CPU_SECONDS_MIN;
        let written = self.written_bytes.zip(earlier.written_bytes);
        Used {
            commits: self.commits - earlier.commits,
            cpu_seconds: is_exact.then_some(cpu_seconds),
            written_bytes: written.map(|(now, earlier)| now - earlier),
        }
    }
}

/// The value of a metric that has no labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

fn own_cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// `None` where the kernel does not tell.
fn own_written_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
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

    #[test]
    fn processor_time_goes_on() {
        let before = own_cpu_seconds();
        let sum: u64 = (0..1_000_000).map(std::hint::black_box).sum();
        assert!(own_cpu_seconds() > before, "{sum}");
    }
}
