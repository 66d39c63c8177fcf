//! Schedules on the disk: one record that says what each is, and a small one that says how far it
//! has come, written in the commit of each of its jobs.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{NewJob, NewSchedule, Payload, Unique};
use crate::priority::Priority;
use crate::queue::schedules::{Schedule, slots::Slots};
use crate::queue::state::QueueState;
use crate::store::format::{
    PayloadRecord, ScheduleProgressRecord, ScheduleRecord, UniqueKeyRecord,
};
use crate::store::key::{self, OfSchedule};
use crate::store::{Direction, Tree, codec};

impl ScheduleRecord {
    pub(crate) fn of(schedule: &NewSchedule) -> ScheduleRecord {
        let job = &schedule.job;
        let unique = job.unique.as_ref().map(|unique| {
            let key = UniqueKeyRecord { key: unique.key.clone(), ttl_ms: unique.ttl_ms };
            (key, unique.on_conflict)
        });
        ScheduleRecord {
            cron: schedule.cron.clone(),
            time_zone: schedule.time_zone.clone(),
            catch_up: schedule.catch_up,
            queue: job.queue.clone(),
            kind: job.kind.clone(),
            payload: match &job.payload {
                Payload::Json(text) => PayloadRecord::Json(text.clone()),
                Payload::Binary(bytes) => PayloadRecord::Binary(bytes.clone()),
            },
            priority: job.priority.number(),
            max_attempts: job.max_attempts,
            max_interruptions: job.max_interruptions,
            retry: job.retry,
            timeout_ms: job.timeout_ms,
            headers: job.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            unique,
            expires_in_ms: job.expires_in_ms,
        }
    }

    fn into_schedule(self, paused: bool) -> NewSchedule {
        let payload = match self.payload {
            PayloadRecord::Json(text) => Payload::Json(text),
            PayloadRecord::Binary(bytes) => Payload::Binary(bytes),
            // Nobody writes these.
            PayloadRecord::JsonParts { .. } | PayloadRecord::BinaryParts { .. } => {
                Payload::default()
            }
        };
        let unique = self.unique.map(|(UniqueKeyRecord { key, ttl_ms }, on_conflict)| Unique {
            key,
            ttl_ms,
            on_conflict,
        });
        let job = NewJob {
            queue: self.queue,
            payload,
            priority: Priority::from_number(self.priority).unwrap_or_default(),
            max_attempts: self.max_attempts,
            max_interruptions: self.max_interruptions,
            retry: self.retry,
            timeout_ms: self.timeout_ms,
            headers: self.headers.into_iter().collect(),
            unique,
            expires_in_ms: self.expires_in_ms,
            ..NewJob::new(self.kind)
        };
        let (cron, time_zone, catch_up) = (self.cron, self.time_zone, self.catch_up);
        NewSchedule { cron, time_zone, job, catch_up, paused }
    }
}

impl QueueState {
    /// Writes how far a schedule has come.
    pub(crate) fn save_schedule_progress(&mut self, name: &str) {
        let Some(schedule) = self.schedules.all.get(name) else { return };
        let record = codec::encode(&schedule.progress);
        self.draft.put(Tree::Schedules, key::schedule_progress(name), record);
    }

    /// Reads all schedules. One that can't be read is set aside; where only its progress can't, it
    /// begins to count now.
    pub(crate) fn recover_schedules(&mut self, now: Timestamp) -> Result<()> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let found = self.draft.scan(Tree::Schedules, everything, Direction::Ascending);
        let mut definitions = BTreeMap::<String, ScheduleRecord>::new();
        for (record_key, bytes) in found.collect::<Result<Vec<_>>>()? {
            match key::schedule_from(&record_key) {
                Some(OfSchedule::Definition(name)) => match codec::decode(&bytes) {
                    Ok(record) => drop(definitions.insert(name, record)),
                    Err(reason) => self.set_aside(Tree::Schedules, record_key, &bytes, &reason)?,
                },
                // These come after all definitions.
                Some(OfSchedule::Progress(name)) => match codec::decode(&bytes) {
                    Ok(progress) => match definitions.remove(&name) {
                        Some(record) => self.recover_schedule(name, record, progress),
                        None => self.draft.remove(Tree::Schedules, record_key),
                    },
                    Err(reason) => self.set_aside(Tree::Schedules, record_key, &bytes, &reason)?,
                },
                None => {}
            }
        }
        for (name, record) in definitions {
            let progress = ScheduleProgressRecord::begun(now, false);
            self.recover_schedule(name.clone(), record, progress);
            self.save_schedule_progress(&name);
        }
        Ok(())
    }

    fn recover_schedule(
        &mut self,
        name: String,
        record: ScheduleRecord,
        progress: ScheduleProgressRecord,
    ) {
        let definition = record.into_schedule(progress.paused);
        let slots = Slots::new(&definition.cron, &definition.time_zone);
        if let Err(reason) = &slots {
            tracing::error!(
                schedule = name,
                "a schedule can't be understood any more and makes no jobs: {reason}; put it anew"
            );
        }
        let slots = slots.ok().map(Arc::new);
        let name: Arc<str> = name.into();
        let schedule = Schedule { definition, slots, progress, due: None, wait_until: None };
        self.schedules.all.insert(name.clone(), schedule);
        self.plan_schedule(&name);
    }
}
