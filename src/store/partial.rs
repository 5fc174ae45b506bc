//! A download in the making: a growing file, and which of its bytes are there.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::content::{Content, lock};
use super::draft::{self, Draft};
use super::error::{Error, Kind};
use super::files::Blob;
use super::pool;
use super::ranges::RangeSet;
use crate::oci::{Digest, RegistryName, Span};

/// Content that is being fetched. Readers may read what is present from [`Partial::file`] at any time, also after the
/// download was committed or discarded. Dropping the last handle of one that is neither deletes the file behind, on the
/// blocking pool, and gives its room back.
#[derive(Debug)]
pub struct Partial {
    registry: RegistryName,
    digest: Digest,
    content: Arc<Content>,
    file: Arc<File>,
    path: PathBuf,
    /// `None` once committed or discarded.
    draft: Mutex<Option<Draft>>,
    present: Mutex<RangeSet>,
}

impl Partial {
    /// Blocks.
    pub(super) fn begin(content: Arc<Content>, registry: RegistryName, digest: Digest, length: Option<u64>) -> Result<Self, Error> {
        let draft = Draft::new(content.clone(), length.unwrap_or(0))?;
        let (file, path) = (draft.file().clone(), draft.path().to_owned());
        Ok(Self { registry, digest, content, file, path, draft: Mutex::new(Some(draft)), present: Mutex::default() })
    }

    /// The file that holds what is present, at the offsets where it belongs.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes bytes where they belong and marks them present. Blocks: call it on the blocking pool. Writers of different
    /// ranges may work at once. Room beyond the reserved length is reserved as it is needed.
    ///
    /// # Errors
    /// `NoRoom` and `Full` where there is no room for more, `Io` where the disk fails, `Incomplete` after the end. What was
    /// present before still is.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.ok_or_else(|| self.unfit(&format!("has no byte after offset {offset}")))?;
        lock(&self.draft).as_mut().ok_or_else(|| self.ended())?.grow(end)?;
        draft::write(&self.content, &self.path, &self.file, offset, bytes)?;
        lock(&self.present).insert(Span::new(offset, end));
        Ok(())
    }

    /// The end of the present bytes that hold `offset`, or `offset` itself where that is missing.
    pub fn present_until(&self, offset: u64) -> u64 {
        lock(&self.present).present_until(offset)
    }

    /// The first run of missing bytes in `span`.
    pub fn first_gap(&self, span: Span) -> Option<Span> {
        lock(&self.present).first_gap(span)
    }

    /// Makes the bytes, whose digest the caller has verified, durable as stored content. Where the same content came by
    /// another way meanwhile, that is what is returned. No write may be under way.
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    /// `Incomplete` where bytes are missing or it ended before, `Full` and `Io` where the disk fails. The download is over in each case.
    pub async fn commit(self: Arc<Self>) -> Result<Blob, Error> {
        pool::blocking(move || self.commit_now()).await
    }

    /// Ends the download and keeps nothing of it. Dropping the future does not stop it.
    pub async fn discard(self: Arc<Self>) {
        pool::blocking(move || drop(lock(&self.draft).take())).await;
    }

    /// TEMPORARY
    pub fn length(&self) -> Option<u64> {
        None
    }
    /// TEMPORARY
    pub fn covers(&self, span: Span) -> bool {
        self.first_gap(span).is_none()
    }
    /// TEMPORARY
    pub fn changed(&self, _span: Span) -> bool {
        true
    }
    /// TEMPORARY
    pub fn start_over(&self) {
        *lock(&self.present) = RangeSet::default();
    }
    /// TEMPORARY
    pub async fn park(self: Arc<Self>) {
        self.discard().await;
    }

    fn commit_now(&self) -> Result<Blob, Error> {
        let draft = lock(&self.draft).take().ok_or_else(|| self.ended())?;
        let size = {
            let present = lock(&self.present);
            let whole = Span::new(0, present.end());
            if !present.covers(whole) {
                return Err(self.unfit("has gaps"));
            }
            whole.end
        };
        draft.cut(size)?;
        self.content.place(draft, &self.digest, size)
    }

    fn ended(&self) -> Error {
        self.unfit("has ended already")
    }

    fn unfit(&self, why: &str) -> Error {
        Error::new(Kind::Incomplete, format!("the download of {} from {} {why}", self.digest, self.registry))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let draft = self.draft.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(draft) = draft else { return };
        match tokio::runtime::Handle::try_current() {
            // It ends without being waited for.
            Ok(_) => drop(pool::start(move || drop(draft))),
            Err(_) => drop(draft),
        }
    }
}

#[cfg(test)]
mod tests;
