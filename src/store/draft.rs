//! A file that is being written, and the room that is reserved for it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustix::io::Errno;

use super::content::{Content, lock};
use super::error::Error;
use super::layout::Name;

/// Room of unknown extent is reserved in steps of this size.
const STEP: u64 = 1 << 20;

/// What a draft may take, in bytes.
#[derive(Debug)]
struct Room {
    reserved: u64,
    /// So much of it the file system is not asked for yet.
    promised: u64,
}

/// A file that is no content yet. Dropping it deletes it and gives its room back, unless it was placed or parked; that blocks.
#[derive(Debug)]
pub(super) struct Draft {
    content: Arc<Content>,
    path: PathBuf,
    file: Arc<File>,
    room: Mutex<Room>,
    /// Under which it outlives the process, where it may. In use by this draft alone.
    name: Option<Name>,
    placed: bool,
}

impl Draft {
    /// A new, empty file with `room` bytes reserved, evicting for them. `name` must be claimed.
    ///
    /// # Errors
    /// `NoRoom`, `Full`, `Io`; then nothing is left behind.
    pub(super) fn new(content: Arc<Content>, room: u64, name: Option<Name>) -> Result<Self, Error> {
        let path = name.as_ref().map_or_else(|| content.layout.temporary(), |name| content.layout.kept(name));
        let created = content.reserve(room).and_then(|()| {
            create(&content, &path).inspect_err(|_| {
                content.space.took(room);
                content.release(room);
            })
        });
        let file = created.inspect_err(|_| name.iter().for_each(|name| content.parked().free(name)))?;
        let room = Mutex::new(Room { reserved: room, promised: room });
        Ok(Self { content, path, file: Arc::new(file), room, name, placed: false })
    }

    /// A file that was parked, with the room that it kept.
    pub(super) fn taken_up(content: Arc<Content>, file: File, reserved: u64, name: Name) -> Self {
        let (path, file, room) = (content.layout.kept(&name), Arc::new(file), Mutex::new(Room { reserved, promised: 0 }));
        Self { content, path, file, room, name: Some(name), placed: false }
    }

    pub(super) fn content(&self) -> &Arc<Content> {
        &self.content
    }

    pub(super) fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Sees to it that room for `bytes` in all is reserved.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), Error> {
        let mut room = lock(&self.room);
        if bytes > room.reserved {
            let more = (bytes - room.reserved).max(STEP);
            self.content.reserve(more)?;
            // They are written next.
            self.content.space.took(more);
            room.reserved += more;
        }
        Ok(())
    }

    /// Writes at an offset, see [`with_relief`].
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let write = || self.content.disk.write_at(&self.file, bytes, offset);
        let written = with_relief(&self.content, bytes.len() as u64, write);
        // Where writing fails, nothing more is written.
        self.keep_promise(if written.is_ok() { bytes.len() as u64 } else { u64::MAX });
        written.map_err(|error| self.content.failed("write", "cannot write", &self.path, error))
    }

    /// Fills `bytes` with what is at an offset.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let read = self.content.disk.read_at(&self.file, bytes, offset);
        read.map_err(|error| self.content.failed("read", "cannot read", &self.path, error))
    }

    /// Makes the bytes durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.content.disk.sync(&self.file).map_err(|error| self.content.failed("sync", "cannot make durable", &self.path, error))
    }

    /// Makes the bytes durable that were written before. After an error nobody knows which of them are.
    pub(super) fn sync_data(&self) -> Result<(), Error> {
        self.content
            .disk
            .sync_data(&self.file)
            .map_err(|error| self.content.failed("sync", "cannot make durable", &self.path, error))
    }

    /// When it was last written to.
    pub(super) fn modified(&self) -> Result<SystemTime, Error> {
        let modified = self.content.disk.metadata(&self.file).and_then(|metadata| metadata.modified());
        modified.map_err(|error| self.content.failed("open", "cannot look at", &self.path, error))
    }

    /// Gives back the disk space that was reserved behind byte `size`.
    pub(super) fn cut(&self, size: u64) -> Result<(), Error> {
        self.content
            .disk
            .set_length(&self.file, size)
            .map_err(|error| self.content.failed("write", "cannot cut", &self.path, error))
    }

    /// Gives back the disk space and the reservation behind what is written. Nobody may write meanwhile.
    pub(super) fn shrink(&self) -> Result<(), Error> {
        let metadata = self.content.disk.metadata(&self.file);
        let size = metadata.map_err(|error| self.content.failed("open", "cannot look at", &self.path, error))?.len();
        self.cut(size)?;
        let mut room = lock(&self.room);
        self.content.release(room.reserved.saturating_sub(size));
        room.reserved = size.min(room.reserved);
        Ok(())
    }

    /// The file has its place now and stays. What was reserved, for the caller to release.
    pub(super) fn placed(&mut self) -> u64 {
        self.placed = true;
        self.take_reserved()
    }

    /// The file waits to be taken up, and keeps its room; one without a name goes.
    pub(super) fn park(mut self) {
        let Some(name) = self.name.take() else { return };
        self.placed = true;
        self.content.park(name, self.take_reserved());
    }

    fn take_reserved(&self) -> u64 {
        self.keep_promise(u64::MAX);
        std::mem::take(&mut lock(&self.room).reserved)
    }

    /// As much as `bytes` of what was promised shows in the file system from now on, or is not wanted any more.
    fn keep_promise(&self, bytes: u64) {
        let mut room = lock(&self.room);
        let kept = bytes.min(room.promised);
        room.promised -= kept;
        drop(room);
        if kept > 0 {
            self.content.space.took(kept);
        }
    }

    /// Takes room for that many bytes in all from the file system. Where that cannot do so, writing will tell.
    pub(super) fn allocate(&self, room: u64) -> Result<(), Error> {
        match with_relief(&self.content, room, || self.content.disk.allocate(&self.file, room)) {
            Ok(()) => {
                self.keep_promise(u64::MAX);
                Ok(())
            }
            Err(error) if is_full(&error) || error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                self.keep_promise(u64::MAX);
                Err(self.content.failed("reserve", "cannot reserve room for", &self.path, error))
            }
            // It does not know how. What is promised is kept as bytes are written.
            Err(_) => Ok(()),
        }
    }
}

/// Where the folder is gone, somebody emptied the cache while it is in use: it is made again, once.
fn create(content: &Content, path: &Path) -> Result<File, Error> {
    let created = content.disk.create(path).or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound || !content.remake() {
            return Err(error);
        }
        content.disk.create(path)
    });
    created.map_err(|error| content.failed("create", "cannot create", path, error))
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
    /// What was placed has another name by now, and its note goes last: killed before, the process leaves a note without a
    /// file, which the next start deletes.
    fn drop(&mut self) {
        let reserved = self.take_reserved();
        match self.name.take() {
            Some(name) => {
                self.content.discard_kept(&name, reserved);
            }
            None if self.placed => {}
            None => {
                self.content.delete_unfinished(std::mem::take(&mut self.path));
                self.content.release(reserved);
            }
        }
    }
}
