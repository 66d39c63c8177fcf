//! Lists jobs, a page at a time, in the order of the queue.
//!
//! # Order
//! First the lanes, by priority, queue and place: ready and running jobs as claims come to them.
//! Then the lines, by queue and key: ready jobs that wait for others. Then what waits for a moment,
//! by that moment. Then dead letters, by queue and death. A page goes on after the position of the
//! last job looked at, whether or not that job is still there: a job that does not move is on
//! exactly one page.
//!
//! # Work
//! One application looks at [`LOOKS_AT_ONCE`] jobs, and then lets other commands have their turn.
//! A page looks at [`PAGE_LOOKS_MAX`] in all: one that found few by then is short.

mod lines;
mod position;
#[cfg(test)]
pub(super) mod tests;

use std::ops::Bound;
use std::sync::Arc;

use crate::error::Result;
use crate::job::{JobState, JobView, QueueId, validate_range};
use crate::priority::Priority;
use crate::queue::chunk::Chunk;
use crate::queue::dead::PAGE_MAX;
use crate::queue::dead_walk::Letter;
use crate::queue::state::QueueState;
use crate::queue::walk::{CHUNK_LOOKS, LOOKS_AT_ONCE, Scope};
use crate::store::Tree;
use crate::store::format::JobRecord;
use crate::store::key::{self, LaneId};
use position::Position;

/// A page ends early when its payloads come to this many bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Most jobs that are looked at for one page.
const PAGE_LOOKS_MAX: usize = 20_000;
/// What it costs to read a part of a large payload, in jobs looked at.
const PAYLOAD_PART_LOOKS: usize = 4;

/// Which jobs to list.
#[derive(Clone, Debug, PartialEq)]
pub struct JobQuery {
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only in these states; all when empty.
    pub states: Vec<JobState>,
    /// Only of this priority.
    pub priority: Option<Priority>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Go on after a page: its `next_cursor`.
    pub cursor: Option<String>,
}

/// A page of jobs. It may be short, or empty, although more follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

impl Default for JobQuery {
    /// The first hundred of all jobs.
    fn default() -> Self {
        JobQuery {
            queue: None,
            states: Vec::new(),
            priority: None,
            kind: None,
            limit: 100,
            cursor: None,
        }
    }
}

impl JobQuery {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        Listing::new(self.clone()).map(drop)
    }
}

/// A page at work.
pub(crate) struct Listing {
    query: JobQuery,
    /// The last job looked at.
    at: Option<Position>,
    jobs: Vec<JobView>,
    payload_bytes: usize,
    /// How many may still be looked at: in this application, and in all.
    looks_now: usize,
    looks_left: usize,
    /// The page has all it may have, and a job was seen that belongs on the next.
    more: bool,
    looks_at_once: usize,
}

impl Listing {
    pub(crate) fn new(query: JobQuery) -> Result<Listing> {
        validate_range("limit", Some(query.limit), 1, PAGE_MAX)?;
        let at = query.cursor.as_deref().map(Position::from_cursor).transpose()?;
        Ok(Listing {
            query,
            at,
            jobs: Vec::new(),
            payload_bytes: 0,
            looks_now: 0,
            looks_left: PAGE_LOOKS_MAX,
            more: false,
            looks_at_once: LOOKS_AT_ONCE,
        })
    }

    fn look(&mut self, jobs: usize) {
        self.looks_now = self.looks_now.saturating_sub(jobs);
        self.looks_left = self.looks_left.saturating_sub(jobs);
    }

    fn rests(&self) -> bool {
        self.more || self.looks_now == 0 || self.looks_left == 0
    }

    fn is_full(&self) -> bool {
        self.jobs.len() >= self.query.limit || self.payload_bytes >= PAGE_BYTES_MAX
    }

    fn wants_kind(&self, job: &JobRecord) -> bool {
        self.query.kind.as_ref().is_none_or(|kind| *kind == job.kind)
    }

    /// Room for one more; when there is none, what was found belongs on the next page.
    fn has_room(&mut self) -> bool {
        self.more = self.is_full();
        !self.more
    }

    fn add(&mut self, job: JobView) {
        self.payload_bytes += job.payload.bytes().len();
        self.jobs.push(job);
    }

    /// The page, if it is complete after an application that rested or saw the end.
    fn page(&mut self) -> Option<JobPage> {
        let at_the_end = !self.rests();
        if !at_the_end && !self.is_full() && self.looks_left > 0 {
            return None;
        }
        let cursor = self.at.as_ref().map(Position::to_string);
        let next_cursor = if at_the_end { None } else { cursor };
        Some(JobPage { jobs: std::mem::take(&mut self.jobs), next_cursor })
    }
}

impl QueueState {
    /// Looks for the jobs of a page; `None` when it must be applied again.
    pub(crate) fn list(&mut self, listing: &mut Listing) -> Result<Option<JobPage>> {
        let queue = match &listing.query.queue {
            Some(name) => match self.queues.by_name.get(name.as_str()) {
                Some(queue) => Some(*queue),
                None => return Ok(Some(JobPage::default())),
            },
            None => None,
        };
        let states = match listing.query.states.as_slice() {
            [] => JobState::ALL.to_vec(),
            states => states.to_vec(),
        };
        let scope = Scope { queue, priority: listing.query.priority, states };
        listing.looks_now = listing.looks_at_once;
        self.list_lanes(&scope, listing)?;
        self.list_lines(&scope, listing)?;
        self.list_timers(&scope, listing)?;
        self.list_letters(&scope, listing)?;
        Ok(listing.page())
    }

    fn list_lanes(&mut self, scope: &Scope, listing: &mut Listing) -> Result<()> {
        let (mut from_lane, mut from_place) = match &listing.at {
            _ if !scope.wants_lanes() => return Ok(()),
            None => (Bound::Unbounded, 0),
            Some(Position::Lane(lane, place)) => (Bound::Included(*lane), place + 1),
            Some(_) => return Ok(()),
        };
        while let Some(lane) = self.next_lane(scope, from_lane) {
            if from_lane != Bound::Included(lane) {
                from_place = 0;
            }
            self.list_lane(lane, from_place, scope, listing)?;
            if listing.rests() {
                return Ok(());
            }
            from_lane = Bound::Excluded(lane);
        }
        Ok(())
    }

    fn list_lane(
        &mut self,
        lane: LaneId,
        from_place: u64,
        scope: &Scope,
        listing: &mut Listing,
    ) -> Result<()> {
        self.seal(lane);
        let mut from = Bound::Included(self.chunk_start(lane, from_place)?);
        loop {
            let chunks = self.chunks_from(lane, from, scope)?;
            let Some((last, _)) = chunks.last() else { return Ok(()) };
            from = Bound::Excluded(last.first_place);
            for (id, bytes) in chunks {
                if let Some(chunk) = self.glance(id, bytes)? {
                    self.list_chunk(&chunk, from_place, scope, listing)?;
                }
                if listing.rests() {
                    return Ok(());
                }
            }
        }
    }

    fn list_chunk(
        &mut self,
        chunk: &Arc<Chunk>,
        from_place: u64,
        scope: &Scope,
        listing: &mut Listing,
    ) -> Result<()> {
        let seen = chunk.slots.partition_point(|slot| slot.place < from_place);
        if seen < chunk.slots.len() {
            listing.look(CHUNK_LOOKS);
        }
        for (number, slot) in chunk.slots.iter().enumerate().skip(seen) {
            let state = self.slot_state(chunk.id, number);
            if state.is_some_and(|state| scope.wants(state)) && listing.wants_kind(&slot.job) {
                if !listing.has_room() {
                    return Ok(());
                }
                let view = self.slot_view(chunk, number)?;
                listing.look(usize::from(slot.job.payload.parts()) * PAYLOAD_PART_LOOKS);
                listing.add(view);
            }
            listing.at = Some(Position::Lane(chunk.id.lane, slot.place));
            listing.look(1);
            if listing.rests() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn list_timers(&mut self, scope: &Scope, listing: &mut Listing) -> Result<()> {
        let waiting = [JobState::Scheduled, JobState::Retrying];
        let wanted: Vec<_> = waiting.into_iter().filter(|state| scope.wants(*state)).collect();
        let mut from = match &listing.at {
            // The counters know without reading.
            _ if listing.rests() || self.jobs_in(scope, &wanted) == 0 => return Ok(()),
            Some(Position::Dead(..)) => return Ok(()),
            Some(Position::Timer(due, id)) => Bound::Excluded(key::timer(*due, *id)),
            Some(Position::Lane(..) | Position::Line(_)) | None => Bound::Unbounded,
        };
        loop {
            let timers = self.records_from(Tree::Timers, from, Bound::Unbounded)?;
            let Some((last, _)) = timers.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            for (key, bytes) in timers {
                let Some((due, id)) = key::timer_from(&key) else { continue };
                if scope.queue.is_none_or(|queue| queue == id.queue())
                    && let Some((lane, record)) = self.timer_record(&key, id, &bytes)?
                    && scope.wants(record.wait.state())
                    && scope.wants_priority(lane.priority)
                    && listing.wants_kind(&record.job)
                {
                    if !listing.has_room() {
                        return Ok(());
                    }
                    let view = self.view(lane, id, &record.job, record.wait.state(), due)?;
                    listing.look(usize::from(record.job.payload.parts()) * PAYLOAD_PART_LOOKS);
                    listing.add(view);
                }
                listing.at = Some(Position::Timer(due, id));
                listing.look(1);
                if listing.rests() {
                    return Ok(());
                }
            }
        }
    }

    fn list_letters(&mut self, scope: &Scope, listing: &mut Listing) -> Result<()> {
        if listing.rests() || !scope.wants(JobState::Dead) {
            return Ok(());
        }
        let (first, until) = match scope.queue {
            Some(queue) => (key::queue(queue), Bound::Excluded(key::queue(QueueId(queue.0 + 1)))),
            None => (Vec::new(), Bound::Unbounded),
        };
        let mut from = match &listing.at {
            Some(Position::Dead(queue, died_at, id)) => {
                Bound::Excluded(key::dead(*queue, *died_at, *id).max(first))
            }
            _ => Bound::Included(first),
        };
        loop {
            let letters = self.records_from(Tree::Dead, from, until.clone())?;
            let Some((last, _)) = letters.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            for (key, bytes) in letters {
                let Some((queue, died_at, id)) = key::dead_from(&key) else { continue };
                if let Some((lane, record)) = self.dead_record(&key, id, &bytes)?
                    && scope.wants_priority(lane.priority)
                    && listing.wants_kind(&record.job)
                {
                    if !listing.has_room() {
                        return Ok(());
                    }
                    listing.look(usize::from(record.job.payload.parts()) * PAYLOAD_PART_LOOKS);
                    let bytes = bytes.len();
                    let view = self.dead_view(Letter { key, id, died_at, lane, record, bytes })?;
                    listing.add(view);
                }
                listing.at = Some(Position::Dead(queue, died_at, id));
                listing.look(1);
                if listing.rests() {
                    return Ok(());
                }
            }
        }
    }
}
