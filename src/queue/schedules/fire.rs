//! What time does to schedules: slots that have come make jobs, each in the commit that records
//! the slot.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::queue::event::Happened;
use crate::queue::schedules::due::Due;
use crate::queue::schedules::{Schedule, Skipping};
use crate::queue::state::{Context, QueueState};
use crate::store::format::LastRunRecord;

/// Most jobs that schedules make in one group.
const FIRED_MAX: u64 = 1_000;
/// So many slots are looked at in one group: a schedule that missed years takes its time.
const LOOKED_AT_MAX: u64 = 20_000;
/// How long a schedule waits when there is no room for its job, as on a full disk.
const NO_ROOM_WAIT_MS: u64 = 1_000;

/// What one group may still do.
struct Portion {
    fired: u64,
    looked_at: u64,
}

/// What became of a slot.
enum Fired {
    /// It is done with.
    Done,
    /// There is no room for its job now.
    NoRoom,
}

impl QueueState {
    /// When the first slot comes, or is looked at again.
    pub(crate) fn next_slot_due(&self) -> Option<Timestamp> {
        let first = self.schedules.due.first().filter(|_| self.config.scheduler_enabled);
        first.map(|(moment, _)| *moment)
    }

    /// Makes the jobs that are due. True when more is due than one group should hold.
    pub(crate) fn fire_schedules(&mut self, context: &mut Context<'_>) -> Result<bool> {
        self.step_schedules_back(context.now);
        let mut portion = Portion { fired: FIRED_MAX, looked_at: LOOKED_AT_MAX };
        while self.next_slot_due().is_some_and(|due| due <= context.now) {
            if portion.fired == 0 || portion.looked_at == 0 || self.is_full() {
                return Ok(true);
            }
            let Some((_, name)) = self.schedules.due.first().cloned() else { break };
            self.fire_due(&name, &mut portion, context)?;
        }
        Ok(false)
    }

    fn fire_due(
        &mut self,
        name: &Arc<str>,
        portion: &mut Portion,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Some(schedule) = self.schedules.all.get_mut(name) else { return Ok(()) };
        let Some(slots) = schedule.slots.clone() else { return Ok(()) };
        let catch_up = schedule.definition.catch_up;
        let due = Due::of(&slots, schedule.after(), context.now, catch_up);
        portion.looked_at = portion.looked_at.saturating_sub(due.looked_at());
        schedule.wait_until = None;
        if let Some(slot) = due.skipped_through {
            self.skip(name, slot, due.skipped, Skipping::Missed);
        }
        for slot in due.fire {
            if portion.fired == 0 || self.is_full() {
                break;
            }
            portion.fired -= 1;
            if let Fired::NoRoom = self.fire(name, slot, context)? {
                let Some(schedule) = self.schedules.all.get_mut(name) else { return Ok(()) };
                schedule.wait_until = Some(context.now.plus_ms(NO_ROOM_WAIT_MS));
                break;
            }
        }
        self.plan_schedule(name);
        Ok(())
    }

    fn fire(
        &mut self,
        name: &Arc<str>,
        slot: Timestamp,
        context: &mut Context<'_>,
    ) -> Result<Fired> {
        let Some(schedule) = self.schedules.all.get(name) else { return Ok(Fired::Done) };
        let job = schedule.definition.job_for(name, slot);
        let id = match self.enqueue_scheduled(job, context) {
            Ok(enqueued) if enqueued.is_new => enqueued.id,
            Err(error) if error.kind() == ErrorKind::Poisoned => return Err(error),
            Err(error) if is_want_of_room(error.kind()) => return Ok(Fired::NoRoom),
            // A job of before holds the unique key: that is how runs don't overlap.
            _ => {
                self.skip(name, slot, 1, Skipping::Conflict);
                return Ok(Fired::Done);
            }
        };
        let late_ms = context.now.ms_since(slot);
        if let Some(Schedule { progress, .. }) = self.schedules.all.get_mut(name) {
            progress.done_ms = Some(slot.as_ms());
            progress.last_run = Some(LastRunRecord { slot_ms: slot.as_ms(), job: id.as_u128() });
        }
        self.save_schedule_progress(name);
        let schedule = name.clone();
        self.tell_of_schedule(name, Happened::ScheduleFired { schedule, slot, late_ms, id });
        Ok(Fired::Done)
    }

    /// Passes over slots up to this one.
    fn skip(&mut self, name: &Arc<str>, slot: Timestamp, slots: u64, why: Skipping) {
        if let Some(Schedule { progress, .. }) = self.schedules.all.get_mut(name) {
            progress.done_ms = Some(slot.as_ms());
            progress.skipped += slots;
        }
        self.save_schedule_progress(name);
        let schedule = name.clone();
        self.tell_of_schedule(name, Happened::ScheduleSkipped { schedule, slot, slots, why });
    }
}

/// Looked at again a little later: numbers, the disk, an index that is being mended.
fn is_want_of_room(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DiskFull | ErrorKind::Full | ErrorKind::Corrupt)
}
