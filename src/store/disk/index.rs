//! An index file on a disk that fails as told.

use std::io;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::{Faults, Operation};

#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) file: FileBackend,
    pub(super) faults: Faults,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.faults.check(Operation::IndexRead)?;
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.faults.check(Operation::IndexSetLength)?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.check(Operation::IndexSync)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.check(Operation::IndexWrite)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
