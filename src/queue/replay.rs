//! Dead letters: listed, looked at, put back to work.

use std::ops::Bound;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{DeadView, Enqueued, JobId, JobState, JobView, Move, QueueId, validate_range};
use crate::priority::Priority;
use crate::queue::event::Happened;
use crate::queue::locate::Place;
use crate::queue::state::{Context, QueueState};
use crate::store::codec;
use crate::store::format::DeadRecord;
use crate::store::key::{self, LaneId};
use crate::store::{Direction, Tree};

/// Most dead letters on one page.
pub const PAGE_MAX: usize = 1_000;
/// A page ends early when its payloads come to this many bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Which dead letters to list.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadQuery {
    /// Only of this queue.
    pub queue: Option<String>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Go on after a page: its `next_cursor`.
    pub cursor: Option<String>,
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadPage {
    /// The dead letters.
    pub jobs: Vec<JobView>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

impl Default for DeadQuery {
    /// The first hundred of all queues.
    fn default() -> Self {
        DeadQuery { queue: None, limit: 100, cursor: None }
    }
}

impl DeadQuery {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        validate_range("limit", Some(self.limit), 1, PAGE_MAX)?;
        self.after().map(drop)
    }

    /// The key that the cursor stands for.
    fn after(&self) -> Result<Option<Vec<u8>>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let mut parts = cursor.splitn(3, '.');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let queue = number().and_then(|queue| u32::try_from(queue).ok()).map(QueueId);
        let died_at = number().map(Timestamp::from_ms);
        match (queue, died_at, parts.next().and_then(|id| id.parse().ok())) {
            (Some(queue), Some(died_at), Some(id)) => Ok(Some(key::dead(queue, died_at, id))),
            _ => Err(Error::invalid(
                "cursor",
                format!("{cursor:?} is not a cursor; use next_cursor of the page before"),
            )),
        }
    }
}

impl QueueState {
    /// A page of dead letters, by queue and in each by the time they died.
    pub(crate) fn dead_letters(&mut self, query: &DeadQuery) -> Result<DeadPage> {
        let mut page = DeadPage { jobs: Vec::new(), next_cursor: None };
        let (from, until) = match &query.queue {
            None => (Vec::new(), Bound::Unbounded),
            Some(name) => {
                let Some(id) = self.queues.by_name.get(name.as_str()) else { return Ok(page) };
                (key::queue(*id), Bound::Excluded(key::queue(QueueId(id.0 + 1))))
            }
        };
        let after = query.after()?.filter(|after| *after >= from);
        let start = after.map_or(Bound::Included(from), Bound::Excluded);
        // A cursor beyond the queue asked for leaves nothing, and would be no range at all.
        if let (Bound::Excluded(start), Bound::Excluded(until)) = (&start, &until)
            && start >= until
        {
            return Ok(page);
        }
        let scan = self.draft.scan(Tree::Dead, (start, until), Direction::Ascending);
        let found = scan.take(query.limit + 1).collect::<Result<Vec<_>>>()?;
        let mut bytes_left = PAGE_BYTES_MAX;
        let mut last = None;
        for (key, bytes) in found {
            if page.jobs.len() == query.limit || bytes_left == 0 {
                page.next_cursor = last;
                break;
            }
            let Some((queue, died_at, id)) = key::dead_from(&key) else { continue };
            last = Some(format!("{}.{}.{id}", queue.0, died_at.as_ms()));
            if let Some((lane, record)) = self.dead_record(&key, id, &bytes)? {
                let view = self.dead_view(lane, id, died_at, record)?;
                bytes_left = bytes_left.saturating_sub(view.payload.bytes().len());
                page.jobs.push(view);
            }
        }
        Ok(page)
    }

    /// One dead letter.
    pub(crate) fn dead_letter(&mut self, id: JobId) -> Result<JobView> {
        let (_, died_at, lane, record, _) = self.find_dead(id)?;
        self.dead_view(lane, id, died_at, record)
    }

    /// Puts a dead letter back to work: attempts and interruptions begin again, errors are kept.
    pub(crate) fn replay(&mut self, id: JobId, context: &mut Context<'_>) -> Result<Enqueued> {
        let (key, _, lane, record, bytes) = self.find_dead(id)?;
        let mut job = record.job;
        self.retake_unique_key(id, &job, context.now)?;
        (job.failures, job.interruptions) = (0, 0);
        self.draft.remove_live(Tree::Dead, key, bytes);
        self.count(lane, Some(JobState::Dead), Move::Replay)?;
        self.move_to_lane(lane, id, job, context.now)?;
        self.tell(lane, Happened::Replayed { id });
        Ok(Enqueued {
            id,
            state: JobState::Ready,
            queue: self.queue_name(lane.queue).to_string(),
            priority: lane.priority,
            run_at: context.now,
            replaced: None,
            is_new: false,
        })
    }

    fn find_dead(&mut self, id: JobId) -> Result<(Vec<u8>, Timestamp, LaneId, DeadRecord, usize)> {
        match self.locate(id)? {
            Some(Place::Dead(died_at)) => {
                let key = key::dead(id.queue(), died_at, id);
                if let Some(bytes) = self.draft.get(Tree::Dead, &key)?
                    && let Some((lane, record)) = self.dead_record(&key, id, &bytes)?
                {
                    return Ok((key, died_at, lane, record, bytes.len()));
                }
            }
            Some(_) => {
                let message = format!("job {id} is not dead; there is nothing to replay");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            None => {}
        }
        Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}")))
    }

    pub(crate) fn dead_record(
        &mut self,
        key: &[u8],
        id: JobId,
        bytes: &[u8],
    ) -> Result<Option<(LaneId, DeadRecord)>> {
        match codec::decode::<DeadRecord>(bytes) {
            Ok(record) => {
                let priority = Priority::from_number(record.priority).unwrap_or_default();
                Ok(Some((LaneId { priority, queue: id.queue() }, record)))
            }
            Err(reason) => {
                self.set_aside(Tree::Dead, key.to_vec(), bytes, &reason)?;
                Ok(None)
            }
        }
    }

    pub(crate) fn dead_view(
        &mut self,
        lane: LaneId,
        id: JobId,
        died_at: Timestamp,
        record: DeadRecord,
    ) -> Result<JobView> {
        let mut view = self.view(lane, id, &record.job, JobState::Dead, died_at)?;
        // The last attempt is the one it died of, not one that would come next.
        view.attempt = record.job.failures.max(1);
        view.dead = Some(DeadView { reason: record.reason, died_at });
        Ok(view)
    }
}
