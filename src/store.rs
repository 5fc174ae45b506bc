//! Bytes by digest and small records by name: the disk, the memory tier, partial files, the index and eviction.
//!
//! Content exists where its file does; the index can be lost and costs no more than questions to upstreams. Files are
//! complete, verified by the caller and durable before they get their name, so nothing that a crash leaves is ever served.
//! Which repositories may be served a digest is recorded as links, which are made of what upstreams said and of nothing else.
//!
//! Threads: whatever touches the disk runs on the blocking pool, and goes on when the future that waits for it is dropped.
//! One thread writes the index. Errors are for the caller to go on without the store: the proxy passes content through.

mod by_digest;
mod capacity;
mod check;
mod content;
mod disk;
mod draft;
mod error;
mod eviction;
mod files;
mod hasty;
mod hits;
mod index;
mod known;
mod layout;
mod lineage;
mod machine;
mod memory;
mod parked;
mod partial;
mod pool;
mod purge;
mod ranges;
mod records;
mod space;
mod sweep;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use error::{Error, Kind};
pub use files::{Blob, OPEN_FILES};
pub use hits::{AtHand, StoredManifest};
pub use known::Known;
pub use lineage::Lineage;
pub use memory::Kept;
pub use partial::Partial;
pub(crate) use pool::blocking;
#[cfg(test)]
pub(crate) use pool::inline_blocking;
pub use purge::Removed;
pub use records::{Link, ListRecord, TagRecord};

use crate::config;
use crate::oci::{Digest, MAX_MANIFEST, RegistryName, RepositoryName, Tag};
use crate::telemetry::Telemetry;
use content::{Content, Look, now};
#[cfg(test)]
pub(crate) use disk::{Faults, Operation};
use index::Table;
use machine::Machine;
use records::{MAX_LIST_KEY, children_key, link_key, list_key, pin_key, reached_key, scope, tag_key};

/// How often last uses are written down, and numbers told.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// After so many bytes of new lists it is checked whether there are too many.
const CHECK_LISTS: u64 = 8 << 20;

/// The store of one cache folder.
#[derive(Debug)]
pub struct Store {
    content: Arc<Content>,
    new_lists: AtomicU64,
    lists_grew: Notify,
    turns: Arc<Semaphore>,
}

/// How much is stored. While the folder is still being swept, what was found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Blobs, manifests among them.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens a cache folder, making it where it is missing. What is in it can be served at once; [`Store::run`] counts it.
    /// Dropping the future leaves the folder as it is, opened for a moment longer.
    ///
    /// # Errors
    /// `Locked` where another process uses the folder, `Foreign` where it holds something else, `Version` where its format is
    /// unknown, `Full` and `Io`.
    pub async fn open(config: &config::Cache, telemetry: Arc<Telemetry>) -> Result<Arc<Self>, Error> {
        Self::open_in(config, Machine::of(config.directory.clone()), telemetry).await
    }

    async fn open_in(config: &config::Cache, machine: Machine, telemetry: Arc<Telemetry>) -> Result<Arc<Self>, Error> {
        let config = config.clone();
        let content = blocking(move || Content::open(&config, machine, telemetry)).await?;
        Ok(Arc::new(Self {
            content: Arc::new(content),
            new_lists: AtomicU64::new(0),
            lists_grew: Notify::new(),
            turns: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Opens a cache folder on a disk that fails as `faults` say, with a file system that never runs out by itself.
    #[cfg(test)]
    pub(crate) async fn open_faulty(config: &config::Cache, telemetry: Arc<Telemetry>, faults: Faults) -> Result<Arc<Self>, Error> {
        Self::open_in(config, Machine::roomy(disk::Disk { faults: Some(faults), ..disk::Disk::default() }), telemetry).await
    }

    /// Sweeps the folder behind whoever serves, then keeps house until `stop`; returns when everything is durable. Dropping
    /// the future loses the last uses of up to a minute, and leaves the sweep to end by itself.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (content, stop_sweep) = (self.content.clone(), stop.clone());
        let sweep = pool::start(move || sweep::sweep(&content, &stop_sweep));
        let mut minute = tokio::time::interval(HOUSEKEEPING);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = minute.tick() => self.keep_house().await,
                () = self.lists_grew.notified() => self.with_content(|content| content.trim_lists()).await,
            }
        }
        if let Err(error) = sweep.await {
            tracing::error!(%error, "the sweep of the cache folder did not end well");
        }
        self.keep_house().await;
    }

    /// Opens stored content and counts a use. `None` where it is not stored, or was found broken and deleted. Content asked
    /// for of late costs one look at its open file; where something else wrote to that, all of it is read first. Cancelling
    /// leaves nothing behind.
    ///
    /// # Errors
    /// `Io` where the disk fails.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        if let Some(blob) = self.content.hot(digest) {
            return Ok(Some(blob));
        }
        let digest = *digest;
        match self.with_content(move |content| content.look(&digest)).await? {
            Look::There(blob) => Ok(Some(blob)),
            Look::Missing => Ok(None),
            Look::Touched => {
                let turn = self.turn().await;
                let open = move |content: &Arc<Content>| {
                    let _turn = turn;
                    content.open_blob(&digest)
                };
                self.with_content(open).await
            }
        }
    }

    /// Reads stored content of up to 4 MiB, from memory or from the disk into memory, and counts a use. What the disk
    /// gives is checked against the digest: broken content is deleted and `None`. Cancelling leaves nothing behind.
    ///
    /// # Errors
    /// `TooLarge`; `Io` where the disk fails.
    pub async fn read(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        if let Some(bytes) = self.in_memory(digest) {
            return Ok(Some(bytes));
        }
        let digest = *digest;
        self.with_content(move |content| content.read(&digest)).await
    }

    /// Stores small content that the caller has verified: in memory at once, durably on the disk when the future ends. It
    /// stays in memory where the disk does not take it. Dropping the future, once it was polled, does not stop it.
    ///
    /// # Errors
    /// `TooLarge` above 4 MiB; `NoRoom`, `Full`, `Io`.
    pub fn put(&self, digest: &Digest, bytes: Bytes) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (content, digest) = (self.content.clone(), *digest);
        let fits = bytes.len() as u64 <= MAX_MANIFEST;
        if fits {
            content.memory.insert(digest, bytes.clone());
        }
        async move {
            if !fits {
                return Err(Error::new(Kind::TooLarge, format!("{digest} has {} bytes and is no small content", bytes.len())));
            }
            blocking(move || content.put(&digest, &bytes)).await
        }
    }

    /// Somebody could not read this content: it is read and hashed, and deleted where it is wrong or cannot be read. Whether it
    /// was. One at a time in the whole store; asking twice at once costs one reading. Dropping the future does not stop it.
    pub async fn suspect(&self, digest: &Digest) -> bool {
        let (digest, asked) = (*digest, Instant::now());
        let turn = self.turn().await;
        let check = move |content: &Arc<Content>| {
            let _turn = turn;
            content.check_for(&digest, asked)
        };
        self.with_content(check).await
    }

    /// The right to read content through and through. Who waits for it takes no thread.
    async fn turn(&self) -> OwnedSemaphorePermit {
        self.turns.clone().acquire_owned().await.expect("nobody closes it")
    }

    /// Deletes content and its links. Whether it was stored. Readers that have it open go on. Dropping the future does not
    /// stop it.
    ///
    /// # Errors
    /// `Io` where it cannot be deleted.
    pub async fn remove(&self, digest: &Digest) -> Result<bool, Error> {
        let digest = *digest;
        self.with_content(move |content| content.remove(&digest)).await
    }

    /// Keeps content from eviction, now or once it is stored.
    pub fn pin(&self, digest: &Digest) {
        self.content.table().pin(digest);
        self.content.index.put(pin_key(digest), Bytes::new());
    }

    /// Lets content be evicted again.
    pub fn unpin(&self, digest: &Digest) {
        self.content.table().unpin(digest);
        self.content.index.remove(pin_key(digest));
    }

    /// What an upstream proved for a digest in a repository. The content itself may be stored or not. Cancelling leaves
    /// nothing behind, as with every look-up below.
    pub async fn link(&self, registry: &RegistryName, repository: &RepositoryName, digest: &Digest) -> Option<Link> {
        let record = self.content.index.get(link_key(registry, repository, digest)).await?;
        Link::decode(&record)
    }

    /// As [`Store::link`], for content that is at hand: asked again and again, it takes no look-up.
    pub async fn link_of(
        &self,
        known: &Known,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<Link> {
        let version = self.content.index.version(Table::Links);
        if let Some(link) = known.link(registry, repository, version) {
            return Some(link);
        }
        let link = self.link(registry, repository, digest).await?;
        known.learn(registry, repository, version, &link);
        Some(link)
    }

    /// Records that an upstream answered for a digest in a repository with a final 2xx. Seen at once, durable soon. The
    /// links of content end with it, when it is evicted or removed.
    pub fn put_link(&self, registry: &RegistryName, repository: &RepositoryName, digest: &Digest, link: Link) {
        self.content.index.put(link_key(registry, repository, digest), link.encode());
    }

    /// What a tag meant when an upstream was last asked.
    pub async fn tag(&self, registry: &RegistryName, repository: &RepositoryName, tag: &Tag) -> Option<TagRecord> {
        let record = self.content.index.get(tag_key(registry, repository, tag)).await?;
        TagRecord::decode(&record)
    }

    /// Counts the changes of what tags mean: a record that was read after this number was taken holds while it is the same.
    pub fn tags_version(&self) -> u64 {
        self.content.index.version(Table::Tags)
    }

    /// Records what a tag means. Seen at once, durable soon.
    pub fn put_tag(&self, registry: &RegistryName, repository: &RepositoryName, tag: &Tag, record: TagRecord) {
        self.content.index.put(tag_key(registry, repository, tag), record.encode());
    }

    /// Drops what is recorded of a tag. Whether anything was.
    pub async fn remove_tag(&self, registry: &RegistryName, repository: &RepositoryName, tag: &Tag) -> bool {
        let key = tag_key(registry, repository, tag);
        let was_there = self.content.index.get(key.clone()).await.is_some();
        self.content.index.remove(key);
        was_there
    }

    /// Records that a tag meant a manifest, unless that is known. Seen at once, durable soon, and kept when the tag moves:
    /// then it ends with the content, as links do. Dropping the future may leave it unrecorded.
    pub async fn put_reached(&self, registry: &RegistryName, repository: &RepositoryName, manifest: &Digest, tag: &Tag) {
        let (scope, manifest, tag) = (scope(registry, repository), *manifest, tag.clone());
        if self.content.index.get(reached_key(&manifest, &scope, &tag)).await.is_none() {
            self.with_content(move |content| content.put_reached(&scope, &manifest, &tag, now())).await;
        }
    }

    /// Forgets that a tag ever meant anything. Takes about a second per million manifests.
    pub async fn forget_reached(&self, registry: &RegistryName, repository: &RepositoryName, tag: &Tag) {
        let (scope, tag) = (scope(registry, repository), tag.clone());
        self.with_content(move |content| content.forget_reached_by(&scope, &tag)).await;
    }

    /// Records what a manifest names, 1024 at most. Seen at once, durable soon; ends with the manifest's content, and not with
    /// that of the children.
    pub fn put_children(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        manifest: &Digest,
        children: impl IntoIterator<Item = Digest>,
    ) {
        self.content.put_children(&scope(registry, repository), manifest, children, now());
    }

    /// Whether it is recorded what a manifest names.
    pub async fn knows_children(&self, registry: &RegistryName, repository: &RepositoryName, manifest: &Digest) -> bool {
        self.content.index.get(children_key(manifest, &scope(registry, repository))).await.is_some()
    }

    /// Looks into how the content of a repository was reached. `look` may block. Dropping the future does not stop it.
    pub async fn lineage<T: Send + 'static>(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        look: impl FnOnce(&Lineage<'_>) -> T + Send + 'static,
    ) -> T {
        let scope = scope(registry, repository);
        self.with_content(move |content| look(&Lineage::new(&content.index, scope))).await
    }

    /// Drops the tags, links, lists and lineage of a repository, and the content that nothing links any more and that is not
    /// pinned. Takes about a second per million links. Dropping the future does not stop it.
    pub async fn remove_repository(&self, registry: &RegistryName, repository: &RepositoryName) -> Removed {
        let (registry, repository) = (registry.clone(), repository.clone());
        self.with_content(move |content| content.purge(&registry, &repository)).await
    }

    /// A list of a repository, by a name that the caller chose.
    pub async fn list(&self, registry: &RegistryName, repository: &RepositoryName, key: &str) -> Option<ListRecord> {
        let record = self.content.index.get(list_key(registry, repository, key)).await?;
        ListRecord::decode(&record)
    }

    /// Records a list. Seen at once, durable soon. Lists above 4 MiB, or under a name longer than 4 KiB, are not kept, and
    /// the oldest go when all of them take more than 64 MiB.
    pub fn put_list(&self, registry: &RegistryName, repository: &RepositoryName, key: &str, record: ListRecord) {
        if key.len() > MAX_LIST_KEY || record.body.len() as u64 > MAX_MANIFEST {
            return;
        }
        let value = record.encode();
        let size = value.len() as u64;
        self.content.index.put(list_key(registry, repository, key), value);
        if self.new_lists.fetch_add(size, Ordering::Relaxed) + size > CHECK_LISTS {
            self.new_lists.store(0, Ordering::Relaxed);
            self.lists_grew.notify_one();
        }
    }

    /// Drops a list.
    pub fn remove_list(&self, registry: &RegistryName, repository: &RepositoryName, key: &str) {
        self.content.index.remove(list_key(registry, repository, key));
    }

    /// Begins a download. Room for `length` bytes is reserved, evicting for it; where the length is unknown, room is
    /// reserved as the file grows. What was parked of another download of it goes. A dropped future leaves nothing behind.
    ///
    /// # Errors
    /// `NoRoom` where it can never fit or the file system must keep its free tenth, `Full`, `Io`.
    pub async fn begin(&self, registry: &RegistryName, digest: &Digest, length: Option<u64>) -> Result<Partial, Error> {
        let (content, registry, digest) = (self.content.clone(), registry.clone(), *digest);
        blocking(move || Partial::begin(&content, registry, digest, length)).await
    }

    /// Takes up a download of this content from this registry that was parked or left behind, by this process or an earlier
    /// one, with its room reserved and what is there of it. `None` where there is none, or another has it. Dropping the
    /// future leaves it where it is, or as whoever drops a [`Partial`].
    pub async fn take_up(&self, registry: &RegistryName, digest: &Digest) -> Option<Partial> {
        if !self.content.parked().holds(&layout::Layout::kept_name(registry, digest)) {
            return None;
        }
        let (registry, digest) = (registry.clone(), *digest);
        self.with_content(move |content| Partial::take_up(content, registry, digest)).await
    }

    /// Returns when all records are durable, or the disk has refused them. Cancelling changes nothing.
    pub async fn flush(&self) {
        self.content.index.flush().await;
    }

    /// How much is stored.
    pub fn usage(&self) -> Usage {
        let table = self.content.table();
        Usage { blobs: table.len() as u64, bytes: table.bytes() }
    }

    async fn keep_house(&self) {
        self.with_content(|content| {
            content.delete_again();
            content.delete_kept_again();
            content.drop_surplus(SystemTime::now());
            content.count_lingering();
            if content.is_trim_due() {
                content.trim_lineage(now());
            }
        })
        .await;
        while self.with_content(|content| content.save_uses()).await {
            self.flush().await;
        }
        self.flush().await;
        self.content.report_usage();
    }

    async fn with_content<T: Send + 'static>(&self, work: impl FnOnce(&Arc<Content>) -> T + Send + 'static) -> T {
        let content = self.content.clone();
        blocking(move || work(&content)).await
    }
}
#[cfg(test)]
mod tests;
