//! Open files, so that content asked for often costs no opening.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::by_digest::ByDigest;
use super::known::Known;
use crate::oci::Digest;

/// How many files stay open. Of a million blobs only few are asked for at any time.
pub const OPEN_FILES: usize = 1024;

/// Stored content, opened. Reading it goes on working after it was evicted or removed.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes, from offset 0. Read at offsets: the file's own position is shared by all.
    pub file: Arc<File>,
    /// What else is known.
    pub known: Arc<Known>,
}

impl Blob {
    pub(super) fn new(digest: &Digest, size: u64, file: Arc<File>) -> Self {
        Self { digest: *digest, size, file, known: Arc::new(Known::new(digest)) }
    }
}

/// The files opened last. Unlike a concurrent cache's, a removed entry is gone at once: a file that stayed open for later
/// clean-up would keep its disk space. A file that somebody reads stays here, so that whoever deletes it knows of its readers.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Inner>);

#[derive(Debug)]
struct Open {
    blob: Blob,
    /// When the file was last written to, as far as is known to be right.
    modified: SystemTime,
    /// By the clock.
    used: u64,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Digest, Open, ByDigest>,
    clock: u64,
}

impl Files {
    /// An open file, and when it was last written to when it was known to be right.
    pub(super) fn get(&self, digest: &Digest) -> Option<(Blob, SystemTime)> {
        let mut inner = self.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let open = inner.open.get_mut(digest)?;
        open.used = clock;
        Some((open.blob.clone(), open.modified))
    }

    /// Keeps a file open, and closes those unused for longest where there are too many. Those that are being read are open
    /// in any case.
    pub(super) fn insert(&self, blob: Blob, modified: SystemTime) {
        let mut inner = self.lock();
        inner.clock += 1;
        let used = inner.clock;
        let replaced = inner.open.insert(blob.digest, Open { blob, modified, used });
        let idle = if inner.open.len() > OPEN_FILES { inner.take_idle() } else { Vec::new() };
        // Closing a file that somebody deleted gives back its bytes, and every hit wants this lock.
        drop(inner);
        drop((replaced, idle));
    }

    /// An open file is right, though it was written to.
    pub(super) fn touched(&self, blob: &Blob, modified: SystemTime) {
        if let Some(open) = self.lock().open.get_mut(&blob.digest).filter(|open| Arc::ptr_eq(&open.blob.file, &blob.file)) {
            open.modified = modified;
        }
    }

    pub(super) fn remove(&self, digest: &Digest) -> Option<Blob> {
        self.lock().open.remove(digest).map(|open| open.blob)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes out an eighth of the files at once, to be closed: to look for each one by itself would hold up whoever asks
    /// meanwhile.
    fn take_idle(&mut self) -> Vec<Open> {
        let idle = self.open.iter().filter(|(_, open)| Arc::strong_count(&open.blob.file) == 1);
        let mut idle: Vec<(u64, Digest)> = idle.map(|(digest, open)| (open.used, *digest)).collect();
        idle.sort_unstable();
        let surplus = self.open.len() - OPEN_FILES / 8 * 7;
        idle.into_iter().take(surplus).filter_map(|(_, digest)| self.open.remove(&digest)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_files_unused_for_longest_are_closed() {
        let files = Files::default();
        (0..OPEN_FILES).for_each(|i| files.insert(blob(i), SystemTime::UNIX_EPOCH));
        assert!(files.get(&digest(0)).is_some());
        files.insert(blob(OPEN_FILES), SystemTime::UNIX_EPOCH);
        assert!(files.get(&digest(0)).is_some());
        let closed: Vec<usize> = (0..=OPEN_FILES).filter(|&i| files.get(&digest(i)).is_none()).collect();
        assert_eq!(closed, (1..=OPEN_FILES / 8 + 1).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_being_read_stays_known() {
        let files = Files::default();
        let read: Vec<Blob> = (0..=OPEN_FILES).map(blob).collect();
        read.iter().for_each(|blob| files.insert(blob.clone(), SystemTime::UNIX_EPOCH));
        assert!(files.get(&digest(0)).is_some());
        drop(read);
        files.insert(blob(OPEN_FILES + 1), SystemTime::UNIX_EPOCH);
        assert_eq!(files.lock().open.len(), OPEN_FILES / 8 * 7, "no more are kept than need be");
    }

    fn digest(i: usize) -> Digest {
        Digest::of(Algorithm::Sha256, &i.to_le_bytes())
    }

    fn blob(i: usize) -> Blob {
        Blob::new(&digest(i), 0, Arc::new(File::open("/dev/null").unwrap()))
    }
}
