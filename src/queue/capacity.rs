//! Whether there is room for new jobs: in their queues, in the node, on the disk.
//!
//! Looked at before the first job of a call is taken in, so that a batch is refused whole. Only
//! new jobs and replays are refused: what is here already is always retried, given back and
//! finished.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, NewJob, QueueId};
use crate::priority::Priority;
use crate::queue::plan::{Plan, Replaced};
use crate::queue::state::{Context, QueueState};
use crate::store::key::LaneId;

/// When to come back while nothing drains, in milliseconds.
const RETRY_AFTER_STANDSTILL_MS: u64 = 60_000;
/// No caller is told to come back later than after this, in milliseconds.
const RETRY_AFTER_MS_MAX: u64 = 300_000;

/// The share of `max_bytes`, in percent, above which jobs of a priority are refused: bulk goes
/// first, critical last.
const fn budget_percent(priority: Priority) -> u64 {
    match priority {
        Priority::Critical => 100,
        Priority::High => 95,
        Priority::Default => 90,
        Priority::Low => 80,
        Priority::Bulk => 70,
    }
}

impl QueueState {
    /// Refuses jobs that there is no room for: all of them, or none. A plan says of each whether
    /// it is taken in, and in the place of which other.
    pub(crate) fn check_room_for(
        &mut self,
        jobs: &[NewJob],
        plans: &[Plan],
        context: &Context<'_>,
    ) -> Result<()> {
        let new = jobs.iter().zip(plans).filter(|(_, plan)| plan.is_new());
        let new: Vec<&NewJob> = new.map(|(job, _)| job).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.check_numbers_left(&new)?;
        let bytes: usize = new.iter().map(|job| job.weight_bytes()).sum();
        self.check_disk_room(bytes, context.now)?;
        self.check_byte_budget(&new, bytes as u64, context.now)?;
        let mut lanes = BTreeMap::<(&str, Priority), i64>::new();
        for job in new {
            *lanes.entry((&job.queue, job.priority)).or_default() += 1;
        }
        for (job, plan) in jobs.iter().zip(plans) {
            if let Plan::New { replaces: Some(replaced) } = plan {
                let priority = match replaced {
                    Replaced::Stored(_, priority) => Some(*priority),
                    Replaced::InBatch(place) => jobs.get(*place).map(|job| job.priority),
                };
                if let Some(priority) = priority {
                    *lanes.entry((&job.queue, priority)).or_default() -= 1;
                }
            }
        }
        for ((queue, priority), new) in lanes {
            if let Ok(new @ 1..) = u64::try_from(new) {
                self.check_capacity(queue, priority, new, context.now)?;
            }
        }
        Ok(())
    }

    fn check_numbers_left(&self, jobs: &[&NewJob]) -> Result<()> {
        let sequences_left = JobId::SEQUENCE_MAX.saturating_sub(self.meta.next_sequence);
        let new = jobs.iter().map(|job| &*job.queue);
        let new: BTreeSet<_> =
            new.filter(|queue| !self.queues.by_name.contains_key(*queue)).collect();
        let queues_left = (QueueId::MAX + 1).saturating_sub(self.meta.next_queue) as usize;
        if new.len() > queues_left || (jobs.len() as u64) > sequences_left {
            return Err(Error::new(
                ErrorKind::Full,
                "there are no more queue or job numbers; use the queues there are, or start a \
                 new data directory",
            ));
        }
        self.check_queues_left(&new)
    }

    /// Refuses queues that would be too many; those named are not there yet.
    pub(crate) fn check_queues_left(&self, new: &BTreeSet<&str>) -> Result<()> {
        let most = self.config.max_queues as usize;
        match new.first() {
            Some(name) if self.queues.by_id.len() + new.len() > most => Err(Error::new(
                ErrorKind::TooManyQueues,
                format!(
                    "queue {name:?} would be more than the {most} queues that this node keeps; \
                     use one that is there, remove an empty one or raise PULK_MAX_QUEUES"
                ),
            )
            .retry_after_ms(RETRY_AFTER_STANDSTILL_MS)),
            _ => Ok(()),
        }
    }

    /// Refuses to take in so many bytes when they would touch what the disk keeps for acks.
    pub(crate) fn check_disk_room(&mut self, bytes: usize, now: Timestamp) -> Result<()> {
        let Some(room_bytes) = self.disk_room_bytes else { return Ok(()) };
        let wanted = (self.pending_bytes() + bytes) as u64;
        if wanted <= room_bytes {
            return Ok(());
        }
        let message = format!(
            "the volume of {} has no room for more jobs: what is left, {} bytes, is kept for acks \
             and fails; drain the queue, grow the volume or lower PULK_DISK_RESERVE_BYTES",
            self.config.data_dir.display(),
            self.config.disk_reserve_bytes
        );
        let retry_after_ms = self.ms_to_free(wanted - room_bytes, now);
        Err(Error::new(ErrorKind::DiskFull, message).retry_after_ms(retry_after_ms))
    }

    fn check_byte_budget(&mut self, jobs: &[&NewJob], bytes: u64, now: Timestamp) -> Result<()> {
        let most = self.config.max_bytes;
        let least_urgent = jobs.iter().map(|job| job.priority).max().unwrap_or_default();
        if most == 0 {
            return Ok(());
        }
        let percent = budget_percent(least_urgent);
        let share = (u128::from(most) * u128::from(percent) / 100) as u64;
        let wanted = self.draft.live_bytes() + bytes;
        if wanted <= share {
            return Ok(());
        }
        let message = format!(
            "the node has no room for more {least_urgent} jobs: its jobs take {} of {most} bytes, \
             and {least_urgent} ones are refused above {percent} %; finish or purge jobs, or \
             raise PULK_MAX_BYTES",
            self.draft.live_bytes()
        );
        let retry_after_ms = self.ms_to_free(wanted - share, now);
        Err(Error::new(ErrorKind::Full, message).retry_after_ms(retry_after_ms))
    }

    fn check_capacity(
        &mut self,
        queue: &str,
        priority: Priority,
        new: u64,
        now: Timestamp,
    ) -> Result<()> {
        let capacity = self.config.queue_capacity[priority];
        let id = self.queues.by_name.get(queue).copied();
        let waiting = id.and_then(|id| self.queues.by_id.get(&id)).map_or(0, |entry| {
            let counts = &entry.counts[priority];
            counts.scheduled + counts.ready + counts.retrying
        });
        if capacity == 0 || waiting + new <= capacity {
            return Ok(());
        }
        let message = format!(
            "queue {queue:?} has {waiting} {priority} jobs waiting and takes at most {capacity}; \
             try again when some are done, or raise JOBS_QUEUE_CAPACITY_{}",
            priority.as_str().to_uppercase()
        );
        let over = waiting + new - capacity;
        let started_per_s = id.map_or(0.0, |id| {
            let lane = LaneId { priority, queue: id };
            self.rates(lane, now).started_per_s
        });
        Err(Error::new(ErrorKind::Full, message).retry_after_ms(ms_to_drain(over, started_per_s)))
    }

    /// How long it takes to free so many bytes, as it went in the last minute.
    fn ms_to_free(&mut self, bytes: u64, now: Timestamp) -> u64 {
        let [freed_per_s] = self.freed_bytes.per_second(now, self.opened_at);
        ms_to_drain(bytes, freed_per_s)
    }
}

fn ms_to_drain(over: u64, per_second: f64) -> u64 {
    if per_second <= 0.0 {
        return RETRY_AFTER_STANDSTILL_MS;
    }
    // A float too large for the integer becomes its maximum, which is cut off as well.
    ((over as f64 * 1_000.0 / per_second) as u64).clamp(1_000, RETRY_AFTER_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait_follows_from_what_drains() {
        assert_eq!(ms_to_drain(10, 2.0), 5_000);
        assert_eq!(ms_to_drain(1, 1_000.0), 1_000);
        assert_eq!(ms_to_drain(u64::MAX, 0.001), 300_000);
        assert_eq!(ms_to_drain(5, 0.0), 60_000);
    }
}
