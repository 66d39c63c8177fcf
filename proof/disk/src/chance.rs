//! Where the decisions about an image come from: a seed, or the bytes of a fuzzer.

/// A source of decisions. Everywhere 0 is the simplest choice: nothing survives that need not.
pub trait Chance {
    /// A number below the bound; 0 when the bound is 0 or 1.
    fn below(&mut self, bound: u64) -> u64;

    /// True in so many of eight cases.
    fn in_eight(&mut self, cases: u64) -> bool {
        self.below(8) >= 8 - cases
    }
}

/// Decisions that follow from a seed, the same on every machine (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// A source that begins with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }
}

impl Chance for Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Decisions that a fuzzer makes: as many bytes for each as its bound needs. When there are no
/// more bytes, every decision is 0.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// A source that takes its decisions from these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes)
    }

    /// What is left of them.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl Chance for Bytes<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        let needed = (bound - 1).ilog2() as usize / 8 + 1;
        let (taken, rest) = self.0.split_at(needed.min(self.0.len()));
        self.0 = rest;
        taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_reaches_all_below_the_bound() {
        let draw = |seed| {
            let mut chance = Seeded::new(seed);
            (0..200).map(|_| chance.below(7)).collect::<Vec<u64>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        assert!((0..7).all(|number| draw(5).contains(&number)));
        assert!(draw(5).iter().all(|number| *number < 7));
    }

    #[test]
    fn bytes_are_taken_as_the_bound_needs_them_and_then_are_zeros() {
        let mut chance = Bytes::new(&[9, 255, 1, 2, 4]);
        assert_eq!(chance.below(1), 0);
        assert_eq!(chance.below(10), 9);
        assert_eq!(chance.below(256), 255);
        assert_eq!(chance.below(65_536), 1 + 2 * 256);
        assert_eq!(chance.below(65_536), 4);
        assert_eq!(chance.below(u64::MAX), 0);
        assert!(chance.rest().is_empty());
    }
}
