//! The one task that claims jobs, starts them, and tells the queue what became of them.
//!
//! # Overview
//! It goes round: collects the attempts that have ended, counts the free slots, and claims so many
//! jobs. What handlers said rides along with the claim, in the same commit. When nothing is there
//! to claim, it waits with one claim for the next job; when no slot is free, for an attempt to end.
//!
//! # Invariants
//! - A call that carries words is never cut off: its answer is heeded, or the words are told again.
//!   Telling twice is harmless: the first ends the lease, and the second finds it lost.
//! - A claim that waits carries no words. It is dropped when a word comes; what it had got by then
//!   goes back to the queue at no cost.
//! - Every job that was started is heard of once more, whatever becomes of its task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Queue;
use crate::lease::LeaseToken;
use crate::priority::Priority;
use crate::queue::{Claim, ClaimedJob};
use crate::worker::attempt::{self, Attempt, panic_text};
use crate::worker::job::{Job, Progress, TRACEPARENT};
use crate::worker::kinds::{Kinds, Open};
use crate::worker::leases::{Held, Leases};
use crate::worker::running::{Ended, Gauges, Stopped};
use crate::worker::slots::{Ask, Slots, Taken, is_urgent};
use crate::worker::time::Time;
use crate::worker::words::Words;

/// How long no claim is sent after one was refused because too many wait.
const REFUSED_PAUSE_MS: u64 = 1_000;

/// Of so many turns of the runtime in a row none ended a job: those that run take longer.
const QUIET_TURNS: usize = 4;

pub(crate) struct Dispatcher {
    queue: Queue,
    time: Time,
    kinds: Kinds,
    slots: Slots,
    taken: Taken,
    /// What all claims have in common.
    claim: Claim,
    leases: Leases,
    words: Words,
    gone: mpsc::UnboundedReceiver<Gone>,
    /// Attempts tell their end here.
    ends: mpsc::UnboundedSender<Gone>,
    stop: watch::Receiver<Option<Timestamp>>,
    /// The handlers' tokens are its children.
    cancellation: CancellationToken,
    /// No handler is waited for any more.
    abandon: CancellationToken,
    /// No claim is sent before this.
    paused_until: Option<Timestamp>,
    came_to: Stopped,
    gauges: Arc<Gauges>,
}

/// An attempt that has ended.
struct Gone {
    token: LeaseToken,
    priority: Priority,
    ended: attempt::Ended,
}

/// The place of a running job. Gives it back when it is dropped, even by a panic.
struct Slot {
    token: LeaseToken,
    priority: Priority,
    ended: Option<attempt::Ended>,
    ends: mpsc::UnboundedSender<Gone>,
}

impl Slot {
    fn end(&mut self, ended: attempt::Ended) {
        self.ended = Some(ended);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or(attempt::Ended::Lost);
        // Nobody listens when the runtime ends.
        drop(self.ends.send(Gone { token: self.token, priority: self.priority, ended }));
    }
}

impl Dispatcher {
    pub(crate) fn new(
        queue: Queue,
        (kinds, slots, claim): (Kinds, Slots, Claim),
        (leases, abandon, gauges): (Leases, CancellationToken, Arc<Gauges>),
        time: Time,
        stop: watch::Receiver<Option<Timestamp>>,
    ) -> Self {
        let (ends, gone) = mpsc::unbounded_channel();
        Dispatcher {
            queue,
            time,
            kinds,
            slots,
            taken: Taken::default(),
            claim,
            leases,
            words: Words::default(),
            gone,
            ends,
            stop,
            cancellation: CancellationToken::new(),
            abandon,
            paused_until: None,
            came_to: Stopped::default(),
            gauges,
        }
    }

    /// Works until it is stopped, or until the queue drains, closes or fails.
    pub(crate) async fn run(mut self) -> Ended {
        let error = match self.serve().await {
            Err(error) if error.kind() != ErrorKind::Draining => Some(error),
            _ => None,
        };
        self.gauges.stopping.store(true, Ordering::Relaxed);
        self.wind_down(error).await
    }

    // ---- while it claims ----

    async fn serve(&mut self) -> Result<()> {
        // The last claim brought nothing: the next one may wait, and be dropped.
        let mut dry = false;
        loop {
            self.collect();
            if !self.words.is_empty() {
                self.gather().await;
            }
            if self.must_stop() {
                return Ok(());
            }
            let open = self.kinds.open();
            let ask = match self.paused_until {
                None => self.slots.ask(self.taken, open.room),
                Some(_) => None,
            };
            match ask {
                Some(ask) if dry && self.words.is_empty() => {
                    dry = self.wait_for_jobs(ask, &open).await? == 0;
                }
                Some(ask) => dry = self.claim_now(ask, &open).await? == 0,
                None if self.words.is_empty() => self.wait_for_slot(&open).await?,
                None => self.settle().await?,
            }
        }
    }

    fn must_stop(&self) -> bool {
        // An error: whoever could stop it is gone, and that is a stop.
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    /// A claim with the words that wait, answered at once. Gives the number of jobs it brought.
    async fn claim_now(&mut self, ask: Ask, open: &Open) -> Result<usize> {
        let told = self.words.take();
        let claim = Claim { wait_ms: 0, settle: told.clone(), ..self.claim_for(ask, open) };
        match self.queue.claim(claim).await {
            Ok(claimed) => {
                self.words.heed(&told, &claimed.outcomes);
                Ok(self.start_all(claimed.jobs))
            }
            Err(error) => {
                self.words.untold(told);
                self.refused(error)
            }
        }
    }

    /// A claim that waits for a job, unless something else comes first.
    async fn wait_for_jobs(&mut self, ask: Ask, open: &Open) -> Result<usize> {
        let claim = self.claim_for(ask, open);
        tokio::select! {
            claimed = self.queue.claim(claim) => match claimed {
                Ok(claimed) => return Ok(self.start_all(claimed.jobs)),
                Err(error) => return self.refused(error),
            },
            Some(gone) = self.gone.recv() => self.note(gone),
            _ = self.stop.changed() => {}
            () = self.kinds.wait_for_room(), if open.any_shut => {}
        }
        Ok(0)
    }

    /// Waits while nothing can be claimed.
    async fn wait_for_slot(&mut self, open: &Open) -> Result<()> {
        let paused_until = self.paused_until;
        tokio::select! {
            Some(gone) = self.gone.recv() => self.note(gone),
            _ = self.stop.changed() => {}
            () = self.kinds.wait_for_room(), if open.any_shut => {}
            () = self.time.until(paused_until.unwrap_or_default()), if paused_until.is_some() => {
                self.paused_until = None;
            }
            error = self.queue.failed() => return Err(error),
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        let told = self.words.take();
        match self.queue.settle(told.clone()).await {
            Ok(outcomes) => self.words.heed(&told, &outcomes),
            Err(error) => {
                self.words.untold(told);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Too many claims wait: later again. Anything else ends the worker.
    fn refused(&mut self, error: Error) -> Result<usize> {
        if error.kind() != ErrorKind::Full {
            return Err(error);
        }
        tracing::warn!("a worker's claim was refused: {error}");
        self.paused_until = Some(self.time.now().plus_ms(REFUSED_PAUSE_MS));
        Ok(0)
    }

    fn claim_for(&self, ask: Ask, open: &Open) -> Claim {
        let mut claim = Claim { limit: ask.limit, kinds: open.kinds.clone(), ..self.claim.clone() };
        if ask.urgent_only {
            let all =
                if claim.priorities.is_empty() { &Priority::ALL[..] } else { &claim.priorities };
            claim.priorities = all.iter().copied().filter(|one| is_urgent(*one)).collect();
        }
        claim
    }

    // ---- jobs ----

    fn start_all(&mut self, jobs: Vec<ClaimedJob>) -> usize {
        let started = jobs.len();
        for job in jobs {
            self.start(job);
        }
        started
    }

    fn start(&mut self, claimed: ClaimedJob) {
        let (token, priority) = (claimed.token, claimed.priority);
        let started = self.time.now();
        let held = Held { lost: CancellationToken::new(), progress: Progress::default() };
        let attempt = Attempt {
            token,
            deadline: claimed.timeout_ms.map(|ms| (started.plus_ms(ms), ms)),
            cancellation: self.cancellation.child_token(),
            lost: held.lost.clone(),
            abandon: self.abandon.clone(),
            queue: self.queue.clone(),
            time: self.time.clone(),
        };
        let span = tracing::info_span!(
            "job", id = %claimed.id, queue = claimed.queue, kind = claimed.kind,
            attempt = claimed.attempt, traceparent = claimed.headers.get(TRACEPARENT),
        );
        let handler = self.kinds.handler(&claimed.kind).cloned();
        let kind = claimed.kind.clone();
        let progress = held.progress.clone();
        let job = Job::new(claimed, started, attempt.cancellation.clone(), progress);
        let begun = span.in_scope(|| match handler {
            Some(handler) => catch_unwind(AssertUnwindSafe(|| handler.run(job)))
                .map_err(|panic| panic_text(&*panic)),
            // The claim named the kinds.
            None => Err(format!("this worker has no handler for kind {kind}")),
        });
        self.taken.add(priority);
        self.gauges.running.store(self.taken.total(), Ordering::Relaxed);
        self.leases.add(token, held);
        let mut slot = Slot { token, priority, ended: None, ends: self.ends.clone() };
        let running = async move { slot.end(attempt.run(begun).await) };
        drop(tokio::spawn(running.instrument(span)));
    }

    /// Lets those attempts end that are about to: what they say goes to the queue together. Else
    /// the ends of one claim's jobs meet the start of the next one's for ever, and short jobs
    /// take two commits where one would do.
    async fn gather(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET_TURNS && self.taken.total() > 0 {
            let running = self.taken.total();
            tokio::task::yield_now().await;
            self.collect();
            quiet = if self.taken.total() < running { 0 } else { quiet + 1 };
        }
    }

    fn collect(&mut self) {
        while let Ok(gone) = self.gone.try_recv() {
            self.note(gone);
        }
    }

    fn note(&mut self, gone: Gone) {
        self.taken.remove(gone.priority);
        self.leases.remove(gone.token);
        self.gauges.running.store(self.taken.total(), Ordering::Relaxed);
        self.gauges.ended.fetch_add(1, Ordering::Relaxed);
        match gone.ended {
            attempt::Ended::Said(word) => self.words.push(word),
            attempt::Ended::Snoozed => self.came_to.finished += 1,
            attempt::Ended::GivenBack => self.came_to.given_back += 1,
            attempt::Ended::Lost => {}
        }
    }

    // ---- the end ----

    /// Lets the handlers end, and tells the queue what they said.
    async fn wind_down(&mut self, mut error: Option<Error>) -> Ended {
        // What was said before the end is not counted with it.
        self.collect();
        let before = self.words.len() as u64 + self.words.taken;
        self.came_to = Stopped::default();
        self.cancellation.cancel();
        loop {
            self.collect();
            if error.is_some() || self.has_no_grace() {
                self.abandon.cancel();
            }
            if !self.words.is_empty() {
                self.gather().await;
                if let Err(reason) = self.settle().await {
                    // The queue is closed, or failed: nothing can be told to it any more.
                    drop(self.words.take());
                    error = error.or((reason.kind() != ErrorKind::Draining).then_some(reason));
                    self.abandon.cancel();
                }
                continue;
            }
            if self.taken.total() == 0 {
                break;
            }
            self.wait_for_end(&mut error).await;
        }
        self.came_to.finished += self.words.taken.saturating_sub(before) as usize;
        (self.came_to, error)
    }

    fn has_no_grace(&self) -> bool {
        let grace_ended = self.stop.borrow().is_some_and(|deadline| deadline <= self.time.now());
        grace_ended || self.stop.has_changed().is_err()
    }

    async fn wait_for_end(&mut self, error: &mut Option<Error>) {
        let deadline = *self.stop.borrow_and_update();
        let abandoned = self.abandon.is_cancelled();
        tokio::select! {
            Some(gone) = self.gone.recv() => self.note(gone),
            _ = self.stop.changed(), if !abandoned => {}
            () = self.time.until(deadline.unwrap_or_default()), if deadline.is_some() && !abandoned
                => self.abandon.cancel(),
            reason = self.queue.failed(), if error.is_none() => *error = Some(reason),
        }
    }
}
