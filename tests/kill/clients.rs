//! Clients that do everything that a client can do, and write down every answer.
//!
//! Each has two jobs: its part in the work on the queues that all share ([`pool`]), where any
//! client may claim what another enqueued, and a queue in its own hands alone ([`own`]), of which
//! it knows at any time how it must look.

pub mod calls;
pub mod own;
pub mod pool;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ledger::Ledger;
use crate::node::Http;
use calls::{Calls, CutOff};
use own::Own;
use pool::Pool;

pub struct Client {
    random: StdRng,
    pool: Pool,
    own: Own,
}

impl Client {
    pub fn new(number: u64, seed: u64) -> Client {
        let mut random = StdRng::seed_from_u64(seed);
        let (pool, own) = (random.random(), random.random());
        Client { random, pool: Pool::new(number, pool), own: Own::new(number, own) }
    }

    /// Leases in its hands.
    pub fn held(&self) -> usize {
        self.pool.held() + self.own.held()
    }

    /// Looks at what the kill left, and works until the node is gone.
    pub async fn work(&mut self, http: &Http, ledger: &Arc<Ledger>, large: bool) {
        let calls = Calls::new(http, ledger);
        self.pool.large = large;
        if self.own.look(&calls).await.is_err() {
            return;
        }
        while self.step(&calls).await.is_ok() {}
    }

    async fn step(&mut self, calls: &Calls<'_>) -> Result<(), CutOff> {
        if self.random.random_bool(0.5) {
            self.pool.step(calls).await
        } else {
            self.own.step(calls).await
        }
    }

    /// Ends all that is in its hands: every lease has lived over the last kill (L3), and its own
    /// queue is as it was told.
    pub async fn finish(&mut self, http: &Http, ledger: &Arc<Ledger>) {
        let calls = Calls::new(http, ledger);
        let finished = async {
            self.pool.settle_all(&calls).await?;
            self.own.look(&calls).await?;
            self.own.finish(&calls).await
        };
        assert!(finished.await.is_ok(), "the node is gone");
    }
}

pub fn now_ms() -> u64 {
    use pulk::clock::Clock;
    pulk::clock::SystemClock.now().as_ms()
}
