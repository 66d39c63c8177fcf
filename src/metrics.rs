//! placeholder
/// Counters and histograms.
pub struct Metrics {}
