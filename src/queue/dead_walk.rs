//! Which dead letters a call is about, and the way through them, a portion at a time.
//!
//! Listing, replaying, purging and editing all find their letters here, so all of them mean the
//! same by the same words. A walk goes by queue and in each by the time of death. It looks at a
//! bounded number of letters in one application; other commands run before it goes on.

use std::collections::VecDeque;
use std::ops::Bound;

use crate::clock::Timestamp;
use crate::dead_letter::{DeadReason, ERROR_BYTES_MAX};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, QueueId, limits};
use crate::priority::Priority;
use crate::queue::locate::Place;
use crate::queue::state::QueueState;
use crate::store::codec;
use crate::store::format::DeadRecord;
use crate::store::key::{self, LaneId};
use crate::store::{Direction, Entry, Tree};

/// Most ids in one call.
pub const DEAD_IDS_MAX: usize = 1_000;
/// About so many letters are looked at in one application.
pub(crate) const PORTION: usize = 1_000;
/// A letter counts as one more for each such part of its record.
const BYTES_FOR_ONE: usize = 8 << 10;
/// Letters read at once.
const LETTERS_READ: usize = 64;

/// What a dead letter must be like. Nothing said lets all of them through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// It is of this queue.
    pub queue: Option<String>,
    /// It is of this kind.
    pub kind: Option<String>,
    /// It died of this.
    pub reason: Option<DeadReason>,
    /// The text of its last error has this in it.
    pub error: Option<String>,
}

/// The dead letters that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadChoice {
    /// These; what is not a dead letter (any more) is passed over.
    Ids(Vec<JobId>),
    /// All that the filter lets through.
    Filter(DeadFilter),
}

impl Default for DeadChoice {
    /// All dead letters.
    fn default() -> Self {
        DeadChoice::Filter(DeadFilter::default())
    }
}

impl DeadFilter {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        for (field, text, most) in [
            ("queue", &self.queue, limits::NAME_BYTES_MAX),
            ("kind", &self.kind, limits::NAME_BYTES_MAX),
            ("error", &self.error, ERROR_BYTES_MAX),
        ] {
            let bytes = text.as_ref().map(String::len);
            if bytes == Some(0) {
                return Err(Error::invalid(field, "must not be empty; leave it out for any"));
            }
            if let Some(bytes) = bytes.filter(|bytes| *bytes > most) {
                let message = format!("{bytes} bytes are too many; at most {most}");
                return Err(Error::invalid(field, message));
            }
        }
        Ok(())
    }

    /// Whether it lets a letter of its queue through.
    fn lets_through(&self, record: &DeadRecord) -> bool {
        let last_error = || record.job.errors.last().map_or("", |last| last.error.as_str());
        self.kind.as_ref().is_none_or(|kind| *kind == record.job.kind)
            && self.reason.is_none_or(|reason| reason == record.reason)
            && self.error.as_ref().is_none_or(|error| last_error().contains(error.as_str()))
    }
}

impl DeadChoice {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        match self {
            DeadChoice::Filter(filter) => filter.validate(),
            DeadChoice::Ids(ids) if ids.is_empty() => {
                Err(Error::invalid("ids", "must not be empty; leave it out for all"))
            }
            DeadChoice::Ids(ids) if ids.len() > DEAD_IDS_MAX => Err(Error::invalid(
                "ids",
                format!("{} are too many for one call; at most {DEAD_IDS_MAX}", ids.len()),
            )),
            DeadChoice::Ids(_) => Ok(()),
        }
    }
}

/// A dead letter, found.
pub(crate) struct Letter {
    pub(crate) key: Vec<u8>,
    pub(crate) id: JobId,
    pub(crate) died_at: Timestamp,
    pub(crate) lane: LaneId,
    pub(crate) record: DeadRecord,
    /// Bytes of its record.
    pub(crate) bytes: usize,
}

/// The way through the dead letters of a choice. What was passed never comes again.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeadWalk {
    pub(crate) filter: DeadFilter,
    /// The ids still to look at, the next one last; `None` when the filter alone chooses.
    pub(crate) ids: Option<Vec<JobId>>,
    /// Letters up to this key were looked at.
    pub(crate) after: Option<Vec<u8>>,
    /// Only letters that died before any later sequence was given out.
    pub(crate) died_by: Option<u64>,
    /// Read, and not looked at. Only good within one application.
    ahead: VecDeque<Entry>,
}

/// Where a walk got to.
pub(crate) enum Step {
    /// A letter that is meant. It comes again until it is [passed](DeadWalk::pass).
    Letter(Box<Letter>),
    /// Enough was looked at for one application.
    Pause,
    /// There are no more.
    End,
}

impl DeadWalk {
    pub(crate) fn new(choice: &DeadChoice) -> Self {
        match choice {
            DeadChoice::Filter(filter) => DeadWalk::by(filter.clone()),
            DeadChoice::Ids(ids) => {
                let mut seen = std::collections::HashSet::new();
                let mut ids: Vec<_> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
                ids.reverse();
                DeadWalk { ids: Some(ids), ..Self::default() }
            }
        }
    }

    /// All letters that a filter lets through.
    pub(crate) fn by(filter: DeadFilter) -> Self {
        DeadWalk { filter, ..Self::default() }
    }

    /// All letters of a queue.
    pub(crate) fn of_queue(name: &str) -> Self {
        Self::by(DeadFilter { queue: Some(name.to_owned()), ..DeadFilter::default() })
    }

    /// Begins a portion: what other commands changed meanwhile is seen.
    pub(crate) fn begin_portion(&mut self) {
        self.ahead.clear();
    }

    /// The letter that came last is dealt with.
    pub(crate) fn pass(&mut self) {
        match &mut self.ids {
            Some(ids) => drop(ids.pop()),
            None => self.after = self.ahead.pop_front().map(|(key, _)| key).or(self.after.take()),
        }
    }

    fn wants(&self, record: &DeadRecord) -> bool {
        self.died_by.is_none_or(|last| record.sequence <= last) && self.filter.lets_through(record)
    }
}

impl QueueState {
    /// The next letter of a walk. What is looked at is taken off `left`.
    pub(crate) fn next_letter(&mut self, walk: &mut DeadWalk, left: &mut usize) -> Result<Step> {
        loop {
            if *left == 0 {
                return Ok(Step::Pause);
            }
            let letter = if let Some(ids) = &walk.ids {
                let Some(id) = ids.last().copied() else { return Ok(Step::End) };
                match self.locate(id)? {
                    Some(Place::Dead(died_at)) => self.letter_at(id, died_at)?,
                    _ => None,
                }
            } else {
                if walk.ahead.is_empty() {
                    walk.ahead = self.letters_after(walk)?;
                }
                let Some((key, bytes)) = walk.ahead.front() else { return Ok(Step::End) };
                self.letter(key.clone(), bytes)?
            };
            let bytes = letter.as_ref().map_or(0, |letter| letter.bytes);
            *left = left.saturating_sub(1 + bytes / BYTES_FOR_ONE);
            match letter.filter(|letter| walk.wants(&letter.record)) {
                Some(letter) => return Ok(Step::Letter(Box::new(letter))),
                None => walk.pass(),
            }
        }
    }

    fn letters_after(&self, walk: &DeadWalk) -> Result<VecDeque<Entry>> {
        let (from, until) = match &walk.filter.queue {
            None => (Vec::new(), Bound::Unbounded),
            Some(name) => {
                let Some(id) = self.queues.by_name.get(name.as_str()) else {
                    return Ok(VecDeque::new());
                };
                (key::queue(*id), Bound::Excluded(key::queue(QueueId(id.0 + 1))))
            }
        };
        let after = walk.after.clone().filter(|after| *after >= from);
        let start = after.map_or(Bound::Included(from), Bound::Excluded);
        // A walk that is beyond its queue has nothing left, and would be no range at all.
        if let (Bound::Excluded(start), Bound::Excluded(until)) = (&start, &until)
            && start >= until
        {
            return Ok(VecDeque::new());
        }
        let scan = self.draft.scan(Tree::Dead, (start, until), Direction::Ascending);
        scan.take(LETTERS_READ).collect()
    }

    /// The dead letter with this id.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Conflict`](ErrorKind::Conflict) when the job lives.
    pub(crate) fn find_dead(&mut self, id: JobId) -> Result<Letter> {
        let place = self.locate(id)?;
        if let Some(Place::Dead(died_at)) = place
            && let Some(letter) = self.letter_at(id, died_at)?
        {
            return Ok(letter);
        }
        match place {
            Some(Place::Slot(..) | Place::Line(_) | Place::Timer(_)) => Err(Error::new(
                ErrorKind::Conflict,
                format!("job {id} is not dead; look at it under its jobs, or cancel it there"),
            )),
            _ => Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}"))),
        }
    }

    fn letter_at(&mut self, id: JobId, died_at: Timestamp) -> Result<Option<Letter>> {
        let key = key::dead(id.queue(), died_at, id);
        match self.draft.get(Tree::Dead, &key)? {
            Some(bytes) => self.letter(key, &bytes),
            None => Ok(None),
        }
    }

    /// The letter of an entry; `None` when it was damaged and is set aside now.
    fn letter(&mut self, key: Vec<u8>, bytes: &[u8]) -> Result<Option<Letter>> {
        let Some((_, died_at, id)) = key::dead_from(&key) else { return Ok(None) };
        let Some((lane, record)) = self.dead_record(&key, id, bytes)? else { return Ok(None) };
        Ok(Some(Letter { key, id, died_at, lane, record, bytes: bytes.len() }))
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
}
