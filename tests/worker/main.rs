//! Workers: jobs run in this process. On a store in memory and a clock that is moved by hand,
//! unless a test is about the disk. Nothing here waits for time to pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod building;
mod leases;
mod outcomes;
mod restarts;
mod rig;
mod slots;
mod stopping;
