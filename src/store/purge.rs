//! Dropping what an operator or a bound no longer wants. Everything here blocks.

use super::content::Content;
use super::index::{Key, Table};
use super::records::{ListRecord, digest_bytes, scope, split_digest};
use crate::oci::{Digest, RegistryName, RepositoryName};

/// What kept lists may take in the index, in bytes. Clients choose pages and filters, so their number has no end.
const MAX_LISTS: u64 = 64 << 20;

/// What was dropped with a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Tags.
    pub tags: u64,
    /// Links to content.
    pub links: u64,
    /// Lists of tags and referrers.
    pub lists: u64,
    /// Blobs that no other repository is linked to.
    pub blobs: u64,
    /// Bytes of those.
    pub bytes: u64,
}

impl Content {
    /// Drops all that is recorded of a repository, and what nothing else is linked to. Reads all links and lineage there are.
    pub(super) fn purge(&self, registry: &RegistryName, repository: &RepositoryName) -> Removed {
        let scope = scope(registry, repository);
        let mut removed = Removed {
            tags: self.drop_all(Table::Tags, self.index.scan(Table::Tags, &scope, |_| true).into_keys()),
            lists: self.drop_all(Table::Lists, self.index.scan(Table::Lists, &scope, |_| true).into_keys()),
            ..Removed::default()
        };
        self.forget_lineage_in(&scope);
        let ours = |key: &[u8]| split_digest(key).is_some_and(|(_, rest)| rest == scope);
        let links: Vec<Box<[u8]>> = self.index.scan(Table::Links, &[], ours).into_keys().collect();
        removed.links = self.drop_all(Table::Links, links.iter().cloned());
        for (digest, _) in links.iter().filter_map(|key| split_digest(key)) {
            if let Some(size) = self.drop_unlinked(&digest) {
                removed.blobs += 1;
                removed.bytes += size;
            }
        }
        removed
    }

    /// Drops the oldest lists where there are too many, down to three quarters of what they may take.
    pub(super) fn trim_lists(&self) {
        let all = self.index.scan(Table::Lists, &[], |_| true);
        let mut total: u64 = all.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        if total <= MAX_LISTS {
            return;
        }
        let row = |(key, value): (Box<[u8]>, bytes::Bytes)| (ListRecord::fetched_millis(&value), key.len() + value.len(), key);
        let mut lists: Vec<_> = all.into_iter().map(row).collect();
        lists.sort_unstable();
        for (_, size, key) in lists {
            if total <= MAX_LISTS / 4 * 3 {
                return;
            }
            total -= size as u64;
            self.index.remove(Key { table: Table::Lists, bytes: key });
        }
    }

    fn drop_all(&self, table: Table, keys: impl Iterator<Item = Box<[u8]>>) -> u64 {
        keys.map(|bytes| self.index.remove(Key { table, bytes })).count() as u64
    }

    /// Deletes content that nothing is linked to, unless it is pinned. Its size, where that was so.
    fn drop_unlinked(&self, digest: &Digest) -> Option<u64> {
        if self.table().is_pinned(digest) || !self.index.scan(Table::Links, &digest_bytes(digest), |_| true).is_empty() {
            return None;
        }
        let size = self.table().size(digest).or_else(|| self.recorded(digest).map(|row| row.size)).unwrap_or(0);
        match self.remove(digest) {
            Ok(was_there) => was_there.then_some(size),
            Err(error) => {
                tracing::warn!(%error, "the content of a removed repository stays until it is evicted");
                None
            }
        }
    }
}
