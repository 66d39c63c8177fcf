//! What may happen in a history, and how often.

use proptest::prelude::*;
use proptest::sample::Index;

use super::dead_letters::{self, DeadStep};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Enqueue { queue: u8, kind: u8, priority: u8, jobs: u8, delay_ms: u64, large: bool },
    Claim { queue: Option<u8>, kind: Option<u8>, priority: Option<u8>, limit: u8 },
    Ack { job: Index, old: bool },
    Fail { job: Index, old: bool, retry: bool, retry_in_ms: Option<u64> },
    Extend { job: Index, old: bool, lease_ms: u64 },
    Release { job: Index, old: bool, delay_ms: u64 },
    Replay { job: Index },
    Dead(DeadStep),
    Cancel { job: Index },
    Purge { queue: u8, priority: Option<u8>, states: u8, looks: usize, crash: Option<usize> },
    RemoveQueue { queue: u8 },
    Commit,
    CommitAndWait { ms: u64 },
    ClockBack { ms: u64 },
    Crash,
    FailedCommit { applied: bool },
    Restart,
}

/// Any step, the usual ones more often.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let delay = prop_oneof![3 => Just(0u64), 1 => 1..3_000u64];
    let choice = |most: u8| prop::option::weighted(0.3, 0..most);
    prop_oneof![
        6 => (0..3u8, 0..2u8, 0..5u8, 1..40u8, delay.clone(), prop::bool::weighted(0.05)).prop_map(
            |(queue, kind, priority, jobs, delay_ms, large)| {
                Step::Enqueue { queue, kind, priority, jobs, delay_ms, large }
            }),
        8 => (choice(3), choice(2), choice(5), 1..30u8).prop_map(
            |(queue, kind, priority, limit)| Step::Claim { queue, kind, priority, limit }),
        8 => (any::<Index>(), prop::bool::weighted(0.1))
            .prop_map(|(job, old)| Step::Ack { job, old }),
        6 => (any::<Index>(), prop::bool::weighted(0.1), prop::bool::weighted(0.9),
              prop::option::of(0..2_000u64))
            .prop_map(|(job, old, retry, retry_in_ms)| Step::Fail { job, old, retry, retry_in_ms }),
        3 => (any::<Index>(), prop::bool::weighted(0.1), 1..5_000u64)
            .prop_map(|(job, old, lease_ms)| Step::Extend { job, old, lease_ms }),
        3 => (any::<Index>(), prop::bool::weighted(0.1), delay)
            .prop_map(|(job, old, delay_ms)| Step::Release { job, old, delay_ms }),
        2 => any::<Index>().prop_map(|job| Step::Replay { job }),
        10 => dead_letters::step().prop_map(Step::Dead),
        3 => any::<Index>().prop_map(|job| Step::Cancel { job }),
        1 => (0..3u8, choice(5), 0..32u8, 1..60usize, prop::option::weighted(0.3, 0..4usize))
            .prop_map(|(queue, priority, states, looks, crash)| {
                Step::Purge { queue, priority, states, looks, crash }
            }),
        1 => (0..3u8).prop_map(|queue| Step::RemoveQueue { queue }),
        6 => Just(Step::Commit),
        4 => (1..2_000u64).prop_map(|ms| Step::CommitAndWait { ms }),
        1 => (1..100_000u64).prop_map(|ms| Step::ClockBack { ms }),
        1 => Just(Step::Crash),
        1 => any::<bool>().prop_map(|applied| Step::FailedCommit { applied }),
        1 => Just(Step::Restart),
    ]
}
