//! Counters and histograms, placeholder until the http branch is merged.
use crate::queue::Event;
/// Counters and histograms.
#[derive(Debug)]
pub struct Metrics {}
impl Metrics {
    /// New.
    pub fn new(_store: &str) -> crate::Result<Metrics> {
        Ok(Metrics {})
    }
    /// Observe.
    pub fn observe(&self, _event: &Event) {}
    /// Committed.
    pub fn committed(&self, _seconds: f64, _commands: usize) {}
}
/// Log.
pub fn log_event(_event: &Event) {}
