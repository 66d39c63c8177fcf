//! What is run at once, and for whom slots are kept.

use std::sync::Arc;

use pulk::worker::{Handler, Job, Outcome, Running, Waiting};
use pulk::{NewJob, Priority};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};

use crate::rig::{LONG, Rig, within};

/// Tells the priority of what it runs, and waits for the word.
struct Waits {
    started: UnboundedSender<Priority>,
    end: watch::Receiver<usize>,
}

impl Handler for Waits {
    fn run(&self, job: Job) -> Running {
        let mut end = self.end.clone();
        self.started.send(job.priority).unwrap();
        Box::pin(async move {
            end.wait_for(|end| *end > 0).await.unwrap();
            Outcome::Done
        })
    }
}

#[tokio::test]
async fn a_quarter_of_the_slots_is_kept_for_urgent_jobs() {
    let rig = Rig::new().await;
    let (started, mut starts) = unbounded_channel();
    let (end, ended) = watch::channel(0);
    let handler = Waits { started, end: ended };
    let worker = rig.worker().fallback(handler).concurrency(4).build().unwrap().start();
    rig.queue.enqueue_many(vec![NewJob::new("bulk").priority(Priority::Bulk); 9]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(within(starts.recv()).await.unwrap(), Priority::Bulk);
    }
    rig.enqueue(NewJob::new("urgent").priority(Priority::Critical)).await;
    assert_eq!(within(starts.recv()).await.unwrap(), Priority::Critical);
    assert_eq!(worker.stats().running, 4);
    let counts = rig.queue.queue("default").await.unwrap().counts;
    assert_eq!((counts[Priority::Bulk].running, counts[Priority::Critical].running), (3, 1));
    end.send_replace(1);
    for _ in 0..6 {
        assert_eq!(within(starts.recv()).await.unwrap(), Priority::Bulk);
    }
    within(worker.stop(LONG)).await;
    let counts = rig.queue.queue("default").await.unwrap().counts;
    assert_eq!(counts[Priority::Bulk], pulk::queue::StateCounts::default());
}

/// Takes as many jobs as it has permits.
struct Narrow {
    inner: Waits,
    permits: Arc<Semaphore>,
}

impl Handler for Narrow {
    fn run(&self, job: Job) -> Running {
        let permit = self.permits.clone().try_acquire_owned().expect("more than there was room");
        let running = self.inner.run(job);
        Box::pin(async move {
            let outcome = running.await;
            drop(permit);
            outcome
        })
    }

    fn room(&self) -> usize {
        self.permits.available_permits()
    }

    fn wait_for_room(&self) -> Waiting<'_> {
        Box::pin(async { drop(self.permits.acquire().await) })
    }
}

#[tokio::test]
async fn no_more_is_claimed_than_a_handler_takes() {
    let rig = Rig::new().await;
    let (started, mut starts) = unbounded_channel();
    let (end, ended) = watch::channel(0);
    let permits = Arc::new(Semaphore::new(2));
    let inner = Waits { started: started.clone(), end: ended.clone() };
    let worker = rig
        .worker()
        .handler("narrow", Narrow { inner, permits: permits.clone() })
        .handler("wide", Waits { started, end: ended })
        .concurrency(64);
    let worker = worker.build().unwrap().start();
    let narrow = || NewJob::new("narrow").priority(Priority::Low);
    rig.queue.enqueue_many(vec![narrow(); 9]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(starts.recv()).await.unwrap(), Priority::Low);
    }
    // The others are not held up by it.
    rig.enqueue(NewJob::new("wide")).await;
    assert_eq!(within(starts.recv()).await.unwrap(), Priority::Default);
    assert_eq!(rig.queue.queue("default").await.unwrap().counts[Priority::Low].running, 2);
    end.send_replace(1);
    for _ in 0..7 {
        assert_eq!(within(starts.recv()).await.unwrap(), Priority::Low);
    }
    within(worker.stop(LONG)).await;
}
