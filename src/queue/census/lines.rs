//! Jobs in lines, and places of keys, in a full count (I1, I2, I10).

use std::collections::{BTreeMap, HashMap};

use super::{Census, all};
use crate::error::Result;
use crate::job::{JobId, JobState, QueueId};
use crate::priority::{PerPriority, Priority};
use crate::queue::gate::PLACES_DEFAULT;
use crate::store::codec;
use crate::store::format::{JobRecord, LineRecord, LocationRecord, PlacesRecord, QueueLinesRecord};
use crate::store::key::{self, KeyKind, LaneId, LinePlace, SharedKey};
use crate::store::{Entry, Store, Tree};

/// Records of places to be mended that one census remembers: what mends them fits into one commit.
const PLACES_KEPT_MAX: usize = 8_000;

/// What was counted of keys that jobs share.
#[derive(Default)]
pub(crate) struct Lines {
    /// Jobs in lines.
    pub(crate) waiting: BTreeMap<QueueId, PerPriority<u64>>,
    /// Records of places that are wrong, and what they should be; `None` where no job has the key.
    pub(crate) wrong_places: Vec<(Vec<u8>, Option<PlacesRecord>)>,
    /// More are wrong.
    pub(crate) more_are_wrong: bool,
    places: HashMap<SharedKey, PlacesRecord>,
    per_key: BTreeMap<QueueId, u32>,
    walks: BTreeMap<QueueId, Vec<u8>>,
}

impl Lines {
    /// A job has a place of its key of this kind, if it carries one.
    pub(super) fn take(&mut self, queue: QueueId, kind: KeyKind, job: &JobRecord) {
        if let Some(key) = job.shared_key(queue, kind) {
            self.places.entry(key).or_default().taken += 1;
        }
    }

    pub(super) fn note_limit(&mut self, queue: QueueId, per_key: Option<u32>) {
        self.per_key.extend(per_key.map(|per_key| (queue, per_key)));
    }

    fn wait(&mut self, place: &LinePlace, priority: Priority) {
        self.waiting.entry(place.of.queue).or_default()[priority] += 1;
        let places = self.places.entry(place.of.clone()).or_default();
        let (waiting, first) =
            (&mut places.waiting[place.urgency], &mut places.first[place.urgency]);
        *first = if *waiting == 0 { place.order } else { place.order.min(*first) };
        *waiting += 1;
    }

    /// True when the walk through a queue's lines has not come to this key.
    fn is_looked_at_later(&self, key: &SharedKey) -> bool {
        self.walks.get(&key.queue).is_some_and(|from| *from <= key.key())
    }

    fn places_of(&self, key: &SharedKey) -> u32 {
        match key.kind {
            KeyKind::Ordering => 1,
            KeyKind::Concurrency => self.per_key.get(&key.queue).copied().unwrap_or(PLACES_DEFAULT),
        }
    }
}

/// What a record says is what was counted.
fn is_right(said: &PlacesRecord, counted: &PlacesRecord) -> bool {
    let mut waiting = counted.waiting.iter().filter(|(_, jobs)| **jobs > 0);
    (said.taken, said.waiting) == (counted.taken, counted.waiting)
        && waiting.all(|(urgency, _)| said.first[urgency] <= counted.first[urgency])
}

impl Census {
    pub(super) fn read_lines(&mut self, store: &dyn Store) -> Result<()> {
        for entry in all(store, Tree::Lines) {
            self.read_line(entry?);
        }
        Ok(())
    }

    fn read_line(&mut self, (entry, bytes): Entry) {
        self.count_live(Tree::Lines, bytes.len());
        let (place, record) = match (LinePlace::from_key(&entry), codec::decode(&bytes)) {
            (Some(place), Ok(record)) => (place, record),
            (_, Err(reason)) => return self.damaged(Tree::Lines, &entry, &reason),
            (None, _) => return self.bad_key(Tree::Lines, &entry),
        };
        let LineRecord { id, priority, job, .. } = record;
        let id = JobId::from_u128(id);
        let priority = Priority::from_number(priority).unwrap_or_default();
        let lane = LaneId { priority, queue: place.of.queue };
        self.count_job(id, lane, JobState::Ready, &job);
        self.note_keys(id, JobState::Ready, job.deliveries, &job);
        self.moved.insert(id, LocationRecord::of_line(&place));
        self.largest_sequence = self.largest_sequence.max(place.order);
        if job.shared_key(lane.queue, place.of.kind).as_ref() != Some(&place.of) {
            self.problem("I1", format!("job {id} waits for {:?}, which it has not", place.of.text));
        }
        self.lines.wait(&place, priority);
        if place.of.kind == KeyKind::Concurrency {
            self.lines.take(lane.queue, KeyKind::Ordering, &job);
        }
    }

    /// After all jobs and limits.
    pub(super) fn read_places(&mut self, store: &dyn Store) -> Result<()> {
        let mut counted = std::mem::take(&mut self.lines.places);
        let mut waiting = self.lines.waiting.clone();
        for entry in all(store, Tree::Places) {
            let (entry, bytes) = entry?;
            self.check_size(Tree::Places, bytes.len());
            if let Some(queue) = key::queue_lines_from(&entry) {
                let counted = waiting.remove(&queue).unwrap_or_default();
                match codec::decode::<QueueLinesRecord>(&bytes) {
                    Ok(said) => self.compare_lines(queue, &said, counted),
                    Err(reason) => self.damaged(Tree::Places, &entry, &reason),
                }
            } else if let Some(key) = SharedKey::from_key(&entry) {
                let counted = counted.remove(&key);
                match codec::decode::<PlacesRecord>(&bytes) {
                    Ok(said) => self.compare_places(&key, Some(said), counted),
                    Err(reason) => self.damaged(Tree::Places, &entry, &reason),
                }
            } else {
                self.bad_key(Tree::Places, &entry);
            }
        }
        for (queue, waiting) in waiting {
            self.compare_lines(queue, &QueueLinesRecord::default(), waiting);
        }
        for (key, counted) in counted {
            self.compare_places(&key, None, Some(counted));
        }
        Ok(())
    }

    fn compare_lines(
        &mut self,
        queue: QueueId,
        said: &QueueLinesRecord,
        counted: PerPriority<u64>,
    ) {
        if said.waiting != counted {
            let said = said.waiting;
            let problem = format!(
                "in lines of queue number {} {said:?} jobs are said to wait, there are {counted:?}",
                queue.0
            );
            self.problem("I2", problem);
        }
        if let Some(from) = &said.admit_from {
            self.lines.walks.insert(queue, from.to_vec());
        }
    }

    fn compare_places(
        &mut self,
        key: &SharedKey,
        said: Option<PlacesRecord>,
        counted: Option<PlacesRecord>,
    ) {
        let right = match (&said, &counted) {
            (Some(said), Some(counted)) => is_right(said, counted),
            _ => false,
        };
        if !right {
            let text = &key.text;
            let problem = format!("of {text:?} it is said {said:?}, and there is {counted:?}");
            self.problem("I2", problem);
            match self.lines.wrong_places.len() < PLACES_KEPT_MAX {
                true => self.lines.wrong_places.push((key.key(), counted)),
                false => self.lines.more_are_wrong = true,
            }
        }
        if let Some(counted) = counted
            && counted.waiting() > 0
            && counted.taken < self.lines.places_of(key)
            && !self.lines.is_looked_at_later(key)
        {
            let text = &key.text;
            self.problem("I10", format!("jobs wait for {text:?}, which has a place: {counted:?}"));
        }
    }
}
