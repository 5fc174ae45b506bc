use super::super::Store;
use super::super::tests::{Folder, close, put, registry};
use super::*;
use crate::oci::{Algorithm, RepositoryName};

const ROOM: u64 = 10 << 20;
const NOW: u32 = 1_700_000_000;

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn place(name: &str) -> Vec<u8> {
    super::super::records::scope(&registry(), &repository(name))
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn digest(n: u32) -> Digest {
    Digest::of(Algorithm::Sha256, &n.to_be_bytes())
}

/// What is known of a digest in a repository: tags, then parents.
async fn known(store: &Store, name: &str, of: Digest) -> (Vec<String>, Vec<Digest>) {
    let look = move |lineage: &Lineage<'_>| (lineage.tags(&of), lineage.parents(&of));
    let (tags, parents) = store.lineage(&registry(), &repository(name), look).await;
    (tags.iter().map(Tag::to_string).collect(), parents)
}

/// How many records there are of tags, of lists of children, and of parents.
fn records(store: &Store) -> (usize, usize, usize) {
    let rows = |table| store.content.index.scan(table, &[], |_| true).len();
    (rows(Table::Reached), rows(Table::Children), rows(Table::Parents))
}

/// Writes down that a manifest in a repository was tagged and names these.
async fn reach(store: &Store, name: &str, manifest: &Digest, children: &[Digest]) {
    store.put_children(&registry(), &repository(name), manifest, children.iter().copied());
    store.put_reached(&registry(), &repository(name), manifest, &tag("v1")).await;
}

#[tokio::test]
async fn what_is_recorded_is_seen_at_once_and_after_a_restart() {
    let folder = Folder::in_memory(ROOM);
    let mut store = folder.open().await;
    let (image, other, layer) = (digest(1), Digest::of(Algorithm::Sha512, b"2"), digest(3));
    reach(&store, "a/b", &image, &[layer, layer, digest(4)]).await;
    store.put_children(&registry(), &repository("a/b"), &other, [layer]);
    store.put_reached(&registry(), &repository("a/b"), &image, &tag("latest")).await;
    for round in ["at once", "after a restart"] {
        assert_eq!(known(&store, "a/b", image).await, (vec!["latest".to_owned(), "v1".to_owned()], vec![]), "{round}");
        assert_eq!(known(&store, "a/b", layer).await, (vec![], vec![image, other]), "{round}");
        assert_eq!(known(&store, "a", layer).await, (vec![], vec![]), "another repository");
        assert!(store.knows_children(&registry(), &repository("a/b"), &image).await);
        assert!(!store.knows_children(&registry(), &repository("a/b"), &layer).await);
        close(store).await;
        store = folder.open().await;
    }
}

#[tokio::test]
async fn what_is_known_ends_with_the_manifest_and_not_with_the_child() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    let (image, kept, layer) = (put(&store, 1, 100).await, put(&store, 2, 100).await, put(&store, 3, 100).await);
    for name in ["a", "b"] {
        reach(&store, name, &image, &[layer, digest(4)]).await;
        reach(&store, name, &kept, &[layer]).await;
    }
    assert!(store.remove(&layer).await.unwrap());
    assert_eq!(known(&store, "a", layer).await.1.len(), 2);
    assert!(store.remove(&image).await.unwrap());
    assert_eq!(known(&store, "a", layer).await, (vec![], vec![kept]));
    assert_eq!(known(&store, "b", image).await, (vec![], vec![]));
    assert_eq!(records(&store), (2, 2, 2));
    assert!(store.remove(&kept).await.unwrap());
    assert_eq!(records(&store), (0, 0, 0));
}

#[tokio::test]
async fn a_repository_is_forgotten_and_a_tag_alone_is_too() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    for name in ["a", "a/b"] {
        reach(&store, name, &digest(1), &[digest(3)]).await;
        reach(&store, name, &digest(2), &[]).await;
        store.put_reached(&registry(), &repository(name), &digest(1), &tag("v")).await;
    }
    store.forget_reached(&registry(), &repository("a"), &tag("v")).await;
    assert_eq!(known(&store, "a", digest(1)).await.0, ["v1"]);
    assert_eq!(known(&store, "a/b", digest(1)).await.0, ["v", "v1"]);
    store.forget_reached(&registry(), &repository("a"), &tag("v1")).await;
    assert_eq!(known(&store, "a", digest(2)).await.0, Vec::<String>::new());
    store.remove_repository(&registry(), &repository("a")).await;
    assert_eq!(known(&store, "a", digest(3)).await.1, []);
    assert_eq!(records(&store), (3, 2, 1), "all of the other");
}

#[tokio::test]
async fn the_newest_tags_are_remembered_and_none_is_written_twice() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    let (content, at) = (&store.content, |n: u32| NOW + (n * 7) % 300);
    for n in 0..300 {
        content.put_reached(&place("a"), &digest(1), &tag(&format!("v{n}")), at(n));
    }
    let rows = content.index.scan(Table::Reached, &[], |_| true);
    assert_eq!(rows.len(), MOST_TAGS);
    let key = reached_key(&digest(1), &place("a"), &tag("v299")).bytes;
    assert_eq!(recorded_at(&rows[&key]), at(299));
    content.put_reached(&place("a"), &digest(1), &tag("v299"), NOW + 1000);
    assert_eq!(content.index.scan(Table::Reached, &[], |_| true), rows, "it was there");
}

#[tokio::test]
async fn a_tag_that_means_a_manifest_still_is_forgotten_in_no_other_way_than_with_it() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    let manifest = put(&store, 1, 100).await;
    let record = TagRecord { digest: manifest, checked: std::time::SystemTime::UNIX_EPOCH };
    store.put_tag(&registry(), &repository("a"), &tag("v1"), record);
    for n in 0..300 {
        let tag = if n == 0 { "v1".to_owned() } else { format!("old{n}") };
        store.content.put_reached(&place("a"), &manifest, &tag.parse().unwrap(), NOW - 2 * IN_USE + n);
    }
    let is_known = async || known(&store, "a", manifest).await.0.contains(&"v1".to_owned());
    assert_eq!((is_known().await, records(&store).0), (true, MOST_TAGS));
    assert!(store.remove(&manifest).await.unwrap());
    store.content.trim_lineage(NOW);
    assert_eq!((is_known().await, records(&store).0), (true, 1));
    store.remove_tag(&registry(), &repository("a"), &tag("v1")).await;
    store.content.trim_lineage(NOW);
    assert_eq!(records(&store).0, 0);
}

#[tokio::test]
async fn a_manifest_that_names_too_much_is_remembered_in_part() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    store.put_children(&registry(), &repository("a"), &digest(0), (1..=2000).map(digest));
    assert_eq!(records(&store), (0, 1, MOST_CHILDREN));
    assert_eq!(known(&store, "a", digest(1024)).await.1, [digest(0)]);
}

#[tokio::test]
async fn what_no_eviction_takes_along_goes_after_a_day() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    let (stored, kept) = (put(&store, 1, 100).await, put(&store, 2, 100).await);
    let record = |manifest: &Digest, at| {
        store.content.put_children(&place("a"), manifest, [digest(3)], at);
        store.content.put_reached(&place("a"), manifest, &tag("v1"), at);
    };
    record(&stored, NOW - 2 * IN_USE);
    record(&kept, NOW - 2 * IN_USE);
    record(&digest(1), NOW - IN_USE);
    record(&digest(2), NOW - IN_USE - 1);
    // As if the sweep had not come to it.
    store.content.table().remove(&kept);
    store.content.trim_lineage(NOW);
    let mut left = vec![stored, kept, digest(1)];
    left.sort_unstable();
    assert_eq!(known(&store, "a", digest(3)).await.1, left);
    assert_eq!(records(&store), (3, 3, 3));
}

#[tokio::test]
async fn it_is_looked_for_that_when_enough_has_come() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    for n in 0..u32::try_from(CHECK_LINEAGE).unwrap() / 1025 + 1 {
        assert!(!store.content.is_trim_due());
        store.content.put_children(&place("a"), &digest(n), (1..=1024).map(digest), NOW - 2 * IN_USE);
    }
    assert!(store.content.is_trim_due());
    store.keep_house().await;
    assert_eq!((records(&store), store.content.is_trim_due()), ((0, 0, 0), false));
}

#[tokio::test]
async fn a_sweep_looks_for_it_too() {
    let folder = Folder::in_memory(ROOM);
    let store = folder.open().await;
    let stored = put(&store, 1, 100).await;
    for manifest in [&stored, &digest(1)] {
        store.content.put_children(&place("a"), manifest, [digest(3)], NOW - 2 * IN_USE);
    }
    close(store).await;
    let store = folder.open_swept().await;
    assert_eq!(known(&store, "a", digest(3)).await.1, [stored]);
}
