//! The circuit breaker of one target: a pure state machine that is told the time.
//!
//! ```text
//!            failures in a row, or nobody there
//!   closed ────────────────────────────────────▶ open ◀──┐
//!      ▲                                          │      │ the probe failed:
//!      │ the probe was answered      its delay is over   │ a longer delay
//!      │                                          ▼      │
//!      └─────────────────────────────────────  half open ┘
//! ```
//!
//! Half open, one request is let through, and another one after each second that brought no answer:
//! a probe may be a job of many minutes, and the target be well. What was sent while it was closed
//! may still end when it is not: a failure changes nothing then, an answer closes it.

use std::time::Duration;

use rand::Rng;

use crate::retry::RetryPolicy;

/// The delay before the first probe, less up to half of it by chance.
const FIRST_DELAY_MS: u64 = 1_000;
/// How long a probe may be without an answer before another one goes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The share of a delay that chance may take off.
const JITTER: f64 = 0.5;

/// When a breaker opens, and for how long at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// So many failures in a row open it; 0: it never opens.
    pub failures: u32,
    /// The longest delay before a probe, in milliseconds. The first is 1 s, each further one twice
    /// as long, all of them less up to half by chance.
    pub delay_max_ms: u64,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        BreakerLimits { failures: 5, delay_max_ms: 30_000 }
    }
}

/// What a breaker is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests go through.
    Closed,
    /// None does.
    Open,
    /// One does, to see whether the target is back.
    HalfOpen,
}

impl BreakerState {
    /// The name in the health check.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// How a request went, as far as it says something of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The target works.
    Answered,
    /// It was reached, and failed or did not answer in time.
    Failed,
    /// There was nobody: the request never reached it.
    Unreachable,
    /// The request was given up before it could tell.
    Unknown,
}

/// Whether a request may go through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may. Its [`Verdict`] must be told, with this.
    Granted(Pass),
    /// Not before so long.
    Refused(Duration),
}

/// The right to send one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    is_probe: bool,
}

/// How many requests may go through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Any,
    One,
    /// None before this moment.
    Nothing(Duration),
}

/// Moments are told as the time since any fixed moment before.
#[derive(Debug)]
pub(super) struct Breaker {
    limits: BreakerLimits,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    /// Opened so often in a row.
    Open {
        until: Duration,
        openings: u32,
    },
    /// Probes are under way; one more may go at this moment.
    Probing {
        next: Duration,
        openings: u32,
    },
}

impl Breaker {
    pub(super) fn new(limits: BreakerLimits) -> Self {
        Breaker { limits, state: State::Closed { failures: 0 } }
    }

    pub(super) fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until, .. } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    pub(super) fn room(&self, now: Duration) -> Room {
        match self.state {
            State::Closed { .. } => Room::Any,
            State::Open { until: next, .. } | State::Probing { next, .. } if now < next => {
                Room::Nothing(next)
            }
            State::Open { .. } | State::Probing { .. } => Room::One,
        }
    }

    /// Asks to send a request.
    pub(super) fn admit(&mut self, now: Duration) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Granted(Pass { is_probe: false }),
            State::Open { until: next, .. } | State::Probing { next, .. } if now < next => {
                Admission::Refused(next.saturating_sub(now))
            }
            State::Open { openings, .. } | State::Probing { openings, .. } => {
                self.state = State::Probing { next: now + PROBE_INTERVAL, openings };
                Admission::Granted(Pass { is_probe: true })
            }
        }
    }

    /// Tells how an admitted request went. True when nothing else was to be expected: the target
    /// was known to be away.
    pub(super) fn tell(
        &mut self,
        pass: Pass,
        verdict: Verdict,
        now: Duration,
        random: &mut dyn Rng,
    ) -> bool {
        let was_closed = matches!(self.state, State::Closed { .. });
        match (self.state, verdict) {
            (_, Verdict::Answered) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, Verdict::Failed) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                if failures >= self.limits.failures {
                    self.open(1, now, random);
                }
            }
            (State::Closed { .. }, Verdict::Unreachable) => self.open(1, now, random),
            (State::Probing { openings, .. }, Verdict::Failed | Verdict::Unreachable)
                if pass.is_probe =>
            {
                self.open(openings.saturating_add(1), now, random);
            }
            // The next request is the probe.
            (State::Probing { openings, .. }, Verdict::Unknown) if pass.is_probe => {
                self.state = State::Open { until: now, openings };
            }
            _ => {}
        }
        !was_closed
    }

    fn open(&mut self, openings: u32, now: Duration, random: &mut dyn Rng) {
        if self.limits.failures == 0 {
            return;
        }
        let max_ms = self.limits.delay_max_ms;
        let delays = RetryPolicy { base_ms: FIRST_DELAY_MS.min(max_ms), max_ms, jitter: JITTER };
        let delay = Duration::from_millis(delays.delay_ms(openings, random));
        self.state = State::Open { until: now + delay, openings };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits { failures: 3, delay_max_ms: 30_000 };

    struct Scene {
        breaker: Breaker,
        random: StdRng,
        now: Duration,
    }

    impl Scene {
        fn new(limits: BreakerLimits, seed: u64) -> Scene {
            let random = StdRng::seed_from_u64(seed);
            Scene { breaker: Breaker::new(limits), random, now: Duration::from_secs(1_000) }
        }

        fn pass(&mut self) -> Pass {
            match self.breaker.admit(self.now) {
                Admission::Granted(pass) => pass,
                refused @ Admission::Refused(_) => panic!("{refused:?}"),
            }
        }

        fn tell(&mut self, pass: Pass, verdict: Verdict) -> bool {
            self.breaker.tell(pass, verdict, self.now, &mut self.random)
        }

        fn send(&mut self, verdict: Verdict) -> bool {
            let pass = self.pass();
            self.tell(pass, verdict)
        }

        /// How long it is open from now; it must be.
        fn delay(&mut self) -> Duration {
            match self.breaker.admit(self.now) {
                Admission::Refused(delay) => delay,
                granted @ Admission::Granted(_) => panic!("{granted:?}"),
            }
        }

        /// Lets that time pass.
        fn wait(&mut self) {
            let delay = self.delay();
            self.now += delay;
        }

        fn state(&self) -> BreakerState {
            self.breaker.state(self.now)
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let mut scene = Scene::new(LIMITS, 1);
        for verdict in [Verdict::Failed, Verdict::Failed, Verdict::Answered, Verdict::Unknown] {
            assert!(!scene.send(verdict));
        }
        scene.send(Verdict::Failed);
        scene.send(Verdict::Failed);
        assert_eq!(scene.state(), BreakerState::Closed);
        assert_eq!(scene.breaker.room(scene.now), Room::Any);
        scene.send(Verdict::Failed);
        assert_eq!(scene.state(), BreakerState::Open);
        let delay = scene.delay();
        assert!(
            (Duration::from_millis(500)..=Duration::from_secs(1)).contains(&delay),
            "{delay:?}"
        );
        assert_eq!(scene.breaker.room(scene.now), Room::Nothing(scene.now + delay));
    }

    #[test]
    fn a_target_that_is_not_there_opens_it_at_once_and_the_second_to_notice_is_told() {
        let mut scene = Scene::new(LIMITS, 2);
        let (first, second) = (scene.pass(), scene.pass());
        assert!(!scene.tell(first, Verdict::Unreachable));
        let until = scene.breaker.room(scene.now);
        assert!(scene.tell(second, Verdict::Unreachable));
        // What was under way does not put off the probe.
        assert_eq!(scene.breaker.room(scene.now), until);
    }

    #[test]
    fn after_the_delay_one_probe_goes_through_and_decides() {
        let mut scene = Scene::new(LIMITS, 3);
        scene.send(Verdict::Unreachable);
        scene.wait();
        assert_eq!(scene.state(), BreakerState::HalfOpen);
        assert_eq!(scene.breaker.room(scene.now), Room::One);
        let probe = scene.pass();
        assert_eq!(scene.breaker.room(scene.now), Room::Nothing(scene.now + PROBE_INTERVAL));
        assert_eq!(scene.delay(), PROBE_INTERVAL);
        assert!(scene.tell(probe, Verdict::Failed));
        assert_eq!(scene.state(), BreakerState::Open);
        scene.wait();
        assert!(scene.send(Verdict::Answered));
        assert_eq!(scene.state(), BreakerState::Closed);
        // The failures before count no more.
        scene.send(Verdict::Failed);
        assert_eq!(scene.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_takes_long_is_followed_by_others_one_at_a_time() {
        let mut scene = Scene::new(LIMITS, 6);
        scene.send(Verdict::Unreachable);
        scene.wait();
        let long = scene.pass();
        for _ in 0..3 {
            scene.wait();
            assert_eq!(scene.breaker.room(scene.now), Room::One);
            scene.pass();
            assert_eq!(scene.delay(), PROBE_INTERVAL);
        }
        scene.tell(long, Verdict::Answered);
        assert_eq!(scene.breaker.room(scene.now), Room::Any);
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_its_place_to_the_next() {
        let mut scene = Scene::new(LIMITS, 4);
        scene.send(Verdict::Unreachable);
        scene.wait();
        scene.send(Verdict::Unknown);
        assert_eq!(scene.breaker.room(scene.now), Room::One);
        scene.send(Verdict::Answered);
        assert_eq!(scene.state(), BreakerState::Closed);
    }

    #[test]
    fn with_no_number_of_failures_it_never_opens() {
        let mut scene = Scene::new(BreakerLimits { failures: 0, ..LIMITS }, 5);
        for _ in 0..100 {
            scene.send(Verdict::Failed);
            scene.send(Verdict::Unreachable);
        }
        assert_eq!(scene.state(), BreakerState::Closed);
    }

    proptest! {
        #[test]
        fn delays_grow_to_the_longest_and_stay_there(seed: u64, delay_max_ms in 1u64..100_000) {
            let mut scene = Scene::new(BreakerLimits { failures: 3, delay_max_ms }, seed);
            for opening in 0u32..20 {
                scene.send(Verdict::Unreachable);
                let most = (u128::from(FIRST_DELAY_MS) << opening).min(delay_max_ms.into());
                let delay = scene.delay();
                prop_assert!(delay.as_millis() <= most);
                prop_assert!(delay.as_millis() >= most / 2);
                scene.now += delay;
            }
        }

        /// Whatever happens: open is never for ever, half open lets one through, and an answer
        /// closes it.
        #[test]
        fn it_never_sticks(seed: u64, steps in proptest::collection::vec(0u8..8, 1..200)) {
            let mut scene = Scene::new(LIMITS, seed);
            let mut under_way = Vec::new();
            for step in steps {
                match step {
                    0..3 => match scene.breaker.admit(scene.now) {
                        Admission::Granted(pass) => under_way.push(pass),
                        Admission::Refused(delay) => prop_assert!(delay.as_millis() <= 30_000),
                    },
                    3 => scene.now += Duration::from_millis(700),
                    _ => if let Some(pass) = under_way.pop() {
                        let verdict = [
                            Verdict::Answered,
                            Verdict::Failed,
                            Verdict::Unreachable,
                            Verdict::Unknown,
                        ][usize::from(step) - 4];
                        scene.tell(pass, verdict);
                        let closed = scene.state() == BreakerState::Closed;
                        prop_assert!(closed || verdict != Verdict::Answered);
                    },
                }
            }
            for pass in under_way {
                scene.tell(pass, Verdict::Unknown);
            }
            scene.now += Duration::from_secs(31);
            scene.send(Verdict::Answered);
            prop_assert_eq!(scene.state(), BreakerState::Closed);
        }
    }
}
