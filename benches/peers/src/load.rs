//! Workloads, and the clients that do them at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::peer::Client;

/// What every client does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Enqueues one job.
    Enqueue,
    /// Enqueues `size` jobs at once.
    Batch,
    /// Finishes what it took before, takes up to `size`.
    Take,
}

/// A workload: it ends after so many jobs or so much time, what comes first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) work: Work,
    pub(crate) clients: usize,
    pub(crate) size: usize,
    pub(crate) jobs: u64,
    pub(crate) limit_ms: u64,
}

/// What came of a workload.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Measured {
    pub(crate) jobs: u64,
    pub(crate) seconds: f64,
    /// Median time of one call.
    pub(crate) p50_us: f64,
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.jobs as f64 / self.seconds } else { 0.0 }
    }
}

/// Lets all clients work until the jobs are done or the time is over.
pub(crate) async fn drive(clients: Vec<Box<dyn Client>>, load: &Load) -> Result<Measured> {
    let left = Arc::new(AtomicI64::new(i64::try_from(load.jobs)?));
    let started = Instant::now();
    let until = started + Duration::from_millis(load.limit_ms);
    let mut tasks = Vec::with_capacity(clients.len());
    for client in clients {
        tasks.push(tokio::spawn(one(client, load.clone(), left.clone(), until)));
    }
    let (mut jobs, mut last, mut times_us) = (0, started, Vec::new());
    for task in tasks {
        let mut done = task.await??;
        jobs += done.jobs;
        last = last.max(done.last);
        times_us.append(&mut done.times_us);
    }
    times_us.sort_by(f64::total_cmp);
    let p50_us = times_us.get(times_us.len() / 2).copied().unwrap_or_default();
    Ok(Measured { jobs, seconds: (last - started).as_secs_f64(), p50_us })
}

/// What one client did, and when its last job was done.
struct Done {
    jobs: u64,
    last: Instant,
    times_us: Vec<f64>,
}

async fn one(
    mut client: Box<dyn Client>,
    load: Load,
    left: Arc<AtomicI64>,
    until: Instant,
) -> Result<Done> {
    let size = i64::try_from(load.size)?;
    let mut done = Done { jobs: 0, last: Instant::now(), times_us: Vec::new() };
    while Instant::now() < until {
        // No more than what is left, so that the counts come out even.
        let share = left.fetch_sub(size, Ordering::Relaxed).min(size);
        let Ok(share @ 1..) = usize::try_from(share) else { break };
        let before = Instant::now();
        let jobs = match load.work {
            Work::Enqueue => client.enqueue().await.map(|()| 1)?,
            Work::Batch => client.enqueue_batch(share).await.map(|()| share)?,
            Work::Take => client.take(share).await?,
        };
        if jobs == 0 {
            break;
        }
        done.last = Instant::now();
        done.times_us.push((done.last - before).as_secs_f64() * 1e6);
        done.jobs += u64::try_from(jobs)?;
    }
    if load.work == Work::Take && done.jobs > 0 {
        // Its time does not count when the queue was empty before: then it finished long ago.
        client.finish().await?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;

    struct Counting(Arc<AtomicI64>);

    #[async_trait]
    impl Client for Counting {
        async fn enqueue(&mut self) -> Result<()> {
            self.enqueue_batch(1).await
        }
        async fn enqueue_batch(&mut self, jobs: usize) -> Result<()> {
            self.0.fetch_add(i64::try_from(jobs)?, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(())
        }
        async fn take(&mut self, _: usize) -> Result<usize> {
            Ok(0)
        }
        async fn finish(&mut self) -> Result<()> {
            Ok(())
        }
        async fn waiting(&mut self) -> Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn exactly_the_asked_jobs_are_done() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let count = Arc::new(AtomicI64::new(0));
            let clients = (0..8).map(|_| Box::new(Counting(count.clone())) as Box<dyn Client>);
            let load =
                Load { work: Work::Batch, clients: 8, size: 100, jobs: 1_050, limit_ms: 9_000 };
            let measured = drive(clients.collect(), &load).await.unwrap();
            assert_eq!((measured.jobs, count.load(Ordering::Relaxed)), (1_050, 1_050));
        });
    }
}
