use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::super::tests::{Folder, content, put, registry};
use super::super::{Faults, Operation, Store, Usage};
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
async fn a_file_that_finds_no_room_for_its_rest_gives_back_all_but_what_is_written() {
    let (folder, faults) = (Folder::new(4 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let (partial, bytes, _) = begin(&store, 1, 4 << 20, Some(4 << 20)).await;
    partial.write_at(0, &bytes[..100]).unwrap();
    // A file system that refuses may have given a part of it. One that does not know how has given nothing.
    let _ = fallocate(partial.file(), FallocateFlags::KEEP_SIZE, 0, 2 << 20);
    faults.always(Operation::Allocate, Errno::NOSPC);
    assert_eq!(partial.allocate().unwrap_err().kind, Kind::Full);
    assert_eq!(partial.present_until(0), 100);
    assert!(partial.file().metadata().unwrap().blocks() * 512 < 1 << 20);
    let other = store.begin(&registry(), &content(2, 1).0, Some(3 << 20)).await.unwrap();
    assert_eq!(partial.write_at(100, &bytes[100..]).unwrap_err().kind, Kind::NoRoom, "what it gave back is others' now");
    drop(other);
    partial.discard().await;
    store.begin(&registry(), &content(2, 1).0, Some(4 << 20)).await.expect("nothing stays reserved");
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
    let (folder, faults) = (Folder::new(64 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    for i in 10..15 {
        put(&store, i, 4 << 20).await;
    }
    let (partial, bytes, _) = begin(&store, 3, 100, Some(100)).await;
    faults.always(Operation::Write, Errno::NOSPC);
    let error = partial.write_at(0, &bytes).unwrap_err();
    assert_eq!(error.kind, Kind::Full);
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(partial.present_until(0), 0);
    assert_eq!(store.usage().bytes, 4 << 20, "at least 16 MiB were given up for a second try");
    let telemetry = &store.content.telemetry;
    assert!(telemetry.health.report().contains("disk: cannot write"), "{}", telemetry.health.report());
}

#[tokio::test]
async fn what_starts_over_tells_which_bytes_are_others_now() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let size = 300_000;
    let (partial, bytes, _) = begin(&store, 1, size, Some(size as u64)).await;
    let old = vec![7; size];
    partial.write_at(0, &old[..200_000]).unwrap();
    let mut mixed = old.clone();
    mixed[100_000..].copy_from_slice(&bytes[100_000..]);
    partial.start_over();
    assert_eq!((partial.present_until(0), partial.first_gap(Span::new(0, 10))), (0, Some(Span::new(0, 10))));
    let mut there = [0; 10];
    partial.file().read_exact_at(&mut there, 0).unwrap();
    assert_eq!(there, [7; 10], "those who were told of them may read them");
    partial.write_at(0, &mixed).unwrap();
    assert_eq!(partial.present_until(0), size as u64);
    assert!(!partial.changed(Span::new(0, 100_000)) && partial.changed(Span::new(99_999, 100_001)));
    assert!(!partial.changed(Span::new(200_000, 300_000)), "nothing was there before");
    partial.start_over();
    partial.write_at(0, &bytes).unwrap();
    assert!(partial.changed(Span::new(0, 1)) && partial.changed(Span::new(150_000, 150_001)));
    assert!(!partial.changed(Span::new(200_000, 300_000)), "the same bytes came again");
    let blob = partial.commit().await.unwrap();
    assert_eq!(std::fs::read(folder.path(&blob.digest)).unwrap(), bytes);
}

#[tokio::test]
async fn what_started_over_is_not_taken_up_with_what_it_had_before() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let (partial, bytes, digest) = begin(&store, 1, 3 << 20, Some(3 << 20)).await;
    partial.write_at(0, &bytes[..2 << 20]).unwrap();
    partial.start_over();
    partial.write_at(0, &bytes[..100]).unwrap();
    partial.park().await;
    assert_eq!(store.take_up(&registry(), &digest).await.unwrap().present_until(0), 100);
}

#[tokio::test]
async fn a_disk_that_lost_bytes_once_does_not_get_them_committed() {
    let (folder, faults) = (Folder::new(200 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let (partial, bytes, digest) = begin(&store, 1, 66 << 20, Some(66 << 20)).await;
    faults.after(0, Operation::Sync, Errno::IO);
    partial.write_at(0, &bytes[..60 << 20]).unwrap();
    assert!(!partial.is_sync_due());
    partial.write_at(60 << 20, &bytes[60 << 20..]).unwrap();
    assert!(partial.is_sync_due());
    partial.clone().sync().await;
    assert!(!partial.is_sync_due());
    assert_eq!(partial.commit().await.unwrap_err().kind, Kind::Io);
    assert_eq!((store.open_blob(&digest).await.unwrap().is_none(), folder.partials()), (true, 0));
}

#[tokio::test]
async fn whoever_asks_does_not_wait_for_a_note_that_is_being_written() {
    let folder = Folder::new(100 << 20);
    let store = folder.open().await;
    let (partial, bytes, _) = begin(&store, 1, 65 << 20, Some(65 << 20)).await;
    partial.write_at(0, &bytes).unwrap();
    let writing = partial.journal.lock().unwrap();
    assert!(!partial.is_sync_due());
    drop(writing);
    assert!(partial.is_sync_due());
}

#[tokio::test]
async fn what_is_kept_nowhere_is_not_made_durable_again_and_again() {
    let folder = Folder::new(200 << 20);
    let store = folder.open().await;
    let (kept, bytes, _) = begin(&store, 1, 65 << 20, Some(65 << 20)).await;
    let (other, ..) = begin(&store, 1, 65 << 20, Some(65 << 20)).await;
    for partial in [kept, other] {
        partial.write_at(0, &bytes).unwrap();
        assert!(partial.is_sync_due());
        partial.clone().sync().await;
        assert!(!partial.is_sync_due());
    }
}

#[tokio::test]
async fn parking_keeps_nobody_from_asking_what_is_there() {
    let (folder, faults) = (Folder::new(10 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let (partial, bytes, _) = begin(&store, 1, 2 << 20, Some(2 << 20)).await;
    partial.write_at(0, &bytes[..1 << 20]).unwrap();
    let (asked, asks) = std::sync::mpsc::channel();
    let asking = partial.clone();
    faults.decide(move |operation| {
        if operation == Operation::Sync {
            asked.send(asking.extent.try_lock().is_ok()).unwrap();
        }
        None
    });
    partial.park().await;
    assert_eq!(asks.try_iter().collect::<Vec<_>>(), [true]);
    faults.lift();
}
