use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::disk::Disk;
use super::draft::Draft;
use super::space::{FileSystem, Space};
use super::*;
use crate::oci::Algorithm;

/// A cache folder for one test, on a file system with room.
pub(super) struct Folder {
    pub(super) root: tempfile::TempDir,
    cap: u64,
    /// Which start of the machine it is, where that is not this one.
    pub(super) boot: Option<String>,
}

impl Folder {
    /// One whose files are in memory, where there are such: for tests that do much.
    pub(super) fn in_memory(cap: u64) -> Self {
        let root = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        Self { root, ..Self::new(cap) }
    }

    pub(super) fn new(cap: u64) -> Self {
        Self { root: tempfile::tempdir().unwrap(), cap, boot: None }
    }

    pub(super) async fn open(&self) -> Arc<Store> {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Arc<Store>, Error> {
        let roomy = Machine::roomy(Disk::default());
        let machine = Machine { boot: self.boot.clone().unwrap_or(roomy.boot), ..roomy };
        Store::open_in(&self.config(), machine, Telemetry::quiet()).await
    }

    /// Opens it on a disk that fails as told.
    pub(super) async fn open_faulty(&self, faults: &Faults) -> Result<Arc<Store>, Error> {
        Store::open_faulty(&self.config(), Telemetry::quiet(), faults.clone()).await
    }

    /// Opens it and lets the sweep go to its end.
    pub(super) async fn open_swept(&self) -> Arc<Store> {
        let store = self.open().await;
        let content = store.content.clone();
        blocking(move || sweep::sweep(&content, &CancellationToken::new())).await;
        store
    }

    fn config(&self) -> config::Cache {
        config::Cache { directory: self.root.path().to_owned(), max_size: Some(self.cap), memory: 1 << 20 }
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.root.path().join("blobs").join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    pub(super) fn partials(&self) -> usize {
        fs::read_dir(self.root.path().join("partial")).unwrap().count()
    }
}

/// Drops a store and waits until its folder is free.
pub(super) async fn close(store: Arc<Store>) {
    store.flush().await;
    while Arc::strong_count(&store.content) > 1 {
        tokio::task::yield_now().await;
    }
    drop(store);
}

/// Content number `i` of `size` bytes.
pub(super) fn content(i: u8, size: usize) -> (Digest, Bytes) {
    let bytes = Bytes::from(vec![i; size]);
    (Digest::of(Algorithm::Sha256, &bytes), bytes)
}

pub(super) async fn put(store: &Store, i: u8, size: usize) -> Digest {
    let (digest, bytes) = content(i, size);
    store.put(&digest, bytes).await.unwrap();
    digest
}

pub(super) fn registry() -> RegistryName {
    "docker.io".parse().unwrap()
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

async fn linked(store: &Store, name: &str, digest: &Digest) -> bool {
    store.link(&registry(), &repository(name), digest).await.is_some()
}

fn link(store: &Store, name: &str, digest: &Digest) {
    store.put_link(&registry(), &repository(name), digest, Link::default());
}

fn list(size: usize, fetched: SystemTime) -> ListRecord {
    ListRecord { body: vec![b' '; size].into(), media_type: None, filters_applied: None, next: None, fetched }
}

#[tokio::test]
async fn what_is_put_can_be_opened_and_read_until_it_is_removed() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (digest, bytes) = content(1, 100);
    assert!(store.open_blob(&digest).await.unwrap().is_none());
    store.put(&digest, bytes.clone()).await.unwrap();
    assert_eq!(store.in_memory(&digest), Some(bytes.clone()));
    store.content.memory.remove(&digest);
    assert_eq!(store.read(&digest).await.unwrap(), Some(bytes.clone()));
    assert_eq!(store.in_memory(&digest), Some(bytes), "reading brings it back into memory");
    let blob = store.open_blob(&digest).await.unwrap().unwrap();
    let again = store.open_blob(&digest).await.unwrap().unwrap();
    assert_eq!(blob.size, 100);
    assert!(Arc::ptr_eq(&blob.file, &again.file), "a hot file is not opened again");
    assert_eq!((store.usage(), folder.partials()), (Usage { blobs: 1, bytes: 100 }, 0));
    assert!(store.remove(&digest).await.unwrap());
    assert!(!store.remove(&digest).await.unwrap());
    assert!(!folder.path(&digest).exists() && store.in_memory(&digest).is_none());
    assert!(store.open_blob(&digest).await.unwrap().is_none());
    assert_eq!(store.usage(), Usage { blobs: 0, bytes: 0 });
    assert_eq!(blob.file.read_at(&mut [0; 100], 0).unwrap(), 100, "a reader goes on");
}

#[tokio::test]
async fn the_cap_holds_and_pins_do_too() {
    let folder = Folder::new(500);
    let store = folder.open().await;
    let pinned = put(&store, 0, 100).await;
    store.pin(&pinned);
    let first = put(&store, 1, 100).await;
    link(&store, "a/b", &first);
    for i in 2..20 {
        put(&store, i, 100).await;
    }
    assert_eq!(store.usage(), Usage { blobs: 5, bytes: 500 });
    assert!(folder.path(&pinned).exists());
    assert!(!folder.path(&first).exists() && store.in_memory(&first).is_none());
    assert!(!linked(&store, "a/b", &first).await, "links end with their content");
    assert!(store.content.telemetry.metrics.render(&store.content.telemetry.health).contains("roadstead_evicted_bytes_total 1500"));
    close(store).await;
    let store = folder.open_swept().await;
    for i in 20..40 {
        put(&store, i, 100).await;
    }
    assert!(folder.path(&pinned).exists(), "a pin outlives the process");
    assert_eq!(store.begin(&registry(), &content(99, 0).0, Some(500)).await.unwrap_err().kind, Kind::NoRoom);
    store.unpin(&pinned);
    store.begin(&registry(), &content(99, 0).0, Some(500)).await.unwrap();
    assert!(!folder.path(&pinned).exists());
}

#[tokio::test]
async fn evicted_content_that_is_being_read_still_takes_room() {
    let folder = Folder::new(100);
    let store = folder.open().await;
    let digest = put(&store, 1, 60).await;
    let blob = store.open_blob(&digest).await.unwrap().unwrap();
    let refused = store.begin(&registry(), &content(2, 80).0, Some(80)).await.unwrap_err();
    assert_eq!((refused.kind, store.usage().bytes), (Kind::NoRoom, 0));
    drop(blob);
    store.begin(&registry(), &content(2, 80).0, Some(80)).await.unwrap();
}

/// How many files that are deleted this process holds open.
fn deleted_and_open(folder: &Folder) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    open.filter(|file| file.starts_with(folder.root.path()) && file.to_string_lossy().ends_with("(deleted)")).count()
}

#[tokio::test]
async fn an_evicted_file_is_not_closed_by_its_last_reader() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let digest = put(&store, 1, 600).await;
    let blob = store.open_blob(&digest).await.unwrap().unwrap();
    assert!(store.remove(&digest).await.unwrap());
    drop(blob);
    assert_eq!(deleted_and_open(&folder), 1, "it may be large, and its reader has others to serve");
    put(&store, 2, 1000).await;
    assert_eq!(deleted_and_open(&folder), 0);
    store.open_blob(&content(2, 1000).0).await.unwrap().unwrap();
    assert!(store.remove(&content(2, 1000).0).await.unwrap());
    assert_eq!(deleted_and_open(&folder), 0, "nobody reads it");
}

#[tokio::test]
async fn a_large_file_gives_its_bytes_back_under_no_stripe() {
    let folder = Folder::new(2 * capacity::LARGE);
    let store = folder.open().await;
    let draft = |size| Draft::new(store.content.clone(), size, None).unwrap();
    for (i, is_open) in [(1, true), (2, false)] {
        let digest = content(i, 1).0;
        store.content.place(draft(capacity::LARGE), &digest, capacity::LARGE).unwrap();
        if !is_open {
            store.content.files.remove(&digest);
        }
        let stripe = store.content.stripe(&digest);
        store.content.discard(&digest, "the test says so");
        assert_eq!((folder.path(&digest).exists(), deleted_and_open(&folder)), (false, 1));
        drop(stripe);
        store.keep_house().await;
        assert_eq!(deleted_and_open(&folder), 0);
    }
}

#[tokio::test]
async fn evicted_content_that_comes_back_before_it_is_deleted_stays() {
    let folder = Folder::new(100);
    let store = folder.open().await;
    let digest = put(&store, 1, 60).await;
    let victims = store.content.table().free(60, usize::MAX);
    assert_eq!((victims.len(), store.usage().blobs), (1, 0));
    store.content.files.remove(&digest);
    assert!(store.open_blob(&digest).await.unwrap().is_some());
    store.content.evict(victims);
    assert!(folder.path(&digest).exists());
    assert_eq!(store.usage(), Usage { blobs: 1, bytes: 60 });
}

#[tokio::test]
async fn what_cannot_be_deleted_is_still_counted() {
    let folder = Folder::new(100);
    let store = folder.open().await;
    let digest = put(&store, 1, 60).await;
    fs::remove_file(folder.path(&digest)).unwrap();
    fs::create_dir_all(folder.path(&digest).join("in the way")).unwrap();
    let refused = store.begin(&registry(), &content(2, 80).0, Some(80)).await.unwrap_err();
    assert_eq!((refused.kind, store.usage().bytes), (Kind::NoRoom, 60));
    assert!(store.content.telemetry.health.report().contains("disk: cannot delete"));
}

#[tokio::test]
async fn a_restart_keeps_what_was_stored_and_recorded() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let digest = put(&store, 1, 100).await;
    let typed = Link { manifest: Some("a/b".into()) };
    store.put_link(&registry(), &repository("a/b"), &digest, typed.clone());
    let checked = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_001);
    store.put_tag(&registry(), &repository("a/b"), &tag("v1"), TagRecord { digest, checked });
    store.put_list(&registry(), &repository("a/b"), "tags?n=5", list(10, checked));
    assert!(store.tag(&registry(), &repository("a/b"), &tag("v1")).await.is_some(), "seen at once");
    close(store).await;

    let store = folder.open().await;
    assert_eq!(store.open_blob(&digest).await.unwrap().map(|blob| blob.size), Some(100));
    assert_eq!(store.link(&registry(), &repository("a/b"), &digest).await, Some(typed));
    assert_eq!(store.tag(&registry(), &repository("a/b"), &tag("v1")).await, Some(TagRecord { digest, checked }));
    assert_eq!(store.list(&registry(), &repository("a/b"), "tags?n=5").await, Some(list(10, checked)));
    assert!(!linked(&store, "a/c", &digest).await);
    assert!(store.remove_tag(&registry(), &repository("a/b"), &tag("v1")).await);
    assert!(!store.remove_tag(&registry(), &repository("a/b"), &tag("v1")).await);
    assert_eq!(store.tag(&registry(), &repository("a/b"), &tag("v1")).await, None);
}

#[tokio::test]
async fn a_cache_that_was_made_to_be_measured_is_one_as_any_other() {
    let folder = Folder::new(1 << 20);
    let made = Store::open_hasty(&folder.config(), Telemetry::quiet()).await.unwrap();
    let (digest, bytes) = content(1, 100);
    made.put(&digest, bytes.clone()).await.unwrap();
    link(&made, "a/b", &digest);
    close(made).await;
    let store = folder.open_swept().await;
    assert_eq!(store.read(&digest).await.unwrap(), Some(bytes));
    assert!(linked(&store, "a/b", &digest).await);
    assert_eq!(store.usage(), Usage { blobs: 1, bytes: 100 });
}

#[tokio::test]
async fn without_its_index_content_is_there_but_linked_to_nothing() {
    for garbage in [None, Some("no index")] {
        let folder = Folder::new(1000);
        let store = folder.open().await;
        let digest = put(&store, 1, 100).await;
        link(&store, "a/b", &digest);
        close(store).await;
        match garbage {
            None => fs::remove_file(folder.root.path().join("index.redb")).unwrap(),
            Some(text) => fs::write(folder.root.path().join("index.redb"), text).unwrap(),
        }
        let store = folder.open_swept().await;
        assert_eq!(store.usage(), Usage { blobs: 1, bytes: 100 });
        assert!(store.open_blob(&digest).await.unwrap().is_some());
        assert!(!linked(&store, "a/b", &digest).await);
        link(&store, "a/b", &digest);
        assert!(linked(&store, "a/b", &digest).await);
    }
}

#[tokio::test]
async fn a_folder_is_used_by_one_store() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    assert_eq!(folder.try_open().await.unwrap_err().kind, Kind::Locked);
    close(store).await;
    folder.open().await;
}

/// Breaks a stored file of 100 bytes before a new process opens it.
async fn broken(break_it: impl Fn(&Path)) -> (Folder, Arc<Store>, Digest) {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let digest = put(&store, 1, 100).await;
    close(store).await;
    break_it(&folder.path(&digest));
    let store = folder.open().await;
    (folder, store, digest)
}

async fn is_a_miss_and_can_come_again(folder: &Folder, store: &Store, digest: &Digest) {
    assert!(!folder.path(digest).exists());
    assert_eq!(store.usage().bytes, 0);
    put(store, 1, 100).await;
    assert!(store.open_blob(digest).await.unwrap().is_some());
}

#[tokio::test]
async fn a_missing_or_shortened_file_is_a_miss() {
    let missing = |path: &Path| fs::remove_file(path).unwrap();
    let shortened = |path: &Path| fs::write(path, [1; 99]).unwrap();
    for break_it in [&missing as &dyn Fn(&Path), &shortened] {
        let (folder, store, digest) = broken(break_it).await;
        assert!(store.open_blob(&digest).await.unwrap().is_none());
        is_a_miss_and_can_come_again(&folder, &store, &digest).await;
    }
}

#[tokio::test]
async fn small_content_that_rotted_is_a_miss() {
    let (folder, store, digest) = broken(|path| fs::write(path, [7; 100]).unwrap()).await;
    assert_eq!(store.read(&digest).await.unwrap(), None);
    is_a_miss_and_can_come_again(&folder, &store, &digest).await;
}

#[tokio::test]
async fn small_content_that_cannot_be_read_is_an_error_once_and_then_a_miss() {
    let (folder, faults) = (Folder::new(1000), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let digest = put(&store, 1, 100).await;
    store.content.memory.remove(&digest);
    faults.after(0, Operation::Read, rustix::io::Errno::IO);
    assert_eq!(store.read(&digest).await.unwrap_err().kind, Kind::Io);
    assert_eq!(store.read(&digest).await.unwrap(), None);
    is_a_miss_and_can_come_again(&folder, &store, &digest).await;
}

#[tokio::test]
async fn all_who_open_content_at_once_count_as_its_readers() {
    let folder = Folder::new(100);
    let store = folder.open().await;
    let digest = put(&store, 1, 60).await;
    store.content.files.remove(&digest);
    // Both looked for an open file before either opened it.
    let first = store.content.open_blob(&digest).unwrap().unwrap();
    drop(store.content.open_blob(&digest).unwrap().unwrap());
    let begun = store.begin(&registry(), &content(2, 80).0, Some(80)).await;
    assert_eq!(begun.unwrap_err().kind, Kind::NoRoom, "the first still holds 60 bytes");
    drop(first);
    store.begin(&registry(), &content(2, 80).0, Some(80)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_vanished_is_forgotten_when_it_is_asked_for() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let digest = put(&store, 1, 100).await;
    store.content.files.remove(&digest);
    fs::remove_file(folder.path(&digest)).unwrap();
    assert!(store.open_blob(&digest).await.unwrap().is_none());
    assert_eq!(store.usage(), Usage { blobs: 0, bytes: 0 });
}

#[tokio::test]
async fn what_cannot_fit_is_refused_and_evicts_nothing() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    put(&store, 1, 100).await;
    let (large, _) = content(2, 1001);
    let refused = store.begin(&registry(), &large, Some(1001)).await.unwrap_err();
    assert_eq!(refused.kind, Kind::NoRoom);
    assert!(refused.to_string().contains("1001 bytes do not fit"), "{refused}");
    assert_eq!((store.usage().blobs, folder.partials()), (1, 0));
    let (huge, bytes) = content(3, (MAX_MANIFEST + 1) as usize);
    assert_eq!(store.put(&huge, bytes).await.unwrap_err().kind, Kind::TooLarge);
}

#[tokio::test]
async fn a_tenth_of_the_file_system_stays_free() {
    let folder = Folder::new(1000);
    let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 250 })));
    let machine = Machine { space, ..Machine::roomy(Disk::default()) };
    let store = Store::open_in(&folder.config(), machine, Telemetry::quiet()).await.unwrap();
    let first = put(&store, 1, 100).await;
    let second = put(&store, 2, 100).await;
    assert!(!folder.path(&first).exists() && folder.path(&second).exists());
    let refused = store.begin(&registry(), &content(3, 260).0, Some(260)).await.unwrap_err();
    assert_eq!(refused.kind, Kind::NoRoom);
    assert!(folder.path(&second).exists(), "evicting it would not have helped");
    assert!(store.content.telemetry.health.report().contains("disk: 260 bytes would leave less than a tenth"));
    put(&store, 4, 10).await;
    assert!(store.content.telemetry.health.report().contains("disk: ok"));
}

#[tokio::test]
async fn what_is_to_be_written_counts_though_the_file_system_does_not_show_it() {
    let folder = Folder::new(1000);
    let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 250 })));
    let machine = Machine { space, ..Machine::roomy(Disk::default()) };
    let store = Store::open_in(&folder.config(), machine, Telemetry::quiet()).await.unwrap();
    let (one, two) = (content(1, 100).0, content(2, 100).0);
    let first = Arc::new(store.begin(&registry(), &one, Some(100)).await.unwrap());
    store.content.space.expire();
    assert_eq!(store.begin(&registry(), &two, Some(100)).await.unwrap_err().kind, Kind::NoRoom);
    first.discard().await;
    let second = Arc::new(store.begin(&registry(), &two, Some(100)).await.unwrap());
    second.allocate().unwrap();
    store.content.space.expire();
    store.begin(&registry(), &one, Some(100)).await.expect("the file system says what it has given");
}

#[tokio::test]
async fn where_no_room_can_be_taken_ahead_what_is_yet_to_be_written_counts() {
    let (folder, faults) = (Folder::new(1000), Faults::default());
    let space = Space::measured_by(Box::new(|| Ok(FileSystem { total: 1000, free: 250 })));
    let machine = Machine { space, ..Machine::roomy(Disk { faults: Some(faults.clone()), ..Disk::default() }) };
    let store = Store::open_in(&folder.config(), machine, Telemetry::quiet()).await.unwrap();
    let ((one, bytes), two) = (content(1, 100), content(2, 100).0);
    let first = store.begin(&registry(), &one, Some(100)).await.unwrap();
    faults.always(super::disk::Operation::Allocate, rustix::io::Errno::OPNOTSUPP);
    first.write_at(0, &bytes[..40]).unwrap();
    first.allocate().unwrap();
    store.content.space.expire();
    assert_eq!(store.begin(&registry(), &two, Some(100)).await.unwrap_err().kind, Kind::NoRoom);
    faults.always(super::disk::Operation::Write, rustix::io::Errno::IO);
    first.write_at(40, &bytes[40..]).unwrap_err();
    store.content.space.expire();
    store.begin(&registry(), &two, Some(100)).await.expect("what cannot be written will not be");
}

#[tokio::test]
async fn removing_content_forgets_its_links_and_no_others() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (one, two) = (put(&store, 1, 10).await, put(&store, 2, 10).await);
    for (name, digest) in [("a/b", &one), ("c/d", &one), ("a/b", &two)] {
        link(&store, name, digest);
    }
    store.flush().await;
    store.remove(&one).await.unwrap();
    assert!(!linked(&store, "a/b", &one).await && !linked(&store, "c/d", &one).await);
    assert!(linked(&store, "a/b", &two).await);
}

#[tokio::test]
async fn removing_a_repository_frees_only_what_nothing_else_is_linked_to() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (own, shared, pinned) = (put(&store, 1, 10).await, put(&store, 2, 20).await, put(&store, 3, 30).await);
    store.pin(&pinned);
    [&own, &shared, &pinned].into_iter().for_each(|digest| link(&store, "a/b", digest));
    link(&store, "a/bc", &shared);
    store.put_tag(&registry(), &repository("a/b"), &tag("v1"), TagRecord { digest: own, checked: SystemTime::now() });
    store.put_tag(&registry(), &repository("a"), &tag("b"), TagRecord { digest: shared, checked: SystemTime::now() });
    store.put_list(&registry(), &repository("a/b"), "tags", list(1, SystemTime::now()));
    store.flush().await;
    let removed = store.remove_repository(&registry(), &repository("a/b")).await;
    assert_eq!(removed, Removed { tags: 1, links: 3, lists: 1, blobs: 1, bytes: 10 });
    assert!(!folder.path(&own).exists() && folder.path(&shared).exists() && folder.path(&pinned).exists());
    assert!(linked(&store, "a/bc", &shared).await && !linked(&store, "a/b", &shared).await);
    assert!(store.tag(&registry(), &repository("a"), &tag("b")).await.is_some());
    assert_eq!(store.remove_repository(&registry(), &repository("a/b")).await, Removed::default());
}

#[tokio::test]
async fn after_a_restart_the_least_recently_used_goes_first() {
    let folder = Folder::new(400);
    let store = folder.open().await;
    let mut digests = Vec::new();
    for i in 0..4 {
        digests.push(put(&store, i, 100).await);
    }
    // The clock of the table counts seconds, so the test sets them.
    for (used, i) in [(30, 2), (10, 3), (40, 0), (20, 1)] {
        store.content.table().touch(&digests[i], used);
    }
    store.keep_house().await;
    close(store).await;
    let store = folder.open_swept().await;
    for (new, gone) in [(10, 3), (11, 1)] {
        let digest = put(&store, new, 100).await;
        store.content.table().touch(&digest, 50);
        assert!(!folder.path(&digests[gone]).exists(), "{gone} was used longest ago");
    }
    assert!(folder.path(&digests[0]).exists() && folder.path(&digests[2]).exists());
}

#[tokio::test]
async fn the_sweep_tidies_up_and_touches_nothing_foreign() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (kept, lost, short) = (put(&store, 1, 100).await, put(&store, 2, 100).await, put(&store, 3, 100).await);
    link(&store, "a/b", &lost);
    close(store).await;
    fs::remove_file(folder.path(&lost)).unwrap();
    fs::write(folder.path(&short), "short").unwrap();
    let stray = folder.path(&kept).with_file_name("notes.txt");
    fs::write(&stray, "").unwrap();
    fs::write(folder.root.path().join("partial/0-0"), "left").unwrap();

    let store = folder.open().await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(store.clone().run(stop.clone()));
    while store.usage().blobs == 0 || folder.partials() > 0 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    assert_eq!(store.usage(), Usage { blobs: 1, bytes: 100 });
    assert!(stray.exists() && !folder.path(&short).exists());
    assert!(!linked(&store, "a/b", &lost).await, "records of what is gone are dropped");
}

#[tokio::test]
async fn a_smaller_cap_takes_effect_with_the_sweep() {
    let mut folder = Folder::new(1000);
    let store = folder.open().await;
    for i in 0..10 {
        put(&store, i, 100).await;
    }
    close(store).await;
    folder.cap = 300;
    let store = folder.open_swept().await;
    assert_eq!(store.usage(), Usage { blobs: 3, bytes: 300 });
    assert_eq!(files(&folder), 3);
}

fn files(folder: &Folder) -> usize {
    let shelves = fs::read_dir(folder.root.path().join("blobs/sha256")).unwrap();
    shelves.map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test(start_paused = true)]
async fn last_uses_are_written_down_while_it_runs_and_when_it_stops() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let digest = put(&store, 1, 100).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(store.clone().run(stop.clone()));
    let recorded = |store: &Store| store.content.recorded(&digest).unwrap().used;
    store.content.table().touch(&digest, 7);
    tokio::time::sleep(HOUSEKEEPING * 2).await;
    assert_eq!(recorded(&store), 7);
    store.content.table().touch(&digest, 8);
    stop.cancel();
    running.await.unwrap();
    assert_eq!(recorded(&store), 8);
}

#[tokio::test]
async fn the_oldest_lists_go_when_there_are_too_many() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let at = |i: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(i);
    for i in 0..20 {
        store.put_list(&registry(), &repository("a/b"), &i.to_string(), list(4 << 20, at(i)));
        store.flush().await;
    }
    store.put_list(&registry(), &repository("a/b"), &"x".repeat(5000), list(1, at(99)));
    store.with_content(|content| content.trim_lists()).await;
    let mut kept = Vec::new();
    for i in 0..20 {
        kept.extend(store.list(&registry(), &repository("a/b"), &i.to_string()).await.map(|_| i));
    }
    assert_eq!(kept, (9..20).collect::<Vec<_>>());
    store.remove_list(&registry(), &repository("a/b"), "9");
    assert_eq!(store.list(&registry(), &repository("a/b"), "9").await, None);
    assert_eq!(store.list(&registry(), &repository("a/b"), &"x".repeat(5000)).await, None);
}

#[tokio::test]
async fn a_put_goes_on_without_who_asked_for_it() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (digest, bytes) = content(1, 100);
    {
        let mut putting = std::pin::pin!(store.put(&digest, bytes));
        assert!(futures_util::poll!(putting.as_mut()).is_pending());
    }
    close(store).await;
    assert!(folder.path(&digest).exists());
}

/// The order in which a few tasks on one store get on, with the disk in between.
async fn order_of_events() -> Vec<(u8, u8)> {
    let (folder, events) = (Folder::new(1000), Arc::new(std::sync::Mutex::new(Vec::new())));
    let store = folder.open().await;
    let work = (0..4u8).map(|task| {
        let (store, events) = (store.clone(), events.clone());
        async move {
            for step in 0..4 {
                let digest = put(&store, step, 100).await;
                link(&store, "a/b", &digest);
                events.lock().unwrap().push((task, step));
                store.remove(&digest).await.unwrap();
                linked(&store, "a/b", &digest).await;
            }
        }
    });
    futures_util::future::join_all(work.map(tokio::spawn)).await;
    let events = events.lock().unwrap();
    events.clone()
}

#[tokio::test]
async fn on_one_thread_a_look_up_takes_the_same_way_wherever_the_record_is() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let digest = content(1, 1).0;
    link(&store, "a/b", &digest);
    let _inline = inline_blocking();
    let mut known = std::pin::pin!(linked(&store, "a/b", &digest));
    assert!(futures_util::poll!(known.as_mut()).is_pending());
    assert!(known.await);
}

#[tokio::test(start_paused = true)]
async fn with_the_pool_on_one_thread_the_same_calls_take_the_same_course() {
    let _inline = inline_blocking();
    let first = order_of_events().await;
    for _ in 0..20 {
        assert_eq!(order_of_events().await, first);
    }
}

#[tokio::test]
async fn a_folder_that_is_deleted_in_use_is_made_again() {
    for deleted in ["", "partial", "blobs"] {
        let folder = Folder::new(8 << 20);
        let store = folder.open().await;
        let lost = put(&store, 1, 100).await;
        let download = store.begin(&registry(), &content(2, 1).0, Some(2 << 20)).await.unwrap();
        download.write_at(0, &[2; 100]).unwrap();
        let parked = store.begin(&registry(), &content(3, 1).0, Some(1 << 21)).await.unwrap();
        parked.write_at(0, &[3; 100]).unwrap();
        Arc::new(parked).park().await;
        fs::remove_dir_all(folder.root.path().join(deleted)).unwrap();

        let kept = put(&store, 4, 100).await;
        assert_eq!(fs::read(folder.path(&kept)).unwrap(), [4; 100], "{deleted:?}");
        assert_eq!(store.open_blob(&lost).await.unwrap().is_some(), deleted == "partial");
        assert_eq!(store.take_up(&registry(), &content(3, 1).0).await.is_some(), deleted == "blobs");
        match deleted {
            "blobs" => Arc::new(download).discard().await,
            _ => assert_eq!(Arc::new(download).commit().await.unwrap_err().kind, Kind::Io, "its file is gone"),
        }
        put(&store, 5, 100).await;
        link(&store, "a/b", &kept);
        assert!(store.content.telemetry.health.report().starts_with("disk: ok"));
        assert_eq!(folder.try_open().await.unwrap_err().kind, Kind::Locked, "it is locked again");
        close(store).await;
        let store = folder.open_swept().await;
        assert!(store.open_blob(&kept).await.unwrap().is_some() && linked(&store, "a/b", &kept).await);
    }
}

#[tokio::test]
async fn a_folder_deleted_before_a_download_ends_is_a_cache_afterwards() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (digest, bytes) = content(1, 100);
    let download = store.begin(&registry(), &digest, Some(100)).await.unwrap();
    download.write_at(0, &bytes).unwrap();
    fs::remove_dir_all(folder.root.path()).unwrap();
    assert_eq!(Arc::new(download).commit().await.unwrap_err().kind, Kind::Io);
    close(store).await;
    let store = folder.open_swept().await;
    put(&store, 1, 100).await;
}

#[tokio::test]
async fn thousands_of_small_files_make_way_for_a_large_one() {
    let folder = Folder::in_memory(5000);
    let store = folder.open().await;
    for i in 0..5000u32 {
        let digest = Digest::of(Algorithm::Sha256, &i.to_le_bytes());
        store.content.table().admit(&digest, 1, i);
    }
    store.begin(&registry(), &content(1, 1).0, Some(4000)).await.unwrap();
    assert_eq!(store.usage().blobs, 1000, "as many as need be, and no more");
}

#[tokio::test]
async fn what_is_at_hand_is_served_as_it_is_linked_now() {
    let (folder, registry, repository, other) = (Folder::new(1000), registry(), repository("a/b"), repository("a/c"));
    let store = folder.open().await;
    let digest = put(&store, 1, 100).await;
    let at_hand = |store: &Store| store.manifest_at_hand(&registry, &repository, &digest).map(|manifest| manifest.media_type);
    let typed = |text: &str| Link { manifest: Some(text.into()) };
    let read = async |store: &Store| store.manifest(&registry, &repository, &digest).await.unwrap().map(|found| found.media_type);

    assert_eq!((read(&store).await, at_hand(&store)), (None, None), "bytes alone are no reason to serve them");
    for media_type in ["a/old", "a/new"] {
        store.put_link(&registry, &repository, &digest, typed(media_type));
        assert_eq!(at_hand(&store), None);
        assert_eq!((read(&store).await, at_hand(&store)), (Some(media_type.into()), Some(media_type.into())));
    }
    assert!(store.manifest_at_hand(&registry, &other, &digest).is_none());
    store.content.index.flush().await;
    fs::remove_file(store.content.layout.index()).unwrap();
    store.content.index.begin_anew();
    assert_eq!(at_hand(&store), None, "whether it is linked has to be looked up again");
    // That may still be of the old file, which is closed behind.
    read(&store).await;
    store.put_link(&registry, &other, &digest, typed("a/new"));
    store.content.index.flush().await;
    assert_eq!((read(&store).await, at_hand(&store)), (None, None), "the new index knows nothing of it");
    store.put_link(&registry, &repository, &digest, typed("a/new"));
    assert_eq!(read(&store).await, Some("a/new".into()));
    store.remove_repository(&registry, &repository).await;
    assert_eq!((store.in_memory(&digest).is_some(), at_hand(&store), read(&store).await), (true, None, None));
}

#[tokio::test]
async fn what_is_removed_is_not_at_hand_any_more() {
    let (folder, registry, repository) = (Folder::new(1000), registry(), repository("a/b"));
    let store = folder.open().await;
    let digest = put(&store, 1, 100).await;
    store.put_link(&registry, &repository, &digest, Link { manifest: Some("a/b".into()) });
    store.manifest(&registry, &repository, &digest).await.unwrap().unwrap();
    store.content.memory.remove(&digest);
    store.open_blob(&digest).await.unwrap().unwrap();
    assert!(matches!(store.at_hand(&digest), Some(AtHand::File(blob)) if blob.size == 100));
    fs::remove_file(folder.path(&digest)).unwrap();
    assert!(store.at_hand(&digest).is_none(), "somebody deleted the file");
    let digest = put(&store, 1, 100).await;
    assert!(store.at_hand(&digest).is_some(), "it came anew");
    store.remove(&digest).await.unwrap();
    assert!(store.at_hand(&digest).is_none() && store.manifest_at_hand(&registry, &repository, &digest).is_none());
}
