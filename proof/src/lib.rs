//! What pulk is proven with, shared by its tests and its fuzz targets: clients that do what
//! clients do, a model that knows what must be true, and the bodies of the fuzz targets.
//!
//! It sees pulk from outside, as a program that embeds it does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a proof ends at the first surprise"
)]

pub mod bodies;
pub mod command;
pub mod draw;
pub mod driver;
pub mod truth;

pub use command::{Answer, Command, Told};
pub use driver::Driver;
pub use truth::Truth;
