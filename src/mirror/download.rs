//! One upstream download of one blob, feeding all who ask for it.
//!
//! A download is a task on the tracker and belongs to no client: whoever leaves, it goes on. It appends to a partial file,
//! hashes what it appends, and publishes how far it is; readers follow behind at their own speed and are never waited for.
//!
//! ```text
//! Asking ──head──▶ Filling ──all bytes, digest equal──▶ Verified ──▶ (durable, linked, gone from the table)
//!    │                │
//!    └──error──▶ Failed ◀──wrong digest, wrong length, or broken too often
//! ```
//!
//! The last bytes stay behind [`hold::released`] until `Verified`, so nobody ever completes a wrong answer. Making the blob
//! durable comes after that and holds nobody up.

mod fill;
mod hold;
mod reader;
mod rests;
mod resume;
mod through;

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use super::error::{Error, Kind};
use super::place::Place;
use crate::oci::{Digest, RegistryName, RepositoryName};
use crate::store::{Blob, Partial};
use fill::Fill;
pub(super) use reader::Reader;
use rests::Rests;
pub(super) use through::Through;

/// More downloads than this at once are refused with 503, so that descriptors and memory stay bounded.
const MAX_DOWNLOADS: usize = 512;

type Key = (RegistryName, Digest);
type Table = Arc<Mutex<HashMap<Key, Arc<Download>>>>;

/// The downloads under way, at most one per registry and digest.
pub(super) struct Downloads {
    open: Table,
    rests: Arc<Rests>,
}

/// A download under way, or one that just ended.
#[derive(Debug)]
pub(super) struct Download {
    /// The repository it is fetched through: success proves the link for that one.
    pub(super) repository: RepositoryName,
    source: OnceLock<Source>,
    progress: watch::Sender<Phase>,
}

/// Where readers find the bytes.
#[derive(Debug)]
struct Source {
    file: Arc<File>,
    /// `None` where the blob turned out to be stored already.
    partial: Option<Arc<Partial>>,
    length: Option<u64>,
}

/// How far a download is.
#[derive(Clone, Debug)]
enum Phase {
    /// The upstream has not answered yet.
    Asking,
    /// Bytes are coming; the partial file knows which are there.
    Filling,
    /// All `length` bytes are there and are what the digest says.
    Verified { length: u64 },
    /// There is no room for it: whoever wants it has it passed through.
    NoRoom,
    /// It is over without a blob.
    Failed(Error),
}

/// What a download has for those who wait for its head.
#[derive(Debug)]
pub(super) enum Head {
    /// Bytes are coming; the length where it is known.
    Coming(Option<u64>),
    /// It cannot be stored.
    NoRoom,
}

impl Downloads {
    pub(super) fn new() -> Self {
        Self { open: Table::default(), rests: Arc::default() }
    }

    /// The download of `digest` from this registry, if one is under way.
    pub(super) fn find(&self, registry: &RegistryName, digest: &Digest) -> Option<Arc<Download>> {
        self.lock().get(&(registry.clone(), *digest)).cloned()
    }

    /// Nobody joins the downloads that fit from now on. Those who read them go on.
    pub(super) fn forget(&self, fits: impl Fn(&RegistryName, &RepositoryName, &Digest) -> bool) {
        self.lock().retain(|(registry, digest), download| !fits(registry, &download.repository, digest));
    }

    /// Joins the download of `digest`, or starts one through `place`. The flag says whether it was joined.
    /// `expected` is the length a manifest gave, where one did.
    ///
    /// # Errors
    /// `Overloaded` when too many are under way.
    pub(super) fn join_or_start(
        &self,
        mirror: &Arc<super::Mirror>,
        place: &Place,
        digest: &Digest,
        expected: Option<u64>,
    ) -> Result<(Arc<Download>, bool), Error> {
        let key = (place.name.clone(), *digest);
        let mut open = self.lock();
        if let Some(download) = open.get(&key) {
            return Ok((download.clone(), true));
        }
        if open.len() >= MAX_DOWNLOADS {
            return Err(Error::new(Kind::Overloaded, format!("{MAX_DOWNLOADS} downloads are under way; ask again"))
                .after(std::time::Duration::from_secs(2)));
        }
        let download = Arc::new(Download::new(place.repository.clone()));
        open.insert(key.clone(), download.clone());
        let mut registered = Registered { open: self.open.clone(), key, download: download.clone(), reason: Error::stopped() };
        let fill = Fill {
            mirror: mirror.clone(),
            place: place.clone(),
            digest: *digest,
            expected,
            download: download.clone(),
            rests: self.rests.clone(),
        };
        mirror.spawn(async move {
            if let Err(error) = fill.run().await {
                registered.reason = error;
            }
            drop(registered);
        });
        Ok((download, false))
    }

    /// How many are under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Download>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may stand in its place by now, when this one was forgotten.
        if open.get(&self.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.download)) {
            open.remove(&self.key);
        }
        drop(open);
        self.download.fail_unless_over(self.reason.clone());
    }
}

impl Download {
    fn new(repository: RepositoryName) -> Self {
        Self { repository, source: OnceLock::new(), progress: watch::Sender::new(Phase::Asking) }
    }

    /// Waits for the upstream's head. Dropping this future leaves the download going on.
    ///
    /// # Errors
    /// Why there will be no bytes.
    pub(super) async fn head(&self) -> Result<Head, Error> {
        let mut progress = self.progress.subscribe();
        // A head that promises nothing is a whole answer already, so it waits for the digest.
        let told = |phase: &Phase| match phase {
            Phase::Asking => false,
            Phase::Filling => self.length() != Some(0),
            Phase::Verified { .. } | Phase::NoRoom | Phase::Failed(_) => true,
        };
        let phase = progress.wait_for(told).await.map_err(|_| Error::stopped())?.clone();
        match phase {
            Phase::Failed(error) => Err(error),
            Phase::NoRoom => Ok(Head::NoRoom),
            Phase::Verified { length } => Ok(Head::Coming(Some(length))),
            Phase::Asking | Phase::Filling => Ok(Head::Coming(self.source.get().and_then(|source| source.length))),
        }
    }

    /// The length, where it is known already.
    pub(super) fn length(&self) -> Option<u64> {
        self.source.get().and_then(|source| source.length)
    }

    fn begin(&self, partial: &Arc<Partial>, length: Option<u64>) {
        let source = Source { file: partial.file().clone(), partial: Some(partial.clone()), length };
        self.source.set(source).expect("a download begins once");
        self.progress.send_replace(Phase::Filling);
    }

    fn adopt(&self, blob: &Blob) {
        let source = Source { file: blob.file.clone(), partial: None, length: Some(blob.size) };
        self.source.set(source).expect("a download begins once");
        self.progress.send_replace(Phase::Verified { length: blob.size });
    }

    /// More bytes are in the file.
    fn grown(&self) {
        self.progress.send_replace(Phase::Filling);
    }

    fn verified(&self, length: u64) {
        self.progress.send_replace(Phase::Verified { length });
    }

    fn no_room(&self) {
        self.progress.send_replace(Phase::NoRoom);
    }

    fn fail_unless_over(&self, error: Error) {
        self.progress.send_if_modified(|phase| {
            let open = matches!(phase, Phase::Asking | Phase::Filling);
            if open {
                *phase = Phase::Failed(error);
            }
            open
        });
    }
}
