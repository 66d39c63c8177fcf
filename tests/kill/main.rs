//! SIGKILL under load: whatever a client was told before its node was killed holds after it.
//!
//! Clients make every call of the interface over HTTP and write down every answer after it came;
//! the [`ledger`] knows what must be true. The node is killed again and again, at moments drawn
//! from a seed: under load, and while it starts, several times in a row. Meanwhile it fires a
//! schedule and pushes jobs ([`by_itself`]). In the end all that is left is drained, and the
//! ledger, the node and `pulk doctor` must agree.
//!
//! `PULK_KILLS=1000` kills that often; `PULK_SEED=…` draws the same again: the clients' choices
//! and the moments, not the order in which the node happens to see them.
//!
//! A kill never loses what is in the page cache: this shows that commits are whole and recovery is
//! right, not that the disk was told.

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

mod by_itself;
mod clients;
mod ledger;
mod rounds;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use rounds::Rounds;

const KILLS: u64 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_keeps_every_word_it_gave() {
    let number = |name| std::env::var(name).ok().map(|number| number.parse().unwrap());
    let kills = number("PULK_KILLS").unwrap_or(KILLS);
    let seed = number("PULK_SEED")
        .unwrap_or_else(|| StdRng::try_from_rng(&mut rand::rngs::SysRng).unwrap().random());
    // Printed when the test fails.
    println!("replay: PULK_SEED={seed} PULK_KILLS={kills} cargo test --test kill");
    let mut rounds = Rounds::new(seed).await;
    while rounds.kills < kills {
        rounds.kill_while_it_starts().await;
        rounds.kill_under_load().await;
    }
    let summary = rounds.finish().await;
    println!("{summary}");
}
