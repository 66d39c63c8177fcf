//! The deployment on one machine: a StatefulSet of real processes, each with a name, an ordinal,
//! an address and a directory that stay its own, under load from producers and workers that never
//! stop. It is restarted pod by pod, pods are killed, it is scaled to nothing and back; and every
//! job that was taken in is done once, or is there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "../node/mod.rs"]
mod node;

mod clients;
mod pods;

use clients::{Clients, Ledger};
use pods::StatefulSet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PODS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statefulset_loses_nothing_when_pods_come_and_go() {
    let seed = std::env::var("PULK_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed =
        seed.unwrap_or_else(|| StdRng::try_from_rng(&mut rand::rngs::SysRng).unwrap().random());
    // Which pods are killed, not when: printed when the test fails.
    println!("replay: PULK_SEED={seed} cargo test --test rehearsal");
    let mut random = StdRng::seed_from_u64(seed);
    let mut set = StatefulSet::new(PODS).await;
    let clients = Clients::start(&set.endpoints(), 4, PODS);
    clients.go_on(100, 50).await;

    set.rolling_restart().await;
    clients.go_on(100, 50).await;

    for _ in 0..5 {
        let unlucky = random.random_range(0..PODS);
        set.kill(unlucky).await;
        // The others go on.
        clients.go_on(20, 10).await;
        set.scale_up().await;
        clients.go_on(20, 10).await;
    }

    // 3, 0, 3, in the middle of it all.
    set.scale_to_zero().await;
    set.scale_up().await;
    clients.go_on(100, 50).await;

    // And once at rest: what waits on each volume is there again, job by job.
    clients.set_working(false);
    clients.go_on(60, 0).await;
    clients.set_producing(false);
    rest(&set, &clients).await;
    let before = ids(&set).await;
    assert!(before.iter().all(|ids| !ids.is_empty()), "{before:?}");
    set.scale_to_zero().await;
    set.scale_up().await;
    assert_eq!(ids(&set).await, before);

    clients.set_working(true);
    drained(&set).await;
    let ledger = clients.stop().await;
    every_job_was_done_once(&ledger.lock().unwrap());
    set.close().await;
}

/// Waits until no client has a call under way that would still change something: as long as two
/// looks at all jobs differ, one had.
async fn rest(set: &StatefulSet, clients: &Clients) {
    let mut last = (ids(set).await, clients.ledger.lock().unwrap().enqueued.len());
    loop {
        let now = (ids(set).await, clients.ledger.lock().unwrap().enqueued.len());
        if now == last {
            return;
        }
        last = now;
    }
}

async fn ids(set: &StatefulSet) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for ordinal in 0..PODS {
        all.push(set.ids(ordinal).await);
    }
    all
}

/// Waits until no pod has a job: leases that nobody holds any more run out first.
async fn drained(set: &StatefulSet) {
    let empty = async {
        while ids(set).await.iter().any(|ids| !ids.is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    node::within("the last job", empty).await;
}

fn every_job_was_done_once(ledger: &Ledger) {
    for id in &ledger.enqueued {
        let acked = ledger.acked.get(id).copied().unwrap_or_default();
        let may_be_done = ledger.uncertain.contains(id);
        assert!(acked == 1 || (acked == 0 && may_be_done), "{id}: acked {acked} times");
    }
    let others = ledger.acked.keys().filter(|id| !ledger.enqueued.contains(*id)).count() as u64;
    assert!(others <= ledger.unanswered, "{others} jobs that nobody enqueued were done");
    assert!(ledger.acked.values().all(|times| *times == 1), "a job was acked twice");
    assert!(ledger.uncertain.len() < ledger.enqueued.len() / 2, "too little is certain");
}
