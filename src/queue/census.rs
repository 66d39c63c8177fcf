//! Counts everything there is and checks the invariants: what tests and `pulk doctor` run.
//!
//! The numbers are those of [`state`](super::state). I3 and I7 are about what is handed out and
//! cannot be read from the store alone; tests that know the history check them.

mod keys;
mod lines;
mod schedules;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::path::Path;

use serde::Serialize;

use crate::config::StoreKind;
use crate::error::Result;
use crate::job::StateCounts;
use crate::job::{JobId, JobState, QueueId};
use crate::priority::{PerPriority, Priority};
use crate::queue::chunk::Chunk;
use crate::store::codec::{self, DecodeError};
use crate::store::format::{
    DeadRecord, JobRecord, LimitsRecord, LocationRecord, MetaRecord, PAYLOAD_PART_KIND,
    ProgressRecord, QueueRecord, ReplayRecord, SlotProgress, TimerRecord,
};
use crate::store::key::{self, ChunkId, KeyKind, LaneId};
use crate::store::{Direction, Entry, Store, Tree, VALUE_BYTES_MAX};
use keys::Keys;
use lines::Lines;

/// Problems told in full; more are only counted.
const PROBLEMS_TOLD: usize = 100;
/// Index entries to be mended that one census remembers: what mends them fits into one commit.
const ENTRIES_KEPT_MAX: usize = 50_000;

/// What a check of a whole store found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Jobs by state, over all queues.
    pub jobs: StateCounts,
    /// Queues.
    pub queues: usize,
    /// Chunks in the priority trees.
    pub chunks: u64,
    /// Bytes of records alive.
    pub live_bytes: u64,
    /// Records set aside in the damaged tree.
    pub set_aside: u64,
    /// Damages in the store's files that were mended while it was opened for this.
    pub mended: u64,
    /// The first hundred violations, as sentences that begin with the invariant's number.
    pub problems: Vec<String>,
    /// All violations.
    pub problems_total: u64,
    /// How many there are of each invariant, by its name; none where it holds.
    pub violations: BTreeMap<&'static str, u64>,
}

impl Report {
    /// True when every invariant holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems_total == 0
    }
}

/// Opens a data directory that no process uses, and checks it.
///
/// # Errors
/// When the directory can't be opened: [`Locked`](crate::ErrorKind::Locked) while a node runs on
/// it, [`Storage`](crate::ErrorKind::Storage) otherwise. Violations are in the report.
pub fn doctor(data_dir: &Path) -> Result<Report> {
    let store = crate::store::open_existing(StoreKind::Sled, data_dir)?;
    let report = examine(&*store);
    store.close()?;
    report
}

/// Checks every invariant that a store at rest can show.
///
/// # Errors
/// When the store can't be read. Violations are in the report.
pub fn examine(store: &dyn Store) -> Result<Report> {
    let mut census = Census::take(store)?;
    census.compare_counters(store)?;
    for problem in store.problems()? {
        census.problem("I9", problem);
    }
    Ok(Report { mended: store.mended(), ..census.into_report() })
}

/// A full count of a store.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) counts: BTreeMap<QueueId, PerPriority<StateCounts>>,
    pub(crate) live_bytes: u64,
    /// What has a name or an end.
    pub(crate) keys: Keys,
    /// Who waits for whom.
    pub(crate) lines: Lines,
    /// Location entries that are wrong or missing, and what they should be; `None` where no job
    /// is that needs one. At most [`ENTRIES_KEPT_MAX`] of them.
    pub(crate) wrong_locations: Vec<(JobId, Option<LocationRecord>)>,
    /// The largest sequence in use.
    pub(crate) largest_sequence: u64,
    progress: BTreeMap<ChunkId, ProgressRecord>,
    /// Jobs that are not where they were born, and where they are.
    moved: HashMap<JobId, LocationRecord>,
    seen: HashSet<JobId>,
    /// Parts that jobs have in the payload tree.
    payload_parts: HashMap<JobId, u16>,
    chunks: u64,
    set_aside: u64,
    problems: Vec<String>,
    problems_total: u64,
    violations: BTreeMap<&'static str, u64>,
}

impl Census {
    /// Reads everything.
    pub(crate) fn take(store: &dyn Store) -> Result<Census> {
        let mut census = Census::default();
        census.read_progress(store)?;
        for priority in Priority::ALL {
            for entry in all(store, Tree::Ready(priority)) {
                census.read_chunk(priority, entry?);
            }
        }
        for id in std::mem::take(&mut census.progress).into_keys() {
            census.problem("I4", format!("there is progress of chunk {id:?}, which is not there"));
        }
        for entry in all(store, Tree::Timers) {
            census.read_timer(entry?);
        }
        census.read_lines(store)?;
        for entry in all(store, Tree::Dead) {
            census.read_dead(entry?);
        }
        census.read_locations(store)?;
        census.read_payloads(store)?;
        census.read_replays(store)?;
        census.read_schedules(store)?;
        census.read_limits(store)?;
        census.read_places(store)?;
        census.read_names(store)?;
        census.read_results(store)?;
        census.read_endings(store)?;
        for entry in all(store, Tree::Damaged) {
            entry?;
            census.set_aside += 1;
        }
        Ok(census)
    }

    fn read_progress(&mut self, store: &dyn Store) -> Result<()> {
        for entry in all(store, Tree::Progress) {
            let (key, bytes) = entry?;
            self.check_size(Tree::Progress, bytes.len());
            match (ChunkId::from_progress_key(&key), codec::decode(&bytes)) {
                (Some(id), Ok(record)) => drop(self.progress.insert(id, record)),
                (_, Err(reason)) => self.damaged(Tree::Progress, &key, &reason),
                (None, _) => self.bad_key(Tree::Progress, &key),
            }
        }
        Ok(())
    }

    fn read_chunk(&mut self, priority: Priority, (key, bytes): Entry) {
        let tree = Tree::Ready(priority);
        self.count_live(tree, bytes.len());
        self.chunks += 1;
        let Some(id) = ChunkId::from_key(priority, &key) else {
            return self.bad_key(tree, &key);
        };
        let chunk = match Chunk::decode(id, &bytes) {
            Ok(chunk) => chunk,
            Err(reason) => return self.damaged(tree, &key, &reason),
        };
        let progress = self.progress.remove(&id).map(|record| record.slots);
        if let Some(slots) = &progress {
            if slots.len() != chunk.slots.len() {
                let (has, told) = (chunk.slots.len(), slots.len());
                self.problem("I4", format!("chunk {id:?} has {has} slots, its progress {told}"));
            }
            if slots.iter().all(|slot| *slot == SlotProgress::Gone) {
                self.problem("I4", format!("all slots of chunk {id:?} are gone, but it is there"));
            }
        }
        for (number, slot) in chunk.slots.iter().enumerate() {
            self.largest_sequence = self.largest_sequence.max(slot.place);
            let progress = progress.as_ref().and_then(|slots| slots.get(number));
            let state = match progress {
                Some(SlotProgress::Gone) => continue,
                Some(SlotProgress::Leased(_) | SlotProgress::LeasedInProcess(_)) => {
                    JobState::Running
                }
                _ => JobState::Ready,
            };
            let deliveries = match progress {
                Some(SlotProgress::Returned { deliveries, .. }) => *deliveries,
                Some(SlotProgress::Leased(lease) | SlotProgress::LeasedInProcess(lease)) => {
                    lease.delivery
                }
                _ => slot.job.deliveries,
            };
            self.count_job(slot.id, id.lane, state, &slot.job);
            self.note_keys(slot.id, state, deliveries, &slot.job);
            for kind in KeyKind::ALL {
                self.lines.take(id.lane.queue, kind, &slot.job);
            }
            if slot.moved {
                let place = slot.place;
                let location = LocationRecord::Ready { priority: priority.number(), place };
                self.moved.insert(slot.id, location);
            }
        }
    }

    fn read_timer(&mut self, (key, bytes): Entry) {
        self.count_live(Tree::Timers, bytes.len());
        match (key::timer_from(&key), codec::decode::<TimerRecord>(&bytes)) {
            (Some((due, id)), Ok(record)) => {
                let priority = Priority::from_number(record.priority).unwrap_or_default();
                let (lane, state) = (LaneId { priority, queue: id.queue() }, record.wait.state());
                self.count_job(id, lane, state, &record.job);
                self.note_keys(id, state, record.job.deliveries, &record.job);
                if record.job.deliveries > 0 {
                    self.lines.take(lane.queue, KeyKind::Ordering, &record.job);
                }
                self.moved.insert(id, LocationRecord::Timer { due_ms: due.as_ms() });
            }
            (_, Err(reason)) => self.damaged(Tree::Timers, &key, &reason),
            (None, _) => self.bad_key(Tree::Timers, &key),
        }
    }

    fn read_dead(&mut self, (key, bytes): Entry) {
        self.count_live(Tree::Dead, bytes.len());
        match (key::dead_from(&key), codec::decode::<DeadRecord>(&bytes)) {
            (Some((queue, died_at, id)), Ok(record)) => {
                let priority = Priority::from_number(record.priority).unwrap_or_default();
                self.count_job(id, LaneId { priority, queue }, JobState::Dead, &record.job);
                self.moved.insert(id, LocationRecord::Dead { died_at_ms: died_at.as_ms() });
                let given_out = record.sequence.saturating_sub(1);
                self.largest_sequence = self.largest_sequence.max(given_out);
            }
            (_, Err(reason)) => self.damaged(Tree::Dead, &key, &reason),
            (None, _) => self.bad_key(Tree::Dead, &key),
        }
    }

    fn count_job(&mut self, id: JobId, lane: LaneId, state: JobState, job: &JobRecord) {
        *self.counts.entry(lane.queue).or_default()[lane.priority].of_mut(state) += 1;
        self.largest_sequence = self.largest_sequence.max(id.sequence());
        if !self.seen.insert(id) {
            self.problem("I1", format!("job {id} is in two places"));
        }
        if id.queue() != lane.queue {
            self.problem("I1", format!("job {id} lies in a queue that is not its own"));
        }
        if job.payload.parts() > 0 {
            self.payload_parts.insert(id, job.payload.parts());
        }
    }

    fn read_locations(&mut self, store: &dyn Store) -> Result<()> {
        let mut moved = std::mem::take(&mut self.moved);
        for entry in all(store, Tree::Location) {
            let (key, bytes) = entry?;
            match (key::job_from(&key), codec::decode::<LocationRecord>(&bytes)) {
                (Some(id), Ok(location)) => match moved.remove(&id) {
                    Some(place) if place == location => {}
                    elsewhere => {
                        let problem = format!("job {id} is not at its location, {location:?}");
                        self.problem("I5", problem);
                        self.mend(id, elsewhere);
                    }
                },
                (_, Err(reason)) => self.damaged(Tree::Location, &key, &reason),
                (None, _) => self.bad_key(Tree::Location, &key),
            }
        }
        for (id, place) in moved {
            self.problem("I5", format!("job {id} is at {place:?}, but has no location entry"));
            self.mend(id, Some(place));
        }
        Ok(())
    }

    /// Remembers what the location entry of a job should be; `None` where it should not be.
    fn mend(&mut self, id: JobId, location: Option<LocationRecord>) {
        if self.wrong_locations.len() < ENTRIES_KEPT_MAX {
            self.wrong_locations.push((id, location));
        }
    }

    fn read_payloads(&mut self, store: &dyn Store) -> Result<()> {
        let mut missing = std::mem::take(&mut self.payload_parts);
        for entry in all(store, Tree::Payload) {
            let (key, bytes) = entry?;
            self.count_live(Tree::Payload, bytes.len());
            if let Err(reason) = codec::decode_raw(PAYLOAD_PART_KIND, &bytes) {
                self.damaged(Tree::Payload, &key, &reason);
            }
            let Some((id, part)) = key::payload_part_from(&key) else {
                self.bad_key(Tree::Payload, &key);
                continue;
            };
            match missing.get_mut(&id) {
                Some(parts) if *parts > 1 => *parts -= 1,
                Some(_) => drop(missing.remove(&id)),
                None => self.problem("I5", format!("payload part {part} of {id} has no job")),
            }
        }
        for (id, parts) in missing {
            self.problem("I5", format!("{parts} payload parts of job {id} are missing"));
        }
        Ok(())
    }

    fn read_replays(&mut self, store: &dyn Store) -> Result<()> {
        for entry in all(store, Tree::Replays) {
            let (key, bytes) = entry?;
            self.check_size(Tree::Replays, bytes.len());
            match (key::replay_from(&key), codec::decode::<ReplayRecord>(&bytes)) {
                (Some(_), Ok(replay)) => {
                    let given_out = replay.died_by;
                    self.largest_sequence = self.largest_sequence.max(given_out);
                }
                (_, Err(reason)) => self.damaged(Tree::Replays, &key, &reason),
                (None, _) => self.bad_key(Tree::Replays, &key),
            }
        }
        Ok(())
    }

    fn read_limits(&mut self, store: &dyn Store) -> Result<()> {
        for entry in all(store, Tree::Limits) {
            let (key, bytes) = entry?;
            self.check_size(Tree::Limits, bytes.len());
            match (key::queue_from(&key), codec::decode::<LimitsRecord>(&bytes)) {
                (Some(id), Ok(_)) if store.get(Tree::Queues, &key)?.is_none() => {
                    self.problem("I5", format!("queue number {} has limits, but is not", id.0));
                }
                (Some(id), Ok(limits)) => {
                    self.lines.note_limit(id, limits.concurrency_per_key);
                }
                (_, Err(reason)) => self.damaged(Tree::Limits, &key, &reason),
                (None, _) => self.bad_key(Tree::Limits, &key),
            }
        }
        Ok(())
    }

    /// I2 and I6: what the store says of itself against what was counted.
    fn compare_counters(&mut self, store: &dyn Store) -> Result<()> {
        let mut counted = self.counts.clone();
        for entry in all(store, Tree::Queues) {
            let (key, bytes) = entry?;
            match (key::queue_from(&key), codec::decode::<QueueRecord>(&bytes)) {
                (Some(id), Ok(record)) => {
                    let counts = counted.remove(&id).unwrap_or_default();
                    if record.counts != counts {
                        let name = record.name;
                        let said = record.counts;
                        self.problem("I2", format!("queue {name:?} says {said:?}, has {counts:?}"));
                    }
                    self.counts.entry(id).or_default();
                }
                (_, Err(reason)) => self.damaged(Tree::Queues, &key, &reason),
                (None, _) => self.bad_key(Tree::Queues, &key),
            }
        }
        for id in counted.into_keys() {
            self.problem("I2", format!("there are jobs of queue number {}, unknown", id.0));
        }
        let Some(bytes) = store.get(Tree::Meta, key::META)? else {
            if !self.seen.is_empty() {
                self.problem("I2", "there are jobs, but no record of the store itself".to_owned());
            }
            return Ok(());
        };
        match codec::decode::<MetaRecord>(&bytes) {
            Ok(meta) if meta.next_sequence <= self.largest_sequence => {
                let (next, used) = (meta.next_sequence, self.largest_sequence);
                self.problem("I6", format!("the next sequence is {next}, but {used} is in use"));
            }
            Ok(_) => {}
            Err(reason) => self.damaged(Tree::Meta, key::META, &reason),
        }
        let said = store.get(Tree::Meta, key::LIVE_BYTES)?;
        let said = said.and_then(|bytes| Some(u64::from_be_bytes((&*bytes).try_into().ok()?)));
        if said != Some(self.live_bytes) {
            let counted = self.live_bytes;
            self.problem("I2", format!("live bytes are said to be {said:?}, are {counted}"));
        }
        Ok(())
    }

    fn count_live(&mut self, tree: Tree, bytes: usize) {
        self.live_bytes += bytes as u64;
        self.check_size(tree, bytes);
    }

    fn check_size(&mut self, tree: Tree, bytes: usize) {
        if bytes > VALUE_BYTES_MAX {
            self.problem("I9", format!("a value of {bytes} bytes lies in {}", tree.name()));
        }
    }

    fn damaged(&mut self, tree: Tree, key: &[u8], reason: &DecodeError) {
        self.problem("damage", format!("a record in {} at {key:02x?}: {reason}", tree.name()));
    }

    fn bad_key(&mut self, tree: Tree, key: &[u8]) {
        self.problem("damage", format!("{key:02x?} is no key that pulk writes in {}", tree.name()));
    }

    fn problem(&mut self, invariant: &'static str, problem: String) {
        self.problems_total += 1;
        *self.violations.entry(invariant).or_default() += 1;
        if self.problems.len() < PROBLEMS_TOLD {
            self.problems.push(format!("{invariant}: {problem}"));
        }
    }

    fn into_report(self) -> Report {
        let mut jobs = StateCounts::default();
        for (_, counts) in self.counts.values().flat_map(PerPriority::iter) {
            for state in JobState::ALL {
                *jobs.of_mut(state) += counts.of(state);
            }
        }
        Report {
            jobs,
            queues: self.counts.len(),
            chunks: self.chunks,
            live_bytes: self.live_bytes,
            set_aside: self.set_aside,
            mended: 0,
            problems: self.problems,
            problems_total: self.problems_total,
            violations: self.violations,
        }
    }
}

fn all(store: &dyn Store, tree: Tree) -> crate::store::Scan<'_> {
    store.scan(tree, (Bound::Unbounded, Bound::Unbounded), Direction::Ascending)
}
