//! The end: everything is drained, and everything that was told must be true of what is left.

use std::collections::HashSet;

use super::{End, Job, Ledger, RESULT_TTL_MS};
use crate::clients::now_ms;

impl Ledger {
    /// Jobs whose end was told: all whose result must be there, and some of the others.
    pub fn ended_jobs(&self, some: usize) -> Vec<String> {
        let now_ms = now_ms();
        self.book(|book| {
            let ended = |job: &Job| !matches!(job.end, End::None | End::Dead);
            let kept = |job: &Job| {
                job.result.as_ref().is_some_and(|kept| now_ms < kept.from_ms + RESULT_TTL_MS)
            };
            let (with, without): (Vec<_>, Vec<_>) =
                book.jobs.iter().filter(|(_, job)| ended(job)).partition(|(_, job)| kept(job));
            let chosen = with.into_iter().chain(without.into_iter().take(some));
            chosen.map(|(id, _)| id.clone()).collect()
        })
    }

    /// Nothing waits or runs any more, and these are the dead letters.
    pub fn check_the_end(&self, dead: &HashSet<String>) {
        self.book(|book| {
            for (id, job) in book.jobs.iter().filter(|(_, job)| job.is_there) {
                let is_dead = dead.contains(id);
                let name = &job.name;
                match job.end {
                    End::None if is_dead => {
                        assert!(job.maybe_dead, "L4: nobody made a dead letter of {id} ({name})");
                    }
                    End::None => assert!(job.ends_asked > 0, "L4: {id} ({name}) is lost"),
                    End::Dead => {
                        assert!(
                            is_dead || job.ends_asked > 0,
                            "L4: the letter {id} ({name}) is lost"
                        );
                    }
                    End::Acked { .. } => assert!(!is_dead, "L1: {id} ({name}) was acked"),
                    End::Gone { .. } => assert!(!is_dead, "L8: {id} ({name}) was cancelled"),
                }
            }
            for id in dead {
                assert!(book.jobs.contains_key(id), "L5: nobody knows the letter {id}");
            }
            for (batch, (jobs, answered)) in &book.batches {
                let is_there = |number: &usize| {
                    let name = book.names.get(&format!("{batch}/{number}"));
                    name.is_some_and(|name| name.id.is_some())
                };
                let there = (0..*jobs).filter(is_there).count();
                assert!(there == *jobs || there == 0, "L5: {there} of {jobs} of {batch}");
                assert!(there == *jobs || !answered, "L5: {batch} was answered");
            }
        });
    }

    pub fn summary(&self) -> String {
        let answers = self.answers();
        self.book(|book| {
            let jobs = book.jobs.values().filter(|job| job.is_there).count();
            let unheard: u64 = book.unheard.values().sum();
            let kinds: Vec<String> =
                book.unheard.iter().map(|(call, count)| format!("{call} {count}")).collect();
            format!(
                "{answers} answers, {jobs} jobs, {} deliveries, {} acks, {} replayed letters; \
                 {unheard} calls unheard ({})",
                book.deliveries,
                book.acks,
                book.replays,
                kinds.join(", ")
            )
        })
    }
}
