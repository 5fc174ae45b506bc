//! Small content that is asked for again and again, in memory.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::by_digest::ByDigest;
use super::known::Known;
use crate::oci::Digest;

/// What an entry takes besides its bytes, roughly.
const OVERHEAD: usize = 768;
/// What an entry takes, roughly, in bytes: only a few more or less are remembered of what has gone.
const USUAL: u64 = 4096;
/// The cache is in parts with a lock each; what does not fit into a part is not kept, and what is large pushes much out of it. So
/// none is smaller than this, in bytes: the largest manifest has 4 MiB.
const LEAST_PART: u64 = 16 << 20;
/// More parts would make no difference.
const MOST_PARTS: u64 = 64;

/// Content by digest, at most so many bytes of it; what is asked for often stays (S3-FIFO).
#[derive(Debug)]
pub(super) struct Memory(Cache<Digest, Arc<Kept>, Bytewise, ByDigest>);

/// Content in memory.
#[derive(Debug)]
pub struct Kept {
    /// The whole of it.
    pub bytes: Bytes,
    /// What else is known.
    pub known: Known,
}

/// Weighs entries by the memory that they take.
#[derive(Clone, Copy, Debug)]
struct Bytewise;

impl Weighter<Digest, Arc<Kept>> for Bytewise {
    fn weight(&self, _: &Digest, kept: &Arc<Kept>) -> u64 {
        (kept.bytes.len() + OVERHEAD) as u64
    }
}

impl Memory {
    /// A tier of at most `capacity` bytes.
    pub(super) fn new(capacity: u64) -> Self {
        let parts = (capacity / LEAST_PART).clamp(1, MOST_PARTS);
        // A number of parts that is no power of two would be rounded up.
        let parts = 1 << parts.ilog2();
        let options = OptionsBuilder::new()
            .weight_capacity(capacity)
            .estimated_items_capacity(usize::try_from(capacity / USUAL).unwrap_or(usize::MAX))
            .shards(parts)
            .build()
            .expect("all that has no default is set");
        Self(Cache::with_options(options, Bytewise, ByDigest::default(), DefaultLifecycle::default()))
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Kept>> {
        self.0.get(digest)
    }

    pub(super) fn insert(&self, digest: Digest, bytes: Bytes) {
        self.0.insert(digest, Arc::new(Kept { bytes, known: Known::new(&digest) }));
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.0.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_largest_manifests_are_kept_whatever_the_capacity() {
        for capacity in [8 << 20, 9 << 20, 32 << 20, 100 << 20, 1 << 40] {
            let memory = Memory::new(capacity);
            let (large, small) = (Digest::of(Algorithm::Sha256, b"large"), Digest::of(Algorithm::Sha256, b"small"));
            memory.insert(small, Bytes::from_static(b"small"));
            memory.insert(large, Bytes::from(vec![0; 4 << 20]));
            assert!(memory.get(&large).is_some() && memory.get(&small).is_some(), "{capacity}");
        }
    }

    #[test]
    fn holds_no_more_than_it_may() {
        let memory = Memory::new(100_000);
        for i in 0..100u8 {
            memory.insert(Digest::of(Algorithm::Sha256, &[i]), Bytes::from(vec![i; 10_000]));
        }
        assert!((50_000..=100_000).contains(&memory.0.weight()), "{}", memory.0.weight());
    }
}
