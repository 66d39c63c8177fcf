//! Single bits of a data directory at rest are flipped. The queue then either holds all that was
//! acknowledged, or says what is damaged, or refuses to open with a sentence: never silently less.
//!
//! `PULK_FLIPS=n` flips n bits instead of a few hundred; `PULK_SEED=s` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "../everything/mod.rs"]
mod everything;
#[path = "../node/mod.rs"]
mod node;
#[path = "../program/mod.rs"]
mod program;

mod flips;
mod program_flips;
mod subject;
