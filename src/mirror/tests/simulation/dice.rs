//! The only source of chance in the simulation.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// Draws that depend on what they were made of and on nothing else.
pub(super) struct Dice(SmallRng);

impl Dice {
    /// Dice of one purpose: what is drawn for another does not change what these give.
    pub(super) fn of(purpose: &[u64]) -> Self {
        let mix = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        Self(SmallRng::seed_from_u64(purpose.iter().fold(0, mix)))
    }

    /// A number below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    /// A number from `low` to `high`, both possible.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether what happens so often of a hundred times happens.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of some.
    pub(super) fn pick<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.index(some.len())]
    }

    /// A place in something of this length.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// So many bytes, random up to a number that is prime, so that no two places a power of two apart have the same.
    pub(super) fn bytes(&mut self, count: u64) -> Vec<u8> {
        let count = usize::try_from(count).unwrap();
        let mut block = vec![0; count.min(65_521)];
        self.0.fill_bytes(&mut block);
        let mut bytes = block.repeat(count.div_ceil(65_521));
        bytes.truncate(count);
        bytes
    }
}
