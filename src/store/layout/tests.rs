use super::*;

fn kind(result: Result<Layout, Error>) -> Kind {
    result.unwrap_err().kind
}

#[test]
fn a_new_folder_is_closed_to_others_and_opens_again() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("a/b");
    drop(Layout::open(&root, Disk::default()).unwrap());
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(root.join("VERSION")).unwrap(), "1\n");
    Layout::open(&root, Disk::default()).unwrap();
}

#[test]
fn one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let first = Layout::open(root.path(), Disk::default()).unwrap();
    assert_eq!(kind(Layout::open(root.path(), Disk::default())), Kind::Locked);
    drop(first);
    Layout::open(root.path(), Disk::default()).unwrap();
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("letter.txt"), "dear").unwrap();
    assert_eq!(kind(Layout::open(root.path(), Disk::default())), Kind::Foreign);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_fresh_file_system_and_an_interrupted_first_start_are_no_strangers() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("lost+found")).unwrap();
    fs::write(root.path().join("lock"), "").unwrap();
    Layout::open(root.path(), Disk::default()).unwrap();
}

#[test]
fn an_unknown_format_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("VERSION"), "2\n").unwrap();
    assert_eq!(kind(Layout::open(root.path(), Disk::default())), Kind::Version);
}

#[test]
fn a_placed_file_is_found_on_its_shelf() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::open(root.path(), Disk::default()).unwrap();
    let digest = Digest::of(Algorithm::Sha512, b"x");
    let path = layout.temporary();
    fs::write(&path, "x").unwrap();
    layout.place(&path, &digest).unwrap();
    layout.sync(&digest).unwrap();
    fs::write(layout.blob(&digest).with_file_name("README"), "").unwrap();
    let entries: Vec<Entry> = Shelf::all().flat_map(|shelf| layout.entries(shelf).unwrap()).collect();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().any(|entry| matches!(entry, Entry::Blob { digest: found, size: 1, .. } if *found == digest)));
    assert!(entries.iter().any(|entry| matches!(entry, Entry::Stray(path) if path.ends_with("README"))));
}

#[test]
fn leftovers_are_of_other_runs() {
    let root = tempfile::tempdir().unwrap();
    let first = Layout::open(root.path(), Disk::default()).unwrap();
    let left = first.temporary();
    fs::write(&left, "").unwrap();
    assert_eq!(first.leftovers().unwrap(), []);
    drop(first);
    let second = Layout::open(root.path(), Disk::default()).unwrap();
    fs::write(second.temporary(), "").unwrap();
    assert_eq!(second.leftovers().unwrap(), [Leftover::Unfinished(left)]);
}
