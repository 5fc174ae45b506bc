//! How content of a repository was reached: which tags meant a manifest, and which manifests name what.
//!
//! The tags lie with the manifest's digest and end with its content, as links do, but for those that mean it still. What a
//! manifest names lies with the manifest, so that it is found when that goes, and once more under each child, because that is how
//! it is asked for. So what is known of a child ends with those that name it, whether or not the child itself is stored: a layer
//! that was evicted is still reached through its image.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::content::Content;
use super::index::{Index, Key, Table};
use super::records::{Children, TagRecord, children_key, digest_bytes, parent_key, reached_key, recorded_at, split_digest};
use crate::oci::{Digest, Tag};

/// Tags that are remembered of one manifest in one repository: those that mean it, and the newest of those that did.
const MOST_TAGS: usize = 256;
/// Children that are remembered of one manifest; many times what any real image or index names.
const MOST_CHILDREN: usize = 1024;
/// Manifests that are looked at for one child. A layer that more images of one repository share, all of them stored, is found
/// through so many of them.
const MOST_PARENTS: usize = 4096;
/// What is not stored may be asked for yet by whoever got its digest this long ago, in seconds.
const IN_USE: u32 = 24 * 3600;
/// After so many new records it is looked for those that no content will ever take along.
const CHECK_LINEAGE: u64 = 50_000;

/// What is known of one repository.
#[derive(Debug)]
pub struct Lineage<'a> {
    index: &'a Index,
    scope: Vec<u8>,
}

impl<'a> Lineage<'a> {
    pub(super) fn new(index: &'a Index, scope: Vec<u8>) -> Self {
        Self { index, scope }
    }

    /// The tags that mean this manifest, and the newest 256 that did. Blocks.
    pub fn tags(&self, manifest: &Digest) -> Vec<Tag> {
        let prefix = self.prefix(manifest);
        let rows = self.index.scan(Table::Reached, &prefix, |_| true).into_keys();
        rows.filter_map(|key| std::str::from_utf8(&key[prefix.len()..]).ok()?.parse().ok()).collect()
    }

    /// The manifests that name this content, some thousands at most. Blocks.
    pub fn parents(&self, child: &Digest) -> Vec<Digest> {
        let prefix = self.prefix(child);
        let rows = self.index.scan_some(Table::Parents, &prefix, MOST_PARENTS, |_| true).into_keys();
        rows.filter_map(|key| split_digest(&key[prefix.len()..]).map(|(parent, _)| parent)).collect()
    }

    fn prefix(&self, digest: &Digest) -> Vec<u8> {
        [&digest_bytes(digest), self.scope.as_slice()].concat()
    }
}

impl Content {
    /// Records what a manifest names. The list itself comes last: where it is there, all else is.
    pub(super) fn put_children(&self, scope: &[u8], parent: &Digest, children: impl IntoIterator<Item = Digest>, now: u32) {
        let children: BTreeSet<Digest> = children.into_iter().take(MOST_CHILDREN).collect();
        let mut taken = true;
        for child in &children {
            taken &= self.index.put(parent_key(child, scope, parent), Bytes::new());
        }
        if taken {
            self.grew(children.len() + 1);
            let children = Children { recorded: now, digests: children.into_iter().collect() };
            self.index.put(children_key(parent, scope), children.encode());
        }
    }

    /// Records that a tag meant a manifest, unless that is known. Where there are too many, the oldest that means something else
    /// by now is forgotten. Blocks.
    pub(super) fn put_reached(&self, scope: &[u8], manifest: &Digest, tag: &Tag, now: u32) {
        let (key, prefix) = (reached_key(manifest, scope, tag), [&digest_bytes(manifest), scope].concat());
        let known = self.index.scan(Table::Reached, &prefix, |_| true);
        if known.contains_key(&key.bytes) {
            return;
        }
        if known.len() >= MOST_TAGS
            && let Some((oldest, _)) =
                known.into_iter().filter(|(key, _)| !self.is_current(key)).min_by_key(|(_, row)| recorded_at(row))
        {
            self.index.remove(Key { table: Table::Reached, bytes: oldest });
        }
        self.grew(1);
        self.index.put(key, Bytes::copy_from_slice(&now.to_be_bytes()));
    }

    /// What is known of content that goes, in every repository.
    pub(super) fn forget_lineage(&self, digest: &Digest) {
        let prefix = digest_bytes(digest);
        let reached = self.index.scan(Table::Reached, &prefix, |_| true).into_keys();
        self.drop_reached(reached.filter(|key| !self.is_current(key)));
        self.drop_children(self.index.scan(Table::Children, &prefix, |_| true));
    }

    /// What is known in a repository. Reads all lineage there is.
    pub(super) fn forget_lineage_in(&self, scope: &[u8]) {
        let ours = |key: &[u8]| split_digest(key).is_some_and(|(_, rest)| rest.starts_with(scope));
        self.drop_reached(self.index.scan(Table::Reached, &[], ours).into_keys());
        self.drop_children(self.index.scan(Table::Children, &[], ours));
    }

    /// What a tag meant, now and before. Reads all tags there were.
    pub(super) fn forget_reached_by(&self, scope: &[u8], tag: &Tag) {
        let end = [scope, tag.as_str().as_bytes()].concat();
        let ours = |key: &[u8]| split_digest(key).is_some_and(|(_, rest)| rest == end);
        self.drop_reached(self.index.scan(Table::Reached, &[], ours).into_keys());
    }

    /// Drops what is known of manifests that are not stored, once they have had time to be: no eviction takes it along.
    pub(super) fn trim_lineage(&self, now: u32) {
        self.new_lineage.store(0, Ordering::Relaxed);
        let unknown = |key: &[u8]| split_digest(key).is_some_and(|(digest, _)| self.table().size(&digest).is_none());
        let over = |key: &[u8], row: &Bytes| {
            let is_old = now.saturating_sub(recorded_at(row)) > IN_USE;
            // The table does not know everything while the folder is being swept.
            is_old && split_digest(key).is_some_and(|(digest, _)| matches!(self.layout.blob(&digest).try_exists(), Ok(false)))
        };
        let reached = self.index.scan(Table::Reached, &[], unknown).into_iter().filter(|(key, row)| over(key, row));
        self.drop_reached(reached.map(|(key, _)| key).filter(|key| !self.is_current(key)));
        self.drop_children(self.index.scan(Table::Children, &[], unknown).into_iter().filter(|(key, row)| over(key, row)));
    }

    /// Whether a tag still means the manifest that it is recorded with. Clients that have it from the tag may ask for the
    /// manifest whether or not it is stored at the moment.
    fn is_current(&self, reached: &[u8]) -> bool {
        let Some((manifest, tag)) = split_digest(reached) else { return false };
        let record = self.index.get_blocking(&Key { table: Table::Tags, bytes: tag.into() });
        record.and_then(|record| TagRecord::decode(&record)).is_some_and(|record| record.digest == manifest)
    }

    /// Whether enough has come since it was last looked for what no content takes along.
    pub(super) fn is_trim_due(&self) -> bool {
        self.new_lineage.load(Ordering::Relaxed) > CHECK_LINEAGE
    }

    fn grew(&self, records: usize) {
        self.new_lineage.fetch_add(records as u64, Ordering::Relaxed);
    }

    fn drop_reached(&self, keys: impl Iterator<Item = Box<[u8]>>) {
        keys.for_each(|bytes| self.index.remove(Key { table: Table::Reached, bytes }));
    }

    /// The list goes last: what is left after a kill is found by it.
    fn drop_children(&self, rows: impl IntoIterator<Item = (Box<[u8]>, Bytes)>) {
        for (bytes, row) in rows {
            if let (Some((parent, scope)), Some(children)) = (split_digest(&bytes), Children::decode(&row)) {
                children.digests.iter().for_each(|child| self.index.remove(parent_key(child, scope, &parent)));
            }
            self.index.remove(Key { table: Table::Children, bytes });
        }
    }
}

#[cfg(test)]
mod tests;
