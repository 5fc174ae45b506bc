//! A file that is being written, and the room that is reserved for it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::content::Content;
use super::error::Error;

/// Room of unknown extent is reserved in steps of this size.
const STEP: u64 = 1 << 20;

/// A file under a temporary name. Dropping it deletes it and gives its room back, unless it was placed; that blocks.
#[derive(Debug)]
pub(super) struct Draft {
    content: Arc<Content>,
    path: PathBuf,
    file: Arc<File>,
    reserved: u64,
    placed: bool,
}

impl Draft {
    /// A new, empty file with `room` bytes reserved, evicting for them.
    ///
    /// # Errors
    /// `NoRoom`, `Full`, `Io`; then nothing is left behind.
    pub(super) fn new(content: Arc<Content>, room: u64) -> Result<Self, Error> {
        content.reserve(room)?;
        let path = content.layout.temporary();
        let file = match content.disk.create(&path) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                content.release(room);
                return Err(content.failed("create", "cannot create", &path, error));
            }
        };
        let draft = Self { content, path, file, reserved: room, placed: false };
        draft.allocate(room)?;
        Ok(draft)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Sees to it that room for `bytes` in all is reserved.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        if bytes > self.reserved {
            let more = (bytes - self.reserved).max(STEP);
            self.content.reserve(more)?;
            self.reserved += more;
        }
        Ok(())
    }

    /// Writes at an offset; see [`write`].
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        write(&self.content, &self.path, &self.file, offset, bytes)
    }

    /// Makes the bytes durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.content.disk.sync(&self.file).map_err(|error| self.content.failed("sync", "cannot make durable", &self.path, error))
    }

    /// Gives back the disk space that was reserved behind byte `size`.
    pub(super) fn cut(&self, size: u64) -> Result<(), Error> {
        self.content
            .disk
            .set_length(&self.file, size)
            .map_err(|error| self.content.failed("write", "cannot cut", &self.path, error))
    }

    /// The file has its place now and stays. What was reserved, for the caller to release.
    pub(super) fn placed(&mut self) -> u64 {
        self.placed = true;
        std::mem::take(&mut self.reserved)
    }

    /// Takes the reserved room from the file system, so that it is there when the bytes come, and in one piece. Where the
    /// file system cannot do that, writing will tell.
    fn allocate(&self, room: u64) -> Result<(), Error> {
        let taken = with_relief(&self.content, room, || self.content.disk.allocate(&self.file, room));
        match taken {
            Err(error) if is_full(&error) || error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Err(self.content.failed("reserve", "cannot reserve room for", &self.path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Writes at an offset, see [`with_relief`].
pub(super) fn write(content: &Content, path: &Path, file: &File, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let written = with_relief(content, bytes.len() as u64, || content.disk.write_at(file, bytes, offset));
    written.map_err(|error| content.failed("write", "cannot write", path, error))
}

/// Takes room on the disk. A file system that is full though room was reserved makes one eviction and a second try.
fn with_relief(content: &Content, bytes: u64, take: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match take() {
        Err(error) if is_full(&error) && content.relieve(bytes) => take(),
        other => other,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            self.content.delete_unfinished(std::mem::take(&mut self.path));
            self.content.release(self.reserved);
        }
    }
}
