//! Whether a stored file still is what was stored: what a look can tell at every opening, and what only reading can.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Instant, SystemTime};

use super::content::{Content, Held, lock};
use super::files::Blob;
use crate::oci::Digest;

/// How much is read at once.
const CHUNK: u64 = 1 << 20;

/// The check that ended last: of what, when, and whether that was discarded.
pub(super) type Checked = Option<(Digest, Instant, bool)>;

/// What became of a file since it was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Same,
    /// Somebody deleted it.
    Gone,
    /// Its length is another.
    Resized,
    /// Somebody may have written to it.
    Touched,
}

impl Content {
    /// What became of an open file that was last written at `modified`. One fstat of what the system has in memory: no look
    /// at the disk, and less than a microsecond of a request that takes a hundred.
    pub(super) fn state(&self, blob: &Blob, modified: SystemTime) -> io::Result<State> {
        let metadata = self.disk.metadata(&blob.file)?;
        Ok(match metadata.nlink() {
            0 => State::Gone,
            _ if metadata.len() != blob.size => State::Resized,
            _ if metadata.modified()? != modified => State::Touched,
            _ => State::Same,
        })
    }

    /// Reads content and discards it where it is wrong or cannot be read. Whether it was. One at a time, so that a disk that
    /// fails is not kept busy; who asks meanwhile for the same content gets the same answer.
    pub(super) fn check(&self, digest: &Digest) -> bool {
        self.check_for(digest, Instant::now())
    }

    /// For somebody who asked at `asked`.
    pub(super) fn check_for(&self, digest: &Digest, asked: Instant) -> bool {
        let mut last = lock(&self.checked);
        if let Some((of, ended, discarded)) = *last
            && of == *digest
            && ended >= asked
        {
            return discarded;
        }
        let discarded = self.check_now(digest);
        *last = Some((*digest, Instant::now(), discarded));
        discarded
    }

    fn check_now(&self, digest: &Digest) -> bool {
        let opened = {
            let _stripe = self.stripe(digest);
            match self.open_held(digest) {
                Ok(Held::There(blob, victims)) => Some((blob, victims)),
                Ok(Held::Touched(blob)) => Some((blob, Vec::new())),
                Ok(Held::Missing) => return false,
                Err(error) if error.is_about_access() => return false,
                Err(_) => None,
            }
        };
        let Some((blob, victims)) = opened else { return self.discard_unless(digest, None) };
        self.evict(victims);
        // Whoever writes to it while it is read makes it suspect again.
        let modified = self.disk.metadata(&blob.file).and_then(|metadata| metadata.modified());
        match modified.and_then(|modified| Ok((modified, self.hash(&blob)? == *digest))) {
            Ok((modified, true)) => {
                self.files.touched(&blob, modified);
                false
            }
            _ => self.discard_unless(digest, Some(&blob)),
        }
    }

    /// Discards content that was read as `blob`, unless it came anew meanwhile.
    fn discard_unless(&self, digest: &Digest, blob: Option<&Blob>) -> bool {
        let _stripe = self.stripe(digest);
        let is_other = |open: &Blob| blob.is_none_or(|blob| !std::sync::Arc::ptr_eq(&open.file, &blob.file));
        if self.files.get(digest).is_some_and(|(open, _)| is_other(&open)) {
            return false;
        }
        self.discard(digest, "its content is not what its name says, or cannot be read");
        true
    }

    fn hash(&self, blob: &Blob) -> io::Result<Digest> {
        let mut hasher = blob.digest.algorithm().hasher();
        let mut chunk = vec![0; blob.size.min(CHUNK) as usize];
        let mut at = 0;
        while at < blob.size {
            let part = &mut chunk[..(blob.size - at).min(CHUNK) as usize];
            self.disk.read_at(&blob.file, part, at)?;
            hasher.update(part);
            at += part.len() as u64;
        }
        Ok(hasher.finish())
    }
}

#[cfg(test)]
mod tests;
