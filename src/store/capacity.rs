//! Room for content: reserving it, and evicting for it. Everything here blocks.

use std::fs::File;
use std::sync::Arc;

use super::content::{Content, lock, now};
use super::error::{Error, Kind};
use super::eviction::{STEP, Victim};
use super::index::Table;
use super::records::{blob_key, digest_bytes};
use crate::oci::Digest;

/// How much is evicted at least when the file system turns out to be full.
const RELIEF: u64 = 16 << 20;
/// How many uses are written down as one.
const USES: usize = 4096;

/// To give back the bytes of a file this large takes the file system a while.
pub(super) const LARGE: u64 = 16 << 20;

/// A deleted file that is open: its bytes stay on the disk until it is closed. That is done here and not by its last reader, who has
/// other readers to serve and no time for it.
#[derive(Debug)]
pub(super) struct Lingering {
    file: Arc<File>,
    size: u64,
}

impl Content {
    /// Keeps `bytes` for content to come, and evicts for it. They are promised of the file system, until [`Space::took`]; to be
    /// given back by [`Content::release`] behind that.
    ///
    /// [`Space::took`]: super::space::Space::took
    ///
    /// # Errors
    /// `NoRoom`; then nothing is kept.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), Error> {
        self.count_lingering();
        self.make_way(bytes);
        self.take_room(bytes)?;
        let kept = self.keep_cap(bytes).and_then(|()| self.keep_free(bytes));
        kept.inspect_err(|_| self.table().release(bytes))
    }

    /// Has parked downloads go before content does, if that helps.
    fn make_way(&self, bytes: u64) {
        let movable = self.parked().reserved();
        if movable > 0 && self.table().shortage(bytes, movable).is_some() {
            self.drop_parked(|_| self.table().shortage(bytes, 0) == Some(0));
        }
    }

    /// Evicts in steps, so that who wants the table meanwhile need not wait for thousands of small files, however many reserve at
    /// once.
    fn take_room(&self, bytes: u64) -> Result<(), Error> {
        let mut most = STEP;
        loop {
            let (victims, is_enough) = {
                let mut table = self.table();
                table.reserve_in_steps(bytes, most).map_err(|_| no_room(bytes, table.cap()))?
            };
            if !self.evict(victims) {
                // What the disk keeps comes back into the table: to go on like this might never end.
                most = usize::MAX;
            }
            if is_enough {
                return Ok(());
            }
        }
    }

    /// Gives back what was reserved and not used.
    pub(super) fn release(&self, bytes: u64) {
        self.table().release(bytes);
        self.space.gave(bytes);
    }

    /// The file system is full though it should not be: evicts something. Whether that may have helped.
    pub(super) fn relieve(&self, bytes: u64) -> bool {
        let wanted = bytes.max(RELIEF);
        let closed = self.count_lingering();
        let freed = closed + self.drop_parked(|freed| closed + freed >= wanted);
        self.free(wanted.saturating_sub(freed)).is_some_and(|evicted| freed > 0 || evicted > 0)
    }

    /// Evicts at least `bytes`, in steps as well; nothing where there is not that much to evict. How many blobs went; `None` where
    /// the disk did not let one.
    fn free(&self, mut bytes: u64) -> Option<usize> {
        let mut count = 0;
        loop {
            let victims = self.table().free(bytes, STEP);
            if victims.is_empty() {
                return Some(count);
            }
            bytes = victims.iter().fold(bytes, |bytes, victim| bytes.saturating_sub(victim.size));
            count += victims.len();
            if !self.evict(victims) {
                return None;
            }
        }
    }

    /// Deletes what the table gave up. What cannot be deleted goes back into it and is counted. Whether all went.
    pub(super) fn evict(&self, victims: Vec<Victim>) -> bool {
        if victims.is_empty() {
            return true;
        }
        let kept = victims.into_iter().filter(|victim| !self.delete(*victim)).count();
        self.count_lingering();
        self.report_usage();
        kept == 0
    }

    /// Deletes one evicted file, unless the same content came anew meanwhile. `false` where the disk does not let it.
    fn delete(&self, victim: Victim) -> bool {
        let _stripe = self.stripe(&victim.digest);
        if self.table().size(&victim.digest).is_some() {
            return true;
        }
        let lingers = self.close(&victim.digest, victim.size);
        match self.unlink(&victim.digest) {
            Ok(_) => {
                self.telemetry.metrics.evicted(victim.size);
                self.forget(&victim.digest);
                if !lingers {
                    self.space.gave(victim.size);
                }
                true
            }
            Err(error) => {
                self.table().restore(victim, now());
                self.failed("delete", "cannot delete", &self.layout.blob(&victim.digest), error);
                false
            }
        }
    }

    /// Drops content that is to be deleted from memory, and its file from those that are open. Whether readers still hold it open.
    /// What is known to be large stays open in any case, so that its bytes are given back under no stripe.
    pub(super) fn close(&self, digest: &Digest, size: u64) -> bool {
        self.memory.remove(digest);
        let open = match self.files.remove(digest) {
            Some(blob) => Some((blob.file, blob.size)),
            // Where it cannot be opened, it is deleted as others are.
            None if size >= LARGE => self.disk.open(&self.layout.blob(digest)).ok().map(|file| (Arc::new(file), size)),
            None => None,
        };
        let Some((file, size)) = open else { return false };
        let lingers = Arc::strong_count(&file) > 1;
        if lingers {
            self.table().linger(size);
        }
        if lingers || size >= LARGE {
            lock(&self.lingering).push(Lingering { file, size: if lingers { size } else { 0 } });
        }
        lingers
    }

    /// Drops what is recorded of content that is gone, links and lineage included: so the index grows no larger than the cache.
    pub(super) fn forget(&self, digest: &Digest) {
        self.index.remove(blob_key(digest));
        // Before the links: who learns both anew meanwhile writes them the other way round, and no link outlives its lineage.
        self.forget_lineage(digest);
        for link in self.index.scan(Table::Links, &digest_bytes(digest), |_| true).into_keys() {
            self.index.remove(super::index::Key { table: Table::Links, bytes: link });
        }
    }

    /// Writes down some of the uses that were not yet. Whether there may be more.
    pub(super) fn save_uses(&self) -> bool {
        for _ in 0..USES / STEP {
            let uses = self.table().take_uses(STEP);
            for used in &uses {
                self.index.put(blob_key(&used.digest), used.encode());
            }
            if uses.len() < STEP {
                return false;
            }
        }
        true
    }

    /// Closes the files that nobody reads any more. How many bytes that gave back.
    pub(super) fn count_lingering(&self) -> u64 {
        let closed: Vec<Lingering> =
            lock(&self.lingering).extract_if(.., |lingering| Arc::strong_count(&lingering.file) == 1).collect();
        let bytes = closed.iter().map(|lingering| lingering.size).sum();
        if !closed.is_empty() {
            drop(closed);
            self.table().lingered(bytes);
        }
        bytes
    }

    /// Evicts more in the place of what readers still hold open.
    fn keep_cap(&self, bytes: u64) -> Result<(), Error> {
        loop {
            let (victims, fits, cap) = {
                let mut table = self.table();
                (table.trim(STEP), table.fits(), table.cap())
            };
            if victims.is_empty() {
                return if fits { Ok(()) } else { Err(no_room(bytes, cap)) };
            }
            if !self.evict(victims) {
                return Err(no_room(bytes, cap));
            }
        }
    }

    /// Sees to it that a tenth of the file system is still free after `bytes` more, and has them promised. A file system that cannot
    /// be measured is taken to have room: writing will tell.
    fn keep_free(&self, bytes: u64) -> Result<(), Error> {
        let promise = || {
            self.space.promise(bytes).unwrap_or_else(|error| {
                self.failed("measure", "cannot measure", self.layout.root(), error);
                0
            })
        };
        let short = promise();
        if short == 0 {
            return Ok(());
        }
        let freed = self.drop_parked(|freed| freed >= short);
        self.free(short.saturating_sub(freed));
        if promise() == 0 {
            return Ok(());
        }
        let root = self.layout.root().display();
        let message = format!("{bytes} bytes would leave less than a tenth of the file system of {root} free; make room there");
        self.troubled("room", message.clone());
        Err(Error::new(Kind::NoRoom, message))
    }
}

fn no_room(bytes: u64, cap: u64) -> Error {
    let message = format!(
        "{bytes} bytes do not fit into the cache of {cap} bytes beside what is pinned, being fetched or still being read; raise cache.max_size"
    );
    Error::new(Kind::NoRoom, message)
}
