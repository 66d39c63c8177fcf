//! The one writer: drains waiting commands, applies them, commits one write set, then answers.
//!
//! # Overview
//! One thread owns the [`QueueState`]. It takes what commands are waiting (bounded in bytes and
//! number), applies each to the state, commits the writes of all of them in one go, and only then
//! sends the answers: group commit. It sleeps until the next command, lease end or timer.
//!
//! # Invariants
//! - E1 Nothing leaves before its group is on the disk: no answer, no event, no woken claim.
//! - E2 After a failed commit nothing is applied or answered but the failure. What memory has may
//!   be ahead of the disk; only reopening tells. An fsync is never tried again.
//!
//! # Failure handling
//! A store error or a panic poisons the engine: every waiting and every later command gets
//! [`Poisoned`](crate::ErrorKind::Poisoned), and [`Link::failure`] tells the process to end.

mod claims;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use rand::rngs::StdRng;
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::queue::state::{Context, GROUP_BYTES_FULL, QueueState};
use crate::store::{Store, WriteSet};

pub(crate) use claims::ClaimCall;
use claims::WaitingClaims;
pub(crate) use work::{Applied, Call, GiveBack, Work};

/// Most commands in one group: bounds how long the first of them waits for the last.
const GROUP_COMMANDS_MAX: usize = 4_096;
/// How long the engine sleeps at most; what is due is never further away than it is told.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// What handles send to the engine.
pub(crate) enum Message {
    /// A command, or a question.
    Work(Box<dyn Work>),
    /// A claim, which may wait for a job.
    Claim(Box<ClaimCall>),
    /// Answer waiting claims with nothing, and let none wait from now on.
    Drain(oneshot::Sender<()>),
    /// Commit what is there, close the store and end.
    Close(oneshot::Sender<Result<()>>),
}

/// What handles and the engine share beside the channel.
pub(crate) struct Link {
    /// The error that stopped the engine.
    pub(crate) failure: watch::Sender<Option<Error>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The writer thread's own things.
pub(crate) struct Engine {
    state: QueueState,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: StdRng,
    messages: Receiver<Message>,
    link: Arc<Link>,
    claims: WaitingClaims,
    /// Commands that did not fit into the last group.
    carried_over: Vec<Box<dyn Work>>,
    /// Applied in this group, answered after it.
    applied: Vec<Box<dyn Work>>,
    /// Something is left to do even if no message comes.
    more_to_do: bool,
}

impl Engine {
    pub(crate) fn new(
        state: QueueState,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: StdRng,
        messages: Receiver<Message>,
        link: Arc<Link>,
    ) -> Self {
        Engine {
            state,
            store,
            clock,
            random,
            messages,
            link,
            claims: WaitingClaims::default(),
            carried_over: Vec::new(),
            applied: Vec::new(),
            // What came due while the queue was closed.
            more_to_do: true,
        }
    }

    /// Works until it is closed, until every handle is gone, or until it fails.
    pub(crate) fn run(mut self) {
        loop {
            let first = match self.wait() {
                Ok(first) => first,
                Err(Gone) => {
                    self.close_store().unwrap_or_else(|error| tracing::error!("{error}"));
                    return;
                }
            };
            match self.turn(|engine| engine.group(first)) {
                Turn::Done => {}
                Turn::Closed => return,
                Turn::Failed(error) => {
                    while let Ok(message) = self.messages.recv() {
                        self.refuse(message, &error);
                    }
                    return;
                }
            }
        }
    }

    /// One group of what is there, for an engine without a thread of its own; waits for nothing.
    pub(crate) fn turn_now(&mut self) -> Turn {
        let first = self.messages.try_recv().ok();
        self.turn(|engine| engine.group(first))
    }

    /// The same, with no time passing before it: nothing comes due.
    pub(crate) fn turn_untimed(&mut self) -> Turn {
        let first = self.messages.try_recv().ok();
        self.turn(|engine| engine.commands(first, engine.clock.now()))
    }

    /// When there is something to do without a message; the present moment or an earlier one
    /// when it is now.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        if self.more_to_do || !self.carried_over.is_empty() {
            return Some(self.clock.now());
        }
        self.state.next_due().into_iter().chain(self.claims.next_deadline()).min()
    }

    /// One group, and the end of the store if that was asked for.
    fn turn(&mut self, group: impl FnOnce(&mut Self) -> Result<Option<CloseReply>>) -> Turn {
        match catch_unwind(AssertUnwindSafe(|| group(self))) {
            Ok(Ok(None)) => Turn::Done,
            Ok(Ok(Some(reply))) => {
                let closed = self.close_store();
                drop(reply.send(closed));
                Turn::Closed
            }
            Ok(Err(error)) => Turn::Failed(self.fail(error)),
            Err(panic) => Turn::Failed(self.fail(panic_error(&*panic))),
        }
    }

    // ---- waiting ----

    /// The next message; `None` when something is due first.
    fn wait(&self) -> Result<Option<Message>, Gone> {
        if self.more_to_do || !self.carried_over.is_empty() {
            return match self.messages.try_recv() {
                Ok(message) => Ok(Some(message)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(Gone),
            };
        }
        let sleep = match self.next_due() {
            Some(due) => Duration::from_millis(due.ms_since(self.clock.now())).min(SLEEP_MAX),
            None => SLEEP_MAX,
        };
        match self.messages.recv_timeout(sleep) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Gone),
        }
    }

    // ---- one group ----

    /// What time does, then [`commands`](Self::commands).
    fn group(&mut self, first: Option<Message>) -> Result<Option<CloseReply>> {
        let now = self.clock.now();
        self.state.set_disk_room(self.store.disk_room_bytes()?);
        self.more_to_do = self.state.tick(&mut context(now, &mut self.random))?;
        self.commands(first, now)
    }

    /// Applies, commits, answers. Gives the reply of a close that was asked for.
    fn commands(&mut self, first: Option<Message>, now: Timestamp) -> Result<Option<CloseReply>> {
        self.apply_carried_over(now)?;
        let mut closing = None;
        let mut commands = 0;
        let mut next = first;
        while let Some(message) = next {
            commands += 1;
            closing = self.take(message, now)?;
            if closing.is_some() || commands == GROUP_COMMANDS_MAX || self.state.is_full() {
                break;
            }
            next = self.messages.try_recv().ok();
        }
        self.apply_claims(now)?;
        self.more_to_do |= self.state.merge_small_chunks()?;
        let writes = self.state.finish_group(now);
        // A claim may have let a job in, by burying another.
        self.more_to_do |= self.claims.len() > 0 && !self.state.became_ready.is_empty();
        self.commit(writes, commands)?;
        self.answer();
        if closing.is_some() {
            self.finish_what_is_left()?;
        }
        Ok(closing)
    }

    fn take(&mut self, message: Message, now: Timestamp) -> Result<Option<CloseReply>> {
        match message {
            Message::Work(work) => self.apply(work, now)?,
            Message::Claim(call) => self.claims.add(*call, now),
            Message::Drain(reply) => {
                self.claims.drain();
                let _ = reply.send(());
            }
            Message::Close(reply) => {
                self.claims.drain();
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn apply(&mut self, mut work: Box<dyn Work>, now: Timestamp) -> Result<()> {
        let pending_bytes = self.state.pending_bytes();
        let too_much = pending_bytes > 0 && pending_bytes + work.weight_bytes() > GROUP_BYTES_FULL;
        if too_much || self.state.is_full() {
            self.carried_over.push(work);
            return Ok(());
        }
        match work.apply(&mut self.state, &mut context(now, &mut self.random)) {
            Ok(Applied::Done) => self.applied.push(work),
            Ok(Applied::Again) => self.carried_over.push(work),
            Err(error) => {
                // Its caller is told of the failure, not left without an answer.
                self.carried_over.push(work);
                return Err(error);
            }
        }
        Ok(())
    }

    fn apply_carried_over(&mut self, now: Timestamp) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.carried_over).into_iter();
        while let Some(work) = waiting.next() {
            if let Err(error) = self.apply(work, now) {
                self.carried_over.extend(waiting);
                return Err(error);
            }
        }
        Ok(())
    }

    fn apply_claims(&mut self, now: Timestamp) -> Result<()> {
        self.state.admit_freed()?;
        let more = self.claims.apply(&mut self.state, &mut context(now, &mut self.random))?;
        self.more_to_do |= more;
        Ok(())
    }

    fn commit(&mut self, writes: WriteSet, commands: usize) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "how long the disk took, for a metric")]
        let started = std::time::Instant::now();
        self.store.commit(writes)?;
        self.link.metrics.committed(started.elapsed().as_secs_f64(), commands);
        Ok(())
    }

    /// Tells everybody, now that it is on the disk (E1).
    fn answer(&mut self) {
        for event in self.state.take_events() {
            self.link.metrics.observe(&event);
            crate::metrics::log_event(&event);
        }
        for work in self.applied.drain(..) {
            work.answer(None);
        }
        for token in self.claims.answer() {
            // The claimer went away while its jobs were on their way: they go back unharmed.
            self.carried_over.push(Box::new(GiveBack { token }));
        }
    }

    /// Before closing: what was handed in is still applied, in as many groups as it takes.
    fn finish_what_is_left(&mut self) -> Result<()> {
        while !self.carried_over.is_empty() || self.claims.len() > 0 {
            let now = self.clock.now();
            self.state.set_disk_room(self.store.disk_room_bytes()?);
            self.apply_carried_over(now)?;
            self.apply_claims(now)?;
            let writes = self.state.finish_group(now);
            self.commit(writes, 0)?;
            self.answer();
        }
        Ok(())
    }

    // ---- the end ----

    fn close_store(&mut self) -> Result<()> {
        match catch_unwind(AssertUnwindSafe(|| self.store.close())) {
            Ok(closed) => closed,
            Err(panic) => Err(panic_error(&*panic)),
        }
    }

    /// Answers everybody with the failure, and gives it: nothing else is answered from now on (E2).
    fn fail(&mut self, error: Error) -> Error {
        tracing::error!("the queue stopped: {error}");
        let error = match error.kind() {
            ErrorKind::Poisoned => error,
            _ => Error::new(ErrorKind::Poisoned, error.to_string()),
        };
        self.link.failure.send_replace(Some(error.clone()));
        for work in self.applied.drain(..).chain(self.carried_over.drain(..)) {
            work.answer(Some(&error));
        }
        self.claims.fail(&error);
        error
    }

    fn refuse(&mut self, message: Message, error: &Error) {
        match message {
            Message::Work(work) => work.answer(Some(error)),
            Message::Claim(call) => call.fail(error),
            Message::Drain(reply) => {
                let _ = reply.send(());
            }
            Message::Close(reply) => {
                drop(self.close_store());
                drop(reply.send(Err(error.clone())));
            }
        }
    }
}

/// What came of a group.
pub(crate) enum Turn {
    /// It is on the disk and answered.
    Done,
    /// So it is, and the store is closed, as was asked.
    Closed,
    /// Everybody was told; only reopening helps.
    Failed(Error),
}

type CloseReply = oneshot::Sender<Result<()>>;

/// Every handle is gone.
struct Gone;

fn context(now: Timestamp, random: &mut StdRng) -> Context<'_> {
    Context { now, random }
}

fn panic_error(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::new(
        ErrorKind::Poisoned,
        format!(
            "the queue met a state that must not be ({message}); restart the process, what was \
             acknowledged is safe; and please report this"
        ),
    )
}
