//! What is asked for again and again: served from memory or an open file, with what an answer needs beside the bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::index::Table;
use super::{Blob, Error, Kept, Store};
use crate::oci::{ContentName, Digest, MediaType, RegistryName, RepositoryName};

/// Stored content that takes no look at the disk.
#[derive(Clone, Debug)]
pub enum AtHand {
    /// In memory.
    Memory(Arc<Kept>),
    /// An open file.
    File(Blob),
}

/// A manifest, whole and verified.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// What headers call it.
    pub name: ContentName,
    /// What it is served as.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
}

impl StoredManifest {
    fn of(kept: &Kept, media_type: MediaType) -> Self {
        Self { name: kept.known.name().clone(), media_type, bytes: kept.bytes.clone() }
    }
}

impl Store {
    /// Content that is in memory, else its open file where that is still what it was; counts a use. `None`: it may be stored
    /// all the same. No lock is waited for while somebody looks at the disk.
    pub fn at_hand(&self, digest: &Digest) -> Option<AtHand> {
        let in_memory = self.content.in_memory(digest).map(AtHand::Memory);
        in_memory.or_else(|| self.content.hot(digest).map(AtHand::File))
    }

    /// Content that is in memory; counts a use.
    pub(super) fn in_memory(&self, digest: &Digest) -> Option<Bytes> {
        self.content.in_memory(digest).map(|kept| kept.bytes.clone())
    }

    /// A manifest of a repository that is linked to it as one, read as [`Store::read`] does.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn manifest(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, Error> {
        let kept = self.content.memory.get(digest);
        let link = match &kept {
            Some(kept) => self.link_of(&kept.known, registry, repository, digest).await,
            None => self.link(registry, repository, digest).await,
        };
        let Some(media_type) = link.and_then(|link| link.manifest) else { return Ok(None) };
        if let Some(kept) = kept {
            self.content.used(&kept.known, digest);
            return Ok(Some(StoredManifest::of(&kept, media_type)));
        }
        let bytes = self.read(digest).await?;
        Ok(bytes.map(|bytes| StoredManifest { name: ContentName::of(digest), media_type, bytes }))
    }

    /// The same where it takes no look-up that could wait: what is asked for again and again.
    pub fn manifest_at_hand(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<StoredManifest> {
        let kept = self.content.memory.get(digest)?;
        let media_type = kept.known.link(registry, repository, self.content.index.version(Table::Links))?.manifest?;
        self.content.used(&kept.known, digest);
        Some(StoredManifest::of(&kept, media_type))
    }
}
