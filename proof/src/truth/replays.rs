//! Background replays: which letters they may take, how fast, and what they must count.

use std::collections::{BTreeMap, BTreeSet};

use pulk::queue::{
    DeadChoice, DeadFilter, REPLAYS_KEPT_MAX, REPLAYS_RUNNING_MAX, ReplayCounts, ReplayMany,
    ReplayState, ReplayView,
};
use pulk::{ErrorKind, Timestamp};

use super::{At, Checked, Truth, granted, hold, other_answer, refused};
use crate::command::{Answer, Told};

/// A background replay.
#[derive(Clone, Debug)]
pub(crate) struct Replaying {
    /// As it was seen last.
    pub(crate) view: ReplayView,
    /// Jobs that were dead when it began, and have been since.
    pub(crate) letters: BTreeSet<u64>,
    /// Those that were edited since.
    pub(crate) edited: BTreeSet<u64>,
    choice: DeadChoice,
    /// Deaths that it must have counted, and those that it may have counted.
    died: (u64, u64),
    /// At most so many letters can have been due.
    earned: f64,
}

impl Replaying {
    pub(crate) fn is_running(&self) -> bool {
        self.view.state == ReplayState::Running
    }

    /// It runs, or did in a group that nobody has looked at.
    fn may_have_moved(&self, unseen: Option<Timestamp>) -> bool {
        self.is_running() || self.view.ended_at.is_some_and(|at| unseen == Some(at))
    }

    fn failed_too_often(&self, died: u64) -> bool {
        let replayed = self.view.counts.replayed as f64;
        self.view.max_error_share.is_some_and(|share| died as f64 > share * replayed)
    }
}

impl Truth {
    pub(super) fn too_many_replays(&self) -> bool {
        let running = self.replays.values().filter(|replay| replay.is_running());
        running.count() >= REPLAYS_RUNNING_MAX
    }

    pub(super) fn begin_replay(
        &mut self,
        request: &ReplayMany,
        rate_per_s: f64,
        matched: u64,
    ) -> ReplayView {
        self.last_replay += 1;
        let id = self.last_replay;
        let filter = match &request.choice {
            DeadChoice::Filter(filter) => filter.clone(),
            DeadChoice::Ids(_) => DeadFilter::default(),
        };
        let (state, ended_at) = match matched {
            0 => (ReplayState::Done, Some(self.now)),
            _ => (ReplayState::Running, None),
        };
        let view = ReplayView {
            id,
            state,
            filter,
            limit: request.limit,
            rate_per_s,
            max_error_share: request.max_error_share,
            counts: ReplayCounts { matched, ..ReplayCounts::default() },
            started_at: self.now,
            ended_at,
        };
        let letters = self.jobs.iter().filter(|(_, job)| job.is_dead());
        let replaying = Replaying {
            view: view.clone(),
            letters: letters.map(|(serial, _)| *serial).collect(),
            edited: BTreeSet::new(),
            choice: request.choice.clone(),
            died: (0, 0),
            earned: 0.0,
        };
        self.replays.insert(id, replaying);
        while self.replays.len() > REPLAYS_KEPT_MAX {
            let mut ended = self.replays.iter().filter(|(_, replay)| !replay.is_running());
            let Some((oldest, _)) = ended.next() else { break };
            let oldest = *oldest;
            self.replays.remove(&oldest);
        }
        view
    }

    pub(super) fn cancel_replay(&mut self, id: u64, told: Option<&Told>) -> Checked {
        let now = self.now;
        let Some(replay) = self.replays.get_mut(&id) else {
            return refused(told, ErrorKind::NotFound);
        };
        if replay.is_running() {
            (replay.view.state, replay.view.ended_at) = (ReplayState::Cancelled, Some(now));
        }
        let told = match granted(told)? {
            None => return Ok(()),
            Some(Answer::Replay(view)) => view.clone(),
            Some(other) => return Err(other_answer(other)),
        };
        self.is_replay(&told)
    }

    /// A job died that one of these had put back.
    pub(super) fn note_death(&mut self, by_replay: &BTreeSet<u64>) {
        let (now, sure) = (self.now, by_replay.len() == 1);
        for id in by_replay {
            let Some(replay) = self.replays.get_mut(id) else { continue };
            if !sure {
                replay.died.1 += 1;
                continue;
            }
            replay.died.0 += 1;
            replay.died.1 += 1;
            replay.view.counts.died_again += 1;
            let died = replay.view.counts.died_again;
            if replay.is_running()
                && replay.died.0 == replay.died.1
                && replay.failed_too_often(died)
            {
                (replay.view.state, replay.view.ended_at) = (ReplayState::Stopped, Some(now));
            }
        }
    }

    /// What a replay may have earned by a clock that went from one moment to another.
    pub(super) fn earn(&mut self, from: Timestamp, to: Timestamp, reopened: bool) {
        for replay in self.replays.values_mut().filter(|replay| replay.is_running()) {
            replay.earned += to.ms_since(from) as f64 * replay.view.rate_per_s / 1_000.0;
            replay.earned += f64::from(u8::from(reopened || to < from));
        }
    }

    /// The replay is as it is told, and nothing that this may not be.
    pub(super) fn is_replay(&mut self, told: &ReplayView) -> Checked {
        let now = self.now;
        let Some(replay) = self.replays.get_mut(&told.id) else {
            return Err(format!("replay {} is told, and is not there", told.id));
        };
        let died = told.counts.died_again;
        hold!(
            (replay.died.0..=replay.died.1).contains(&died),
            "{:?} of replay {}'s jobs died again, and it tells {died}",
            replay.died,
            told.id
        );
        let moved = replay.may_have_moved(self.unseen);
        let before = &mut replay.view;
        before.counts.died_again = died;
        if moved {
            hold!(
                told.counts.replayed >= before.counts.replayed
                    && told.counts.skipped >= before.counts.skipped
                    && told.limit.is_none_or(|limit| told.counts.replayed <= limit),
                "a replay went from {before:?} to {told:?}"
            );
            (before.counts.replayed, before.counts.skipped) =
                (told.counts.replayed, told.counts.skipped);
        }
        if before.state == ReplayState::Running {
            let may_be_stopped = replay.died.0 != replay.died.1;
            match told.state {
                ReplayState::Done => {}
                ReplayState::Stopped if may_be_stopped => {}
                ReplayState::Running => hold!(
                    !replay.failed_too_often(died),
                    "too many jobs of a replay died again, and it goes on: {told:?}"
                ),
                _ => return Err(format!("a replay ended by itself: {told:?}")),
            }
            replay.view.state = told.state;
            if told.state != ReplayState::Running {
                hold!(
                    told.ended_at.is_some_and(|at| at <= now.max(self.latest)),
                    "a replay ended in the future: {told:?}"
                );
                replay.view.ended_at = told.ended_at;
            }
        }
        hold!(replay.view == *told, "a replay is {:?}, and told as {told:?}", replay.view);
        let replayed = told.counts.replayed as f64;
        let most = replay.earned + 1.001;
        hold!(
            replayed.total_cmp(&most).is_le(),
            "replay {} put back {replayed}, and {} were due",
            told.id,
            replay.earned
        );
        Ok(())
    }

    /// All replays that are kept are told, the newest first.
    pub(super) fn are_replays(&mut self, told: &[ReplayView]) -> Checked {
        let ids: Vec<u64> = told.iter().map(|view| view.id).collect();
        let expected: Vec<u64> = self.replays.keys().rev().copied().collect();
        hold!(ids == expected, "the replays {expected:?} are told as {ids:?}");
        told.iter().try_for_each(|view| self.is_replay(view))
    }

    /// These dead letters were seen ready: background replays put them back.
    pub(super) fn were_put_back(
        &mut self,
        moved: &[(u64, Timestamp)],
        told: &[ReplayView],
    ) -> Checked {
        let mut left = BTreeMap::new();
        for view in told {
            let before = self.replays.get(&view.id).map_or(0, |it| it.view.counts.replayed);
            left.insert(view.id, view.counts.replayed.saturating_sub(before));
        }
        let counted: u64 = left.values().sum();
        let early = std::mem::take(&mut self.put_back_early);
        hold!(
            counted == (moved.len() + early.len()) as u64,
            "replays count {counted} put back, and these were: {moved:?} {early:?}"
        );
        for serial in early {
            if let Some(job) = self.jobs.get_mut(&serial) {
                job.by_replay.retain(|id| left.get(id).is_some_and(|left| *left > 0));
            }
        }
        for (serial, at) in moved {
            let mut by = self.may_put_back(*serial);
            by.retain(|id| left.get(id).is_some_and(|left| *left > 0));
            self.was_put_back(*serial, by)?;
            hold!(self.unseen == Some(*at), "job {serial} was put back at {at}, between groups");
            if let At::Ready { ready_at, .. } = &mut self.job_mut(*serial).at {
                *ready_at = *at;
            }
            self.unplaced.insert(*serial);
        }
        Ok(())
    }

    /// The replays that may have put a letter back.
    fn may_put_back(&self, serial: u64) -> BTreeSet<u64> {
        let job = self.job(serial);
        let may = |(id, replay): (&u64, &Replaying)| {
            let meant = match &replay.choice {
                DeadChoice::Ids(ids) => job.id.is_some_and(|id| ids.contains(&id)),
                DeadChoice::Filter(filter) => self.lets_through(filter, job),
            };
            let may = replay.may_have_moved(self.unseen) && replay.letters.contains(&serial);
            (meant && may).then_some(*id)
        };
        self.replays.iter().filter_map(may).collect()
    }

    fn was_put_back(&mut self, serial: u64, by: BTreeSet<u64>) -> Checked {
        hold!(!by.is_empty(), "no replay may put job {serial} back");
        self.put_back(serial, by).map_err(|holder| {
            format!("job {serial} was put back, and {holder} holds its unique key")
        })
    }

    /// A letter was handed out before anybody saw it put back.
    pub(super) fn was_put_back_early(&mut self, serial: u64) -> Checked {
        self.was_put_back(serial, self.may_put_back(serial))?;
        self.put_back_early.insert(serial);
        self.unplaced.insert(serial);
        Ok(())
    }

    /// A replay that is done has left no letter that it could have put back.
    pub(super) fn left_nothing(&self, id: u64) -> Checked {
        let replay = &self.replays[&id];
        let view = &replay.view;
        if view.state != ReplayState::Done || view.limit == Some(view.counts.replayed) {
            return Ok(());
        }
        let left = self.meant(&replay.choice).into_iter().find(|serial| {
            replay.letters.contains(serial)
                && !replay.edited.contains(serial)
                && self.job(*serial).unique.is_none()
        });
        hold!(left.is_none(), "replay {id} is done, and left job {left:?} dead");
        Ok(())
    }
}
