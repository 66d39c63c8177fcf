//! `crash_recovery`: a queue on the product's own store, whose disk loses its power, again and
//! again.
//!
//! An input is a row of lives. In each, clients give commands to the queue, while everything that
//! is done to its files is recorded. Then the power fails: at operations of the recording that the
//! input chooses, images are made of what a disk may show afterwards, which the input chooses too.
//! Each must open, and hold the content after the last commit that was acknowledged before the
//! cut, or after the one that was under way, whole. The last image is the ground of the next life.
//! A cut may fall into the making of the store, into the recovery after another cut, into the move
//! of the journal into sled, into a compaction, or into the orderly end.
//!
//! What the content must be is known from the write sets that the engine committed, and, apart from
//! that, from what the clients were told: an enqueued job is there, an acked one is not.
//!
//! The threads of the store are not held to any order: the same input gives the same commands, but
//! not always the same operations. So when something is wrong, image and expectation are saved as
//! they were, and [`crash_again`] looks at them once more.

mod clients;
mod contents;
mod evidence;
mod life;
mod told;

use pulk_proof_disk::Chance;
use pulk_proof_disk::chance::{Bytes, Seeded};

pub use self::evidence::crash_again;
use self::life::Life;

/// The most lives of one input.
const LIVES_MAX: u64 = 4;
/// The most images of one life.
const IMAGES_MAX: u64 = 3;
/// The most groups of commands in one life.
const GROUPS_MAX: u64 = 24;

/// Any cut of any history leaves what was acknowledged.
///
/// # Panics
/// When it does not; the evidence is saved first, and where is printed.
pub fn crash_recovery(input: &[u8]) {
    evidence::save_when_panicking();
    let (fates, commands) = input.split_at(input.len() / 4);
    let (mut fates, mut commands) = (Fates::new(fates), Bytes::new(commands));
    let mut life = Life::first(&mut fates);
    for _ in 0..=fates.below(LIVES_MAX) {
        for _ in 0..=fates.below(GROUPS_MAX) {
            if commands.rest().is_empty() {
                break;
            }
            life.work(&mut commands);
        }
        let closes = fates.below(8) == 1;
        let past = life.end(closes);
        for _ in 0..fates.below(IMAGES_MAX) {
            past.crash(input, &mut fates, false);
        }
        life = past.crash(input, &mut fates, true);
    }
}

/// What becomes of the disk: as the bytes say, and when there are no more, as follows from them.
/// An image takes more decisions than an input has bytes.
#[derive(Clone)]
struct Fates<'a> {
    bytes: Bytes<'a>,
    seeded: Seeded,
}

impl<'a> Fates<'a> {
    fn new(bytes: &'a [u8]) -> Fates<'a> {
        let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        Fates { bytes: Bytes::new(bytes), seeded: Seeded::new(seed) }
    }
}

impl Chance for Fates<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        match self.bytes.rest() {
            [] => self.seeded.below(bound),
            _ => self.bytes.below(bound),
        }
    }
}
