//! Dead letters: listed in pages, and looked at one by one.

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{DeadView, JobId, JobState, JobView, QueueId, validate_range};
use crate::queue::dead_walk::{DeadFilter, DeadWalk, Letter, PORTION, Step};
use crate::queue::state::QueueState;
use crate::store::key;

/// Most dead letters on one page.
pub const PAGE_MAX: usize = 1_000;
/// A page ends early when its payloads come to this many bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// A page ends early when about so many letters were looked at for it.
const PAGE_LOOKED_AT_MAX: usize = 20 * PORTION;

/// Which dead letters to list.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadQuery {
    /// What they must be like.
    pub filter: DeadFilter,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Go on after a page: its `next_cursor`.
    pub cursor: Option<String>,
}

/// A page of dead letters. It may be short or empty though others follow: looking for the few
/// that a filter lets through among many ends after a while.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadPage {
    /// The dead letters.
    pub jobs: Vec<JobView>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

impl Default for DeadQuery {
    /// The first hundred of all queues.
    fn default() -> Self {
        DeadQuery { filter: DeadFilter::default(), limit: 100, cursor: None }
    }
}

impl DeadQuery {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        self.filter.validate()?;
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

/// A page being made, a portion at a time.
pub(crate) struct DeadListing {
    walk: DeadWalk,
    limit: usize,
    bytes_left: usize,
    looks_left: usize,
    page: DeadPage,
}

impl DeadListing {
    pub(crate) fn new(query: DeadQuery) -> Result<Self> {
        let after = query.after()?;
        let (limit, page) = (query.limit, DeadPage::default());
        let mut walk = DeadWalk::by(query.filter);
        walk.after = after;
        let (bytes_left, looks_left) = (PAGE_BYTES_MAX, PAGE_LOOKED_AT_MAX);
        Ok(DeadListing { walk, limit, bytes_left, looks_left, page })
    }

    fn is_full(&self) -> bool {
        self.page.jobs.len() == self.limit || self.bytes_left == 0
    }

    /// Ends the page where the walk is.
    fn end_here(&mut self) -> DeadPage {
        let after = self.walk.after.as_deref().and_then(key::dead_from);
        self.page.next_cursor =
            after.map(|(queue, died_at, id)| format!("{}.{}.{id}", queue.0, died_at.as_ms()));
        std::mem::take(&mut self.page)
    }
}

impl QueueState {
    /// A page of dead letters, by queue and in each by the time they died. `None` when it must be
    /// applied again to go on.
    pub(crate) fn list_dead(&mut self, listing: &mut DeadListing) -> Result<Option<DeadPage>> {
        listing.walk.begin_portion();
        let mut left = PORTION;
        loop {
            match self.next_letter(&mut listing.walk, &mut left)? {
                Step::Letter(_) if listing.is_full() => return Ok(Some(listing.end_here())),
                Step::Letter(letter) => {
                    listing.walk.pass();
                    let view = self.dead_view(*letter)?;
                    let bytes = view.payload.bytes().len();
                    listing.bytes_left = listing.bytes_left.saturating_sub(bytes);
                    listing.page.jobs.push(view);
                }
                Step::Pause => {
                    listing.looks_left = listing.looks_left.saturating_sub(PORTION);
                    return Ok((listing.looks_left == 0).then(|| listing.end_here()));
                }
                Step::End => return Ok(Some(std::mem::take(&mut listing.page))),
            }
        }
    }

    /// A whole page at once.
    #[cfg(test)]
    pub(crate) fn dead_letters(&mut self, query: &DeadQuery) -> Result<DeadPage> {
        let mut listing = DeadListing::new(query.clone())?;
        loop {
            if let Some(page) = self.list_dead(&mut listing)? {
                return Ok(page);
            }
        }
    }

    /// One dead letter.
    pub(crate) fn dead_letter(&mut self, id: JobId) -> Result<JobView> {
        let letter = self.find_dead(id)?;
        self.dead_view(letter)
    }

    pub(crate) fn dead_view(&mut self, letter: Letter) -> Result<JobView> {
        let Letter { id, lane, died_at, record, .. } = letter;
        let mut view = self.view(lane, id, &record.job, JobState::Dead, died_at)?;
        // The last attempt is the one it died of, not one that would come next.
        view.attempt = record.job.failures.max(1);
        view.dead = Some(DeadView { reason: record.reason, died_at });
        Ok(view)
    }
}

#[cfg(test)]
pub(in crate::queue) mod tests;
