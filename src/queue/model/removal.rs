//! What the model knows of what is taken away: jobs cancelled or purged, queues removed.

use proptest::sample::Index;

use super::{At, Known, Run, expect_live};
use crate::error::ErrorKind;
use crate::job::{JobId, JobState};
use crate::lease::LeaseToken;
use crate::priority::Priority;
use crate::queue::purge::Purging;
use crate::queue::{Cancelled, Purge, Purged};
use crate::store::Store;

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

    // ---- purges ----

    /// Each portion is a commit; a crash leaves what the last commit left.
    pub(super) fn purge(
        &mut self,
        queue: u8,
        priority: Option<u8>,
        states: u8,
        looks: usize,
        crash: Option<usize>,
    ) {
        self.commit();
        let named = JobState::ALL.into_iter().zip(0..).filter(|(_, bit)| states & (1 << bit) != 0);
        let purge = Purge {
            queue: format!("queue-{queue}"),
            states: named.map(|(state, _)| state).collect(),
            priority: priority.map(|priority| Priority::ALL[usize::from(priority)]),
        };
        let mut purging = Purging::new(purge.clone()).looks_at_once(looks);
        let mut portions = 0;
        let purged = loop {
            match self.state.purge(&mut purging) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    assert!(self.known.values().all(|job| job.queue != purge.queue));
                    return;
                }
                _ if crash == Some(portions) => break None,
                Ok(Some(purged)) => break Some(purged),
                Ok(None) => self.store.commit(self.state.finish_group(self.now)).unwrap(),
            }
            portions += 1;
        };
        if purged.is_none() {
            self.state = super::open(&self.store, self.ages, self.now, &mut self.random);
            self.opened_at = self.now;
        }
        let told = self.learn_what_a_purge_did(&purge, purged.is_some());
        assert!(purged.is_none_or(|purged| purged == told), "{purged:?}, but {told:?}");
        self.tick();
    }

    /// When it did not come to its end, any of the jobs may be left, as it was.
    fn learn_what_a_purge_did(&mut self, purge: &Purge, to_the_end: bool) -> Purged {
        let waiting = [JobState::Scheduled, JobState::Ready, JobState::Retrying];
        let states = if purge.states.is_empty() { &waiting[..] } else { &purge.states };
        let mut purged = Purged::default();
        for (id, job) in self.known.clone() {
            if job.queue != purge.queue
                || purge.priority.is_some_and(|priority| priority != job.priority)
                || !states.contains(&job.at.state())
            {
                continue;
            }
            let found = self.state.job(id);
            match (&mut self.known.get_mut(&id).unwrap().at, found) {
                (At::Leased { cancelled, .. }, Ok(view)) => {
                    let now = view.running.unwrap().cancelled;
                    assert!(now || !to_the_end, "{id} was passed over");
                    assert!(now || !*cancelled, "{id} is not cancelled any more");
                    let newly = u64::from(now && !*cancelled);
                    (purged.removed, purged.cancelled) =
                        (purged.removed + newly, purged.cancelled + newly);
                    *cancelled = now;
                }
                (At::Leased { .. }, Err(_)) => panic!("{id} runs, and was taken away"),
                (_, Ok(_)) => assert!(!to_the_end, "{id} was passed over"),
                (_, Err(_)) => {
                    purged.removed += 1;
                    self.forget(id);
                }
            }
        }
        purged
    }

    pub(super) fn remove_queue(&mut self, queue: u8) {
        let name = format!("queue-{queue}");
        let in_use = self.known.values().any(|job| job.queue == name);
        match self.state.remove_queue(&name) {
            Ok(()) => assert!(!in_use, "a queue went with its jobs"),
            Err(error) if in_use => assert_eq!(error.kind(), ErrorKind::Conflict),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
    }
}

impl At {
    pub(super) fn state(&self) -> JobState {
        match self {
            At::Waiting => JobState::Ready,
            At::Leased { .. } => JobState::Running,
            At::Timer { retry: true, .. } => JobState::Retrying,
            At::Timer { retry: false, .. } => JobState::Scheduled,
            At::Dead(_) => JobState::Dead,
        }
    }
}
