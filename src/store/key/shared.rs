//! Keys that jobs of a queue share, and the lines of those that wait for one.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{queue, queue_from, take_u32, take_u64};
use crate::job::QueueId;
use crate::priority::Priority;

/// What a key limits. The order is that in which a job passes the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum KeyKind {
    /// One job at a time, in the order in which they came.
    Ordering,
    /// So many jobs at a time.
    Concurrency,
}

impl KeyKind {
    pub(crate) const ALL: [KeyKind; 2] = [KeyKind::Ordering, KeyKind::Concurrency];

    pub(crate) fn number(self) -> u8 {
        match self {
            KeyKind::Ordering => 0,
            KeyKind::Concurrency => 1,
        }
    }

    fn from_number(number: u8) -> Option<KeyKind> {
        KeyKind::ALL.get(usize::from(number)).copied()
    }
}

/// A key that jobs of a queue carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SharedKey {
    pub(crate) queue: QueueId,
    pub(crate) kind: KeyKind,
    pub(crate) text: String,
}

impl SharedKey {
    /// `1 u8 · queue u32 · kind u8 · text`, in [`Tree::Places`](crate::store::Tree::Places).
    pub(crate) fn key(&self) -> Vec<u8> {
        let kind = [self.kind.number()];
        [&Self::first_of(self.queue)[..], &kind, self.text.as_bytes()].concat()
    }

    /// What begins the keys of a queue's places.
    pub(crate) fn first_of(id: QueueId) -> Vec<u8> {
        [&[1], &queue(id)[..]].concat()
    }

    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        let (queue, rest) = take_u32(key.strip_prefix(&[1])?)?;
        let (kind, text) = rest.split_first()?;
        let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?.to_owned();
        Some(SharedKey { queue: QueueId(queue), kind: KeyKind::from_number(*kind)?, text })
    }

    /// `queue u32 · kind u8 · length of the text u16 · text`: what begins the keys of its line.
    fn line(&self) -> Vec<u8> {
        let length = self.text.len() as u16;
        let kind = [self.kind.number()];
        let text = self.text.as_bytes();
        [&queue(self.queue)[..], &kind, &length.to_be_bytes(), text].concat()
    }

    fn parts(&self) -> (QueueId, KeyKind, usize, &str) {
        (self.queue, self.kind, self.text.len(), &self.text)
    }
}

impl Ord for SharedKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for SharedKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `0 u8 · queue u32`, in [`Tree::Places`](crate::store::Tree::Places): the lines of a queue.
pub(crate) fn queue_lines(id: QueueId) -> Vec<u8> {
    [&[0], &queue(id)[..]].concat()
}

pub(crate) fn queue_lines_from(key: &[u8]) -> Option<QueueId> {
    queue_from(key.strip_prefix(&[0])?)
}

/// Where a job waits for a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinePlace {
    pub(crate) of: SharedKey,
    /// The job's priority; critical in lines of ordering keys, where it counts nothing.
    pub(crate) urgency: Priority,
    /// A sequence: when it came.
    pub(crate) order: u64,
}

impl LinePlace {
    /// `queue u32 · kind u8 · length of the text u16 · text · urgency u8 · order u64`, in
    /// [`Tree::Lines`](crate::store::Tree::Lines).
    pub(crate) fn key(&self) -> Vec<u8> {
        [&self.of.line()[..], &[self.urgency.number()], &self.order.to_be_bytes()].concat()
    }

    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        let (queue, rest) = take_u32(key)?;
        let (kind, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (urgency, rest) = rest.split_first()?;
        let (order, rest) = take_u64(rest)?;
        let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?.to_owned();
        let kind = KeyKind::from_number(*kind)?;
        let of = SharedKey { queue: QueueId(queue), kind, text };
        let urgency = Priority::from_number(*urgency)?;
        rest.is_empty().then_some(LinePlace { of, urgency, order })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line_place() -> impl Strategy<Value = LinePlace> {
        let parts = (0..3u32, any::<bool>(), "[a-c]{1,3}", 0..5u8, any::<u64>());
        parts.prop_map(|(queue, ordering, text, urgency, order)| {
            let kind = if ordering { KeyKind::Ordering } else { KeyKind::Concurrency };
            let urgency = Priority::from_number(urgency).unwrap();
            LinePlace { of: SharedKey { queue: QueueId(queue), kind, text }, urgency, order }
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_bytes_is_the_order_of_the_lines(a in line_place(), b in line_place()) {
            prop_assert_eq!(a.key().cmp(&b.key()), a.cmp(&b));
            prop_assert_eq!(LinePlace::from_key(&a.key()), Some(a.clone()));
            prop_assert_eq!(SharedKey::from_key(&a.of.key()), Some(a.of.clone()));
            prop_assert_eq!(a.of.key() == b.of.key(), a.of == b.of);
            let queue = a.of.queue;
            prop_assert_eq!(queue_lines_from(&queue_lines(queue)), Some(queue));
        }

        #[test]
        fn keys_that_nobody_wrote_are_refused(key in prop::collection::vec(any::<u8>(), 0..30)) {
            prop_assert!(LinePlace::from_key(&key).is_none_or(|place| place.key() == key));
            prop_assert!(SharedKey::from_key(&key).is_none_or(|shared| shared.key() == key));
            prop_assert!(queue_lines_from(&key).is_none_or(|queue| queue_lines(queue) == key));
        }
    }
}
