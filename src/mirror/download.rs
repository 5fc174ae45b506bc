//! One upstream download of one blob, feeding all who ask for it.
//!
//! A download is a task on the tracker and belongs to no client: whoever leaves, it goes on. Its bytes go into a partial file,
//! from which readers follow at their own speed and are never waited for; where there is no room for a file, or it fails, they
//! go by in a window that is paced by the slowest reader. Broken transfers are taken up where they stopped, wrong bytes are
//! fetched again from elsewhere, and no reader notices unless it has had a wrong byte already.
//!
//! ```text
//! Asking ──room──▶ Keeping ──all bytes, digest equal──▶ Verified ──▶ (durable, linked, gone from the table)
//!    │ │             │   ▲└─wrong bytes, another source: start over
//!    │ └─no room──▶ Passing ◀──the file takes no more─┘ ──digest equal──▶ Verified
//!    └──error──▶ Failed ◀──wrong bytes and nobody else to ask, broken too often, or nobody left to pass them to
//! ```
//!
//! | file | is |
//! |---|---|
//! | `phase` | the states above, and which follows on what (pure) |
//! | `fill` | the task: one attempt after the other, and what becomes of the file |
//! | `attempt` | what the parts of one attempt share, and how they run side by side |
//! | `feed` | an attempt's upstream side: the main transfer, resumed as often as need be |
//! | `sides` | small transfers beside it, for readers that are far ahead |
//! | `sink` | an attempt's other side: hash, write, or pass on |
//! | `plan` | what is fetched next (pure), `resume`: when and how a broken transfer goes on (pure) |
//! | `origins`, `rests` | who sent which bytes (pure), and who is not asked for a while because they were wrong |
//! | `reader` | one client's way through it; `hold`: how far it may go (pure) |
//! | `readers`, `ring` | all of them, and the window that they pace (pure) |
//!
//! The last bytes stay behind [`hold::released`] until `Verified`, so nobody ever completes a wrong answer. Making the blob
//! durable comes after that and holds nobody up.

mod attempt;
mod feed;
mod fill;
mod hold;
mod origins;
mod phase;
mod plan;
mod reader;
mod readers;
mod rests;
mod resume;
mod ring;
mod sides;
mod sink;

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::error::{Error, Kind};
use super::place::Place;
use crate::oci::{Digest, RegistryName, RepositoryName};
use crate::quota::{Allowance, Held};
use crate::store::{Blob, Partial};
use fill::Fill;
use phase::{Event, Phase};
pub(super) use reader::Reader;
use readers::Readers;
pub(super) use readers::Seat;
use rests::Rests;

/// More downloads than this at once are refused with 503, so that descriptors stay bounded.
pub const MAX_DOWNLOADS: usize = 512;
/// More windows than this at once are refused with 503, so that memory stays bounded: each holds half a mebibyte.
const MAX_WINDOWS: usize = 128;
/// When to ask again after that.
const LATER: Duration = Duration::from_secs(2);

type Key = (RegistryName, Digest);
type Table = Arc<Mutex<HashMap<Key, Arc<Download>>>>;

/// The downloads under way. At most one per registry and digest can be joined.
pub(super) struct Downloads {
    open: Table,
    running: Arc<AtomicUsize>,
    windows: Arc<Semaphore>,
    rests: Arc<Rests>,
}

/// A download under way, or one that just ended.
#[derive(Debug)]
pub(super) struct Download {
    /// The repository it is fetched through: success proves the link for that one.
    pub(super) repository: RepositoryName,
    progress: watch::Sender<Phase>,
    source: OnceLock<Source>,
    readers: Readers,
    /// How often it started over.
    attempt: AtomicU64,
    /// How far the main transfer is.
    front: AtomicU64,
    /// The right to the memory of a window, for as long as somebody may read from it.
    window: OnceLock<OwnedSemaphorePermit>,
}

/// What the upstream's head told, and where readers find the bytes that do not just go by.
#[derive(Debug)]
struct Source {
    length: Option<u64>,
    file: Option<Arc<File>>,
    /// `None` where there is no file, or the blob turned out to be stored already.
    partial: Option<Arc<Partial>>,
}

impl Source {
    /// The end of the bytes in the file that hold `at`, or `at` itself where that is not in a file.
    fn kept_until(&self, at: u64) -> u64 {
        match (&self.partial, &self.file) {
            (Some(partial), _) => partial.present_until(at),
            (None, Some(_)) => self.length.unwrap_or(at).max(at),
            (None, None) => at,
        }
    }
}

impl Downloads {
    pub(super) fn new() -> Self {
        let windows = Arc::new(Semaphore::new(MAX_WINDOWS));
        Self { open: Table::default(), running: Arc::default(), windows, rests: Arc::default() }
    }

    /// The download of `digest` from this registry, if one is under way.
    pub(super) fn find(&self, registry: &RegistryName, digest: &Digest) -> Option<Arc<Download>> {
        self.lock().get(&(registry.clone(), *digest)).cloned()
    }

    /// Nobody joins the downloads that fit from now on. Those who read them go on.
    pub(super) fn forget(&self, fits: impl Fn(&RegistryName, &RepositoryName, &Digest) -> bool) {
        self.lock().retain(|(registry, digest), download| !fits(registry, &download.repository, digest));
    }

    /// Takes a place among the readers of the download of `digest`, or of one that is started through `place`: where there is
    /// none, or its first bytes have gone by. The flag says whether it was joined. `expected` is the length a manifest gave,
    /// where one did.
    ///
    /// # Errors
    /// `Overloaded` when too many are under way, in all or of this `allowance`.
    pub(super) fn join_or_start(
        &self,
        mirror: &Arc<super::Mirror>,
        place: &Place,
        digest: &Digest,
        expected: Option<u64>,
        allowance: &Allowance,
    ) -> Result<(Seat, bool), Error> {
        let key = (place.name.clone(), *digest);
        let mut open = self.lock();
        if let Some(seat) = open.get(&key).and_then(Seat::take) {
            return Ok((seat, true));
        }
        let running = Running::one_more(&self.running)?;
        let held = allowance.download().map_err(|over| {
            mirror.telemetry.metrics.limited(over.by.as_str(), over.what.label());
            Error::new(Kind::Overloaded, over.to_string()).after(over.after)
        })?;
        let download = Arc::new(Download::new(place.repository.clone()));
        let seat = Seat::take(&download).ok_or_else(|| Error::new(Kind::Internal, "a new download has no place"))?;
        open.insert(key.clone(), download.clone());
        let mut registered = Registered {
            open: self.open.clone(),
            key,
            download: download.clone(),
            reason: Error::stopped(),
            _running: running,
            _held: held,
        };
        let fill = Fill {
            mirror: mirror.clone(),
            place: place.clone(),
            digest: *digest,
            expected,
            download,
            rests: self.rests.clone(),
            windows: self.windows.clone(),
        };
        mirror.spawn(async move {
            if let Err(error) = fill.run().await {
                registered.reason = error;
            }
            drop(registered);
        });
        Ok((seat, false))
    }

    /// How many are under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len().max(self.running.load(Ordering::Relaxed))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Download>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the downloads that may run at once; dropped when it is over.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn one_more(running: &Arc<AtomicUsize>) -> Result<Self, Error> {
        let one = Self(running.clone());
        if running.fetch_add(1, Ordering::Relaxed) < MAX_DOWNLOADS {
            return Ok(one);
        }
        Err(Error::new(Kind::Overloaded, format!("{MAX_DOWNLOADS} downloads are under way; ask again")).after(LATER))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes the download out of the table however its task ends, and fails it if that was not with a blob. The table comes first:
/// who learns of the failure and asks anew starts anew.
struct Registered {
    open: Table,
    key: Key,
    download: Arc<Download>,
    /// Why it failed; that the task was stopped, unless something else is known.
    reason: Error,
    _running: Running,
    _held: Held,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may stand in its place by now, when this one was forgotten or could not be joined any more.
        if open.get(&self.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.download)) {
            open.remove(&self.key);
        }
        drop(open);
        self.download.happened(Event::Over(self.reason.clone()));
    }
}

impl Download {
    fn new(repository: RepositoryName) -> Self {
        Self {
            repository,
            progress: watch::Sender::new(Phase::Asking),
            source: OnceLock::new(),
            readers: Readers::default(),
            attempt: AtomicU64::new(0),
            front: AtomicU64::new(0),
            window: OnceLock::new(),
        }
    }

    /// Waits for the upstream's head: the blob's length, where that is known. Dropping this future leaves the download going on.
    ///
    /// # Errors
    /// Why there will be no bytes.
    pub(super) async fn head(&self) -> Result<Option<u64>, Error> {
        let mut progress = self.progress.subscribe();
        // A head that promises nothing is a whole answer already, so it waits for the digest.
        let told = |phase: &Phase| match phase {
            Phase::Asking => false,
            Phase::Keeping | Phase::Passing => self.length() != Some(0),
            Phase::Verified { .. } | Phase::Failed(_) => true,
        };
        let phase = progress.wait_for(told).await.map_err(|_| Error::stopped())?.clone();
        match phase {
            Phase::Failed(error) => Err(error),
            Phase::Verified { length } => Ok(Some(length)),
            Phase::Asking | Phase::Keeping | Phase::Passing => Ok(self.length()),
        }
    }

    /// The length, where it is known already.
    pub(super) fn length(&self) -> Option<u64> {
        self.source.get().and_then(|source| source.length)
    }

    /// Whether its bytes stay where they can be read in any order, rather than going by.
    pub(super) fn is_kept(&self) -> bool {
        self.window.get().is_none()
    }

    fn begin(&self, partial: Option<&Arc<Partial>>, length: Option<u64>) {
        let file = partial.map(|partial| partial.file().clone());
        let event = if file.is_some() { Event::Room } else { Event::NoRoom };
        self.found(Source { length, file, partial: partial.cloned() }, event);
    }

    fn adopt(&self, blob: &Blob) {
        let source = Source { length: Some(blob.size), file: Some(blob.file.clone()), partial: None };
        self.found(source, Event::Right { length: blob.size });
    }

    fn found(&self, source: Source, event: Event) {
        self.source.set(source).expect("a download begins once");
        self.happened(event);
    }

    fn attempt(&self) -> u64 {
        self.attempt.load(Ordering::Acquire)
    }

    fn front(&self) -> u64 {
        self.front.load(Ordering::Relaxed)
    }

    fn reached(&self, at: u64) {
        self.front.store(at, Ordering::Relaxed);
    }

    fn started_over(&self) {
        self.attempt.fetch_add(1, Ordering::AcqRel);
        self.reached(0);
        self.happened(Event::More);
    }

    /// Tells the readers, where it changes anything.
    fn happened(&self, event: Event) {
        self.progress.send_if_modified(|phase| {
            let next = phase.after(event);
            let changed = next.is_some();
            next.into_iter().for_each(|next| *phase = next);
            changed
        });
    }
}
