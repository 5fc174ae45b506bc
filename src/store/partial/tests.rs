use std::os::unix::fs::{FileExt, MetadataExt};

use super::super::tests::{Folder, content, put, registry};
use super::super::{Store, Usage};
use super::*;

async fn begin(store: &Store, i: u8, size: usize, length: Option<u64>) -> (Arc<Partial>, bytes::Bytes, Digest) {
    let (digest, bytes) = content(i, size);
    (Arc::new(store.begin(&registry(), &digest, length).await.unwrap()), bytes, digest)
}

#[tokio::test]
async fn bytes_can_be_read_as_they_come_and_are_content_once_committed() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (partial, bytes, digest) = begin(&store, 1, 100, Some(100)).await;
    partial.write_at(40, &bytes[40..]).unwrap();
    assert_eq!((partial.present_until(0), partial.present_until(50)), (0, 100));
    assert_eq!(partial.first_gap(Span::new(0, 100)), Some(Span::new(0, 40)));
    assert!(store.open_blob(&digest).await.unwrap().is_none());
    partial.write_at(0, &bytes[..40]).unwrap();
    let mut read = vec![0; 100];
    partial.file().read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
    let blob = partial.clone().commit().await.unwrap();
    assert_eq!((blob.size, blob.digest), (100, digest));
    assert_eq!((store.usage(), folder.partials()), (Usage { blobs: 1, bytes: 100 }, 0));
    assert_eq!(store.read(&digest).await.unwrap(), Some(bytes));
    assert_eq!(partial.write_at(0, b"x").unwrap_err().kind, Kind::Incomplete);
    assert_eq!(partial.commit().await.unwrap_err().kind, Kind::Incomplete);
    assert_eq!(store.begin(&registry(), &digest, Some(1000)).await.unwrap_err().kind, Kind::NoRoom, "it is still open");
    drop(blob);
    store.begin(&registry(), &digest, Some(1000)).await.unwrap();
}

#[tokio::test]
async fn what_has_gaps_is_not_committed() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (partial, bytes, digest) = begin(&store, 1, 100, Some(100)).await;
    partial.write_at(1, &bytes[1..]).unwrap();
    assert_eq!(partial.commit().await.unwrap_err().kind, Kind::Incomplete);
    assert!(store.open_blob(&digest).await.unwrap().is_none());
    assert_eq!(folder.partials(), 0);
}

#[tokio::test]
async fn nothing_is_left_of_a_download_that_was_discarded_or_dropped() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (partial, bytes, _) = begin(&store, 1, 100, Some(1000)).await;
    partial.write_at(0, &bytes).unwrap();
    let reader = partial.file().clone();
    assert_eq!(store.begin(&registry(), &content(2, 1).0, Some(1)).await.unwrap_err().kind, Kind::NoRoom);
    partial.discard().await;
    assert_eq!(folder.partials(), 0);
    assert_eq!(reader.read_at(&mut [0; 100], 0).unwrap(), 100, "a reader goes on");
    let (partial, ..) = begin(&store, 1, 100, Some(1000)).await;
    drop(partial);
    while folder.partials() > 0 {
        tokio::task::yield_now().await;
    }
    while store.begin(&registry(), &content(2, 1).0, Some(1000)).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn room_of_unknown_extent_is_reserved_as_it_grows() {
    let folder = Folder::new(3 << 20);
    let store = folder.open().await;
    let old = put(&store, 9, 1 << 20).await;
    let (partial, bytes, _) = begin(&store, 1, 3 << 20, None).await;
    partial.write_at(0, &bytes[..1 << 20]).unwrap();
    assert!(folder.path(&old).exists());
    partial.write_at(1 << 20, &bytes[1 << 20..]).unwrap();
    assert!(!folder.path(&old).exists());
    assert_eq!(partial.write_at(3 << 20, b"x").unwrap_err().kind, Kind::NoRoom);
    assert_eq!(partial.write_at(u64::MAX, b"x").unwrap_err().kind, Kind::Incomplete);
    assert_eq!(partial.present_until(0), 3 << 20, "what is there stays");
    partial.commit().await.unwrap();
    assert_eq!(store.usage().bytes, 3 << 20);
}

#[tokio::test]
async fn the_same_content_by_two_ways_is_stored_once() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (one, bytes, digest) = begin(&store, 1, 100, Some(100)).await;
    let (two, ..) = begin(&store, 1, 100, Some(100)).await;
    one.write_at(0, &bytes).unwrap();
    two.write_at(0, &bytes).unwrap();
    let (first, second) = tokio::join!(one.commit(), two.commit());
    let inode = |blob: Blob| blob.file.metadata().unwrap().ino();
    assert_eq!(inode(first.unwrap()), inode(second.unwrap()), "the second gets what the first stored");
    assert_eq!((store.usage(), folder.partials()), (Usage { blobs: 1, bytes: 100 }, 0));
    assert!(store.begin(&registry(), &digest, Some(1000)).await.is_ok(), "no reservation is left");
}

#[tokio::test]
async fn empty_content_is_content() {
    let folder = Folder::new(1000);
    let store = folder.open().await;
    let (partial, _, digest) = begin(&store, 1, 0, Some(0)).await;
    partial.commit().await.unwrap();
    assert_eq!(store.read(&digest).await.unwrap(), Some(bytes::Bytes::new()));
}

#[tokio::test]
async fn a_full_file_system_evicts_once_and_is_told() {
    let folder = Folder::new(64 << 20);
    let store = folder.open().await;
    for i in 10..15 {
        put(&store, i, 4 << 20).await;
    }
    let (partial, bytes, digest) = begin(&store, 3, 100, Some(100)).await;
    let full = Arc::new(File::options().write(true).open("/dev/full").unwrap());
    let draft = lock(&partial.draft).take();
    let (content, registry, path) = (partial.content.clone(), partial.registry.clone(), partial.path.clone());
    let partial = Partial { registry, digest, content, file: full, path, draft: Mutex::new(draft), present: Mutex::default() };
    let error = partial.write_at(0, &bytes).unwrap_err();
    assert_eq!(error.kind, Kind::Full);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(partial.present_until(0), 0);
    assert_eq!(store.usage().bytes, 4 << 20, "at least 16 MiB were given up for a second try");
    let telemetry = &store.content.telemetry;
    assert!(telemetry.health.report().contains("disk: cannot write"), "{}", telemetry.health.report());
}
