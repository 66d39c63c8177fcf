//! What clients were told, and what follows from it for the jobs after a crash.

use std::collections::BTreeMap;

use pulk::JobId;

/// What a client knows of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was taken in, and nobody was told that it ended.
    There,
    /// It is done or cancelled: it never runs again.
    Gone,
    /// A call that may end it was made.
    Unsure,
}

/// What was told of which job, and after how many commits.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// What was known at the beginning of this life.
    before: BTreeMap<JobId, Known>,
    events: Vec<(usize, JobId, Known)>,
}

impl Told {
    pub(super) fn note(&mut self, commits: usize, id: JobId, known: Known) {
        self.events.push((commits, id, known));
    }

    /// A call was handed in that may end any job.
    pub(super) fn note_all_unsure(&mut self, commits: usize) {
        let unsure = self.known_after(usize::MAX).into_iter();
        let unsure = unsure.filter(|(_, known)| *known == Known::There);
        let unsure: Vec<_> = unsure.map(|(id, _)| (commits, id, Known::Unsure)).collect();
        self.events.extend(unsure);
    }

    /// What is known after so many commits. Of a job of which something was told later, it is not
    /// known how much of that had happened.
    fn known_after(&self, commits: usize) -> BTreeMap<JobId, Known> {
        let mut known = self.before.clone();
        for (after, id, event) in &self.events {
            let event = if *after <= commits { *event } else { Known::Unsure };
            known.insert(*id, event);
        }
        known
    }

    /// What is known in the life that begins after so many commits of this one.
    pub(super) fn survived(&self, commits: usize) -> Told {
        Told { before: self.known_after(commits), events: Vec::new() }
    }

    /// The jobs of which it is known at the beginning of this life whether they are there.
    pub(super) fn certain(&self) -> impl Iterator<Item = (JobId, bool)> {
        self.before.iter().filter_map(|(id, known)| match known {
            Known::There => Some((*id, true)),
            Known::Gone => Some((*id, false)),
            Known::Unsure => None,
        })
    }
}
