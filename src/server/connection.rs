//! One connection: what it is doing, since when, and when that has taken too long.
//!
//! The task that drives it tells what happens, in the order in which it happens; the registry
//! ([`super::connections`]) looks from outside and may end it while it is idle.
//!
//! ```text
//!          head complete                      answer sent whole
//! idle ────────────────────▶ busy ──────────────────────────────▶ idle
//!  └── another took its place ──▶ evicted
//! ```
//!
//! # Time
//! Idle: `idle_timeout` after it became so, or, once a byte of the next head is there,
//! `read_timeout` after that byte. Busy: as long as the handler takes; the body has a timer of its
//! own ([`TimedBody`](crate::api::TimedBody)). An answer that the client does not take:
//! `read_timeout` after the first write that found no room. A connection that was closed by us:
//! `LINGER` for the client to close it too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::connections::Connections;

/// How long we read on after our last byte. A socket closed with bytes unread takes the answer
/// away from a client that has not read it yet.
const LINGER: Duration = Duration::from_secs(1);

/// One open connection.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) connections: Arc<Connections>,
    activity: Mutex<Activity>,
}

struct Activity {
    phase: Phase,
    /// Under which moment it stands in the order of the idle ones; not later than its own.
    listed: Option<Instant>,
    /// Since when an answer finds no room to be written to.
    blocked_since: Option<Instant>,
    /// Since when we have nothing more to send.
    lingering_since: Option<Instant>,
    /// The node stops: no request after the one under way.
    finishing: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No request is under way; perhaps a part of a head is there.
    Idle { since: Instant, head_since: Option<Instant> },
    /// From a complete head until the answer is sent whole.
    Busy { answered: bool },
    /// Its place was given to another.
    Evicted,
}

/// What [`Connection::evict`] found.
pub(super) enum Eviction {
    /// It was idle since that moment and ends now.
    Done,
    /// It was idle, but not for so long.
    IdleSince(Instant),
    /// It has a request under way. It lists itself when it is idle again.
    Busy,
}

impl Connection {
    /// A connection that is idle from now on, and listed so.
    pub(super) fn new(id: u64, connections: Arc<Connections>, now: Instant) -> Self {
        let activity = Activity {
            phase: Phase::Idle { since: now, head_since: None },
            listed: Some(now),
            blocked_since: None,
            lingering_since: None,
            finishing: false,
            waker: None,
        };
        Connection { id, connections, activity: Mutex::new(activity) }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what its own task tells ----

    /// Bytes came.
    pub(super) fn received(&self) {
        let mut activity = self.activity();
        if let Phase::Idle { head_since: head_since @ None, .. } = &mut activity.phase {
            *head_since = Some(Instant::now());
        }
    }

    /// A request's head is complete. False: too late, the connection must end without it.
    #[must_use]
    pub(super) fn begins(&self) -> bool {
        let mut activity = self.activity();
        let goes_on = !matches!(activity.phase, Phase::Evicted);
        if goes_on {
            activity.phase = Phase::Busy { answered: false };
        }
        goes_on
    }

    /// The answer is in the hands of the one who writes it.
    pub(super) fn answered(&self) {
        if let Phase::Busy { answered } = &mut self.activity().phase {
            *answered = true;
        }
    }

    /// A write found no room.
    pub(super) fn blocked(&self) {
        self.activity().blocked_since.get_or_insert_with(Instant::now);
    }

    /// Everything that was to be written is.
    pub(super) fn sent(&self) {
        let mut activity = self.activity();
        activity.blocked_since = None;
        if let Phase::Busy { answered: true } = activity.phase {
            activity.phase = Phase::Idle { since: Instant::now(), head_since: None };
            let is_listed = activity.listed.is_some();
            drop(activity);
            if !is_listed {
                self.connections.list(self);
            }
        }
    }

    /// We have nothing more to send. False: nor shall we wait for the client to close.
    #[must_use]
    pub(super) fn lingers(&self) -> bool {
        let mut activity = self.activity();
        activity.lingering_since.get_or_insert_with(Instant::now);
        !activity.finishing
    }

    // ---- what its own task asks ----

    /// True when its place was given to another. This waker is called when that changes, or when
    /// [`is_finishing`](Self::is_finishing) does.
    pub(super) fn is_evicted(&self, waker: &Waker) -> bool {
        let mut activity = self.activity();
        if !activity.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            activity.waker = Some(waker.clone());
        }
        matches!(activity.phase, Phase::Evicted)
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.activity().finishing
    }

    /// When it has to be ended, unless something happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        let limits = &self.connections.limits;
        let activity = self.activity();
        let phase = match activity.phase {
            Phase::Idle { head_since: Some(since), .. } => Some(since + limits.read_timeout()),
            Phase::Idle { since, head_since: None } => Some(since + limits.idle_timeout()),
            Phase::Busy { .. } | Phase::Evicted => None,
        };
        let blocked = activity.blocked_since.map(|since| since + limits.read_timeout());
        let lingering = activity.lingering_since.map(|since| since + LINGER);
        [phase, blocked, lingering].into_iter().flatten().min()
    }

    // ---- what the registry does with it ----

    /// Takes it out of the order of the idle ones, where it stood under `listed`, and ends it if
    /// it was idle all the time.
    pub(super) fn evict(&self, listed: Instant) -> Eviction {
        let mut activity = self.activity();
        match activity.phase {
            Phase::Idle { since, .. } if since > listed => {
                activity.listed = Some(since);
                Eviction::IdleSince(since)
            }
            Phase::Idle { .. } | Phase::Evicted => {
                activity.listed = None;
                activity.phase = Phase::Evicted;
                activity.wake();
                Eviction::Done
            }
            Phase::Busy { .. } => {
                activity.listed = None;
                Eviction::Busy
            }
        }
    }

    /// Under which moment to list it, if it is idle and not listed.
    pub(super) fn to_be_listed(&self) -> Option<Instant> {
        let mut activity = self.activity();
        match activity.phase {
            Phase::Idle { since, .. } if activity.listed.is_none() => {
                activity.listed = Some(since);
                Some(since)
            }
            _ => None,
        }
    }

    pub(super) fn listed(&self) -> Option<Instant> {
        self.activity().listed
    }

    /// No request after the one under way.
    pub(super) fn finish(&self) {
        let mut activity = self.activity();
        activity.finishing = true;
        activity.wake();
    }
}

impl Activity {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
