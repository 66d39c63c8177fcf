//! Opens a queue: reads what memory needs, and nothing of the backlog.
//!
//! Read are the one record of `meta`, all of `queues`, `limits` and `progress` (chunks that were
//! begun), how many jobs of each queue wait in lines, the first timer, the first of what ends at a
//! moment, the replays of dead letters that are kept and the schedules. How long that takes depends
//! on the work in progress when the process ended, never on how many jobs wait.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, RngExt};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::census;
use crate::queue::draft::Draft;
use crate::queue::lane::Begun;
use crate::queue::state::{QueueState, attention_at};
use crate::queue::tick::pull_back;
use crate::store::codec::{self, DecodeError};
use crate::store::format::{LeaseRecord, MetaRecord, ProgressRecord, QueueRecord, SlotProgress};
use crate::store::key::{self, ChunkId};
use crate::store::{Direction, Store, Tree};

/// How long a lease lives on after opening when it ran out while the queue was closed: its
/// worker had nobody to tell.
pub(crate) const LEASE_GRACE_MS: u64 = 10_000;
/// A delivery number that no lease before reached, for slots whose progress was damaged.
pub(crate) const DELIVERIES_AFTER_DAMAGE: u32 = 1 << 30;

impl QueueState {
    /// Opens the queue in a store, or begins a new one in an empty store.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage) when the data has a newer format, or when the record about
    /// the store itself can't be read; [`Corrupt`](ErrorKind::Corrupt) when the store could not
    /// read all of its files, and jobs are missing.
    pub(crate) fn open(
        store: Arc<dyn Store>,
        config: Config,
        now: Timestamp,
        random: &mut dyn Rng,
    ) -> Result<Self> {
        if store.wants_count() {
            refuse_what_is_missing(&*store)?;
        }
        Self::open_as_found(store, config, now, random)
    }

    /// The same, whatever is missing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_as_found(
        store: Arc<dyn Store>,
        config: Config,
        now: Timestamp,
        random: &mut dyn Rng,
    ) -> Result<Self> {
        let meta = match store.get(Tree::Meta, key::META)? {
            Some(bytes) => codec::decode(&bytes).map_err(unreadable_meta)?,
            None => MetaRecord {
                store_id: random.random(),
                next_sequence: 1,
                next_queue: 1,
                damaged_records: 0,
                last_commit_ms: now.as_ms(),
            },
        };
        let live_bytes = store
            .get(Tree::Meta, key::LIVE_BYTES)?
            .and_then(|bytes| Some(u64::from_be_bytes(<[u8; 8]>::try_from(&*bytes).ok()?)));
        let last_commit_at = Timestamp::from_ms(meta.last_commit_ms);
        let mut state = QueueState::new(config, Draft::new(store, live_bytes.unwrap_or(0)), meta);
        state.recover_queues()?;
        state.recover_limits(now)?;
        state.recover_lines()?;
        state.recover_progress(now)?;
        state.first_timer = state.recover_first_timer()?;
        state.recover_replays(now)?;
        state.recover_schedules(now)?;
        state.plan_first_sweep(now);
        state.first_ending = state.recover_first_ending()?;
        (state.last_now, state.opened_at) = (now, now);
        if now < last_commit_at {
            state.clock_stepped_back(now);
        }
        Ok(state)
    }

    fn recover_queues(&mut self) -> Result<()> {
        for (record_key, bytes) in self.all(Tree::Queues)? {
            let Some(id) = key::queue_from(&record_key) else { continue };
            let record = match codec::decode::<QueueRecord>(&bytes) {
                Ok(record) => record,
                Err(reason) => {
                    // Its jobs are still there: they go on under a name that tells what happened.
                    self.set_aside(Tree::Queues, record_key, &bytes, &reason)?;
                    let name = format!("damaged-{}", id.0);
                    QueueRecord { name, paused: false, counts: Default::default() }
                }
            };
            self.queues.insert(id, record.name.into(), record.paused, record.counts);
            self.note_ready(id);
            self.meta.next_queue = self.meta.next_queue.max(id.0.saturating_add(1));
        }
        Ok(())
    }

    fn recover_progress(&mut self, now: Timestamp) -> Result<()> {
        for (record_key, bytes) in self.all(Tree::Progress)? {
            let Some(id) = ChunkId::from_progress_key(&record_key) else { continue };
            match codec::decode::<ProgressRecord>(&bytes) {
                Ok(record) => self.recover_begun(id, record.slots, now),
                Err(reason) => {
                    self.set_aside(Tree::Progress, record_key, &bytes, &reason)?;
                    self.recover_without_progress(id, now)?;
                }
            }
        }
        Ok(())
    }

    fn recover_begun(&mut self, id: ChunkId, mut slots: Vec<SlotProgress>, now: Timestamp) {
        let grace = now.plus_ms(LEASE_GRACE_MS).as_ms();
        for (number, slot) in slots.iter_mut().enumerate() {
            let is_in_process = matches!(slot, SlotProgress::LeasedInProcess(_));
            let Some(lease) = slot.lease_mut() else { continue };
            pull_back(lease, now);
            if is_in_process {
                end_with_process(lease);
            } else if lease.deadline_ms < grace {
                lease.deadline_ms = grace;
            }
            self.leases.insert((attention_at(lease), id, number));
        }
        let begun = Begun::new(slots);
        let lane = self.lanes.entry(id.lane).or_default();
        if begun.waiting() > 0 {
            lane.open.insert(id.first_place);
        }
        lane.begun.insert(id.first_place, begun);
    }

    /// Nobody knows any more which jobs of this chunk are done or leased. All of them wait again,
    /// rather twice than never, under delivery numbers that no token out there has.
    fn recover_without_progress(&mut self, id: ChunkId, now: Timestamp) -> Result<()> {
        let Some(chunk) = self.chunk(id)? else { return Ok(()) };
        for slot in &chunk.slots {
            // Nobody knows which of them were started.
            self.forget_expiry(slot.id, &slot.job);
        }
        let slot = SlotProgress::Returned { deliveries: DELIVERIES_AFTER_DAMAGE, interruptions: 0 };
        self.recover_begun(id, vec![slot; chunk.slots.len()], now);
        self.mark_dirty(id);
        Ok(())
    }

    fn recover_first_timer(&self) -> Result<Option<Timestamp>> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let mut timers = self.draft.scan(Tree::Timers, everything, Direction::Ascending);
        let first = timers.next().transpose()?;
        Ok(first.and_then(|(record_key, _)| key::timer_from(&record_key)).map(|(due, _)| due))
    }

    fn recover_first_ending(&self) -> Result<Option<Timestamp>> {
        let first = self.endings_from(Bound::Unbounded)?.into_iter().next();
        Ok(first.and_then(|(entry, _)| key::expiry_from(&entry)).map(|(moment, _)| moment))
    }

    pub(crate) fn all(&self, tree: Tree) -> Result<Vec<(Vec<u8>, Bytes)>> {
        self.draft.scan(tree, (Bound::Unbounded, Bound::Unbounded), Direction::Ascending).collect()
    }

    /// Jobs in the ready lanes of all queues.
    pub(crate) fn ready_jobs(&self) -> u64 {
        let counts = self.queues.by_id.values().flat_map(|entry| entry.counts.iter());
        counts.map(|(_, counts)| counts.ready).sum()
    }
}

/// Its holder died with the process that held the queue before: the first tick ends the lease,
/// whatever the clock shows. That is an interruption, even if the attempt's time is over by now.
fn end_with_process(lease: &mut LeaseRecord) {
    (lease.deadline_ms, lease.timeout_at_ms) = (0, None);
}

/// Counts everything, once, when the store could not read a part of its files.
fn refuse_what_is_missing(store: &dyn Store) -> Result<()> {
    let report = census::examine(store)?;
    if let Some(problem) = report.problems.first() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "a part of the database has rotted and jobs are missing, {} violations, the first \
                 is: {problem}; restore the data directory from a copy, or let pulk doctor \
                 --repair go on with what is left",
                report.problems_total
            ),
        ));
    }
    tracing::info!("every record was counted and none is missing: what can't be read was dead");
    store.counted()
}

fn unreadable_meta(reason: DecodeError) -> Error {
    match reason {
        DecodeError::NewerFormat(_) => Error::new(
            ErrorKind::Storage,
            format!("the data directory was written by a newer pulk: {reason}; use that version"),
        ),
        DecodeError::Damaged(_) => Error::new(
            ErrorKind::Storage,
            format!(
                "the record that describes the store can't be read: {reason}; restore the data \
                 directory from a copy"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
