//! What ends at a moment: jobs that were not started in time.

use crate::clock::Timestamp;
use crate::job::JobId;
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::format::JobRecord;
use crate::store::key;

impl QueueState {
    /// Removes the entry of a job that is started, gone or dead: it can't expire any more.
    pub(crate) fn forget_expiry(&mut self, id: JobId, job: &JobRecord) {
        if let Some(expires_ms) = job.seldom.as_ref().and_then(|seldom| seldom.expires_ms) {
            let moment = Timestamp::from_ms(expires_ms);
            self.draft.remove(Tree::Expiry, key::job_expiry(moment, id));
        }
    }
}
