//! Lines: ready jobs that wait for others with the same key.
//!
//! Each key has a line of its own, in the store. That of an ordering key is in the order in which
//! the jobs came, whatever their priorities; that of a concurrency key has the most urgent first.
//! A job in a line counts as ready, and is listed, cancelled, purged and expires as others do.
//! Memory holds nothing of it but how many there are in each queue.

use std::ops::Bound;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobState, JobView, WaitsFor};
use crate::priority::{PerPriority, Priority};
use crate::queue::cancel::TakenOut;
use crate::queue::gate::Arrival;
use crate::queue::state::QueueState;
use crate::store::codec;
use crate::store::format::{JobRecord, LineRecord, LocationRecord, QueueLinesRecord};
use crate::store::key::{self, KeyKind, LaneId, LinePlace, SharedKey};
use crate::store::{Direction, Tree};

/// The lines of a queue, in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueLines {
    /// Jobs that wait in them, by priority.
    pub(crate) waiting: PerPriority<u64>,
    /// See [`QueueLinesRecord`].
    pub(crate) admit_from: Option<Vec<u8>>,
}

/// A job in a line.
pub(crate) struct Waiter {
    pub(crate) id: JobId,
    /// Where it goes from there.
    pub(crate) lane: LaneId,
    pub(crate) ready_at: Timestamp,
    pub(crate) job: JobRecord,
    /// Bytes of its record.
    pub(crate) bytes: usize,
}

impl QueueState {
    /// Lets a job that was counted as ready wait for a key.
    pub(crate) fn join_line(
        &mut self,
        lane: LaneId,
        arrival: Arrival,
        of: SharedKey,
    ) -> Result<()> {
        let Arrival { id, job, ready_at, is_new, .. } = arrival;
        let order = if is_new { id.sequence() } else { self.next_sequence()? };
        let urgency = match of.kind {
            KeyKind::Ordering => Priority::Critical,
            KeyKind::Concurrency => lane.priority,
        };
        let place = LinePlace { of, urgency, order };
        let priority = lane.priority.number();
        let (id_number, ready_at_ms) = (id.as_u128(), ready_at.as_ms());
        let record = LineRecord { id: id_number, priority, ready_at_ms, job };
        self.draft.put_live(Tree::Lines, place.key(), codec::encode(&record));
        let location = LocationRecord::of_line(&place);
        self.draft.put(Tree::Location, key::job(id), codec::encode(&location));
        let mut places = self.places(&place.of)?.unwrap_or_default();
        places.waiting[urgency] += 1;
        self.write_places(&place.of, &places);
        self.note_lined(lane, |jobs| jobs + 1);
        Ok(())
    }

    /// Takes a job from its line: not counted, not forgotten yet. `None` when it was damaged.
    pub(crate) fn take_from_line(&mut self, place: &LinePlace) -> Result<Option<TakenOut>> {
        let Some(waiter) = self.waiter(place)? else { return Ok(None) };
        self.leave_line(place, &waiter)?;
        let Waiter { lane, job, .. } = waiter;
        if place.of.kind == KeyKind::Concurrency {
            self.give_up_turn(lane.queue, &job)?;
        }
        Ok(Some(TakenOut { lane, from: JobState::Ready, job, moved: true }))
    }

    /// A job is not in its line any more.
    pub(crate) fn leave_line(&mut self, place: &LinePlace, waiter: &Waiter) -> Result<()> {
        self.draft.remove_live(Tree::Lines, place.key(), waiter.bytes);
        if let Some(mut places) = self.places(&place.of)? {
            let waiting = &mut places.waiting[place.urgency];
            *waiting = waiting.saturating_sub(1);
            self.write_places(&place.of, &places);
        }
        self.note_lined(waiter.lane, |jobs| jobs.saturating_sub(1));
        Ok(())
    }

    /// The job at a place in a line; `None` when it was damaged.
    pub(crate) fn waiter(&mut self, place: &LinePlace) -> Result<Option<Waiter>> {
        match self.draft.get(Tree::Lines, &place.key())? {
            Some(bytes) => self.read_waiter(place, &bytes),
            None => Ok(None),
        }
    }

    /// The job of an entry; `None` when it was damaged, and is set aside now.
    pub(crate) fn read_waiter(
        &mut self,
        place: &LinePlace,
        bytes: &[u8],
    ) -> Result<Option<Waiter>> {
        match codec::decode::<LineRecord>(bytes) {
            Ok(LineRecord { id, priority, ready_at_ms, job }) => {
                let priority = Priority::from_number(priority).unwrap_or_default();
                Ok(Some(Waiter {
                    id: JobId::from_u128(id),
                    lane: LaneId { priority, queue: place.of.queue },
                    ready_at: Timestamp::from_ms(ready_at_ms),
                    job,
                    bytes: bytes.len(),
                }))
            }
            Err(reason) => {
                self.set_aside(Tree::Lines, place.key(), bytes, &reason)?;
                Ok(None)
            }
        }
    }

    pub(crate) fn waiter_view(&mut self, place: &LinePlace, waiter: &Waiter) -> Result<JobView> {
        let Waiter { id, lane, ready_at, job, .. } = waiter;
        let mut view = self.view(*lane, *id, job, JobState::Ready, *ready_at)?;
        view.waits_for = Some(match place.of.kind {
            KeyKind::Ordering => WaitsFor::OrderingKey(place.of.text.clone()),
            KeyKind::Concurrency => WaitsFor::ConcurrencyKey(place.of.text.clone()),
        });
        Ok(view)
    }

    /// One job more or less of this lane waits in a line, and not in the lane.
    fn note_lined(&mut self, lane: LaneId, change: impl FnOnce(u64) -> u64) {
        let Some(entry) = self.queues.by_id.get_mut(&lane.queue) else { return };
        let waiting = &mut entry.lines.waiting[lane.priority];
        *waiting = change(*waiting);
        let is_open = entry.is_open();
        self.gates.dirty.insert(lane.queue);
        match is_open && self.queues.ready_jobs(lane) > 0 {
            true => self.picker.enter(lane),
            false => {
                self.picker.leave(lane);
                self.became_ready.remove(&lane);
            }
        }
    }

    // ---- the store ----

    pub(crate) fn write_lines(&mut self) {
        for id in std::mem::take(&mut self.gates.dirty) {
            let lines = self.queues.by_id.get(&id).map(|entry| &entry.lines);
            let lines = lines.filter(|lines| !lines.is_empty());
            let record = lines.map(|lines| QueueLinesRecord {
                waiting: lines.waiting,
                admit_from: lines.admit_from.clone().map(Bytes::from),
            });
            match record {
                Some(record) => {
                    self.draft.put(Tree::Places, key::queue_lines(id), codec::encode(&record));
                }
                None => self.draft.remove(Tree::Places, key::queue_lines(id)),
            }
        }
    }

    /// Reads how many jobs of each queue wait in lines.
    pub(crate) fn recover_lines(&mut self) -> Result<()> {
        let range = (Bound::Included(vec![0]), Bound::Excluded(vec![1]));
        let scan = self.draft.scan(Tree::Places, range, Direction::Ascending);
        for (entry_key, bytes) in scan.collect::<Result<Vec<_>>>()? {
            let Some(id) = key::queue_lines_from(&entry_key) else { continue };
            match codec::decode::<QueueLinesRecord>(&bytes) {
                Ok(QueueLinesRecord { waiting, admit_from }) => {
                    if admit_from.is_some() {
                        self.gates.walks.insert(id);
                    }
                    let admit_from = admit_from.map(|from| from.to_vec());
                    if let Some(entry) = self.queues.by_id.get_mut(&id) {
                        entry.lines = QueueLines { waiting, admit_from };
                    }
                    self.note_ready(id);
                }
                Err(reason) => self.set_aside(Tree::Places, entry_key, &bytes, &reason)?,
            }
        }
        Ok(())
    }
}

impl QueueLines {
    fn is_empty(&self) -> bool {
        self.admit_from.is_none() && self.waiting() == 0
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.iter().map(|(_, jobs)| jobs).sum()
    }
}
