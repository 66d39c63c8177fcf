//! What the process has used up, told at each scrape: its processor time, and what it had written.
//!
//! `process_cpu_seconds_total`, of the metrics library, counts whole seconds.

use std::fs;

use prometheus::{Counter, IntCounter, Registry, Result};
use rustix::time::{ClockId, clock_gettime};

pub(super) fn set(registry: &Registry) -> Result<()> {
    let help = "Processor time that the process has used, with fractions of a second.";
    let cpu_seconds = Counter::new("pulk_cpu_seconds_total", help)?;
    let used = clock_gettime(ClockId::ProcessCPUTime);
    cpu_seconds.inc_by(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
    registry.register(Box::new(cpu_seconds))?;
    let Some(bytes) = written_bytes() else { return Ok(()) };
    let help = "Bytes that the process caused to be written to disks, database and journal.";
    let written_bytes = IntCounter::new("pulk_written_bytes_total", help)?;
    written_bytes.inc_by(bytes);
    registry.register(Box::new(written_bytes))
}

/// `None` where the kernel does not tell.
fn written_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
}
