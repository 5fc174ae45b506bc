//! Small content that is asked for again and again, in memory.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;

use super::by_digest::ByDigest;
use super::known::Known;
use crate::oci::Digest;

/// What an entry takes besides its bytes, roughly.
const OVERHEAD: usize = 768;

/// Content by digest, at most so many bytes of it; what is asked for often stays (TinyLFU).
#[derive(Debug)]
pub(super) struct Memory(Cache<Digest, Arc<Kept>, ByDigest>);

/// Content in memory.
#[derive(Debug)]
pub struct Kept {
    /// The whole of it.
    pub bytes: Bytes,
    /// What else is known.
    pub known: Known,
}

impl Memory {
    /// A tier of at most `capacity` bytes.
    pub(super) fn new(capacity: u64) -> Self {
        let weight = |_: &Digest, kept: &Arc<Kept>| u32::try_from(kept.bytes.len() + OVERHEAD).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(capacity).weigher(weight).build_with_hasher(ByDigest::default()))
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Kept>> {
        self.0.get(digest)
    }

    pub(super) fn insert(&self, digest: Digest, bytes: Bytes) {
        self.0.insert(digest, Arc::new(Kept { bytes, known: Known::new(&digest) }));
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.0.invalidate(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn holds_no_more_than_it_may() {
        let memory = Memory::new(100_000);
        for i in 0..100u8 {
            memory.insert(Digest::of(Algorithm::Sha256, &[i]), Bytes::from(vec![i; 10_000]));
        }
        memory.0.run_pending_tasks();
        assert!((50_000..=100_000).contains(&memory.0.weighted_size()), "{}", memory.0.weighted_size());
    }
}
