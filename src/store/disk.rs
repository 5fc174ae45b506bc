//! What the room asks of the file system, in one place: so that a test can have any of it fail.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod index;

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, ReadDir};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::FallocateFlags;

#[cfg(test)]
pub(crate) use faults::Faults;

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Create,
    Open,
    Metadata,
    Allocate,
    Write,
    Read,
    SetLength,
    Sync,
    Rename,
    Remove,
    List,
    MakeFolder,
    SyncFolder,
    #[cfg(test)]
    IndexRead,
    #[cfg(test)]
    IndexWrite,
    #[cfg(test)]
    IndexSync,
    #[cfg(test)]
    IndexSetLength,
}

/// The system's calls, unchanged; in tests, those that [`Faults`] names fail before they are made. All of them block.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Nothing is made durable: for a cache that is made only to be measured.
    pub(super) is_hasty: bool,
    #[cfg(test)]
    pub(super) faults: Option<Faults>,
}

impl Disk {
    /// One that makes nothing durable.
    pub(super) fn hasty() -> Self {
        Self {
            is_hasty: true,
            #[cfg(test)]
            faults: None,
        }
    }

    /// Makes a file that is not there yet, for reading and writing.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.check(Operation::Create)?;
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// Opens a file for reading.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        self.check(Operation::Open)?;
        File::open(path)
    }

    /// Opens a file for reading and writing, making it where `make` says so and it is missing.
    pub(super) fn open_to_write(&self, path: &Path, make: bool) -> io::Result<File> {
        self.check(if make { Operation::Create } else { Operation::Open })?;
        OpenOptions::new().read(true).write(true).create(make).truncate(false).open(path)
    }

    pub(super) fn metadata(&self, file: &File) -> io::Result<Metadata> {
        self.check(Operation::Metadata)?;
        file.metadata()
    }

    /// Takes room for bytes to come from the file system, which may not know how.
    pub(super) fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.check(Operation::Allocate)?;
        Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes)?)
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(Operation::Write)?;
        file.write_all_at(bytes, offset)
    }

    /// Fills `bytes`.
    pub(super) fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(Operation::Read)?;
        file.read_exact_at(bytes, offset)
    }

    pub(super) fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.check(Operation::SetLength)?;
        file.set_len(length)
    }

    /// Makes the bytes of a file durable.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.check(Operation::Sync)?;
        if self.is_hasty { Ok(()) } else { file.sync_all() }
    }

    /// Makes the bytes of a file durable, and of what is known about it only what it takes to read them.
    pub(super) fn sync_data(&self, file: &File) -> io::Result<()> {
        self.check(Operation::Sync)?;
        if self.is_hasty { Ok(()) } else { file.sync_data() }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename)?;
        fs::rename(from, to)
    }

    /// Deletes a file. Whether there was one.
    pub(super) fn remove(&self, path: &Path) -> io::Result<bool> {
        self.check(Operation::Remove)?;
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<ReadDir> {
        self.check(Operation::List)?;
        fs::read_dir(folder)
    }

    /// Makes a folder, closed to others, and those above it, where they are missing.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::MakeFolder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::SyncFolder)?;
        if self.is_hasty { Ok(()) } else { File::open(path)?.sync_all() }
    }

    /// Opens the index, making it where it is missing.
    pub(super) fn index(&self, builder: &redb::Builder, path: &Path) -> Result<redb::Database, redb::DatabaseError> {
        #[cfg(test)]
        if let Some(faults) = self.faults.clone() {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            return builder.create_with_backend(index::Faulty { file: redb::backends::FileBackend::new(file)?, faults });
        }
        builder.create(path)
    }

    #[cfg(test)]
    fn check(&self, operation: Operation) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.check(operation))
    }

    #[cfg(not(test))]
    fn check(&self, _: Operation) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
