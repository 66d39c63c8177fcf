//! Jobs that wait for a key, and how many there are. Since format 2.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{JobRecord, LocationRecord};
use crate::priority::PerPriority;
use crate::store::codec::Record;
use crate::store::key::{LinePlace, SharedKey};

/// A ready job that waits for a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LineRecord {
    pub(crate) id: u128,
    pub(crate) priority: u8,
    /// Since when it could run, but for the key.
    pub(crate) ready_at_ms: u64,
    pub(crate) job: JobRecord,
}

impl LocationRecord {
    pub(crate) fn of_line(place: &LinePlace) -> LocationRecord {
        let LinePlace { of: SharedKey { kind, text, .. }, urgency, order } = place.clone();
        LocationRecord::Line { kind, text, urgency: urgency.number(), order }
    }
}

/// How many jobs of a key there are. Only for keys of which there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlacesRecord {
    /// Jobs that may run, as far as this key is concerned.
    pub(crate) taken: u32,
    /// Jobs in its line, by urgency.
    pub(crate) waiting: PerPriority<u64>,
    /// Of each urgency, no job waits with an order before this one.
    pub(crate) first: PerPriority<u64>,
}

impl PlacesRecord {
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.iter().map(|(_, jobs)| jobs).sum()
    }
}

/// How many jobs of a queue wait in lines. Only for queues of which one does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueueLinesRecord {
    pub(crate) waiting: PerPriority<u64>,
    /// Lines may wait although there is a place; those of keys from this one on, by their keys in
    /// the tree, have not been looked at.
    pub(crate) admit_from: Option<Bytes>,
}

impl Record for LineRecord {
    const KIND: u8 = 16;
}
impl Record for PlacesRecord {
    const KIND: u8 = 17;
}
impl Record for QueueLinesRecord {
    const KIND: u8 = 18;
}
