//! The index file: redb, opened, read, written, and set aside when it is damaged.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use redb::{Builder, ReadableDatabase, TableDefinition};

use super::{Key, Table};
use crate::store::disk::Disk;

/// What redb may keep in memory. Hot records are kept by the caller.
const PAGE_CACHE: usize = 32 << 20;

const TABLES: [TableDefinition<&[u8], &[u8]>; 8] = [
    TableDefinition::new("links"),
    TableDefinition::new("tags"),
    TableDefinition::new("lists"),
    TableDefinition::new("blobs"),
    TableDefinition::new("pins"),
    TableDefinition::new("reached"),
    TableDefinition::new("children"),
    TableDefinition::new("parents"),
];

/// Why the index could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The file is not what redb wrote. It is of no further use.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// Somebody deleted the file.
    #[error("the index was deleted")]
    Deleted,
    /// The disk failed or is full. It may work again, after the file was closed.
    #[error("the index cannot be used: {0}")]
    Failed(String),
}

impl Fault {
    /// Which of two is to be acted on, this or the one that was found `before`: of a file that is damaged or gone, what was read is
    /// still to be forgotten.
    pub(super) fn after(self, before: Option<Self>) -> Self {
        before.filter(|before| !matches!(before, Self::Failed(_))).unwrap_or(self)
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        let error = error.into();
        let damaged = match &error {
            redb::Error::Io(error) => matches!(error.kind(), InvalidData | UnexpectedEof),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => true,
            _ => false,
        };
        if damaged { Self::Damaged(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// What one commit writes: a value to put, or `None` to remove.
pub(super) type Batch = BTreeMap<Key, Option<Bytes>>;

/// The file. All methods block.
pub(super) struct Database {
    path: PathBuf,
    broken: PathBuf,
    disk: Disk,
    opened: RwLock<Opened>,
}

#[derive(Default)]
struct Opened {
    database: Option<redb::Database>,
    /// Which file was open last.
    file: Option<Identity>,
}

/// Tells a file from one that was put in its place: device, inode, and when it was made, because inodes are used again.
#[derive(PartialEq, Eq)]
struct Identity(u64, u64, Option<SystemTime>);

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        Some(Self(metadata.dev(), metadata.ino(), metadata.created().ok()))
    }
}

impl Database {
    /// Not open yet.
    pub(super) fn new(path: PathBuf, broken: PathBuf, disk: Disk) -> Self {
        Self { path, broken, disk, opened: RwLock::default() }
    }

    /// Opens the file where it is not open, making it where it is missing. One that is open is left to its readers: asking
    /// for it exclusively would wait for the longest scan, and all other readers behind that. Whether it is another file than
    /// was open before, which what was read of that one says nothing of.
    pub(super) fn open(&self) -> Result<bool, Fault> {
        if self.is_open() {
            return Ok(false);
        }
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.database.is_some() {
            return Ok(false);
        }
        opened.database = Some(guarded(|| self.open_file())?);
        let file = Identity::of(&self.path);
        let is_other = opened.file.is_some() && opened.file != file;
        opened.file = file;
        Ok(is_other)
    }

    pub(super) fn is_open(&self) -> bool {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).database.is_some()
    }

    /// Closes the file, and sets it aside where it is damaged. It must be opened anew.
    pub(super) fn close(&self, why: &Fault) {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        let close = || {
            drop(opened.database.take());
            Ok(())
        };
        if let Err(fault) = guarded(close) {
            tracing::warn!(%fault, "the index did not close well");
        }
        if matches!(why, Fault::Damaged(_)) {
            self.set_aside();
        }
    }

    fn set_aside(&self) {
        if let Err(error) = std::fs::rename(&self.path, &self.broken) {
            tracing::warn!(path = %self.path.display(), %error, "the damaged index cannot be set aside");
        }
    }

    /// The value of a key. A file that is not open has none.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Bytes>, Fault> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(TABLES[key.table as usize])?;
            Ok(table.get(key.bytes.as_ref())?.map(|value| Bytes::copy_from_slice(value.value())))
        })
        .map(Option::flatten)
    }

    /// Adds the first `most` records of a table to `into` whose key begins with `prefix` and that `keep` wants. Whether the file is
    /// open.
    pub(super) fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        most: usize,
        keep: &dyn Fn(&[u8]) -> bool,
        into: &mut BTreeMap<Box<[u8]>, Bytes>,
    ) -> Result<bool, Fault> {
        self.read(|database| {
            let rows = database.begin_read()?.open_table(TABLES[table as usize])?;
            for row in rows.range(prefix..)? {
                let (key, value) = row?;
                if into.len() >= most || !key.value().starts_with(prefix) {
                    break;
                }
                if keep(key.value()) {
                    into.insert(key.value().into(), Bytes::copy_from_slice(value.value()));
                }
            }
            Ok(true)
        })
        .map(Option::unwrap_or_default)
    }

    /// Writes a batch, whole or not at all; durable when this returns.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        let written = self.read(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            for (number, definition) in TABLES.into_iter().enumerate() {
                let mut changes = batch.iter().filter(|(key, _)| key.table as usize == number).peekable();
                if changes.peek().is_none() {
                    continue;
                }
                let mut table = transaction.open_table(definition)?;
                for (key, value) in changes {
                    match value {
                        Some(value) => table.insert(key.bytes.as_ref(), value.as_ref())?,
                        None => table.remove(key.bytes.as_ref())?,
                    };
                }
            }
            Ok(transaction.commit()?)
        })?;
        written.ok_or_else(|| Fault::Failed("it is not open".to_owned()))
    }

    fn read<T>(&self, work: impl FnOnce(&redb::Database) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.database.as_ref().map(|database| guarded(|| work(database))).transpose()
    }

    /// Opening also makes missing tables, which finds a damaged root.
    fn open_file(&self) -> Result<redb::Database, Fault> {
        let database = self.disk.index(Builder::new().set_cache_size(PAGE_CACHE), &self.path)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        for table in TABLES {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        Ok(database)
    }
}

/// redb trusts a file that was closed well, and may panic where something else then changed it.
fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault::Damaged("reading it panicked".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(folder: &std::path::Path) -> Database {
        Database::new(folder.join("index"), folder.join("broken"), Disk::default())
    }

    fn key(table: Table, bytes: &[u8]) -> Key {
        Key { table, bytes: bytes.into() }
    }

    #[test]
    fn a_batch_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = database(folder.path());
        first.open().unwrap();
        let put = |bytes: &[u8]| (key(Table::Links, bytes), Some(Bytes::from_static(b"v")));
        first.commit(&Batch::from([put(b"aa"), put(b"ab"), put(b"b")])).unwrap();
        first.commit(&Batch::from([(key(Table::Links, b"aa"), None)])).unwrap();
        drop(first);
        let second = database(folder.path());
        second.open().unwrap();
        assert_eq!(second.get(&key(Table::Links, b"aa")), Ok(None));
        assert_eq!(second.get(&key(Table::Tags, b"ab")), Ok(None));
        let mut found = BTreeMap::new();
        second.scan(Table::Links, b"a", usize::MAX, &|_| true, &mut found).unwrap();
        assert_eq!(found.keys().map(|key| &**key).collect::<Vec<_>>(), [b"ab"]);
        found.clear();
        second.scan(Table::Links, b"", 1, &|_| true, &mut found).unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn after_a_kill_no_repair_reads_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let killed = database(folder.path());
        killed.open().unwrap();
        let copy = |name: &str| {
            std::fs::copy(folder.path().join("index"), folder.path().join(name)).unwrap();
            let is_repaired = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let note = is_repaired.clone();
            let mut builder = Builder::new();
            builder.set_repair_callback(move |_| note.store(true, std::sync::atomic::Ordering::Relaxed));
            drop(builder.open(folder.path().join(name)).unwrap());
            is_repaired.load(std::sync::atomic::Ordering::Relaxed)
        };
        assert!(!copy("just opened"));
        killed.commit(&Batch::from([(key(Table::Links, b"a"), Some(Bytes::from_static(b"v")))])).unwrap();
        assert!(!copy("written"));
    }

    #[test]
    fn an_index_of_before_there_was_a_table_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let old = redb::Database::create(folder.path().join("index")).unwrap();
        let transaction = old.begin_write().unwrap();
        transaction.open_table(TABLES[0]).unwrap().insert(b"a".as_slice(), b"v".as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(old);
        let database = database(folder.path());
        database.open().unwrap();
        assert_eq!(database.get(&key(Table::Parents, b"a")), Ok(None));
        let mut found = BTreeMap::new();
        database.scan(Table::Reached, b"", 1, &|_| true, &mut found).unwrap();
        assert_eq!(database.get(&key(Table::Links, b"a")), Ok(Some(Bytes::from_static(b"v"))));
    }

    #[test]
    fn a_long_scan_holds_up_neither_writer_nor_readers() {
        let folder = tempfile::tempdir().unwrap();
        let database = std::sync::Arc::new(database(folder.path()));
        database.open().unwrap();
        let put = |bytes: &[u8]| (key(Table::Links, bytes), Some(Bytes::from_static(b"v")));
        database.commit(&Batch::from([put(b"a")])).unwrap();
        let during = |_: &[u8]| {
            let (other, (done, ended)) = (database.clone(), std::sync::mpsc::channel());
            std::thread::spawn(move || {
                other.open().unwrap();
                other.commit(&Batch::from([put(b"b")])).unwrap();
                done.send(other.get(&key(Table::Links, b"b"))).unwrap();
            });
            let read = ended.recv_timeout(std::time::Duration::from_secs(60)).expect("it does not wait for the scan");
            read == Ok(Some(Bytes::from_static(b"v")))
        };
        let mut found = BTreeMap::new();
        database.scan(Table::Links, b"", usize::MAX, &during, &mut found).unwrap();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_damaged_file_is_told_from_a_failing_disk() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index"), vec![7; 100_000]).unwrap();
        let damaged = database(folder.path());
        let fault = damaged.open().unwrap_err();
        assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
        damaged.close(&fault);
        damaged.open().unwrap();
        assert_eq!(std::fs::read(folder.path().join("broken")).unwrap().len(), 100_000);

        let failing = Database::new(folder.path().to_owned(), folder.path().join("x"), Disk::default());
        assert!(matches!(failing.open(), Err(Fault::Failed(_))));
        assert_eq!(failing.get(&key(Table::Tags, b"")), Ok(None));
    }

    #[test]
    fn pages_that_something_else_wrote_over_are_damage_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let first = database(folder.path());
        first.open().unwrap();
        let many = (0..2000u32).map(|i| (key(Table::Tags, &i.to_be_bytes()), Some(Bytes::from(vec![1; 100]))));
        first.commit(&many.collect()).unwrap();
        drop(first);
        let path = folder.path().join("index");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8192..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let second = database(folder.path());
        let result = second.open().and_then(|_| second.get(&key(Table::Tags, &7u32.to_be_bytes())));
        assert!(matches!(result, Err(Fault::Damaged(_))), "{result:?}");
    }
}
