//! What is remembered of evicted content.

use std::collections::{HashSet, VecDeque};

use crate::oci::Digest;

/// Of how much evicted content the coming back is noticed.
const GHOSTS: usize = 65_536;

/// What was evicted of late before it was used twice, by the first bytes of its hash.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Ghosts {
    pub(super) fn remember(&mut self, digest: &Digest) {
        let mark = mark(digest);
        if self.known.insert(mark) {
            self.order.push_back(mark);
        }
        if self.order.len() > GHOSTS {
            self.order.pop_front().map(|oldest| self.known.remove(&oldest));
        }
    }

    pub(super) fn take(&mut self, digest: &Digest) -> bool {
        self.known.remove(&mark(digest))
    }
}

fn mark(digest: &Digest) -> u64 {
    u64::from_be_bytes(digest.bytes().first_chunk().copied().expect("a hash has at least 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn only_so_many_are_remembered() {
        let digest = |i: usize| Digest::of(Algorithm::Sha256, &i.to_le_bytes());
        let mut ghosts = Ghosts::default();
        (0..=GHOSTS).for_each(|i| ghosts.remember(&digest(i)));
        assert!(!ghosts.take(&digest(0)) && ghosts.take(&digest(1)) && !ghosts.take(&digest(1)));
        assert_eq!(ghosts.order.len(), GHOSTS);
    }
}
