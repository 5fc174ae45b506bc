//! Dropping what is cached: one tag, a whole repository, or content by its digest, wherever it is linked.

use std::str::FromStr;

use super::{Error, Mirror};
use crate::oci::{Digest, DigestError, NameError, RegistryName, RepositoryName, Tag};

/// What to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// What one tag means, and ever meant; the next pull asks the upstream.
    Tag(RegistryName, RepositoryName, Tag),
    /// All that is known of a repository, and the bytes that no other repository needs.
    Repository(RegistryName, RepositoryName),
    /// Content by its digest, in every repository.
    Content(Digest),
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Purged {
    /// Tags.
    pub tags: u64,
    /// Stored blobs and manifests.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a text names nothing that can be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// Not of the form that is wanted.
    #[error("name it as REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY or sha256:…")]
    Form,
    /// A part of the name is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl FromStr for Purge {
    type Err = PurgeError;

    /// Reads `REGISTRY/REPOSITORY[:TAG]`, `REGISTRY/REPOSITORY@DIGEST` or a digest. The registry is spelled out: nothing is
    /// dropped by a guess.
    fn from_str(text: &str) -> Result<Self, PurgeError> {
        let Some((registry, rest)) = text.split_once('/') else {
            return if text.contains(':') { Ok(Self::Content(text.parse()?)) } else { Err(PurgeError::Form) };
        };
        let registry: RegistryName = registry.parse()?;
        if let Some((repository, digest)) = rest.split_once('@') {
            repository.parse::<RepositoryName>()?;
            return Ok(Self::Content(digest.parse()?));
        }
        let (repository, tag) = rest.split_once(':').map_or((rest, None), |(repository, tag)| (repository, Some(tag)));
        let repository: RepositoryName = repository.parse()?;
        let repository = if registry.is_docker_hub() { repository.with_library() } else { repository };
        Ok(match tag {
            Some(tag) => Self::Tag(registry, repository, tag.parse()?),
            None => Self::Repository(registry, repository),
        })
    }
}

impl Mirror {
    /// Drops what `purge` names, on disk and in memory. Answers under way go on to their end.
    ///
    /// # Errors
    /// The disk failed; what was dropped until then stays dropped.
    pub async fn purge(&self, purge: &Purge) -> Result<Purged, Error> {
        // What was absent before may be there now: the operator wants the upstream asked.
        self.absent.clear();
        self.meanings.clear();
        let purged = match purge {
            Purge::Tag(registry, repository, tag) => self.purge_tag(registry, repository, tag).await,
            Purge::Repository(registry, repository) => {
                self.downloads.forget(|at, through, _| at == registry && through == repository);
                let removed = self.store.remove_repository(registry, repository).await;
                Purged { tags: removed.tags, blobs: removed.blobs, bytes: removed.bytes }
            }
            Purge::Content(digest) => {
                self.downloads.forget(|_, _, of| of == digest);
                let before = self.store.usage();
                let blobs = u64::from(self.store.remove(digest).await?);
                Purged { tags: 0, blobs, bytes: before.bytes.saturating_sub(self.store.usage().bytes) }
            }
        };
        self.store.flush().await;
        Ok(purged)
    }

    async fn purge_tag(&self, registry: &RegistryName, repository: &RepositoryName, tag: &Tag) -> Purged {
        self.failing.forgive(&(registry.clone(), repository.clone(), tag.clone()));
        let tags = u64::from(self.store.remove_tag(registry, repository, tag).await);
        self.store.forget_reached(registry, repository, tag).await;
        Purged { tags, ..Purged::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_as_people_name_it() {
        let hub = || "docker.io".parse().unwrap();
        let local = || "localhost:5000".parse().unwrap();
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, purge) in [
            (
                "docker.io/busybox:latest".to_owned(),
                Purge::Tag(hub(), "library/busybox".parse().unwrap(), "latest".parse().unwrap()),
            ),
            ("localhost:5000/a/b".to_owned(), Purge::Repository(local(), "a/b".parse().unwrap())),
            ("localhost:5000/a:1".to_owned(), Purge::Tag(local(), "a".parse().unwrap(), "1".parse().unwrap())),
            (format!("docker.io/a/b@{digest}"), Purge::Content(digest.parse().unwrap())),
            (digest.to_owned(), Purge::Content(digest.parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(purge), "{text}");
        }
        for bad in ["", "busybox", "docker.io/", "docker.io/A", "docker.io/a:", "docker.io/a@sha256:x", "../a/b", "sha256:x"] {
            assert!(bad.parse::<Purge>().is_err(), "{bad}");
        }
    }
}
