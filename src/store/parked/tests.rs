use std::sync::Arc;
use std::{fs, path::PathBuf};

use rustix::io::Errno;

use super::super::tests::{Folder, close, content, put, registry};
use super::super::{Faults, Operation, Partial, Store};
use super::*;
use crate::oci::Span;

const LENGTH: u64 = 3 << 20;
const HALF: usize = 1 << 20;

async fn begin(store: &Store, i: u8) -> Arc<Partial> {
    Arc::new(store.begin(&registry(), &content(i, 1).0, Some(LENGTH)).await.unwrap())
}

/// A parked download with its first MiB.
async fn parked(store: &Store, i: u8) -> Digest {
    let partial = begin(store, i).await;
    partial.write_at(0, &vec![i; HALF]).unwrap();
    partial.park().await;
    content(i, 1).0
}

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end)
}

/// The paths of a download's file and its note.
fn files(store: &Store, digest: &Digest) -> (PathBuf, PathBuf) {
    let name = Layout::kept_name(&registry(), digest);
    (store.content.layout.kept(&name), store.content.layout.note(&name))
}

/// A folder with a download that was left behind by a process that ended in the midst of it.
async fn left_behind() -> (Folder, PathBuf, PathBuf, Digest) {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let partial = begin(&store, 1).await;
    partial.write_at(0, &vec![1; HALF]).unwrap();
    partial.write_at(2 << 20, &vec![1; HALF / 2]).unwrap();
    let digest = content(1, 1).0;
    let (file, note) = files(&store, &digest);
    // As kill -9 leaves it: the note of the first MiB, and more in the file.
    let as_killed = fs::read(&note).unwrap();
    drop(partial);
    close(store).await;
    fs::write(&note, as_killed).unwrap();
    (folder, file, note, digest)
}

#[tokio::test]
async fn a_download_goes_on_after_the_process_was_killed() {
    let (folder, _, _, digest) = left_behind().await;
    let store = folder.open_swept().await;
    let partial = store.take_up(&registry(), &digest).await.unwrap();
    assert_eq!((partial.length(), partial.present_until(0)), (Some(LENGTH), HALF as u64));
    assert!(partial.covers(span(0, HALF as u64)) && !partial.covers(span(2 << 20, (2 << 20) + 1)), "only what a note says");
    assert!(store.take_up(&registry(), &digest).await.is_none(), "one at a time");
    partial.write_at(HALF as u64, &vec![1; 2 << 20]).unwrap();
    let blob = Arc::new(partial).commit().await.unwrap();
    assert_eq!(fs::read(folder.path(&blob.digest)).unwrap(), vec![1; LENGTH as usize]);
    assert_eq!((store.usage().bytes, folder.partials()), (LENGTH, 0));
}

#[tokio::test]
async fn a_last_note_is_written_by_who_can() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let partial = begin(&store, 1).await;
    partial.write_at(2 << 20, b"few").unwrap();
    drop(partial);
    close(store).await;
    let store = folder.open().await;
    let partial = store.take_up(&registry(), &content(1, 1).0).await.unwrap();
    assert_eq!(partial.first_gap(span(0, LENGTH)), Some(span(0, 2 << 20)));
    assert_eq!(partial.present_until(2 << 20), (2 << 20) + 3);
}

#[tokio::test]
async fn after_a_restart_of_the_machine_only_what_was_made_durable_counts() {
    let (mut folder, ..) = left_behind().await;
    folder.boot = Some("another".to_owned());
    let store = folder.open_swept().await;
    assert!(store.take_up(&registry(), &content(1, 1).0).await.is_none(), "nothing was made durable");
    assert_eq!(folder.partials(), 0);
    let digest = parked(&store, 2).await;
    close(store).await;
    folder.boot = Some("a third".to_owned());
    let store = folder.open_swept().await;
    assert_eq!(store.take_up(&registry(), &digest).await.unwrap().present_until(0), HALF as u64, "parking does");
}

#[tokio::test]
async fn what_started_over_is_not_believed_after_a_kill() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let partial = begin(&store, 1).await;
    partial.write_at(0, &vec![1; HALF]).unwrap();
    let (file, note) = files(&store, &content(1, 1).0);
    partial.start_over();
    let as_killed = [&file, &note].map(|path| (path, fs::read(path).unwrap()));
    drop(partial);
    close(store).await;
    as_killed.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let store = folder.open().await;
    assert!(store.take_up(&registry(), &content(1, 1).0).await.is_none());
}

#[tokio::test]
async fn much_is_made_durable_on_the_way() {
    let mut folder = Folder::new(100 << 20);
    let store = folder.open().await;
    let digest = content(1, 1).0;
    let partial = Arc::new(store.begin(&registry(), &digest, Some(80 << 20)).await.unwrap());
    for i in 0..65 {
        partial.write_at(i << 20, &vec![1; HALF]).unwrap();
        if partial.is_sync_due() {
            partial.clone().sync().await;
        }
    }
    drop(partial);
    close(store).await;
    folder.boot = Some("another".to_owned());
    let store = folder.open().await;
    assert_eq!(store.take_up(&registry(), &digest).await.unwrap().present_until(0), 64 << 20);
}

#[tokio::test]
async fn a_note_that_does_not_hold_is_not_believed_and_its_file_goes() {
    let torn = |_: &PathBuf, note: &PathBuf| {
        let mut page = fs::read(note).unwrap();
        page[200] ^= 1;
        fs::write(note, page).unwrap();
    };
    let cut = |_: &PathBuf, note: &PathBuf| fs::write(note, "").unwrap();
    let missing = |_: &PathBuf, note: &PathBuf| fs::remove_file(note).unwrap();
    let no_file = |file: &PathBuf, _: &PathBuf| fs::remove_file(file).unwrap();
    let of_another = |file: &PathBuf, note: &PathBuf| {
        let name = |path: &PathBuf| PathBuf::from(path.to_str().unwrap().replace("kept-", "kept-0"));
        fs::rename(file, name(file)).unwrap();
        fs::rename(note, name(note)).unwrap();
    };
    for break_it in [&torn as &dyn Fn(&PathBuf, &PathBuf), &cut, &missing, &no_file, &of_another] {
        let (folder, file, note, digest) = left_behind().await;
        break_it(&file, &note);
        let store = folder.open().await;
        assert!(store.take_up(&registry(), &digest).await.is_none());
        store.begin(&registry(), &content(2, 1).0, Some(10 << 20)).await.expect("it takes no room");
        close(store).await;
        folder.open_swept().await;
        assert_eq!(folder.partials(), 0);
    }
}

#[tokio::test]
async fn of_a_file_that_was_cut_only_what_is_left_is_believed() {
    let (folder, file, _, digest) = left_behind().await;
    fs::File::options().write(true).open(file).unwrap().set_len(1000).unwrap();
    let store = folder.open().await;
    assert_eq!(store.take_up(&registry(), &digest).await.unwrap().present_until(0), 1000);
}

#[tokio::test]
async fn what_is_parked_takes_no_more_bytes_until_it_is_taken_up() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let partial = begin(&store, 1).await;
    partial.write_at(0, &[1; 100]).unwrap();
    partial.clone().park().await;
    assert_eq!(partial.write_at(100, b"x").unwrap_err().kind, super::super::Kind::Incomplete);
    assert_eq!(partial.clone().commit().await.unwrap_err().kind, super::super::Kind::Incomplete);
    let again = store.take_up(&registry(), &content(1, 1).0).await.unwrap();
    assert_eq!(again.present_until(0), 100);
    assert_eq!(store.begin(&registry(), &content(2, 1).0, Some(8 << 20)).await.unwrap_err().kind, super::super::Kind::NoRoom);
    let other = begin(&store, 1).await;
    other.write_at(0, &[9; 100]).unwrap();
    let mut read = [0; 100];
    std::os::unix::fs::FileExt::read_exact_at(&**again.file(), &mut read, 0).unwrap();
    assert_eq!(read, [1; 100], "two never share a file");
    other.park().await;
    Arc::new(again).discard().await;
    assert_eq!(folder.partials(), 0, "what lost its name to another is not kept");
    store.begin(&registry(), &content(2, 1).0, Some(10 << 20)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_worth_keeping_is_not_kept() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    for (length, bytes) in [(Some(LENGTH), 0), (Some(1 << 20), 100), (None, 2 << 20)] {
        let partial = Arc::new(store.begin(&registry(), &content(1, 1).0, length).await.unwrap());
        partial.write_at(0, &vec![1; bytes]).unwrap();
        partial.park().await;
        assert!(store.take_up(&registry(), &content(1, 1).0).await.is_none());
        assert_eq!(folder.partials(), 0, "{length:?}");
    }
}

#[tokio::test]
async fn a_download_of_another_length_ends_what_was_parked() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    for length in [Some(100), Some(2 << 20), None] {
        let digest = parked(&store, 1).await;
        let partial = store.begin(&registry(), &digest, length).await.unwrap();
        assert_eq!(partial.present_until(0), 0);
        Arc::new(partial).discard().await;
        assert!(store.take_up(&registry(), &digest).await.is_none());
        assert_eq!(folder.partials(), 0);
    }
}

#[tokio::test]
async fn stored_content_needs_no_parked_download() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let partial = Arc::new(store.begin(&registry(), &content(1, 1).0, None).await.unwrap());
    parked(&store, 1).await;
    assert_eq!(folder.partials(), 3);
    partial.write_at(0, &[1; 100]).unwrap();
    partial.commit().await.unwrap();
    assert_eq!(folder.partials(), 0);
}

#[tokio::test]
async fn parked_downloads_go_before_content_and_the_oldest_first() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let stored = put(&store, 9, 1 << 20).await;
    let (old, new) = (parked(&store, 1).await, parked(&store, 2).await);
    assert_eq!(store.usage().blobs, 1, "what is parked is no content");
    let partial = store.begin(&registry(), &content(3, 1).0, Some(4 << 20)).await.unwrap();
    assert!(!files(&store, &old).0.exists() && files(&store, &new).0.exists() && folder.path(&stored).exists());
    let refused = store.begin(&registry(), &content(4, 1).0, Some(7 << 20)).await;
    assert!(refused.is_err() && files(&store, &new).0.exists(), "nothing goes for what can never fit");
    Arc::new(partial).discard().await;
    close(store).await;

    let store = folder.open_swept().await;
    store.begin(&registry(), &content(3, 1).0, Some(7 << 20)).await.unwrap();
    assert!(!files(&store, &new).0.exists() && folder.path(&stored).exists(), "so do those of an earlier run");
}

#[tokio::test]
async fn what_nobody_takes_up_for_a_day_goes() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    parked(&store, 1).await;
    store.content.drop_surplus(SystemTime::now() + MAX_AGE / 2);
    assert_eq!(folder.partials(), 2);
    store.content.drop_surplus(SystemTime::now() + MAX_AGE * 2);
    assert_eq!(folder.partials(), 0);
    store.begin(&registry(), &content(3, 1).0, Some(10 << 20)).await.expect("its room is free");
    let (folder, _, note, _) = left_behind().await;
    fs::File::options().write(true).open(note).unwrap().set_modified(SystemTime::now() - MAX_AGE * 2).unwrap();
    folder.open_swept().await;
    assert_eq!(folder.partials(), 0, "nor is it taken over");
}

#[test]
fn only_so_many_are_parked_and_one_in_use_is_left_alone() {
    let mut parked = Parked::default();
    let name = |i: u32| Layout::kept_name(&registry(), &Digest::of(crate::oci::Algorithm::Sha256, &i.to_le_bytes()));
    let at = |i: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + u64::from(i));
    for i in 0..=MOST as u32 {
        assert_eq!(parked.claim(&name(i)), Claim::Free);
        assert_eq!(parked.claim(&name(i)), Claim::InUse);
        parked.park(name(i), Entry { reserved: 2, since: at(i) });
    }
    let entry = |i| Entry { reserved: 2, since: at(i) };
    assert_eq!(parked.claim(&name(0)), Claim::Parked(entry(0)));
    assert_eq!(parked.claim_surplus(at(300)), None);
    parked.park(name(0), entry(0));
    assert_eq!(parked.claim_surplus(at(300)), Some((name(0), entry(0))));
    assert_eq!((parked.claim_surplus(at(300)), parked.reserved()), (None, 2 * MOST as u64));
}

#[tokio::test]
async fn bytes_that_the_disk_may_have_lost_are_not_believed_after_a_kill() {
    let (folder, faults) = (Folder::new(10 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let partial = begin(&store, 1).await;
    partial.write_at(0, &vec![1; HALF]).unwrap();
    faults.after(0, Operation::Sync, Errno::IO);
    partial.clone().sync().await;
    partial.write_at(HALF as u64, &vec![1; HALF]).unwrap();
    let (file, note) = files(&store, &content(1, 1).0);
    let as_killed = [&file, &note].map(|path| (path, fs::read(path).unwrap()));
    drop(partial);
    close(store).await;
    as_killed.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let store = folder.open().await;
    assert!(store.take_up(&registry(), &content(1, 1).0).await.is_none());
}

#[test]
fn a_download_outlives_a_runtime_that_ends_under_it() {
    let folder = Folder::new(10 << 20);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(folder.open());
    let partial = runtime.block_on(begin(&store, 1));
    partial.write_at(0, &vec![1; HALF]).unwrap();
    let (end, ending) = std::sync::mpsc::channel::<()>();
    let (told, ended) = std::sync::mpsc::channel();
    runtime.spawn_blocking(move || {
        let _ = ending.recv();
        drop((partial, store));
        told.send(()).unwrap();
    });
    runtime.shutdown_background();
    drop(end);
    ended.recv().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(folder.open());
    let partial = runtime.block_on(store.take_up(&registry(), &content(1, 1).0));
    assert_eq!(partial.unwrap().present_until(0), HALF as u64);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_not_taken_up_and_goes_when_it_can() {
    let (folder, faults) = (Folder::new(10 << 20), Faults::default());
    let store = folder.open_faulty(&faults).await.unwrap();
    let partial = begin(&store, 1).await;
    partial.write_at(0, &vec![1; HALF]).unwrap();
    faults.always(Operation::Remove, Errno::IO);
    partial.discard().await;
    assert!(store.take_up(&registry(), &content(1, 1).0).await.is_none(), "somebody found it wrong");
    assert_eq!(folder.partials(), 2);
    faults.lift();
    store.keep_house().await;
    assert_eq!((folder.partials(), store.content.telemetry.health.report().contains("delete")), (0, false));
    parked(&store, 1).await;
    assert!(store.take_up(&registry(), &content(1, 1).0).await.is_some(), "its name is free");
}

#[tokio::test]
async fn one_file_that_cannot_be_deleted_keeps_no_others_room() {
    let folder = Folder::new(10 << 20);
    let store = folder.open().await;
    let stuck = parked(&store, 1).await;
    parked(&store, 2).await;
    parked(&store, 3).await;
    let (file, _) = files(&store, &stuck);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    drop(store.begin(&registry(), &content(9, 1).0, Some(10 << 20)).await.expect("the room of all that is parked"));
}
