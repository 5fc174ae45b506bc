use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::io::Errno;

use super::super::tests::{Folder, close, content, put};
use super::super::{Faults, Operation, Store, Usage};
use super::*;

const SIZE: usize = 3 << 20;

async fn stored() -> (Folder, std::sync::Arc<Store>, Digest) {
    let folder = Folder::in_memory(10 << 20);
    let store = folder.open().await;
    let digest = put(&store, 1, SIZE).await;
    assert!(store.content.hot(&digest).is_some());
    (folder, store, digest)
}

fn write_to(folder: &Folder, digest: &Digest) -> File {
    let file = File::options().write(true).open(folder.path(digest)).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    file
}

async fn is_a_miss_and_can_come_again(folder: &Folder, store: &Store, digest: &Digest) {
    assert!(store.content.hot(digest).is_none() && store.open_blob(digest).await.unwrap().is_none());
    assert!(!folder.path(digest).exists());
    assert_eq!(store.usage(), Usage { blobs: 0, bytes: 0 });
    put(store, 1, SIZE).await;
    let blob = store.open_blob(digest).await.unwrap().unwrap();
    let mut bytes = vec![0; SIZE];
    blob.file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, content(1, SIZE).1);
}

#[tokio::test]
async fn a_file_that_was_deleted_or_cut_while_open_is_a_miss() {
    let (folder, store, digest) = stored().await;
    fs::remove_file(folder.path(&digest)).unwrap();
    is_a_miss_and_can_come_again(&folder, &store, &digest).await;
    write_to(&folder, &digest).set_len(SIZE as u64 - 1).unwrap();
    is_a_miss_and_can_come_again(&folder, &store, &digest).await;
}

#[tokio::test]
async fn a_file_that_was_replaced_while_open_is_opened_anew() {
    let (folder, store, digest) = stored().await;
    let copy = folder.root.path().join("copy");
    fs::copy(folder.path(&digest), &copy).unwrap();
    fs::rename(copy, folder.path(&digest)).unwrap();
    assert!(store.content.hot(&digest).is_none());
    assert!(store.open_blob(&digest).await.unwrap().is_some());
    assert_eq!(store.usage(), Usage { blobs: 1, bytes: SIZE as u64 });
}

#[tokio::test]
async fn a_file_that_was_written_to_is_read_before_it_is_served() {
    let (folder, store, digest) = stored().await;
    write_to(&folder, &digest);
    assert!(store.content.hot(&digest).is_none());
    assert!(store.open_blob(&digest).await.unwrap().is_some(), "it is right");
    assert!(store.content.hot(&digest).is_some(), "once is enough");
    let file = write_to(&folder, &digest);
    file.write_all_at(b"x", SIZE as u64 - 1).unwrap();
    is_a_miss_and_can_come_again(&folder, &store, &digest).await;
}

#[tokio::test]
async fn content_that_comes_anew_replaces_what_was_written_to() {
    let (folder, store, digest) = stored().await;
    let download = store.begin(&super::super::tests::registry(), &digest, Some(SIZE as u64)).await.unwrap();
    download.write_at(0, &content(1, SIZE).1).unwrap();
    write_to(&folder, &digest).write_all_at(b"x", 7).unwrap();
    std::sync::Arc::new(download).commit().await.unwrap();
    assert_eq!(fs::read(folder.path(&digest)).unwrap(), content(1, SIZE).1);
    assert_eq!(store.usage(), Usage { blobs: 1, bytes: SIZE as u64 });
}

#[tokio::test]
async fn suspected_content_stays_where_it_is_right_and_goes_where_it_is_not() {
    let (folder, store, digest) = stored().await;
    assert!(!store.suspect(&digest).await && !store.suspect(&content(2, 1).0).await);
    assert!(store.content.hot(&digest).is_some());
    // As a disk that rots: no time tells.
    let modified = fs::metadata(folder.path(&digest)).unwrap().modified().unwrap();
    let file = write_to(&folder, &digest);
    file.write_all_at(b"x", 0).unwrap();
    file.set_modified(modified).unwrap();
    assert!(store.suspect(&digest).await);
    is_a_miss_and_can_come_again(&folder, &store, &digest).await;
}

#[tokio::test]
async fn suspected_content_that_cannot_be_read_goes() {
    for operation in [Operation::Read, Operation::Metadata] {
        let (folder, faults) = (Folder::in_memory(10 << 20), Faults::default());
        let store = folder.open_faulty(&faults).await.unwrap();
        let digest = put(&store, 1, SIZE).await;
        faults.after(1, operation, Errno::IO);
        assert!(store.suspect(&digest).await, "{operation:?}");
        is_a_miss_and_can_come_again(&folder, &store, &digest).await;
    }
}

#[tokio::test]
async fn content_that_this_process_cannot_get_at_stays() {
    for (error, goes) in
        [(Errno::MFILE, false), (Errno::NFILE, false), (Errno::NOMEM, false), (Errno::ACCESS, false), (Errno::IO, true)]
    {
        let (folder, faults) = (Folder::in_memory(10 << 20), Faults::default());
        let store = folder.open().await;
        let digest = put(&store, 1, SIZE).await;
        // A file that is open already is not opened.
        close(store).await;
        let store = folder.open_faulty(&faults).await.unwrap();
        faults.always(Operation::Open, error);
        assert_eq!((store.suspect(&digest).await, folder.path(&digest).exists()), (goes, !goes), "{error}");
        faults.lift();
        assert_eq!(store.open_blob(&digest).await.unwrap().is_some(), !goes, "{error}");
    }
}

#[tokio::test]
async fn asking_twice_at_once_reads_once() {
    let (folder, faults) = (Folder::in_memory(10 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let digest = put(&store, 1, SIZE).await;
    let reads = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = reads.clone();
    faults.decide(move |operation| {
        counted.fetch_add(u32::from(operation == Operation::Read), std::sync::atomic::Ordering::Relaxed);
        None
    });
    let asked = Instant::now();
    let check = move |content: &std::sync::Arc<Content>| content.check_for(&digest, asked);
    assert!(!store.with_content(check).await && !store.with_content(check).await);
    assert_eq!(reads.load(std::sync::atomic::Ordering::Relaxed), 3, "3 MiB are read in 3 parts, once");
    assert!(!store.suspect(&digest).await);
    assert_eq!(reads.load(std::sync::atomic::Ordering::Relaxed), 6, "who asks later has it read again");
}
