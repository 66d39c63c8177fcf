//! Power cuts: whatever was answered before the power went away is there when it is back.
//!
//! A process works under strace, which writes down each call that changes a file, each sync and
//! each answer. From that the directory is rebuilt as a power cut at some moment could have left
//! it, many times over, and opened; what it holds is compared with what had been answered.
//!
//! - [`answers`]: the whole program under load, told by its answers over HTTP.
//! - [`commits`]: the store alone. It must hold exactly the first so many commits.
//!
//! `PULK_SEED` draws the same load and the same images again, `PULK_IMAGES` says how many. Threads
//! take turns as they like, so a recording never comes again: a failure keeps it and prints
//! `PULK_TRACE` and `PULK_IMAGE`, with which the same test makes that one image again.

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

mod again;
mod answers;
mod clients;
mod commits;
mod door;
mod images;
mod ledger;
mod opening;
mod recording;
