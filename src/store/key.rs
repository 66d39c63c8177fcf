//! Keys as bytes: big-endian, so that the order of the bytes is the order of what they say.
//!
//! That order *is* the order of the queue: the smallest key of a lane is its oldest chunk, the
//! smallest key among the timers is due first.

mod shared;

pub(crate) use shared::{KeyKind, LinePlace, SharedKey, queue_lines, queue_lines_from};

use crate::clock::Timestamp;
use crate::job::{JobId, QueueId};
use crate::priority::Priority;
use crate::store::Tree;

/// The one record of [`Tree::Meta`]; the only other key there is [`LIVE_BYTES`].
pub(crate) const META: &[u8] = b"meta";
/// Bytes of records alive, eight bytes big-endian, in [`Tree::Meta`]: what the store compares
/// with the size of its file when it opens.
pub(crate) const LIVE_BYTES: &[u8] = b"live_bytes";

/// One queue at one priority: the unit in which jobs wait in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId {
    pub(crate) priority: Priority,
    pub(crate) queue: QueueId,
}

impl LaneId {
    pub(crate) fn tree(self) -> Tree {
        Tree::Ready(self.priority)
    }
}

/// Where a chunk lies: its lane and the place of its first slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChunkId {
    pub(crate) lane: LaneId,
    pub(crate) first_place: u64,
}

impl ChunkId {
    /// `queue u32 · first place u64`, in the tree of the priority.
    pub(crate) fn key(self) -> Vec<u8> {
        [&self.lane.queue.0.to_be_bytes()[..], &self.first_place.to_be_bytes()].concat()
    }

    pub(crate) fn from_key(priority: Priority, key: &[u8]) -> Option<Self> {
        let (queue, rest) = take_u32(key)?;
        let (first_place, rest) = take_u64(rest)?;
        rest.is_empty()
            .then_some(ChunkId { lane: LaneId { priority, queue: QueueId(queue) }, first_place })
    }

    /// `priority u8 · queue u32 · first place u64`, in [`Tree::Progress`].
    pub(crate) fn progress_key(self) -> Vec<u8> {
        [&[self.lane.priority.number()][..], &self.key()].concat()
    }

    pub(crate) fn from_progress_key(key: &[u8]) -> Option<Self> {
        let (priority, rest) = key.split_first()?;
        ChunkId::from_key(Priority::from_number(*priority)?, rest)
    }
}

/// `queue u32`, in [`Tree::Queues`] and [`Tree::Limits`].
pub(crate) fn queue(queue: QueueId) -> Vec<u8> {
    queue.0.to_be_bytes().to_vec()
}

pub(crate) fn queue_from(key: &[u8]) -> Option<QueueId> {
    let (queue, rest) = take_u32(key)?;
    rest.is_empty().then_some(QueueId(queue))
}

/// What the keys of a moment begin with, in [`Tree::Timers`] and [`Tree::Expiry`].
pub(crate) fn moment(moment: Timestamp) -> Vec<u8> {
    moment.as_ms().to_be_bytes().to_vec()
}

/// `due ms u64 · job u128`, in [`Tree::Timers`].
pub(crate) fn timer(due: Timestamp, job: JobId) -> Vec<u8> {
    [&due.as_ms().to_be_bytes()[..], &job.as_u128().to_be_bytes()].concat()
}

pub(crate) fn timer_from(key: &[u8]) -> Option<(Timestamp, JobId)> {
    let (due_ms, rest) = take_u64(key)?;
    Some((Timestamp::from_ms(due_ms), job_from(rest)?))
}

/// `queue u32 · died at ms u64 · job u128`, in [`Tree::Dead`].
pub(crate) fn dead(queue: QueueId, died_at: Timestamp, job: JobId) -> Vec<u8> {
    [&queue.0.to_be_bytes()[..], &timer(died_at, job)].concat()
}

pub(crate) fn dead_from(key: &[u8]) -> Option<(QueueId, Timestamp, JobId)> {
    let (queue, rest) = take_u32(key)?;
    let (died_at, job) = timer_from(rest)?;
    Some((QueueId(queue), died_at, job))
}

/// `job u128`, in [`Tree::Location`].
pub(crate) fn job(job: JobId) -> Vec<u8> {
    job.as_u128().to_be_bytes().to_vec()
}

pub(crate) fn job_from(key: &[u8]) -> Option<JobId> {
    Some(JobId::from_u128(u128::from_be_bytes(key.try_into().ok()?)))
}

/// `job u128 · part u16`, in [`Tree::Payload`].
pub(crate) fn payload_part(id: JobId, part: u16) -> Vec<u8> {
    [&job(id)[..], &part.to_be_bytes()].concat()
}

pub(crate) fn payload_part_from(key: &[u8]) -> Option<(JobId, u16)> {
    let (id, part) = key.split_last_chunk::<2>()?;
    Some((job_from(id)?, u16::from_be_bytes(*part)))
}

/// `0 u8 · queue u32 · key`, in [`Tree::Unique`].
pub(crate) fn unique(queue: QueueId, unique_key: &str) -> Vec<u8> {
    [&[0][..], &queue.0.to_be_bytes(), unique_key.as_bytes()].concat()
}

/// `1 u8 · queue u32 · key`, in [`Tree::Unique`].
pub(crate) fn idempotency(queue: QueueId, idempotency_key: &str) -> Vec<u8> {
    [&[1][..], &queue.0.to_be_bytes(), idempotency_key.as_bytes()].concat()
}

/// What lies under a key of [`Tree::Unique`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Named {
    Unique(QueueId, String),
    Idempotency(QueueId, String),
}

pub(crate) fn named_from(key: &[u8]) -> Option<Named> {
    let (what, rest) = key.split_first()?;
    let (queue, text) = take_u32(rest)?;
    let (queue, text) = (QueueId(queue), std::str::from_utf8(text).ok()?.to_owned());
    match what {
        0 => Some(Named::Unique(queue, text)),
        1 => Some(Named::Idempotency(queue, text)),
        _ => None,
    }
}

/// What ends at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A job that must have been started.
    Job(JobId),
    /// A result.
    Result(JobId),
    /// An idempotency key.
    Idempotency(QueueId, String),
}

/// `moment ms u64 · 0 u8 · job u128`, `… · 1 u8 · job u128` for a result, or
/// `… · 2 u8 · queue u32 · idempotency key`, in [`Tree::Expiry`].
pub(crate) fn expiry(moment: Timestamp, ending: &Ending) -> Vec<u8> {
    let moment = moment.as_ms().to_be_bytes();
    match ending {
        Ending::Job(id) => [&moment[..], &[0], &job(*id)].concat(),
        Ending::Result(id) => [&moment[..], &[1], &job(*id)].concat(),
        Ending::Idempotency(id, key) => [&moment[..], &[2], &queue(*id), key.as_bytes()].concat(),
    }
}

pub(crate) fn expiry_from(key: &[u8]) -> Option<(Timestamp, Ending)> {
    let (moment_ms, rest) = take_u64(key)?;
    let (what, rest) = rest.split_first()?;
    let ending = match what {
        0 => Ending::Job(job_from(rest)?),
        1 => Ending::Result(job_from(rest)?),
        2 => {
            let (queue, text) = take_u32(rest)?;
            Ending::Idempotency(QueueId(queue), std::str::from_utf8(text).ok()?.to_owned())
        }
        _ => return None,
    };
    Some((Timestamp::from_ms(moment_ms), ending))
}

/// `number u64`, in [`Tree::Replays`].
pub(crate) fn replay(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub(crate) fn replay_from(key: &[u8]) -> Option<u64> {
    let (number, rest) = take_u64(key)?;
    rest.is_empty().then_some(number)
}

/// `0 u8 · name`, in [`Tree::Schedules`]: what a schedule is.
pub(crate) fn schedule(name: &str) -> Vec<u8> {
    [&[0], name.as_bytes()].concat()
}

/// `1 u8 · name`, in [`Tree::Schedules`]: how far it has come.
pub(crate) fn schedule_progress(name: &str) -> Vec<u8> {
    [&[1], name.as_bytes()].concat()
}

/// What a key of [`Tree::Schedules`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OfSchedule {
    Definition(String),
    Progress(String),
}

pub(crate) fn schedule_from(key: &[u8]) -> Option<OfSchedule> {
    let (what, name) = key.split_first()?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?.to_owned();
    match what {
        0 => Some(OfSchedule::Definition(name)),
        1 => Some(OfSchedule::Progress(name)),
        _ => None,
    }
}

/// `place of the tree in Tree::ALL u8 · the key it had there`, in [`Tree::Damaged`].
pub(crate) fn damaged(tree: Tree, key: &[u8]) -> Vec<u8> {
    let number = Tree::ALL.iter().position(|each| *each == tree).unwrap_or_default();
    [&[number as u8][..], key].concat()
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*head), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk_id() -> impl Strategy<Value = ChunkId> {
        (0u8..5, 0..=QueueId::MAX, 0..=JobId::SEQUENCE_MAX).prop_map(|(priority, queue, place)| {
            let priority = Priority::from_number(priority).unwrap();
            ChunkId { lane: LaneId { priority, queue: QueueId(queue) }, first_place: place }
        })
    }

    fn ending() -> impl Strategy<Value = Ending> {
        prop_oneof![
            any::<u128>().prop_map(|job| Ending::Job(JobId::from_u128(job))),
            any::<u128>().prop_map(|job| Ending::Result(JobId::from_u128(job))),
            (0..=QueueId::MAX, ".{1,9}")
                .prop_map(|(queue, key)| Ending::Idempotency(QueueId(queue), key)),
        ]
    }

    proptest! {
        #[test]
        fn the_order_of_chunk_keys_is_the_order_of_chunks(a in chunk_id(), b in chunk_id()) {
            prop_assert_eq!(a.progress_key().cmp(&b.progress_key()), a.cmp(&b));
            prop_assert_eq!(ChunkId::from_progress_key(&a.progress_key()), Some(a));
            prop_assert_eq!(ChunkId::from_key(a.lane.priority, &a.key()), Some(a));
        }

        #[test]
        fn the_order_of_timer_and_dead_keys_is_the_order_of_time(
            a in (0..=QueueId::MAX, 0..=Timestamp::MAX.as_ms(), any::<u128>()),
            b in (0..=QueueId::MAX, 0..=Timestamp::MAX.as_ms(), any::<u128>()),
        ) {
            let parts = |(queue, ms, job): (u32, u64, u128)| {
                (QueueId(queue), Timestamp::from_ms(ms), JobId::from_u128(job))
            };
            let ((queue_a, at_a, job_a), (queue_b, at_b, job_b)) = (parts(a), parts(b));
            prop_assert_eq!(
                timer(at_a, job_a).cmp(&timer(at_b, job_b)),
                (at_a, job_a).cmp(&(at_b, job_b))
            );
            let (key_a, key_b) = (dead(queue_a, at_a, job_a), dead(queue_b, at_b, job_b));
            prop_assert_eq!(key_a.cmp(&key_b), parts(a).cmp(&parts(b)));
            prop_assert_eq!(timer_from(&timer(at_a, job_a)), Some((at_a, job_a)));
            prop_assert_eq!(dead_from(&key_a), Some(parts(a)));
        }

        #[test]
        fn the_order_of_expiry_keys_is_the_order_of_time(
            a in (0..=Timestamp::MAX.as_ms(), ending()),
            b in (0..=Timestamp::MAX.as_ms(), ending()),
        ) {
            let key = |(ms, ending): &(u64, Ending)| expiry(Timestamp::from_ms(*ms), ending);
            if a.0 != b.0 {
                prop_assert_eq!(key(&a).cmp(&key(&b)), a.0.cmp(&b.0));
            }
            prop_assert_eq!(key(&a) == key(&b), a == b);
            let (ms, ending) = a.clone();
            prop_assert_eq!(expiry_from(&key(&a)), Some((Timestamp::from_ms(ms), ending)));
        }

        #[test]
        fn named_keys_go_there_and_back(queue in 0..=QueueId::MAX, text in ".{1,9}") {
            let queue = QueueId(queue);
            let held = Named::Unique(queue, text.clone());
            prop_assert_eq!(named_from(&unique(queue, &text)), Some(held));
            let asked = Named::Idempotency(queue, text.clone());
            prop_assert_eq!(named_from(&idempotency(queue, &text)), Some(asked));
            let definition = OfSchedule::Definition(text.clone());
            prop_assert_eq!(schedule_from(&schedule(&text)), Some(definition));
            let progress = OfSchedule::Progress(text.clone());
            prop_assert_eq!(schedule_from(&schedule_progress(&text)), Some(progress));
        }

        #[test]
        fn keys_that_nobody_wrote_are_refused(key in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(ChunkId::from_progress_key(&key).is_none() || key.len() == 13);
            prop_assert!(timer_from(&key).is_none() || key.len() == 24);
            prop_assert!(dead_from(&key).is_none() || key.len() == 28);
            prop_assert!(payload_part_from(&key).is_none() || key.len() == 18);
            prop_assert!(queue_from(&key).is_none() || key.len() == 4);
            prop_assert!(replay_from(&key).is_none_or(|number| replay(number) == key));
            if let Some((moment, ending)) = expiry_from(&key) {
                let bounded = u64::from_be_bytes(*key.first_chunk().unwrap()) > moment.as_ms();
                prop_assert!(bounded || expiry(moment, &ending) == key);
            }
        }
    }
}
