//! The records of the index: what they are, and how they are named and written.
//!
//! Names are put together so that what belongs together lies together: links begin with the digest, all else with registry
//! and repository. A NUL, which no name can hold, stands after each of those. What cannot be read back is not there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::eviction::Use;
use super::index::{Key, Table};
use crate::oci::{Algorithm, Digest, MediaType, RegistryName, RepositoryName, Tag};

/// That an upstream proved to hold a digest in a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The media type, where the upstream served it as a manifest.
    pub manifest: Option<MediaType>,
}

/// What a tag meant when an upstream was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// The manifest's digest.
    pub digest: Digest,
    /// When the upstream said so; kept to the millisecond.
    pub checked: SystemTime,
}

/// A list as an upstream sent it: a page of tags, or of referrers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRecord {
    /// The body, unchanged.
    pub body: Bytes,
    /// Its media type.
    pub media_type: Option<String>,
    /// The value of `OCI-Filters-Applied`.
    pub filters_applied: Option<String>,
    /// The query of the next page.
    pub next: Option<String>,
    /// When it was fetched; kept to the millisecond.
    pub fetched: SystemTime,
}

/// What a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Children {
    /// When it was written down, in seconds since 1970.
    pub(super) recorded: u32,
    pub(super) digests: Vec<Digest>,
}

/// The longest key of a list, in bytes; clients have a say in it. A list under a longer one is not kept.
pub(super) const MAX_LIST_KEY: usize = 4096;

pub(super) fn blob_key(digest: &Digest) -> Key {
    Key { table: Table::Blobs, bytes: digest_bytes(digest).into() }
}

pub(super) fn pin_key(digest: &Digest) -> Key {
    Key { table: Table::Pins, bytes: digest_bytes(digest).into() }
}

pub(super) fn link_key(registry: &RegistryName, repository: &RepositoryName, digest: &Digest) -> Key {
    placed(Table::Links, digest, &scope(registry, repository), &[])
}

/// That a tag meant a manifest.
pub(super) fn reached_key(digest: &Digest, scope: &[u8], tag: &Tag) -> Key {
    placed(Table::Reached, digest, scope, tag.as_str().as_bytes())
}

/// What a manifest names.
pub(super) fn children_key(parent: &Digest, scope: &[u8]) -> Key {
    placed(Table::Children, parent, scope, &[])
}

/// That a manifest names something.
pub(super) fn parent_key(child: &Digest, scope: &[u8], parent: &Digest) -> Key {
    placed(Table::Parents, child, scope, &digest_bytes(parent))
}

pub(super) fn tag_key(registry: &RegistryName, repository: &RepositoryName, tag: &Tag) -> Key {
    scoped(Table::Tags, registry, repository, tag.as_str())
}

pub(super) fn list_key(registry: &RegistryName, repository: &RepositoryName, key: &str) -> Key {
    scoped(Table::Lists, registry, repository, key)
}

fn scoped(table: Table, registry: &RegistryName, repository: &RepositoryName, rest: &str) -> Key {
    let [registry, end, repository, _] = scoping(registry, repository);
    Key { table, bytes: [registry, end, repository, end, rest.as_bytes()].concat().into() }
}

fn placed(table: Table, digest: &Digest, scope: &[u8], rest: &[u8]) -> Key {
    Key { table, bytes: [&digest_bytes(digest), scope, rest].concat().into() }
}

/// What the keys of a repository's tags and lists begin with, and what stands behind the digest in those of its links and
/// lineage.
pub(super) fn scope(registry: &RegistryName, repository: &RepositoryName) -> Vec<u8> {
    scoping(registry, repository).concat()
}

fn scoping<'a>(registry: &'a RegistryName, repository: &'a RepositoryName) -> [&'a [u8]; 4] {
    [registry.as_str().as_bytes(), b"\0", repository.as_str().as_bytes(), b"\0"]
}

/// What the keys of everything about a digest begin with: a byte for the algorithm, then the hash.
pub(super) fn digest_bytes(digest: &Digest) -> Vec<u8> {
    [&[algorithm_byte(digest.algorithm())], digest.bytes()].concat()
}

pub(super) fn algorithm_byte(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    }
}

/// The digest that a key begins with, and the rest of it.
pub(super) fn split_digest(key: &[u8]) -> Option<(Digest, &[u8])> {
    match key.split_first()? {
        (1, rest) => rest.split_first_chunk().map(|(hash, rest)| (Digest::Sha256(*hash), rest)),
        (2, rest) => rest.split_first_chunk().map(|(hash, rest)| (Digest::Sha512(*hash), rest)),
        _ => None,
    }
}

impl Link {
    pub(super) fn encode(self) -> Bytes {
        json(&self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl TagRecord {
    /// Milliseconds, then the digest.
    pub(super) fn encode(self) -> Bytes {
        [millis(self.checked).to_be_bytes().as_slice(), &digest_bytes(&self.digest)].concat().into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, rest) = bytes.split_first_chunk()?;
        let (digest, rest) = split_digest(rest)?;
        rest.is_empty().then(|| Self { digest, checked: time(u64::from_be_bytes(*checked)) })
    }
}

#[derive(Serialize, Deserialize)]
struct ListHead {
    media_type: Option<String>,
    filters_applied: Option<String>,
    next: Option<String>,
}

impl ListRecord {
    /// Milliseconds, the length of the head, the head as JSON, the body.
    pub(super) fn encode(self) -> Bytes {
        let Self { media_type, filters_applied, next, .. } = self;
        let head = json(&ListHead { media_type, filters_applied, next });
        let mut bytes = BytesMut::with_capacity(16 + head.len() + self.body.len());
        bytes.extend(millis(self.fetched).to_be_bytes());
        bytes.extend((head.len() as u64).to_be_bytes());
        bytes.extend(head);
        bytes.extend(&self.body);
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let (fetched, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (head, body) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        let ListHead { media_type, filters_applied, next } = serde_json::from_slice(head).ok()?;
        let fetched = time(u64::from_be_bytes(*fetched));
        Some(Self { body: bytes.slice_ref(body), media_type, filters_applied, next, fetched })
    }

    /// When a list was fetched, without reading all of it.
    pub(super) fn fetched_millis(bytes: &[u8]) -> u64 {
        bytes.first_chunk().map_or(0, |fetched| u64::from_be_bytes(*fetched))
    }
}

impl Use {
    /// Size, then the last use in seconds.
    pub(super) fn encode(&self) -> Bytes {
        [self.size.to_be_bytes().as_slice(), &self.used.to_be_bytes()].concat().into()
    }

    pub(super) fn decode(digest: Digest, bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (used, rest) = rest.split_first_chunk()?;
        rest.is_empty().then(|| Self { digest, size: u64::from_be_bytes(*size), used: u32::from_be_bytes(*used) })
    }
}

impl Children {
    /// Seconds, then the digests.
    pub(super) fn encode(&self) -> Bytes {
        let digests = self.digests.iter().flat_map(digest_bytes);
        self.recorded.to_be_bytes().into_iter().chain(digests).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (recorded, mut rest) = bytes.split_first_chunk()?;
        let mut digests = Vec::new();
        while !rest.is_empty() {
            let (digest, others) = split_digest(rest)?;
            digests.push(digest);
            rest = others;
        }
        Some(Self { recorded: u32::from_be_bytes(*recorded), digests })
    }
}

/// When a record of lineage was made, which is what it begins with.
pub(super) fn recorded_at(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |recorded| u32::from_be_bytes(*recorded))
}

/// Seconds since 1970; good until 2106, and any time beyond is the last one.
pub(super) fn seconds(at: SystemTime) -> u32 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A number no clock can hold is the epoch, which is long ago for whoever asks.
fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("strings and options always serialise").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_reads_back_as_written() {
        let digest = Digest::of(Algorithm::Sha512, b"x");
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let link = Link { manifest: Some("a/b".into()) };
        assert_eq!(Link::decode(&link.clone().encode()), Some(link));
        let tag = TagRecord { digest, checked: at };
        assert_eq!(TagRecord::decode(&tag.clone().encode()), Some(tag));
        let (next, body) = (Some("n=1&last=a".to_owned()), Bytes::from_static(b"{}"));
        let list = ListRecord { body, media_type: None, filters_applied: Some("artifactType".to_owned()), next, fetched: at };
        assert_eq!(ListRecord::fetched_millis(&list.clone().encode()), 1_700_000_000_123);
        assert_eq!(ListRecord::decode(&list.clone().encode()), Some(list));
        let digests = vec![digest, Digest::of(Algorithm::Sha256, b"y")];
        for children in [Children { recorded: 7, digests }, Children { recorded: 8, digests: Vec::new() }] {
            assert_eq!(recorded_at(&children.encode()), children.recorded);
            assert_eq!(Children::decode(&children.encode()), Some(children));
        }
        let used = Use { digest, size: 1 << 40, used: 7 };
        assert_eq!(Use::decode(digest, &used.encode()), Some(used));
    }

    #[test]
    fn a_key_tells_its_digest_and_its_repository() {
        let (registry, repository) = ("r.io:5000".parse().unwrap(), "a/b".parse().unwrap());
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"x");
            let key = link_key(&registry, &repository, &digest);
            assert_eq!(split_digest(&key.bytes), Some((digest, scope(&registry, &repository).as_slice())));
        }
        let tag = tag_key(&registry, &"a".parse().unwrap(), &"b".parse().unwrap());
        assert!(!tag.bytes.starts_with(&scope(&registry, &repository)), "a tag b of a is not in a/b");
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_file_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = Bytes::from(bytes);
            let _ = (Link::decode(&bytes), TagRecord::decode(&bytes), ListRecord::decode(&bytes), split_digest(&bytes));
            let _ = (Use::decode(Digest::of(Algorithm::Sha256, b""), &bytes), ListRecord::fetched_millis(&bytes));
            let _ = (Children::decode(&bytes), recorded_at(&bytes));
        }
    }
}
