//! On a disk that fails, at any call of a short life: the node says so and ends, and what it
//! acknowledged is there.
//!
//! The real program runs with a shared object preloaded that makes its n-th write, sync, rename …
//! fail (`proof/disk/src/calls/faults.rs`). First its calls are counted; then each is made to
//! fail in a run of its own. Long rows of the same call on the same file, as when a new journal
//! file is filled with zeros, get their first, their last and one drawn from `PULK_SEED`; of the
//! kinds of faults that are much like another, a third is drawn. `PULK_FAULTS=all` has them all,
//! `PULK_FAULTS=killed:7` the seventh call of the life that begins with what a killed node left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod ledger;
#[path = "../node/mod.rs"]
mod node;
mod scene;
mod sweep;
mod workload;

use sweep::sweep;

/// What fails: the calls, how, and whether from then on.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    calls: &'static str,
    kind: &'static str,
    lasting: bool,
    /// One call in so many is drawn.
    one_in: usize,
}

impl Fault {
    const fn once(calls: &'static str, kind: &'static str) -> Fault {
        Fault { calls, kind, lasting: false, one_in: 1 }
    }

    const fn lasting(calls: &'static str, kind: &'static str) -> Fault {
        Fault { calls, kind, lasting: true, one_in: 1 }
    }

    const fn one_in(self, one_in: usize) -> Fault {
        Fault { one_in, ..self }
    }
}

/// Everything that changes names or lengths.
const NAMES: &str = "open,length,rename,remove,make";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_from_some_write_on() {
    sweep(Fault::lasting("write", "ENOSPC")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_once() {
    sweep(Fault::once("write", "EIO").one_in(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_cut_short() {
    sweep(Fault::once("write", "short").one_in(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_cut_short_by_a_full_disk() {
    sweep(Fault::lasting("write", "short").one_in(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_once() {
    sweep(Fault::once("sync", "EIO")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_or_length_that_can_not_be_changed() {
    sweep(Fault::once(NAMES, "EIO")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_once() {
    sweep(Fault::once("read", "EIO")).await;
}
