//! Open files, so that content asked for often costs no system call.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use crate::oci::Digest;

/// How many files stay open. Of a million blobs only few are asked for at any time.
const OPEN_FILES: usize = 1024;

/// Stored content, opened. Reading it goes on working after it was evicted or removed.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes, from offset 0. Read at offsets: the file's own position is shared by all.
    pub file: Arc<File>,
}

/// The files opened last. Unlike a concurrent cache's, a removed entry is gone at once: a file that stayed open for later
/// clean-up would keep its disk space.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Digest, (Blob, u64)>,
    clock: u64,
}

impl Files {
    pub(super) fn get(&self, digest: &Digest) -> Option<Blob> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let (blob, used) = inner.open.get_mut(digest)?;
        *used = clock;
        Some(blob.clone())
    }

    /// Keeps a file open, and closes the one unused for longest where there are too many.
    pub(super) fn insert(&self, blob: Blob) {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        inner.open.insert(blob.digest, (blob, clock));
        if inner.open.len() > OPEN_FILES {
            let oldest = inner.open.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest);
            oldest.and_then(|digest| inner.open.remove(&digest));
        }
    }

    pub(super) fn remove(&self, digest: &Digest) -> Option<Blob> {
        self.lock().open.remove(digest).map(|(blob, _)| blob)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_file_unused_for_longest_is_closed() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let blob = |i: usize| {
            let digest = Digest::of(Algorithm::Sha256, &i.to_le_bytes());
            Blob { digest, size: 0, file: file.clone() }
        };
        let files = Files::default();
        (0..OPEN_FILES).for_each(|i| files.insert(blob(i)));
        assert!(files.get(&blob(0).digest).is_some());
        files.insert(blob(OPEN_FILES));
        assert!(files.get(&blob(0).digest).is_some());
        assert!(files.get(&blob(1).digest).is_none());
        assert_eq!(Arc::strong_count(&file), OPEN_FILES + 1);
    }
}
