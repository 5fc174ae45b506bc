use super::database::Fault;
use super::*;

fn key(name: &str) -> Key {
    Key { table: Table::Tags, bytes: name.as_bytes().into() }
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn open(layout: &Layout) -> (Index, Arc<Telemetry>) {
    let telemetry = Telemetry::quiet();
    (Index::open(layout, Disk::default(), telemetry.clone()).unwrap(), telemetry)
}

#[tokio::test]
async fn a_write_is_seen_at_once_and_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    let (index, _) = open(&layout);
    index.put(key("a1"), value("old"));
    index.put(key("a1"), value("new"));
    index.put(key("a2"), value("x"));
    assert_eq!(index.get(key("a1")).await, Some(value("new")));
    index.flush().await;
    index.remove(key("a2"));
    index.put(key("a3"), value("y"));
    assert_eq!(index.get(key("a2")).await, None);
    let names = |index: &Index| index.scan(Table::Tags, b"a", |_| true).into_keys().map(Vec::from).collect::<Vec<_>>();
    assert_eq!(names(&index), [b"a1", b"a3"]);
    drop(index);
    let (index, _) = open(&layout);
    assert_eq!(names(&index), [b"a1", b"a3"]);
    assert_eq!(index.get(key("a1")).await, Some(value("new")));
    assert_eq!(index.get(key("a1")).await, Some(value("new")), "from memory");
    index.put(key("a1"), value("newest"));
    assert_eq!(index.get(key("a1")).await, Some(value("newest")));
}

#[tokio::test]
async fn garbage_is_set_aside_with_a_warning_and_the_index_works() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    std::fs::write(layout.index(), b"no index at all").unwrap();
    let (index, telemetry) = open(&layout);
    assert!(layout.broken_index().exists());
    assert_eq!(telemetry.health.report(), "index: ok\n");
    index.put(key("a"), value("x"));
    index.flush().await;
    drop(index);
    assert_eq!(open(&layout).0.get(key("a")).await, Some(value("x")));
}

#[tokio::test]
async fn a_disk_that_refuses_costs_nobody_anything_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    std::fs::create_dir(layout.index()).unwrap();
    let (index, telemetry) = open(&layout);
    index.put(key("a"), value("x"));
    index.flush().await;
    assert_eq!(index.get(key("a")).await, Some(value("x")));
    assert_eq!(index.get(key("b")).await, None);
    assert!(telemetry.health.report().starts_with("index: the index cannot be used"), "{}", telemetry.health.report());
    std::fs::remove_dir(layout.index()).unwrap();
    index.flush().await;
    assert_eq!(telemetry.health.report(), "index: ok\n");
    drop(index);
    assert_eq!(open(&layout).0.get(key("a")).await, Some(value("x")));
}

#[tokio::test]
async fn a_fault_found_while_reading_starts_a_new_index() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    let (index, _) = open(&layout);
    index.shared.report(Fault::Damaged("by a test".to_owned()));
    index.put(key("a"), value("x"));
    index.flush().await;
    assert!(layout.broken_index().exists());
    assert_eq!(index.get(key("a")).await, Some(value("x")));
}

#[test]
fn a_failing_disk_does_not_hide_that_the_file_is_damaged_or_gone() {
    let (failed, damaged) = (|| Fault::Failed("x".to_owned()), || Fault::Damaged("y".to_owned()));
    assert_eq!(failed().after(Some(damaged())), damaged());
    assert_eq!(failed().after(Some(Fault::Deleted)), Fault::Deleted);
    assert_eq!(Fault::Deleted.after(Some(failed())), Fault::Deleted);
    assert_eq!(failed().after(None), failed());
}

#[tokio::test]
async fn what_is_in_memory_outlives_a_failing_disk_and_not_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    let (index, _) = open(&layout);
    index.put(key("a"), value("x"));
    index.flush().await;
    index.shared.recover(&Fault::Failed("by a test".to_owned()));
    assert_eq!(index.get(key("a")).await, Some(value("x")), "though the file is not open");
    let found: Vec<_> = index.scan(key("a").table, b"a", |_| true).into_keys().collect();
    assert_eq!(found, [key("a").bytes], "what is found by name is also found by looking for it");
    assert!(index.scan(key("a").table, b"b", |_| true).is_empty());
    std::fs::remove_file(layout.index()).unwrap();
    index.shared.recover(&Fault::Deleted);
    assert_eq!(index.get(key("a")).await, None);
}

#[tokio::test]
async fn after_a_fault_what_another_file_said_is_forgotten_and_what_the_same_says_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    let (index, _) = open(&layout);
    index.put(key("a"), value("x"));
    index.flush().await;
    let versions = index.version(Table::Tags);
    index.shared.recover(&Fault::Failed("by a test".to_owned()));
    index.put(key("b"), value("y"));
    index.flush().await;
    assert_eq!((index.get(key("a")).await, index.version(Table::Tags)), (Some(value("x")), versions + 1));
    index.shared.recover(&Fault::Failed("by a test".to_owned()));
    std::fs::remove_file(layout.index()).unwrap();
    index.put(key("c"), value("z"));
    index.flush().await;
    let all = [index.get(key("a")).await, index.get(key("b")).await, index.get(key("c")).await];
    assert_eq!(all, [None, None, Some(value("z"))]);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_tried_again_though_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), Disk::default()).unwrap();
    std::fs::create_dir(layout.index()).unwrap();
    let (index, telemetry) = open(&layout);
    let (_, mut rounds) = index.shared.hurry();
    rounds.wait_for(|round| *round > 0).await.unwrap();
    std::fs::remove_dir(layout.index()).unwrap();
    let is_well = |_: &u64| telemetry.health.report() == "index: ok\n";
    tokio::time::timeout(std::time::Duration::from_secs(60), rounds.wait_for(is_well)).await.unwrap().unwrap();
    assert!(layout.index().exists());
}
