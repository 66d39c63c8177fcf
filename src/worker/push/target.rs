//! One target: how many requests it has, and whether it takes more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::breaker::{Admission, Breaker, BreakerLimits, BreakerState, Pass, Room, Verdict};
use super::client::Client;
use super::signature::Secret;
use super::url::TargetUrl;
use crate::error::{Error, ErrorKind, Result};
use crate::worker::Job;

/// The longest name of a target, in bytes.
pub const TARGET_NAME_BYTES_MAX: usize = 64;

/// Where jobs are pushed to, and which.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// What metrics and the log call it: 1 to 64 bytes of letters, digits and `. _ -`.
    pub name: String,
    /// Where it is.
    pub url: TargetUrl,
    /// Only jobs of these queues; of all when empty.
    pub queues: Vec<String>,
    /// Only jobs of these kinds; of all when empty.
    pub kinds: Vec<String>,
    /// Most requests at a time; 0: no limit but the worker's own.
    pub concurrency: usize,
    /// Signs the requests.
    pub secret: Option<Secret>,
    /// How long an answer may take, in milliseconds; 0: as long as the job's own time lasts.
    pub timeout_ms: u64,
}

/// What a target is doing at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReport {
    /// Its name.
    pub name: String,
    /// Where it is, without user and password.
    pub url: String,
    /// Whether requests go through.
    pub state: BreakerState,
    /// Requests under way.
    pub in_flight: usize,
}

/// A target at work.
pub(super) struct Target {
    pub(super) config: TargetConfig,
    pub(super) client: Client,
    /// Its own limit of requests.
    places: Arc<Semaphore>,
    started: Instant,
    now: Mutex<Now>,
    /// Told of every change that may make room.
    changed: Arc<Notify>,
}

struct Now {
    breaker: Breaker,
    random: StdRng,
    /// Jobs that are here, sent or not.
    jobs: usize,
    in_flight: usize,
}

/// A job that is here; dropped, it is not.
pub(super) struct Presence(Arc<Target>);

impl TargetConfig {
    /// A target for all jobs.
    #[must_use]
    pub fn new(name: impl Into<String>, url: TargetUrl) -> Self {
        let (queues, kinds) = (Vec::new(), Vec::new());
        let name = name.into();
        TargetConfig { name, url, queues, kinds, concurrency: 0, secret: None, timeout_ms: 0 }
    }

    /// Checks the name.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), saying what is wrong with it.
    pub fn validate(&self) -> Result<()> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let length = 1..=TARGET_NAME_BYTES_MAX;
        match length.contains(&self.name.len()) && self.name.bytes().all(known) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "{:?} can't be the name of a target; use 1 to {TARGET_NAME_BYTES_MAX} ASCII \
                     letters, digits and . _ -",
                    self.name
                ),
            )),
        }
    }

    /// Whether it is for all jobs.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.queues.is_empty() && self.kinds.is_empty()
    }

    pub(super) fn takes(&self, job: &Job) -> bool {
        let names = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        names(&self.queues, &job.queue) && names(&self.kinds, &job.kind)
    }
}

impl Target {
    pub(super) fn new(
        config: TargetConfig,
        limits: BreakerLimits,
        changed: Arc<Notify>,
    ) -> Result<Target> {
        config.validate()?;
        let client = Client::new(&config.url)?;
        let places = match config.concurrency {
            0 => Semaphore::MAX_PERMITS,
            most => most.min(Semaphore::MAX_PERMITS),
        };
        #[expect(clippy::disallowed_methods, reason = "where chance enters: the delays of probes")]
        let random: StdRng = rand::make_rng();
        let now = Now { breaker: Breaker::new(limits), random, jobs: 0, in_flight: 0 };
        Ok(Target {
            config,
            client,
            places: Arc::new(Semaphore::new(places)),
            started: Instant::now(),
            now: Mutex::new(now),
            changed,
        })
    }

    /// Nothing in here leaves its data half changed when it panics.
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to send a request; its end must be told.
    pub(super) fn admit(&self) -> Admission {
        let mut now = self.now();
        let admission = now.breaker.admit(self.started.elapsed());
        now.in_flight += usize::from(matches!(admission, Admission::Granted(_)));
        admission
    }

    /// Tells how an admitted request went; true when the target was known to be away.
    pub(super) fn tell(&self, pass: Pass, verdict: Verdict) -> bool {
        let at = self.started.elapsed();
        let mut now = self.now();
        let Now { breaker, random, in_flight, .. } = &mut *now;
        let before = breaker.state(at);
        let was_known = breaker.tell(pass, verdict, at, random);
        *in_flight = in_flight.saturating_sub(1);
        let after = breaker.state(at);
        drop(now);
        let (name, url) = (&self.config.name, &self.config.url);
        match (before, after) {
            (BreakerState::Closed, BreakerState::Open) => {
                let message = "A push target does not work: nothing is pushed to it";
                tracing::warn!(push = name, %url, "{message}");
            }
            (BreakerState::Open | BreakerState::HalfOpen, BreakerState::Closed) => {
                tracing::info!(push = name, %url, "A push target works again");
            }
            _ => {}
        }
        self.changed.notify_waiters();
        was_known
    }

    /// How many more jobs it takes right now.
    pub(super) fn room(&self) -> usize {
        let now = self.now();
        let most = match self.config.concurrency {
            0 => usize::MAX,
            most => most.saturating_sub(now.jobs),
        };
        match now.breaker.room(self.started.elapsed()) {
            Room::Any => most,
            Room::One => most.min(1),
            Room::Nothing(_) => 0,
        }
    }

    /// When it may take a probe, if that is a matter of time.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.now().breaker.room(self.started.elapsed()) {
            Room::Nothing(until) => Some(self.started + until),
            Room::Any | Room::One => None,
        }
    }

    pub(super) fn report(&self) -> TargetReport {
        let now = self.now();
        TargetReport {
            name: self.config.name.clone(),
            url: self.config.url.to_string(),
            state: now.breaker.state(self.started.elapsed()),
            in_flight: now.in_flight,
        }
    }
}

impl Presence {
    pub(super) fn enter(target: &Arc<Target>) -> Presence {
        target.now().jobs += 1;
        Presence(target.clone())
    }

    /// One of the target's places, if one is free.
    pub(super) fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        self.0.places.clone().try_acquire_owned().ok()
    }

    /// The same, once one is free. It is `None` only if there were no places at all any more.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.0.places.clone().acquire_owned().await.ok()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.now().jobs -= 1;
        self.0.changed.notify_waiters();
    }
}

/// A delay in whole milliseconds, never shorter than it is.
pub(super) fn rounded_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
