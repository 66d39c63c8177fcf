//! Unique keys: at most one job of a queue holds a key, and no key outlives its job or its time.

use crate::error::Result;
use crate::job::JobId;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{JobRecord, UniqueRecord};
use crate::store::key;

impl QueueState {
    /// Frees the key of a job that is gone or dead, unless another job has taken it meanwhile.
    pub(crate) fn release_unique_key(&mut self, id: JobId, job: &JobRecord) -> Result<()> {
        let Some(unique) = job.seldom.as_ref().and_then(|seldom| seldom.unique.as_ref()) else {
            return Ok(());
        };
        let key = key::unique(id.queue(), &unique.key);
        let Some(bytes) = self.draft.get(Tree::Unique, &key)? else { return Ok(()) };
        match codec::decode::<UniqueRecord>(&bytes) {
            Ok(holder) if holder.job == id.as_u128() => self.draft.remove(Tree::Unique, key),
            Ok(_) => {}
            Err(reason) => self.set_aside(Tree::Unique, key, &bytes, &reason)?,
        }
        Ok(())
    }
}
