//! Job ids: where a job was born, in 26 characters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::priority::Priority;

/// The number of a queue, given at its first job and never given again. 17 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub(crate) u32);

impl QueueId {
    /// The largest number that fits in a job id.
    pub const MAX: u32 = (1 << 17) - 1;
}

/// Identifies a job for ever, and says where it was born.
///
/// 128 bits, most significant first: 48 of milliseconds since 1970, 16 of shard, 17 of queue
/// number, 3 of priority, 44 of sequence. Shown as 26 Crockford base-32 characters like a
/// [ULID](https://github.com/ulid/spec), which sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    description = "Identifies a job for ever: 26 Crockford base-32 characters that sort by time. \
                   Read in any letter case, written in upper case.",
    value_type = String,
    pattern = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$",
    examples("01M839HZ1R0000005000000001")
)]
pub struct JobId(u128);

impl JobId {
    /// The largest sequence: 44 bits, 17 million million jobs.
    pub const SEQUENCE_MAX: u64 = (1 << 44) - 1;

    pub(crate) fn new(
        born_at: Timestamp,
        shard: u16,
        queue: QueueId,
        priority: Priority,
        sequence: u64,
    ) -> Self {
        assert!(queue.0 <= QueueId::MAX, "a queue number has 17 bits");
        assert!(sequence <= Self::SEQUENCE_MAX, "a sequence has 44 bits");
        JobId(
            u128::from(born_at.as_ms()) << 80
                | u128::from(shard) << 64
                | u128::from(queue.0) << 47
                | u128::from(priority.number()) << 44
                | u128::from(sequence),
        )
    }

    /// When the job was enqueued.
    #[must_use]
    pub fn born_at(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> 80) as u64)
    }

    /// The shard (the ordinal of the pod) whose queue the job was enqueued in.
    #[must_use]
    pub fn shard(self) -> u16 {
        (self.0 >> 64) as u16
    }

    pub(crate) fn queue(self) -> QueueId {
        QueueId((self.0 >> 47) as u32 & QueueId::MAX)
    }

    /// The priority it was born with; `None` for an id that no queue made.
    pub(crate) fn birth_priority(self) -> Option<Priority> {
        Priority::from_number((self.0 >> 44) as u8 & 0b111)
    }

    pub(crate) fn sequence(self) -> u64 {
        self.0 as u64 & Self::SEQUENCE_MAX
    }

    pub(crate) fn as_u128(self) -> u128 {
        self.0
    }

    pub(crate) fn from_u128(number: u128) -> Self {
        JobId(number)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = [0; ulid::ULID_LEN];
        formatter.pad(ulid::Ulid(self.0).array_to_str(&mut characters))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Reads the 26 characters, in any letter case.
    fn from_str(text: &str) -> Result<Self> {
        ulid::Ulid::from_string(text)
            .ok()
            .map(|ulid| JobId(ulid.0))
            // Crockford's alphabet reads O as 0; an id that differs from its own text is not one.
            .filter(|id| id.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::invalid("id", format!("{text:?} is not a job id: 26 base-32 characters"))
            })
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_keeps_its_parts(
            ms in 0..=Timestamp::MAX.as_ms(), shard: u16, queue in 0..=QueueId::MAX,
            priority in 0u8..5, sequence in 0..=JobId::SEQUENCE_MAX,
        ) {
            let (born_at, queue) = (Timestamp::from_ms(ms), QueueId(queue));
            let priority = Priority::from_number(priority).unwrap();
            let id = JobId::new(born_at, shard, queue, priority, sequence);
            prop_assert_eq!(id.born_at(), born_at);
            prop_assert_eq!(id.shard(), shard);
            prop_assert_eq!(id.queue(), queue);
            prop_assert_eq!(id.birth_priority(), Some(priority));
            prop_assert_eq!(id.sequence(), sequence);
            let text = id.to_string();
            prop_assert_eq!(text.len(), 26);
            prop_assert_eq!(text.to_lowercase().parse::<JobId>().unwrap(), id);
        }

        #[test]
        fn ids_sort_as_their_texts(a: u128, b: u128) {
            let (a, b) = (JobId(a), JobId(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".{0,30}") {
            if let Ok(id) = text.parse::<JobId>() {
                prop_assert!(id.to_string().eq_ignore_ascii_case(&text));
            }
        }
    }

    #[test]
    fn an_id_beyond_128_bits_is_refused() {
        assert!("8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<JobId>().is_err());
        assert!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<JobId>().is_ok());
    }
}
