//! What the model knows of jobs that are taken away: cancelled.

use proptest::sample::Index;

use super::{At, Known, Run, expect_live};
use crate::error::ErrorKind;
use crate::job::JobId;
use crate::lease::LeaseToken;
use crate::queue::Cancelled;

impl Run {
    pub(super) fn cancel(&mut self, job: Index) {
        let Some(id) = self.any_job(job) else { return };
        let told = self.with(|state, _| state.cancel(id)).unwrap();
        match &mut self.known.get_mut(&id).unwrap().at {
            At::Leased { cancelled, .. } => {
                assert_eq!(told, Cancelled::Running);
                *cancelled = true;
            }
            _ => {
                assert_eq!(told, Cancelled::Gone);
                self.forget(id);
            }
        }
    }

    /// The job is gone; its last token must never hold anything again.
    pub(super) fn forget(&mut self, id: JobId) {
        let known = self.known.remove(&id).unwrap();
        self.gone.push(LeaseToken { job: id, delivery: known.delivery });
    }

    /// The outcome of a word that ends a lease: when the job was cancelled, the job ends with it.
    pub(super) fn ended<T>(
        &mut self,
        token: LeaseToken,
        outcome: crate::Result<T>,
        live: bool,
    ) -> Option<T> {
        let at = self.known.get(&token.job).map(|known| known.at.clone());
        match (at, outcome) {
            (Some(At::Leased { cancelled: true, .. }), outcome) if live => {
                assert_eq!(outcome.err().unwrap().kind(), ErrorKind::Cancelled);
                self.forget(token.job);
                None
            }
            (_, outcome) => expect_live(outcome, live),
        }
    }

    /// True when a cancelled job went with its lease.
    pub(super) fn cancelled_is_gone(&mut self, id: JobId, job: &Known) -> bool {
        let At::Leased { until, cancelled: true } = job.at else { return false };
        match self.state.job(id) {
            Ok(_) => false,
            Err(_) => {
                assert!(self.now >= until || self.stepped_back, "{id} lost its lease early");
                self.gone.push(LeaseToken { job: id, delivery: job.delivery });
                true
            }
        }
    }
}
