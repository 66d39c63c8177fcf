//! One round of a workload: its clients work until all of its jobs are through.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::failed;
use super::call::{EnqueueCall, calls, filling};
use super::target::{Client, Target};
use super::workload::{Plan, Work};
use crate::error::Result;

/// In a cycle, jobs are enqueued no further ahead of the claims than this: a backlog would grow
/// otherwise, and a node's capacity for critical jobs is no larger.
const AHEAD_MAX: usize = 1_000;

/// What the clients measured.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) seconds: f64,
    /// How long each call took, in microseconds; in a cycle, each claim.
    pub(super) latencies_us: Vec<u64>,
}

/// What the clients of a round share.
struct Shared {
    queue: String,
    calls: Vec<EnqueueCall>,
    jobs_per_call: usize,
    /// Jobs that no client has begun to enqueue, and to claim.
    to_enqueue: AtomicUsize,
    to_claim: AtomicUsize,
    /// How many jobs may still be enqueued ahead of the claims.
    ahead: Semaphore,
}

/// Puts so many jobs in the queue, which is not measured.
///
/// # Errors
/// What the target said to a call.
pub(super) async fn fill(target: &Target, plan: &Plan, queue: &str, jobs: usize) -> Result<()> {
    let mut client = target.client().await?;
    for (call, times) in filling(plan, queue, jobs)? {
        for _ in 0..times {
            client.enqueue(&call).await?;
        }
    }
    Ok(())
}

/// Runs the clients to the end of their work. Dropping the future stops them.
///
/// # Errors
/// What the target said to a call; the others are stopped then.
pub(super) async fn run(target: &Target, plan: &Plan, queue: &str) -> Result<Load> {
    let work = plan.workload.work;
    let is_cycle = work == Work::Cycle;
    let shared = Arc::new(Shared {
        queue: queue.to_owned(),
        calls: calls(plan, queue)?,
        jobs_per_call: plan.workload.jobs_per_call,
        to_enqueue: AtomicUsize::new(plan.jobs),
        to_claim: AtomicUsize::new(plan.jobs),
        ahead: Semaphore::new(if is_cycle { AHEAD_MAX } else { Semaphore::MAX_PERMITS / 2 }),
    });
    let mut producers = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..plan.workload.clients {
        if work != Work::Claim {
            producers.push(target.client().await?);
        }
        if work != Work::Enqueue {
            workers.push(target.client().await?);
        }
    }
    let mut clients = JoinSet::new();
    let started = Instant::now();
    for client in workers {
        clients.spawn(claims(client, shared.clone()));
    }
    for client in producers {
        let shared = shared.clone();
        clients.spawn(async move {
            let latencies_us = enqueues(client, &shared).await?;
            Ok(if is_cycle { Vec::new() } else { latencies_us })
        });
    }
    let mut latencies_us = Vec::new();
    while let Some(ended) = clients.join_next().await {
        latencies_us.extend(ended.map_err(|reason| failed(format!("a client broke: {reason}")))??);
    }
    Ok(Load { seconds: started.elapsed().as_secs_f64(), latencies_us })
}

/// Enqueues call after call until none is left.
async fn enqueues(mut client: Client, shared: &Shared) -> Result<Vec<u64>> {
    let mut latencies_us = Vec::new();
    loop {
        let left = take(&shared.to_enqueue, shared.jobs_per_call);
        // Each client begins with another one, and they go in turn.
        let number = left.before / shared.jobs_per_call % shared.calls.len().max(1);
        let Some(call) = shared.calls.get(number).filter(|_| left.taken > 0) else {
            return Ok(latencies_us);
        };
        let jobs = u32::try_from(left.taken).unwrap_or(u32::MAX);
        if let Ok(places) = shared.ahead.acquire_many(jobs).await {
            places.forget();
        }
        let began = Instant::now();
        client.enqueue(call).await?;
        latencies_us.push(micros_since(began));
    }
}

/// Claims jobs until none is left, and acks each in the next call.
async fn claims(mut client: Client, shared: Arc<Shared>) -> Result<Vec<u64>> {
    let (mut latencies_us, mut held) = (Vec::new(), Vec::new());
    loop {
        let mut wanted = take(&shared.to_claim, shared.jobs_per_call).taken;
        if wanted == 0 {
            client.settle(mem::take(&mut held)).await?;
            return Ok(latencies_us);
        }
        while wanted > 0 {
            let began = Instant::now();
            let claimed = client.claim(&shared.queue, wanted, &mut held).await?;
            latencies_us.push(micros_since(began));
            shared.ahead.add_permits(claimed);
            wanted = wanted.saturating_sub(claimed);
        }
    }
}

/// What was left, and how much of it is the caller's now.
struct Taken {
    before: usize,
    taken: usize,
}

fn take(left: &AtomicUsize, most: usize) -> Taken {
    let less = |left: usize| Some(left.saturating_sub(most));
    let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    let (Ok(before) | Err(before)) = before;
    Taken { before, taken: before.min(most) }
}

fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_twice() {
        let left = AtomicUsize::new(25);
        let taken: Vec<usize> = (0..4).map(|_| take(&left, 10).taken).collect();
        assert_eq!(taken, [10, 10, 5, 0]);
    }
}
