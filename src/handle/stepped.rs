//! A queue without a thread: its engine takes one step at a time, when its holder says so. For
//! simulations and fuzzing, where the same input must give the same history.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Queue;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::engine::{Engine, Turn};
use crate::error::{Error, Result};
use crate::store::Store;

/// The engine of a queue that [`Queue::open_stepped`] opened.
///
/// A call on the queue is handed in when its future is first polled, is applied by the next step
/// and answered when that one's commit is done; the order of polling is the order of applying.
/// No future wakes anything else, so they can be polled by hand, without a runtime.
///
/// Dropped without [`Queue::close`], it is what a killed process is to the store, if the caller
/// still has it: nothing is finished or closed. Calls that were not answered end with
/// [`Draining`](crate::ErrorKind::Draining).
pub struct Stepper {
    /// None at its end.
    engine: Option<Engine>,
    end: Stepped,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// What was handed in is on the disk and answered, but for what did not fit in one commit
    /// and for claims that wait.
    Done,
    /// The queue was closed, now or before.
    Closed,
    /// The store failed, now or before: everything is answered with this error.
    Failed(Error),
}

impl Queue {
    /// Opens a queue that works only when [`Stepper::step`] is called. All its chance comes from
    /// `seed`.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub fn open_stepped(
        config: Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Result<(Queue, Stepper)> {
        config.validate()?;
        let random = StdRng::seed_from_u64(seed);
        let (queue, engine) = Self::assemble(config, store, clock, random)?;
        Ok((queue, Stepper { engine: Some(engine), end: Stepped::Closed }))
    }
}

impl Stepper {
    /// One group: ends leases and moves jobs that are due, applies what was handed in, commits,
    /// answers. Goes through the same code as a queue with a thread.
    pub fn step(&mut self) -> Stepped {
        self.take(Engine::turn_now)
    }

    /// The same, but no time passes before it: nothing comes due. Right after opening, a question
    /// is told what the last commit left.
    pub fn step_untimed(&mut self) -> Stepped {
        self.take(Engine::turn_untimed)
    }

    fn take(&mut self, turn: impl FnOnce(&mut Engine) -> Turn) -> Stepped {
        let Some(engine) = &mut self.engine else { return self.end.clone() };
        self.end = match turn(engine) {
            Turn::Done => return Stepped::Done,
            Turn::Closed => Stepped::Closed,
            Turn::Failed(error) => Stepped::Failed(error),
        };
        // What comes from now on finds nobody, and is told why.
        self.engine = None;
        self.end.clone()
    }

    /// When a step has something to do without a call: not after the present moment when it has
    /// now. `None` when only a call brings something.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.engine.as_ref().and_then(Engine::next_due)
    }
}
