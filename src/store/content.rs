//! Content by digest: the files, the memory in front of them, and the table that says what may stay.
//!
//! Everything here blocks and belongs on the blocking pool, except [`Content::hot`] and [`Content::in_memory`].
//!
//! What is done to the file of a digest (open, place, delete) happens under that digest's stripe, and the table is
//! asked under it: so a file that is evicted while the same content comes anew is not deleted with it. A stripe is taken
//! before the table's lock, never while it is held, and no two stripes at once. A check is begun before both.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::check::{Checked, State};
use super::disk::Disk;
use super::draft::Draft;
use super::error::{Error, Kind};
use super::eviction::{self, Use, Victim};
use super::files::{Blob, Files};
use super::index::{self, Index};
use super::known::Known;
use super::layout::Layout;
use super::machine::Machine;
use super::memory::{Kept, Memory};
use super::parked::Parked;
use super::records::{blob_key, seconds, split_digest};
use super::space::Space;
use super::trouble::{DELETING, READING, Trouble};
use crate::config;
use crate::oci::{Digest, MAX_MANIFEST};
use crate::telemetry::Telemetry;

/// Files of different stripes are worked on at once.
const STRIPES: usize = 64;

/// All stored content.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) index: Index,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) space: Space,
    pub(super) disk: Disk,
    pub(super) trouble: Trouble,
    /// Which start of the machine this is.
    pub(super) boot: String,
    pub(super) parked: Mutex<Parked>,
    pub(super) checked: Mutex<Checked>,
    pub(super) lingering: Mutex<Vec<super::capacity::Lingering>>,
    /// Records of lineage since it was last trimmed.
    pub(super) new_lineage: AtomicU64,
    pub(super) files: Files,
    pub(super) memory: Memory,
    table: Mutex<eviction::Table>,
    stripes: [Mutex<()>; STRIPES],
    /// Last, because it holds the lock of the folder, and the index must be closed before.
    pub(super) layout: Layout,
}

/// What a look at content found.
pub(super) enum Look {
    There(Blob),
    /// Something else wrote to it, or may have: it must be read through.
    Touched,
    Missing,
}

/// What there is of content whose stripe is held.
pub(super) enum Held {
    /// It, and what it drives out.
    There(Blob, Vec<Victim>),
    /// A file that something else wrote to, or may have.
    Touched(Blob),
    Missing,
}

impl Content {
    /// Opens the folder without looking at what content is in it.
    pub(super) fn open(config: &config::Cache, machine: Machine, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        let Machine { space, disk, boot } = machine;
        let layout = Layout::open(&config.directory, disk.clone())?;
        let cap = match config.max_size {
            Some(cap) => cap,
            None => space.measure().map_err(|error| Error::io("cannot measure", &config.directory, error))?.total / 10 * 8,
        };
        let index = Index::open(&layout, disk.clone(), telemetry.clone());
        let index = index.map_err(|error| Error::io("cannot start the thread for", &layout.index(), error))?;
        let rows = index.scan(index::Table::Pins, &[], |_| true);
        let pins: HashSet<Digest> = rows.keys().filter_map(|key| split_digest(key)).map(|(digest, _)| digest).collect();
        let content = Self {
            index,
            telemetry,
            space,
            disk,
            trouble: Trouble::default(),
            boot,
            parked: Mutex::default(),
            checked: Mutex::default(),
            lingering: Mutex::default(),
            new_lineage: AtomicU64::new(0),
            files: Files::default(),
            memory: Memory::new(config.memory),
            table: Mutex::new(eviction::Table::new(cap, pins)),
            stripes: std::array::from_fn(|_| Mutex::default()),
            layout,
        };
        content.well();
        content.find_parked();
        Ok(content)
    }

    /// Content whose file is open already, if that is still what it was; counts a use.
    pub(super) fn hot(&self, digest: &Digest) -> Option<Blob> {
        let (blob, modified) = self.files.get(digest)?;
        self.state(&blob, modified).ok().filter(|state| *state == State::Same)?;
        self.used(&blob.known, digest);
        Some(blob)
    }

    /// Content in memory; counts a use. No system call.
    pub(super) fn in_memory(&self, digest: &Digest) -> Option<Arc<Kept>> {
        let kept = self.memory.get(digest)?;
        self.used(&kept.known, digest);
        Some(kept)
    }

    /// Counts a use of content that is at hand. The table's lock is taken only where that makes a difference.
    pub(super) fn used(&self, known: &Known, digest: &Digest) {
        let now = now();
        if known.counts(now) {
            self.table().touch(digest, now);
        }
    }

    /// Opens content; counts a use. A file that is not as long as it was is deleted and not there.
    pub(super) fn look(&self, digest: &Digest) -> Result<Look, Error> {
        let stripe = self.stripe(digest);
        let held = self.open_held(digest)?;
        drop(stripe);
        Ok(match held {
            Held::Missing => Look::Missing,
            Held::Touched(_) => Look::Touched,
            Held::There(blob, victims) => {
                self.evict(victims);
                Look::There(blob)
            }
        })
    }

    /// Opens content; counts a use. A file that is not as long as it was is deleted and not there, one that something else
    /// wrote to is read first.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        // What is written to again and again while it is read is as good as not there.
        for _ in 0..3 {
            match self.look(digest)? {
                Look::Missing => return Ok(None),
                Look::There(blob) => return Ok(Some(blob)),
                Look::Touched if self.check(digest) => return Ok(None),
                Look::Touched => {}
            }
        }
        Ok(None)
    }

    /// Reads small content and checks its digest. A file that fails is deleted and not there.
    pub(super) fn read(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        let Some(blob) = self.open_blob(digest)? else { return Ok(None) };
        if blob.size > MAX_MANIFEST {
            return Err(Error::new(Kind::TooLarge, format!("{digest} has {} bytes and is not read into memory", blob.size)));
        }
        let mut bytes = vec![0; usize::try_from(blob.size).expect("at most 4 MiB")];
        let read = self.disk.read_at(&blob.file, &mut bytes, 0);
        let right = read.is_ok() && Digest::of(digest.algorithm(), &bytes) == *digest;
        let _stripe = self.stripe(digest);
        if !right {
            self.discard(digest, "its content is not what its name says, or cannot be read");
            read.map_err(|error| self.failed("read", "cannot read", &self.layout.blob(digest), error))?;
            return Ok(None);
        }
        self.worked(READING);
        let bytes = Bytes::from(bytes);
        if self.table().size(digest).is_some() {
            self.memory.insert(*digest, bytes.clone());
        }
        Ok(Some(bytes))
    }

    /// Stores verified content, unless it is there.
    pub(super) fn put(self: &Arc<Self>, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        if self.open_blob(digest)?.is_some() {
            return Ok(());
        }
        let draft = Draft::new(self.clone(), bytes.len() as u64, None)?;
        draft.write(0, bytes)?;
        self.place(draft, digest, bytes.len() as u64).map(drop)
    }

    /// Makes a draft of `size` bytes durable as the content of `digest`. Where that is there already, the draft goes.
    pub(super) fn place(&self, mut draft: Draft, digest: &Digest, size: u64) -> Result<Blob, Error> {
        let started = Instant::now();
        draft.sync()?;
        let modified = draft.modified()?;
        let stripe = self.stripe(digest);
        let (blob, victims) = match self.open_held(digest)? {
            Held::There(blob, victims) => (blob, victims),
            held => {
                if let Held::Touched(_) = held {
                    self.discard(digest, "something else wrote to it, and it came anew");
                }
                let placed = self.layout.place(draft.path(), digest).inspect_err(|error| self.remake_if_gone(error));
                placed.map_err(|error| self.failed("commit", "cannot place", &self.layout.blob(digest), error))?;
                let blob = Blob::new(digest, size, draft.file().clone());
                (blob.clone(), self.settle(&mut draft, &blob, modified))
            }
        };
        drop(stripe);
        self.evict(victims);
        let synced = self.layout.sync(digest);
        synced.map_err(|error| self.failed("sync", "cannot make durable the name", &self.layout.blob(digest), error))?;
        self.telemetry.metrics.committed(started.elapsed());
        self.wrote();
        self.report_usage();
        Ok(blob)
    }

    /// Deletes content and what is known of it. Whether there was any.
    pub(super) fn remove(&self, digest: &Digest) -> Result<bool, Error> {
        let stripe = self.stripe(digest);
        let known = self.table().remove(digest);
        self.close(digest, known.unwrap_or(0));
        match self.unlink(digest) {
            Ok(was_there) => {
                self.forget(digest);
                drop(stripe);
                self.count_lingering();
                self.report_usage();
                Ok(was_there)
            }
            Err(error) => {
                known.into_iter().for_each(|size| self.table().restore(Victim { digest: *digest, size }, now()));
                Err(self.failed("delete", "cannot delete", &self.layout.blob(digest), error))
            }
        }
    }

    /// Deletes content that is not what it should be. Its stripe must be held.
    pub(super) fn discard(&self, digest: &Digest, why: &str) {
        let path = self.layout.blob(digest);
        tracing::warn!(path = %path.display(), why, "deleting broken content; it will be fetched again");
        self.telemetry.metrics.store_failed("broken");
        let known = self.table().remove(digest);
        self.close(digest, known.unwrap_or(0));
        self.index.remove(blob_key(digest));
        if let Err(error) = self.unlink(digest) {
            self.failed("delete", "cannot delete", &path, error);
        }
    }

    /// What was recorded of content whose file lies there, where something was.
    pub(super) fn recorded(&self, digest: &Digest) -> Option<Use> {
        self.index.get_blocking(&blob_key(digest)).and_then(|row| Use::decode(*digest, &row))
    }

    pub(super) fn table(&self) -> MutexGuard<'_, eviction::Table> {
        lock(&self.table)
    }

    pub(super) fn stripe(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        lock(&self.stripes[usize::from(digest.bytes()[0]) % STRIPES])
    }

    pub(super) fn unlink(&self, digest: &Digest) -> io::Result<bool> {
        let was_there = self.disk.remove(&self.layout.blob(digest))?;
        self.worked(DELETING);
        Ok(was_there)
    }

    pub(super) fn report_usage(&self) {
        let (blobs, bytes) = {
            let table = self.table();
            (table.len() as u64, table.bytes())
        };
        self.telemetry.metrics.stored(blobs, bytes);
    }

    /// Opens content whose stripe is held, once for all who want it: then all its readers are known when it is deleted.
    pub(super) fn open_held(&self, digest: &Digest) -> Result<Held, Error> {
        let path = self.layout.blob(digest);
        if let Some((blob, modified)) = self.files.get(digest) {
            let state = self.state(&blob, modified);
            match state.map_err(|error| self.failed("open", "cannot look at", &path, error))? {
                State::Same => {
                    let victims = self.table().admit(digest, blob.size, now());
                    return Ok(Held::There(blob, victims));
                }
                State::Touched => return Ok(Held::Touched(blob)),
                State::Resized => {
                    drop(blob);
                    self.discard(digest, "its length has changed");
                    return Ok(Held::Missing);
                }
                State::Gone => {
                    drop(blob);
                    self.close(digest, 0);
                }
            }
        }
        let look = |file: File| self.disk.metadata(&file).and_then(|metadata| Ok((metadata.len(), metadata.modified()?, file)));
        let (size, modified, file) = match self.disk.open(&path).and_then(look) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lost(digest);
                return Ok(Held::Missing);
            }
            Err(error) => return Err(self.failed("open", "cannot open", &path, error)),
        };
        self.worked(&["open"]);
        let known = self.table().size(digest);
        if known.or_else(|| self.recorded(digest).map(|row| row.size)).is_some_and(|known| known != size) {
            self.discard(digest, "its length has changed");
            return Ok(Held::Missing);
        }
        let blob = Blob::new(digest, size, Arc::new(file));
        self.files.insert(blob.clone(), modified);
        let victims = self.table().admit(digest, size, now());
        Ok(Held::There(blob, victims))
    }

    /// The file of content that was there is not.
    fn lost(&self, digest: &Digest) {
        if self.table().size(digest).is_some() {
            self.table().remove(digest);
            self.close(digest, 0);
            self.index.remove(blob_key(digest));
        }
    }

    /// Turns a draft's reservation into stored content.
    fn settle(&self, draft: &mut Draft, blob: &Blob, modified: SystemTime) -> Vec<Victim> {
        let (digest, size, used) = (blob.digest, blob.size, now());
        self.files.insert(blob.clone(), modified);
        self.index.put(blob_key(&digest), Use { digest, size, used }.encode());
        let reserved = draft.placed();
        self.space.gave(reserved.saturating_sub(size));
        let mut table = self.table();
        table.release(reserved);
        table.admit(&digest, size, used)
    }
}

/// Every critical section here leaves its data whole, so one that panicked spoils nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time, as the table counts it.
pub(super) fn now() -> u32 {
    seconds(SystemTime::now())
}
