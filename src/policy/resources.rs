//! Which repositories a statement is about, or which parts of them.
//!
//! A part is named by tags or digests. What is asked for by digest may have been reached through any tag, so whether a
//! statement is about it may not be known before it is known how it was reached.

use std::borrow::Cow;

use super::Way;
use super::grams::Grams;
use crate::config::{self, Glob};
use crate::oci::{Digest, Reference, RegistryName, RepositoryName};
use crate::request::{Item, Target};

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    No,
    /// It depends on how the content was reached.
    Open,
    Yes,
}

impl Truth {
    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Open => Self::Open,
            Self::Yes => Self::No,
        }
    }
}

/// The patterns of a `resources` or `not_resources`.
#[derive(Clone, Debug)]
pub(super) struct Resources(Box<[Resource]>);

#[derive(Clone, Debug)]
struct Resource {
    name: Glob,
    needed: Grams,
    limit: Option<Limit>,
}

/// Which part of a repository.
#[derive(Clone, Debug)]
pub(super) enum Limit {
    Tag(Glob),
    Digest(Digest),
    Digests(Glob),
}

impl Resources {
    pub(super) fn new(resources: &[config::Resource]) -> Self {
        let both = resources.iter().flat_map(|resource| names(&resource.name).into_iter().map(move |name| (name, resource)));
        let one = |(name, resource): (Glob, &config::Resource)| Resource {
            needed: Grams::needed(&name),
            name,
            limit: resource.limit.as_ref().map(Limit::new),
        };
        Self(both.map(one).collect())
    }

    /// Whether every pattern names a part only.
    pub(super) fn are_all_limited(&self) -> bool {
        self.0.iter().all(|resource| resource.limit.is_some())
    }

    /// Whether the target, whose registry and repository together are `name` with these `grams`, is among them.
    pub(super) fn have(&self, name: &str, grams: Grams, item: &Item) -> Truth {
        let one = |resource: &Resource| match &resource.limit {
            _ if !grams.may_have(resource.needed) || !resource.name.matches(name) => Truth::No,
            None => Truth::Yes,
            Some(limit) => limit.has(item),
        };
        self.any(one)
    }

    /// The limits of those that `name` fits. A target that was [`Truth::Open`] depends on these alone.
    pub(super) fn limits(&self, name: &str) -> Vec<Limit> {
        let fitting = self.0.iter().filter(|resource| resource.name.matches(name));
        fitting.filter_map(|resource| resource.limit.clone()).collect()
    }

    fn any(&self, truth: impl Fn(&Resource) -> Truth) -> Truth {
        let mut most = Truth::No;
        for resource in &self.0 {
            most = most.max(truth(resource));
            if most == Truth::Yes {
                break;
            }
        }
        most
    }

    /// For each pattern the text that what it matches begins with, cut at a slash, or all of it; none where one of them is
    /// about everything. See [`anchors`].
    pub(super) fn anchors(&self) -> Option<Vec<&str>> {
        let anchor = |resource: &'_ Resource| {
            let (start, literal) = (resource.name.start().len(), resource.name.is_literal());
            if literal { Some(start) } else { resource.name.start().rfind('/').map(|slash| slash + 1) }
        };
        self.0.iter().map(|resource| anchor(resource).map(|end| &resource.name.start()[..end])).collect()
    }

    /// Whether they surely have whatever `others` have.
    pub(super) fn cover(&self, others: &Self) -> bool {
        let covers = |wide: &Resource, narrow: &Resource| {
            wide.name.covers(&narrow.name)
                && match (&wide.limit, &narrow.limit) {
                    (None, _) => true,
                    (Some(wide), Some(narrow)) => wide.covers(narrow),
                    (Some(_), None) => false,
                }
        };
        others.0.iter().all(|narrow| self.0.iter().any(|wide| covers(wide, narrow)))
    }
}

/// The anchors that a pattern which matches `name` can have.
pub(super) fn anchors(name: &str) -> impl Iterator<Item = &str> {
    let cut = name.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(slash, _)| &name[..=slash]);
    cut.chain([name])
}

impl Limit {
    fn new(limit: &config::Limit) -> Self {
        match limit {
            config::Limit::Tag(text) => Self::Tag(Glob::path(text)),
            config::Limit::Digest(text) => text.parse().map_or_else(|_| Self::Digests(Glob::path(text)), Self::Digest),
        }
    }

    fn has(&self, item: &Item) -> Truth {
        match (self, item) {
            (_, Item::Tags) => Truth::No,
            (Self::Tag(tags), Item::Manifest(Reference::Tag(tag))) => known(tags.matches(tag.as_str())),
            (Self::Digest(_) | Self::Digests(_), Item::Manifest(Reference::Tag(_))) | (Self::Tag(_), _) => Truth::Open,
            // Else it may be what this one was reached through.
            (_, Item::Manifest(Reference::Digest(digest)) | Item::Blob(digest) | Item::Referrers(digest)) => {
                if self.has_digest(digest) { Truth::Yes } else { Truth::Open }
            }
        }
    }

    /// Whether what was reached in this way is in the part. Open: the way may have begun with any tag.
    pub(super) fn has_way(&self, way: &Way<'_>) -> Truth {
        match (self, way.tag) {
            (Self::Tag(tags), Some(tag)) => known(tags.matches(tag)),
            (Self::Tag(_), None) => Truth::Open,
            _ => known(way.digests.iter().any(|digest| self.has_digest(digest))),
        }
    }

    fn has_digest(&self, digest: &Digest) -> bool {
        match self {
            Self::Tag(_) => false,
            Self::Digest(this) => this == digest,
            Self::Digests(these) => these.matches(&digest.to_string()),
        }
    }

    fn covers(&self, narrow: &Self) -> bool {
        match (self, narrow) {
            (Self::Tag(wide), Self::Tag(narrow)) | (Self::Digests(wide), Self::Digests(narrow)) => wide.covers(narrow),
            (Self::Tag(_), _) | (_, Self::Tag(_)) | (Self::Digest(_), Self::Digests(_)) => false,
            (_, Self::Digest(narrow)) => self.has_digest(narrow),
        }
    }
}

fn known(is_so: bool) -> Truth {
    if is_so { Truth::Yes } else { Truth::No }
}

/// A pattern of registry and repository. One that leaves the registry open and names one segment means that of Docker Hub
/// too, where such names have `library/` in front.
fn names(text: &str) -> Vec<Glob> {
    let official = match text.split_once('/') {
        Some((registry, name)) if !name.contains('/') && !text.contains("**") && registry != RegistryName::DOCKER_HUB => {
            Glob::path(registry).matches(RegistryName::DOCKER_HUB).then_some(name)
        }
        _ => None,
    };
    let official = official.map(|name| Glob::path(&format!("{}/library/{name}", RegistryName::DOCKER_HUB)));
    [Glob::path(text)].into_iter().chain(official).collect()
}

/// In bytes: what a registry's and a repository's name are together, `library/` included.
pub(super) const MAX_NAME: usize = 576;

/// `registry/repository`, as patterns know them, written into `buffer` so that nothing is allocated.
pub(super) fn name<'a>(target: &Target, buffer: &'a mut [u8; MAX_NAME]) -> Cow<'a, str> {
    let (registry, repository): (&RegistryName, &RepositoryName) = (&target.registry, &target.repository);
    let (registry, repository) = (registry.as_str().as_bytes(), repository.as_str().as_bytes());
    let length = registry.len() + 1 + repository.len();
    if let Some(place) = buffer.get_mut(..length) {
        place[..registry.len()].copy_from_slice(registry);
        place[registry.len()] = b'/';
        place[registry.len() + 1..].copy_from_slice(repository);
    }
    match buffer.get(..length).map(std::str::from_utf8) {
        Some(Ok(name)) => Cow::Borrowed(name),
        _ => Cow::Owned(format!("{}/{}", target.registry, target.repository)),
    }
}
