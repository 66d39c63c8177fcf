//! Dead letters in the model: edited, deleted, purged and replayed by the many.

use std::collections::BTreeSet;

use super::*;
use crate::queue::replay::{ManyReplayed, ReplayWork};
use crate::queue::retention::PurgeWork;
use crate::queue::{
    DeadChoice, DeadEdit, DeadFilter, DeadPurged, PurgeDead, ReplayCounts, ReplayMany, ReplayState,
};

#[derive(Clone, Debug)]
pub(super) enum DeadStep {
    Bury { limit: u8 },
    Edit { job: Index, priority: Option<u8>, kind: Option<u8>, large: Option<bool> },
    Delete { job: Index },
    Purge { filter: Wanted, dry_run: bool },
    Replay { filter: Wanted, limit: Option<u64>, dry_run: bool },
    Begin { filter: Wanted, limit: Option<u64>, rate_per_s: f64, max_error_share: Option<f64> },
    Cancel { replay: Index },
}

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    queue: Option<u8>,
    kind: Option<u8>,
    reason: Option<DeadReason>,
    with_error: bool,
}

pub(super) fn step() -> impl Strategy<Value = DeadStep> {
    let reasons = prop::sample::select(
        [DeadReason::Exhausted, DeadReason::Rejected, DeadReason::Crashed].as_slice(),
    );
    let wanted = (
        prop::option::weighted(0.3, 0..3u8),
        prop::option::weighted(0.3, 0..2u8),
        prop::option::weighted(0.2, reasons),
        prop::bool::weighted(0.2),
    );
    let wanted = wanted.prop_map(|(queue, kind, reason, with_error)| Wanted {
        queue,
        kind,
        reason,
        with_error,
    });
    let limit = prop::option::weighted(0.4, 1..9u64);
    let rate = prop_oneof![1 => 0.001..2.0f64, 3 => 2.0..200.0f64];
    prop_oneof![
        5 => (1..20u8).prop_map(|limit| DeadStep::Bury { limit }),
        2 => (any::<Index>(), prop::option::of(0..5u8), prop::option::of(0..2u8),
              prop::option::of(any::<bool>()))
            .prop_map(|(job, priority, kind, large)| DeadStep::Edit { job, priority, kind, large }),
        1 => any::<Index>().prop_map(|job| DeadStep::Delete { job }),
        1 => (wanted.clone(), any::<bool>())
            .prop_map(|(filter, dry_run)| DeadStep::Purge { filter, dry_run }),
        2 => (wanted.clone(), limit.clone(), prop::bool::weighted(0.2)).prop_map(
            |(filter, limit, dry_run)| DeadStep::Replay { filter, limit, dry_run }),
        5 => (wanted, limit, rate, prop::option::of(0.0..1.0f64)).prop_map(
            |(filter, limit, rate_per_s, max_error_share)| {
                DeadStep::Begin { filter, limit, rate_per_s, max_error_share }
            }),
        1 => any::<Index>().prop_map(|replay| DeadStep::Cancel { replay }),
    ]
}

/// What the model knows of the background replays.
#[derive(Clone, Debug, Default)]
pub(super) struct Replays {
    all: BTreeMap<u64, Replaying>,
    /// Letters that they put back, all together: which of two that mean the same letter comes
    /// first is not for the model to say.
    put_back: u64,
    /// Jobs of theirs that died again.
    died_again: u64,
}

#[derive(Clone, Debug)]
struct Replaying {
    /// Those that were dead when it began, and have not been put back since.
    letters: BTreeSet<JobId>,
    limit: Option<u64>,
    max_error_share: Option<f64>,
    /// As it was told last.
    running: bool,
}

impl Replays {
    /// A job died: the replay that had put it back counts it.
    pub(super) fn note_death(&mut self, job: &Known) {
        self.died_again += u64::from(job.by_replay);
    }

    /// A dead letter was put back by time: one of the replays that ran must have done it.
    pub(super) fn did_put_back(&mut self, id: JobId, job: &mut Known) {
        let may = |replay: &Replaying| replay.running && replay.letters.contains(&id);
        assert!(self.all.values().any(may), "no replay may put {id} back");
        self.put_back += 1;
        job.put_back(true);
        self.forget_letter(id);
    }

    /// A letter was put back: when it dies again, the replays that run must leave it alone.
    pub(super) fn forget_letter(&mut self, id: JobId) {
        for replay in self.all.values_mut() {
            replay.letters.remove(&id);
        }
    }
}

impl Known {
    pub(super) fn put_back(&mut self, by_replay: bool) {
        (self.at, self.failures, self.interruptions) = (At::Waiting, 0, 0);
        self.by_replay = by_replay;
    }
}

impl Wanted {
    fn choice(&self) -> DeadChoice {
        DeadChoice::Filter(DeadFilter {
            queue: self.queue.map(|queue| format!("queue-{queue}")),
            kind: self.kind.map(|kind| format!("kind-{kind}")),
            reason: self.reason,
            error: self.with_error.then(|| "oo".to_owned()),
        })
    }

    fn lets_through(&self, job: &Known) -> bool {
        let At::Dead(reason) = job.at else { return false };
        self.queue.is_none_or(|queue| job.queue == format!("queue-{queue}"))
            && self.kind.is_none_or(|kind| job.kind == format!("kind-{kind}"))
            && self.reason.is_none_or(|wanted| wanted == reason)
            && (!self.with_error || job.has_error)
    }
}

impl Run {
    pub(super) fn apply_dead(&mut self, step: DeadStep) {
        match step {
            DeadStep::Bury { limit } => self.bury(limit),
            DeadStep::Edit { job, priority, kind, large } => self.edit(job, priority, kind, large),
            DeadStep::Delete { job } => self.delete(job),
            DeadStep::Purge { filter, dry_run } => self.purge_letters(&filter, dry_run),
            DeadStep::Replay { filter, limit, dry_run } => {
                self.replay_many(&filter, limit, dry_run);
            }
            DeadStep::Begin { filter, limit, rate_per_s, max_error_share } => {
                self.begin_replay(&filter, limit, rate_per_s, max_error_share);
            }
            DeadStep::Cancel { replay } => self.cancel_replay(replay),
        }
    }

    /// Ends a group in the middle of a command: nothing is compared before the command is done.
    pub(super) fn commit_unseen(&mut self) {
        let writes = self.state.finish_group(self.now);
        self.store.commit(writes).unwrap();
    }

    /// Applies a command in as many groups as it takes. After more than one, what it did is as
    /// durable as it is known.
    fn in_groups<T>(
        &mut self,
        mut run: impl FnMut(&mut QueueState, &mut Context<'_>) -> crate::Result<Option<T>>,
    ) -> (crate::Result<T>, bool) {
        let mut committed = false;
        loop {
            match self.with(&mut run).transpose() {
                Some(outcome) => return (outcome, committed),
                None => self.commit_unseen(),
            }
            committed = true;
        }
    }

    /// Lets jobs fail for good.
    fn bury(&mut self, limit: u8) {
        self.claim(None, None, None, limit);
        let leased = self.known.iter().filter(|(_, job)| matches!(job.at, At::Leased { .. }));
        let leased = leased.map(|(id, job)| LeaseToken { job: *id, delivery: job.delivery });
        for token in leased.take(usize::from(limit)).collect::<Vec<_>>() {
            self.fail_token(token, true, false, None);
        }
    }

    /// A dead letter, if there is one, and now and then any job.
    fn any_dead(&self, job: Index) -> Option<JobId> {
        let is_dead = |job: &Known| matches!(job.at, At::Dead(_));
        let dead = self.known.iter().filter(|(_, known)| is_dead(known)).map(|(id, _)| *id);
        let mut ids: Vec<JobId> = dead.collect();
        if ids.is_empty() || job.index(5) == 0 {
            ids = self.known.keys().copied().collect();
        }
        ids.get(job.index(ids.len().max(1))).copied()
    }

    /// The letters that a filter means, in their order.
    fn meant(&mut self, filter: &Wanted) -> Vec<JobId> {
        let meant = self.known.iter().filter(|(_, job)| filter.lets_through(job));
        let mut meant: Vec<JobId> = meant.map(|(id, _)| *id).collect();
        meant.sort_by_cached_key(|id| {
            let died_at = self.state.job(*id).unwrap().dead.unwrap().died_at;
            (id.queue(), died_at, *id)
        });
        meant
    }

    fn edit(&mut self, job: Index, priority: Option<u8>, kind: Option<u8>, large: Option<bool>) {
        let Some(id) = self.any_dead(job) else { return };
        let bytes = |large| if large { 50_000 } else { 20 };
        let edit = DeadEdit {
            priority: priority.map(|priority| Priority::ALL[usize::from(priority)]),
            kind: kind.map(|kind| format!("kind-{kind}")),
            payload: large.map(|large| Payload::Json(vec![b'7'; bytes(large)].into())),
            ..DeadEdit::default()
        };
        let edited = self.with(|state, context| state.edit_dead(id, &edit, context.now));
        let known = self.known.get_mut(&id).unwrap();
        if !matches!(known.at, At::Dead(_)) {
            assert_eq!(edited.unwrap_err().kind(), ErrorKind::Conflict);
            return;
        }
        let edited = edited.unwrap();
        known.priority = edit.priority.unwrap_or(known.priority);
        known.kind = edit.kind.unwrap_or(known.kind.clone());
        known.payload = edit.payload.unwrap_or(known.payload.clone());
        assert_eq!((&edited.kind, &edited.payload), (&known.kind, &known.payload));
    }

    fn delete(&mut self, job: Index) {
        let Some(id) = self.any_dead(job) else { return };
        let deleted = self.with(|state, _| state.delete_dead(id));
        if matches!(self.known[&id].at, At::Dead(_)) {
            deleted.unwrap();
            self.forget(id);
        } else {
            assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Conflict);
        }
    }

    fn purge_letters(&mut self, filter: &Wanted, dry_run: bool) {
        let meant = self.meant(filter);
        let mut work = PurgeWork::new(&PurgeDead { choice: filter.choice(), dry_run });
        let (told, committed) = self.in_groups(|state, _| state.purge_dead(&mut work));
        let matched = meant.len() as u64;
        let removed = if dry_run { 0 } else { matched };
        assert_eq!(told.unwrap(), DeadPurged { matched, removed });
        if !dry_run {
            meant.iter().for_each(|id| self.forget(*id));
        }
        if committed {
            self.commit();
        }
    }

    fn replay_many(&mut self, filter: &Wanted, limit: Option<u64>, dry_run: bool) {
        let mut meant = self.meant(filter);
        meant.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        let request =
            ReplayMany { choice: filter.choice(), limit, dry_run, ..ReplayMany::default() };
        let mut work = ReplayWork::new(request);
        let (told, committed) =
            self.in_groups(|state, context| state.replay_many(&mut work, context));
        let matched = meant.len() as u64;
        let replayed = if dry_run { 0 } else { matched };
        let expected = ManyReplayed { matched, replayed, skipped: 0, replay: None };
        assert_eq!(told.unwrap(), expected);
        for id in meant.iter().filter(|_| !dry_run) {
            self.known.get_mut(id).unwrap().put_back(false);
            self.replays.forget_letter(*id);
        }
        if committed {
            self.commit();
        }
    }

    fn begin_replay(
        &mut self,
        filter: &Wanted,
        limit: Option<u64>,
        rate_per_s: f64,
        max_error_share: Option<f64>,
    ) {
        let meant = self.meant(filter);
        let request = ReplayMany {
            choice: filter.choice(),
            limit,
            rate_per_s: Some(rate_per_s),
            max_error_share,
            ..ReplayMany::default()
        };
        let mut work = ReplayWork::new(request);
        let (told, committed) =
            self.in_groups(|state, context| state.replay_many(&mut work, context));
        let dead = self.known.iter().filter(|(_, job)| matches!(job.at, At::Dead(_)));
        let letters = dead.map(|(id, _)| *id).collect();
        match told {
            Ok(told) => {
                let replay = told.replay.unwrap();
                let most = limit.unwrap_or(u64::MAX);
                assert_eq!(replay.counts.matched, most.min(meant.len() as u64));
                let running = !meant.is_empty();
                assert_eq!(replay.state == ReplayState::Running, running);
                let replaying = Replaying { letters, limit, max_error_share, running };
                assert!(self.replays.all.insert(replay.id, replaying).is_none());
            }
            Err(refused) => {
                assert_eq!(refused.kind(), ErrorKind::Conflict);
                assert_eq!(self.replays.all.values().filter(|replay| replay.running).count(), 16);
            }
        }
        if committed {
            self.commit();
        }
    }

    fn cancel_replay(&mut self, replay: Index) {
        let numbers: Vec<u64> = self.replays.all.keys().copied().collect();
        let Some(number) = numbers.get(replay.index(numbers.len().max(1))) else { return };
        let before = self.state.replay_status(*number).unwrap();
        let now = self.now;
        let view = self.with(|state, _| state.cancel_replay(*number, now)).unwrap();
        match before.state {
            ReplayState::Running => assert_eq!(view.state, ReplayState::Cancelled),
            _ => assert_eq!(view, before),
        }
    }

    /// Every replay does no more than it may, and together they tell what was seen.
    pub(super) fn check_replays(&mut self) {
        let mut told = ReplayCounts::default();
        for (number, known) in &mut self.replays.all {
            let view = self.state.replay_status(*number).unwrap();
            let counts = view.counts;
            told.replayed += counts.replayed;
            told.died_again += counts.died_again;
            assert!(known.limit.is_none_or(|limit| counts.replayed <= limit));
            let most = known.max_error_share.map(|share| share * counts.replayed as f64);
            let failed = most.is_some_and(|most| counts.died_again as f64 > most);
            assert!(!failed || view.state != ReplayState::Running, "{view:?} goes on");
            assert_eq!(view.state == ReplayState::Running, view.ended_at.is_none());
            known.running = view.state == ReplayState::Running;
        }
        assert_eq!(
            (told.replayed, told.died_again),
            (self.replays.put_back, self.replays.died_again)
        );
    }
}
