//! Hashing of what is a hash already: a multiplication instead of a hash of the hash.

use std::hash::{BuildHasher, Hasher};

/// Makes hashers for tables by digest. Digests are spread evenly, but who makes content can choose some that begin alike: the
/// factor, which nobody knows, keeps these apart as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByDigest {
    factor: u64,
}

impl Default for ByDigest {
    fn default() -> Self {
        Self { factor: rand::random::<u64>() | 1 }
    }
}

impl BuildHasher for ByDigest {
    type Hasher = Multiplied;

    fn build_hasher(&self) -> Multiplied {
        Multiplied { factor: self.factor, start: 0 }
    }
}

/// The first bytes of a digest times the factor.
pub(super) struct Multiplied {
    factor: u64,
    start: u64,
}

impl Hasher for Multiplied {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(start) = bytes.first_chunk() {
            self.start ^= u64::from_le_bytes(*start);
        }
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.start) * u128::from(self.factor);
        // Both halves: tables look at either end.
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::oci::Digest;

    #[test]
    fn digests_that_begin_or_end_alike_are_kept_apart() {
        let hashes = ByDigest::default();
        for place in [0, 1, 6, 7] {
            let digest = |n| {
                let mut hash = [7; 32];
                hash[place] = n;
                Digest::Sha256(hash)
            };
            let hash = |n| hashes.hash_one(digest(n));
            let distinct = |cut: &dyn Fn(u64) -> u64| (0..=255).map(|n| cut(hash(n))).collect::<HashSet<_>>().len();
            assert!(distinct(&|hash| hash >> 52) > 100, "{place}");
            assert!(distinct(&|hash| hash & 0xfff) > 100, "{place}");
        }
    }
}
