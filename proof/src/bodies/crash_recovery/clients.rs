//! Clients of a queue that is stepped by hand: what they ask, and what they are told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pulk::clock::{Clock, ManualClock};
use pulk::handle::{Stepped, Stepper};
use pulk::job::{CatchUp, NewSchedule, OnConflict, Unique};
use pulk::queue::{
    Cancelled, Claim, DeadChoice, Failure, Limits, Purge, PurgeDead, Rate, ReplayMany, Settle,
};
use pulk::{Config, ErrorKind, JobId, LeaseToken, NewJob, Payload, Priority, Queue, RunAt};
use pulk_proof_disk::Chance;
use pulk_proof_disk::chance::Bytes;

use super::contents::Witness;
use super::told::{Known, Told};

/// What an answer says.
enum Heard {
    Nothing,
    PurgeEnded,
    Of(Vec<(JobId, Known)>),
    Leases(Vec<LeaseToken>),
}

type Call = Pin<Box<dyn Future<Output = pulk::Result<Heard>>>>;

pub(super) struct Clients {
    queue: Queue,
    stepper: Stepper,
    store: Arc<Witness>,
    clock: ManualClock,
    calls: Vec<Call>,
    ids: Vec<JobId>,
    leases: Vec<LeaseToken>,
    /// Each may end a job of which a client is only just told that it was taken in.
    purges: u32,
    told: Told,
}

impl Clients {
    /// Opens the queue, and looks whether the jobs are there that must be, and no others.
    pub(super) fn open(store: Arc<Witness>, clock: ManualClock, told: Told, seed: u64) -> Clients {
        let config = Config { result_ttl_ms: 60_000, ..Config::default() };
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let (queue, stepper) = Queue::open_stepped(config, store.clone(), shared, seed).unwrap();
        let mut clients = Clients {
            queue,
            stepper,
            store,
            clock,
            calls: Vec::new(),
            ids: Vec::new(),
            leases: Vec::new(),
            purges: 0,
            told,
        };
        let certain: Vec<(JobId, bool)> = clients.told.certain().collect();
        for (id, is_there) in certain {
            let queue = clients.queue.clone();
            let found = clients.wait_for(Box::pin(async move { queue.job(id).await }));
            match found {
                Ok(_) => assert!(is_there, "job {id} was acked or cancelled, and is there"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                    assert!(!is_there, "job {id} was taken in, and is not there");
                }
            }
            clients.ids.push(id);
        }
        clients
    }

    pub(super) fn told(&self) -> Told {
        self.told.clone()
    }

    /// A step, and whatever answers it gave.
    pub(super) fn step(&mut self) {
        assert_eq!(self.stepper.step(), Stepped::Done);
        self.listen();
    }

    fn listen(&mut self) {
        let commits = self.store.commits_count();
        let mut context = Context::from_waker(Waker::noop());
        for mut call in std::mem::take(&mut self.calls) {
            match call.as_mut().poll(&mut context) {
                Poll::Pending => self.calls.push(call),
                // A refusal says nothing.
                Poll::Ready(Err(error)) => assert_ne!(error.kind(), ErrorKind::Poisoned, "{error}"),
                Poll::Ready(Ok(Heard::Nothing)) => {}
                Poll::Ready(Ok(Heard::PurgeEnded)) => self.purges -= 1,
                Poll::Ready(Ok(Heard::Leases(leases))) => self.leases.extend(leases),
                Poll::Ready(Ok(Heard::Of(jobs))) => {
                    for (id, known) in jobs {
                        let is_unsure = known == Known::There && self.purges > 0;
                        let known = if is_unsure { Known::Unsure } else { known };
                        self.told.note(commits, id, known);
                        if known != Known::Gone {
                            self.ids.push(id);
                        }
                    }
                }
            }
        }
    }

    fn wait_for<T>(&mut self, mut call: Pin<Box<dyn Future<Output = T>>>) -> T {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
                return answer;
            }
            self.step();
        }
    }

    /// The orderly end.
    pub(super) fn close(&mut self) {
        let queue = self.queue.clone();
        let mut closed = Box::pin(async move { queue.close().await });
        let mut context = Context::from_waker(Waker::noop());
        while closed.as_mut().poll(&mut context).is_pending() {
            if self.stepper.step() == Stepped::Closed {
                self.listen();
            }
        }
    }

    /// One call, handed in.
    pub(super) fn ask(&mut self, draw: &mut Bytes<'_>) {
        let queue = self.queue.clone();
        let commits = self.store.commits_count();
        let call: Call = match draw.below(18) {
            0..=3 => enqueue(queue, vec![job(draw)]),
            4 | 5 => {
                let jobs = (0..=draw.below(50)).map(|_| job(draw)).collect();
                enqueue(queue, jobs)
            }
            6..=8 => self.claim(queue, draw),
            9 | 10 => match self.lease(draw) {
                None => return,
                Some(lease) => {
                    self.told.note(commits, lease.job(), Known::Unsure);
                    Box::pin(async move {
                        queue.ack(lease).await.map(|()| of(lease.job(), Known::Gone))
                    })
                }
            },
            11 => match self.lease(draw) {
                None => return,
                Some(token) => {
                    let (error, retry) = ("e".repeat(9), draw.below(2) == 1);
                    let failure = Failure { token, error, retry, retry_in_ms: None };
                    Box::pin(async move { queue.fail(failure).await.map(|_| Heard::Nothing) })
                }
            },
            12 => match self.lease(draw) {
                None => return,
                Some(lease) => {
                    let delay_ms = [None, Some(700)][draw.below(2) as usize];
                    Box::pin(
                        async move { queue.release(lease, delay_ms).await.map(|_| Heard::Nothing) },
                    )
                }
            },
            13 if !self.ids.is_empty() => {
                let id = self.ids[draw.below(self.ids.len() as u64) as usize];
                self.told.note(commits, id, Known::Unsure);
                Box::pin(async move {
                    queue.cancel(id).await.map(|cancelled| match cancelled {
                        Cancelled::Gone => of(id, Known::Gone),
                        Cancelled::Running => of(id, Known::Unsure),
                    })
                })
            }
            14 => {
                self.told.note_all_unsure(commits);
                self.purges += 1;
                self.purge(queue, draw)
            }
            15 => operate(queue, draw),
            16 => {
                let steps_ms = [1, 300, 2_000, 31_000, 4_000_000];
                self.clock.advance_ms(steps_ms[draw.below(5) as usize]);
                return;
            }
            _ => match self.lease(draw) {
                None => return,
                Some(lease) => Box::pin(async move {
                    queue.extend(lease, Some(40_000), Some(7)).await.map(|_| Heard::Nothing)
                }),
            },
        };
        self.calls.push(call);
        self.listen();
    }

    /// A lease that was handed out, perhaps lost by now, perhaps in another life.
    fn lease(&mut self, draw: &mut Bytes<'_>) -> Option<LeaseToken> {
        let place = self.leases.len().checked_sub(1)?;
        let place = place - draw.below(place as u64 + 1) as usize;
        Some(match draw.below(8) {
            0 => self.leases[place],
            _ => self.leases.remove(place),
        })
    }

    /// A claim, and with it the acks of half of what is held.
    fn claim(&mut self, queue: Queue, draw: &mut Bytes<'_>) -> Call {
        let limit = 1 + draw.below(60) as usize;
        let lease_ms = [30_000, 500][draw.below(2) as usize];
        let settled = match draw.below(3) {
            0 => self.leases.split_off(self.leases.len() / 2),
            _ => Vec::new(),
        };
        let commits = self.store.commits_count();
        for lease in &settled {
            self.told.note(commits, lease.job(), Known::Unsure);
        }
        let acks = settled.iter().map(|lease| (*lease).into()).collect();
        let settle = Settle { acks, fails: Vec::new() };
        let in_process = draw.below(4) == 0;
        let claim = Claim { limit, lease_ms, settle, in_process, ..Claim::default() };
        Box::pin(async move {
            let claimed = queue.claim(claim).await?;
            Ok(Heard::Leases(claimed.jobs.iter().map(|job| job.token).collect()))
        })
    }

    fn purge(&mut self, queue: Queue, draw: &mut Bytes<'_>) -> Call {
        let name = format!("q{}", draw.below(3));
        match draw.below(2) {
            0 => {
                let purge = Purge { queue: name, states: Vec::new(), priority: None };
                Box::pin(async move { queue.purge(purge).await.map(|_| Heard::PurgeEnded) })
            }
            _ => {
                let purge = PurgeDead { choice: DeadChoice::default(), dry_run: false };
                Box::pin(
                    async move { queue.purge_dead_letters(purge).await.map(|_| Heard::PurgeEnded) },
                )
            }
        }
    }
}

fn of(id: JobId, known: Known) -> Heard {
    Heard::Of(vec![(id, known)])
}

fn replay_many(queue: Queue, draw: &mut Bytes<'_>) -> Call {
    let rate_per_s = [None, Some(5.0)][draw.below(2) as usize];
    let replay = ReplayMany { rate_per_s, ..ReplayMany::default() };
    Box::pin(async move { queue.replay_many(replay).await.map(|_| Heard::Nothing) })
}

fn operate(queue: Queue, draw: &mut Bytes<'_>) -> Call {
    match draw.below(4) {
        0 | 1 => replay_many(queue, draw),
        2 => schedule(queue, draw),
        _ => limit(queue, draw),
    }
}

/// A job every minute; a long jump of the clock misses many.
fn schedule(queue: Queue, draw: &mut Bytes<'_>) -> Call {
    let catch_up = [CatchUp::None, CatchUp::One, CatchUp::All][draw.below(3) as usize];
    let job = NewJob::new("kind").queue(format!("q{}", draw.below(3)));
    let schedule = NewSchedule::new("* * * * *", job).catch_up(catch_up);
    let name = ["a", "b"][draw.below(2) as usize];
    Box::pin(async move { queue.put_schedule(name, schedule).await.map(|_| Heard::Nothing) })
}

fn limit(queue: Queue, draw: &mut Bytes<'_>) -> Call {
    let name = format!("q{}", draw.below(3));
    let per_key = Some(draw.below(4) as u32).filter(|places| *places > 0);
    let rate = (draw.below(2) == 1).then_some(Rate { jobs: 2, per_ms: 500, burst: 9 });
    let limits = Limits { rate, concurrency_per_key: per_key, ..Limits::default() };
    Box::pin(async move { queue.set_limits(&name, limits).await.map(|_| Heard::Nothing) })
}

fn enqueue(queue: Queue, jobs: Vec<NewJob>) -> Call {
    Box::pin(async move {
        let taken = queue.enqueue_many(jobs).await?;
        let known = |id| (id, Known::There);
        let replaced = taken.iter().filter_map(|job| Some((job.replaced?, Known::Gone)));
        let replaced: Vec<_> = replaced.collect();
        let new = taken.iter().filter(|job| job.is_new).map(|job| known(job.id));
        Ok(Heard::Of(new.chain(replaced).collect()))
    })
}

fn job(draw: &mut Bytes<'_>) -> NewJob {
    let flags = draw.below(256);
    let bytes = [9, 300, 3_000, 20_000][[0, 0, 1, 1, 1, 2, 1, 3][flags as usize % 8]];
    let payload = Payload::Binary(vec![flags as u8; bytes].into());
    let job = NewJob::new("kind").queue(format!("q{}", flags / 8 % 3)).payload(payload);
    let job = match flags / 24 {
        0 => job.priority(Priority::Critical),
        1 => job.priority(Priority::Bulk),
        2 => job.run_at(RunAt::DelayMs(1_000)),
        3 => {
            let conflict = [OnConflict::Return, OnConflict::Replace][draw.below(2) as usize];
            job.unique(Unique::new(format!("u{}", draw.below(3))).on_conflict(conflict))
        }
        4 => job.ordering_key(format!("o{}", draw.below(2))),
        5 => job.concurrency_key("c"),
        6 => job.concurrency_key("c").ordering_key("o0"),
        _ => job,
    };
    NewJob { max_attempts: Some(2), ..job }
}
