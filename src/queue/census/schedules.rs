//! Schedules, in a full count.

use std::collections::BTreeSet;

use super::{Census, all};
use crate::error::Result;
use crate::store::codec;
use crate::store::format::{ScheduleProgressRecord, ScheduleRecord};
use crate::store::key::{self, OfSchedule};
use crate::store::{Store, Tree};

impl Census {
    pub(super) fn read_schedules(&mut self, store: &dyn Store) -> Result<()> {
        let (mut definitions, mut progress) = (BTreeSet::new(), BTreeSet::new());
        for entry in all(store, Tree::Schedules) {
            let (key, bytes) = entry?;
            self.check_size(Tree::Schedules, bytes.len());
            let damage = match key::schedule_from(&key) {
                Some(OfSchedule::Definition(name)) => {
                    definitions.insert(name);
                    codec::decode::<ScheduleRecord>(&bytes).err()
                }
                Some(OfSchedule::Progress(name)) => {
                    progress.insert(name);
                    codec::decode::<ScheduleProgressRecord>(&bytes).err()
                }
                None => {
                    self.bad_key(Tree::Schedules, &key);
                    continue;
                }
            };
            if let Some(reason) = damage {
                self.damaged(Tree::Schedules, &key, &reason);
            }
        }
        for name in definitions.symmetric_difference(&progress) {
            let problem = format!("of schedule {name:?} one of its two records is missing");
            self.problem("I5", problem);
        }
        Ok(())
    }
}
