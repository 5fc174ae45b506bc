//! Small records by name, in one file that may be lost.
//!
//! A write is seen by every read at once and is durable soon: a thread of its own commits whatever waits as one
//! transaction, so that a hundred links cost what one does. A file that is damaged is set aside and made anew; one that
//! cannot be written (disk full) is tried again and again while what waits is served from memory. Nobody who serves ever
//! gets an error from here: what cannot be read is not known.

mod database;
mod overlay;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use moka::sync::Cache;

use super::disk::Disk;
use super::layout::Layout;
use super::pool;
use crate::telemetry::Telemetry;
use database::{Database, Fault};
use writer::Shared;

/// What hot records may take in memory.
const HOT_RECORDS: u64 = 16 << 20;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    Links,
    Tags,
    Lists,
    Blobs,
    Pins,
    Reached,
    Children,
    Parents,
}

impl Table {
    /// How many there are.
    const COUNT: usize = Self::Parents as usize + 1;
}

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) table: Table,
    pub(super) bytes: Box<[u8]>,
}

/// The index. Dropping it commits what waits, if the disk lets it, and ends the thread; that blocks for a moment.
pub(super) struct Index {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Index {
    /// Opens the index of a cache folder. Blocks. A file that cannot be opened is tried again behind.
    ///
    /// # Errors
    /// Only when no thread can be had.
    pub(super) fn open(layout: &Layout, disk: Disk, telemetry: Arc<Telemetry>) -> std::io::Result<Self> {
        let weight = |key: &Key, value: &Bytes| u32::try_from(key.bytes.len() + value.len() + 200).unwrap_or(u32::MAX);
        let hot = Cache::builder().max_capacity(HOT_RECORDS).weigher(weight).build();
        let database = Database::new(layout.index(), layout.broken_index(), disk);
        let shared = Arc::new(Shared::new(database, hot, telemetry));
        shared.open();
        let own = shared.clone();
        let writer = std::thread::Builder::new().name("index".to_owned()).spawn(move || own.run())?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Puts a record. Whether it was taken: not where too much waits for a disk that refuses.
    pub(super) fn put(&self, key: Key, value: Bytes) -> bool {
        self.shared.write(key, Some(value))
    }

    /// Counts the changes of a table: what was read of it after this number, holds good while the number is the same.
    pub(super) fn version(&self, table: Table) -> u64 {
        self.shared.version(table)
    }

    /// Removes a record.
    pub(super) fn remove(&self, key: Key) {
        self.shared.write(key, None);
    }

    /// A record. Cancelling leaves nothing behind.
    pub(super) async fn get(&self, key: Key) -> Option<Bytes> {
        // Whether a removed record is known depends on how far the thread is. Where the order of things is to depend on
        // nothing but the caller, all take the same way.
        if !pool::is_inline()
            && let Some(known) = self.shared.known(&key)
        {
            return known;
        }
        let shared = self.shared.clone();
        pool::blocking(move || shared.read(&key)).await
    }

    /// A record. Blocks.
    pub(super) fn get_blocking(&self, key: &Key) -> Option<Bytes> {
        self.shared.known(key).unwrap_or_else(|| self.shared.read(key))
    }

    /// All records of a table whose key begins with `prefix` and that `keep` wants, in order. Blocks.
    pub(super) fn scan(&self, table: Table, prefix: &[u8], keep: impl Fn(&[u8]) -> bool) -> BTreeMap<Box<[u8]>, Bytes> {
        self.scan_some(table, prefix, usize::MAX, keep)
    }

    /// The same, but no more than `most` records of those that are on the disk.
    pub(super) fn scan_some(
        &self,
        table: Table,
        prefix: &[u8],
        most: usize,
        keep: impl Fn(&[u8]) -> bool,
    ) -> BTreeMap<Box<[u8]>, Bytes> {
        let waiting = self.shared.state().overlay.scan(table, prefix);
        let mut found = BTreeMap::new();
        let is_whole = self.shared.database.scan(table, prefix, most, &keep, &mut found).unwrap_or_else(|fault| {
            self.shared.report(fault);
            false
        });
        if !is_whole {
            // What is found by name must be found here too, or it could not be removed.
            found.extend(self.shared.remembered(table, prefix, &keep).take(most));
        }
        for (key, value) in waiting.into_iter().filter(|(key, _)| keep(key)) {
            match value {
                Some(value) => found.insert(key, value),
                None => found.remove(&key),
            };
        }
        found
    }

    /// Somebody deleted the file: what was in it is not known any more, and what comes goes to a new one.
    pub(super) fn begin_anew(&self) {
        self.shared.forget();
        self.shared.report(Fault::Deleted);
    }

    /// Returns when all that was written before is durable, or the disk has refused it. Cancelling changes nothing.
    pub(super) async fn flush(&self) {
        let (round, mut ended) = self.shared.hurry();
        if ended.wait_for(|ended| *ended >= round).await.is_err() {
            tracing::error!("nothing writes the index any more");
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.shared.stop();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread that writes the index ended by a panic");
        }
    }
}

impl Shared {
    /// What is known of a key without the file.
    fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        self.hot.get(key).map(Some).or_else(|| self.state().overlay.get(key))
    }

    /// Reads the file, and keeps what it says in memory unless something was written meanwhile. Blocks.
    fn read(&self, key: &Key) -> Option<Bytes> {
        let (waiting, writes) = {
            let state = self.state();
            (state.overlay.get(key), state.overlay.writes())
        };
        if let Some(known) = waiting {
            return known;
        }
        match self.database.get(key) {
            Ok(Some(value)) => {
                let state = self.state();
                if state.overlay.writes() == writes {
                    self.hot.insert(key.clone(), value.clone());
                }
                Some(value)
            }
            Ok(None) => None,
            Err(fault) => {
                self.report(fault);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
