use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::super::tests::{Folder, close, content, registry};
use super::super::{Error, Faults, Kind, Link, Operation, Store, sweep};

const CAP: u64 = 3 << 20;
/// Large enough to be kept when the process ends, and so that the third drives out the first.
const LARGE: usize = (1 << 20) + 1;

const FILES: [Operation; 12] = [
    Operation::Create,
    Operation::Open,
    Operation::Metadata,
    Operation::Allocate,
    Operation::Write,
    Operation::Read,
    Operation::SetLength,
    Operation::Sync,
    Operation::Rename,
    Operation::Remove,
    Operation::MakeFolder,
    Operation::SyncFolder,
];
const INDEX: [Operation; 4] = [Operation::IndexRead, Operation::IndexWrite, Operation::IndexSync, Operation::IndexSetLength];
/// Does what touches the disk, each thing once. The errors that this met.
async fn day(store: &Arc<Store>) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut note = |result: Result<(), Error>| errors.extend(result.err());
    let (small, bytes) = content(1, 100);
    note(store.put(&small, bytes).await);
    store.put_link(&registry(), &"a/b".parse().unwrap(), &small, Link::default());
    store.content.memory.remove(&small);
    note(store.read(&small).await.map(drop));
    note(download(store, 2).await);
    let (large, _) = content(2, LARGE);
    store.content.files.remove(&large);
    note(store.open_blob(&large).await.map(drop));
    note(download(store, 3).await);
    note(download(store, 4).await);
    note(store.remove(&small).await.map(drop));
    errors
}

async fn download(store: &Arc<Store>, i: u8) -> Result<(), Error> {
    let (digest, bytes) = content(i, LARGE);
    let partial = Arc::new(store.begin(&registry(), &digest, Some(LARGE as u64)).await?);
    let writer = partial.clone();
    store
        .with_content(move |_| {
            writer.write_at(LARGE as u64 / 2, &bytes[LARGE / 2..])?;
            writer.allocate()?;
            writer.write_at(0, &bytes[..LARGE / 2])
        })
        .await?;
    partial.commit().await.map(drop)
}

/// Whatever of the day's content can be opened is right and whole.
async fn all_that_is_there_is_right(store: &Arc<Store>) {
    for (i, size) in [(1, 100), (2, LARGE), (3, LARGE), (4, LARGE)] {
        let (digest, bytes) = content(i, size);
        store.content.files.remove(&digest);
        if let Ok(Some(blob)) = store.open_blob(&digest).await {
            let mut found = vec![0; size + 1];
            let length = blob.file.read_at(&mut found, 0).unwrap();
            assert!(found[..length] == bytes[..], "content {i} is wrong");
        }
    }
}

/// Once the disk works, nothing is left of any download and reservation but what is parked, and that makes way.
async fn nothing_is_left(store: &Arc<Store>, folder: &Folder) {
    store.keep_house().await;
    // What was dropped ends on the blocking pool.
    let all = loop {
        match store.begin(&registry(), &content(9, 1).0, Some(CAP)).await {
            Ok(all) => break Arc::new(all),
            Err(error) => assert_eq!(error.kind, Kind::NoRoom),
        }
    };
    all.discard().await;
    assert_eq!(folder.partials(), 0);
}

async fn works(store: &Arc<Store>, folder: &Folder) {
    nothing_is_left(store, folder).await;
    assert_eq!(day(store).await.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    store.flush().await;
    assert_eq!(store.content.telemetry.health.report(), "disk: ok\nindex: ok\n");
    all_that_is_there_is_right(store).await;
    assert!(store.open_blob(&content(4, LARGE).0).await.unwrap().is_some(), "what was stored last is there");
}

fn kind(error: Errno) -> Kind {
    if error == Errno::NOSPC { Kind::Full } else { Kind::Io }
}

/// Fails the n-th such operation, for every n there is.
async fn each_in_turn(operation: Operation, error: Errno) {
    for n in 0.. {
        let (folder, faults) = (Folder::in_memory(CAP), Faults::default());
        let store = folder.open_faulty(&faults).await.unwrap();
        faults.after(n, operation, error);
        let errors = day(&store).await;
        let struck = faults.struck() > 0;
        faults.lift();
        let case = format!("{operation:?} {n} {error}");
        assert!(errors.iter().all(|met| met.kind == kind(error)), "{case}: {errors:?}");
        all_that_is_there_is_right(&store).await;
        works(&store, &folder).await;
        if !struck {
            assert!(n > 0, "{case}: the day has no such operation");
            return;
        }
    }
}

/// Fails every such operation for a while.
async fn for_a_while(operation: Operation, error: Errno) {
    let (folder, faults) = (Folder::in_memory(CAP), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    if matches!(operation, Operation::Remove | Operation::Open | Operation::Metadata | Operation::Read) {
        assert!(day(&store).await.is_empty(), "there is something to fail with");
    }
    faults.always(operation, error);
    let errors = day(&store).await;
    assert!(errors.iter().all(|met| met.kind == kind(error) || met.kind == Kind::NoRoom), "{operation:?}: {errors:?}");
    assert!(!errors.is_empty(), "{operation:?} {error}");
    let health = store.content.telemetry.health.report();
    assert!(health.starts_with("disk: cannot "), "{operation:?}: {health}");
    faults.lift();
    works(&store, &folder).await;
}

#[tokio::test]
async fn any_operation_may_fail_for_want_of_room() {
    for operation in FILES {
        each_in_turn(operation, Errno::NOSPC).await;
        for_a_while(operation, Errno::NOSPC).await;
    }
}

#[tokio::test]
async fn any_operation_may_fail_on_a_bad_disk() {
    for operation in FILES {
        each_in_turn(operation, Errno::IO).await;
        for_a_while(operation, Errno::IO).await;
    }
}

#[tokio::test]
async fn the_sweep_goes_on_without_what_it_cannot_list() {
    let (folder, faults) = (Folder::in_memory(CAP), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    download(&store, 2).await.unwrap();
    faults.always(Operation::List, Errno::IO);
    store.with_content(|content| sweep::sweep(content, &CancellationToken::new())).await;
    assert!(store.content.telemetry.health.report().starts_with("disk: cannot list"));
    assert!(store.open_blob(&content(2, LARGE).0).await.unwrap().is_some());
    faults.lift();
    works(&store, &folder).await;
}

#[tokio::test]
async fn a_read_only_disk_still_serves() {
    let (folder, faults) = (Folder::in_memory(CAP), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    download(&store, 2).await.unwrap();
    let writing = [Operation::Create, Operation::Write, Operation::Rename, Operation::Remove, Operation::IndexWrite];
    writing.into_iter().for_each(|operation| faults.always(operation, Errno::ROFS));
    assert_eq!(download(&store, 3).await.unwrap_err().kind, Kind::Io);
    all_that_is_there_is_right(&store).await;
    assert!(store.open_blob(&content(2, LARGE).0).await.unwrap().is_some());
    faults.lift();
    works(&store, &folder).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_opened_can_be_later() {
    for operation in
        [Operation::MakeFolder, Operation::SyncFolder, Operation::List, Operation::Create, Operation::Rename, Operation::Sync]
    {
        let (folder, faults) = (Folder::in_memory(CAP), Faults::default());
        faults.always(operation, Errno::NOSPC);
        assert_eq!(folder.open_faulty(&faults).await.unwrap_err().kind, Kind::Full, "{operation:?}");
        faults.lift();
        works(&folder.open_faulty(&faults).await.unwrap(), &folder).await;
    }
}

#[tokio::test]
async fn room_is_made_where_the_file_system_has_none() {
    for operation in [Operation::Allocate, Operation::Write] {
        let (folder, faults) = (Folder::in_memory(64 << 20), Faults::default());
        let store = folder.open_faulty(&faults).await.unwrap();
        for i in 10..30 {
            download(&store, i).await.unwrap();
        }
        faults.after(0, operation, Errno::NOSPC);
        download(&store, 2).await.unwrap();
        assert_eq!(store.usage().blobs, 5, "{operation:?}: at least 16 MiB made room for it");
    }
}

/// Opens and uses a store whose index is on a disk that fails as `fail` says. Whether it did.
async fn with_a_failing_index(fail: impl FnOnce(&Faults)) -> bool {
    let (folder, faults, repository) = (Folder::in_memory(CAP), Faults::default(), "a/b".parse().unwrap());
    let (old, new) = (content(20, 1).0, content(21, 1).0);
    let store = folder.open().await;
    store.put_link(&registry(), &repository, &old, Link::default());
    close(store).await;
    fail(&faults);
    let store = folder.open_faulty(&faults).await.unwrap();
    assert_eq!(day(&store).await.len(), 0, "nobody is failed by the index");
    for _ in 0..3 {
        store.put_link(&registry(), &repository, &new, Link::default());
        store.flush().await;
        assert!(store.link(&registry(), &repository, &new).await.is_some(), "what waits is seen");
    }
    let struck = faults.struck() > 0;
    faults.lift();
    works(&store, &folder).await;
    close(store).await;
    let store = folder.open().await;
    for digest in [old, new] {
        assert!(store.link(&registry(), &repository, &digest).await.is_some(), "it is durable once the disk works");
    }
    struck
}

#[tokio::test]
async fn an_index_that_fails_once_fails_nobody() {
    for operation in INDEX {
        for n in [0, 1, 2, 3, 5, 8, 13, 21] {
            for error in [Errno::IO, Errno::NOSPC] {
                let struck = with_a_failing_index(|faults| faults.after(n, operation, error)).await;
                assert!(struck || n > 0, "the index has no {operation:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_index_that_fails_for_a_while_fails_nobody() {
    for operation in INDEX {
        assert!(with_a_failing_index(|faults| faults.always(operation, Errno::NOSPC)).await);
    }
}
