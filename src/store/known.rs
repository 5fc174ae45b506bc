//! What is known of content that is at hand: all that an answer needs besides its bytes, so that a hit looks nothing up.

use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::eviction::MAX_USES;
use super::records::Link;
use crate::oci::{ContentName, Digest, RegistryName, RepositoryName};

/// Links of one content that are kept beside it, those learnt last.
const MOST_LINKS: usize = 8;

/// What goes with content wherever it is held, in memory or as an open file.
#[derive(Debug)]
pub struct Known {
    name: ContentName,
    links: ArcSwap<Vec<Linked>>,
    /// The second of the last use in the upper bits, how many there were in it in the lowest eight.
    uses: AtomicU64,
}

/// A link as it was when the index stood at `version`.
#[derive(Clone, Debug)]
struct Linked {
    registry: RegistryName,
    repository: RepositoryName,
    link: Link,
    version: u64,
}

impl Known {
    /// Of content of which nothing else is known yet.
    pub(super) fn new(digest: &Digest) -> Self {
        Self { name: ContentName::of(digest), links: ArcSwap::default(), uses: AtomicU64::new(0) }
    }

    /// What headers call it.
    pub fn name(&self) -> &ContentName {
        &self.name
    }

    /// The link to this repository, where it is known and the index still stands at `version`.
    pub(super) fn link(&self, registry: &RegistryName, repository: &RepositoryName, version: u64) -> Option<Link> {
        let links = self.links.load();
        let linked = links.iter().find(|linked| linked.is_of(registry, repository))?;
        (linked.version == version).then(|| linked.link.clone())
    }

    /// The index, read after it stood at `version`, has this link to the repository.
    pub(super) fn learn(&self, registry: &RegistryName, repository: &RepositoryName, version: u64, link: &Link) {
        self.links.rcu(|links| {
            let others = links.iter().filter(|linked| !linked.is_of(registry, repository)).take(MOST_LINKS - 1).cloned();
            let linked = Linked { registry: registry.clone(), repository: repository.clone(), link: link.clone(), version };
            [linked].into_iter().chain(others).collect::<Vec<_>>()
        });
    }

    /// Whether a use at `second` makes a difference to eviction: beyond [`MAX_USES`] in the same second it does not. Counts it.
    pub(super) fn counts(&self, second: u32) -> bool {
        let (last, second) = (self.uses.load(Ordering::Relaxed), u64::from(second));
        let before = if last >> 8 == second { last & 0xff } else { 0 };
        if before >= u64::from(MAX_USES) {
            return false;
        }
        self.uses.store(second << 8 | (before + 1), Ordering::Relaxed);
        true
    }
}

impl Linked {
    fn is_of(&self, registry: &RegistryName, repository: &RepositoryName) -> bool {
        self.repository == *repository && self.registry == *registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn known() -> Known {
        Known::new(&Digest::of(Algorithm::Sha256, b""))
    }

    #[test]
    fn a_link_holds_for_its_own_repository_until_the_index_moves_on() {
        let (known, hub, ghcr) = (known(), "docker.io".parse().unwrap(), "ghcr.io".parse().unwrap());
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let image = Link { manifest: Some("a/b".into()) };
        known.learn(&hub, &a, 1, &image);
        assert_eq!(known.link(&hub, &a, 1), Some(image.clone()));
        assert_eq!((known.link(&hub, &b, 1), known.link(&ghcr, &a, 1), known.link(&hub, &a, 2)), (None, None, None));
        known.learn(&hub, &a, 2, &Link { manifest: None });
        known.learn(&hub, &b, 2, &image);
        assert_eq!(known.link(&hub, &a, 2), Some(Link { manifest: None }));
        for n in 0..MOST_LINKS {
            known.learn(&ghcr, &format!("r{n}").parse().unwrap(), 2, &image);
        }
        assert_eq!((known.links.load().len(), known.link(&hub, &a, 2)), (MOST_LINKS, None));
    }

    #[test]
    fn a_burst_counts_as_much_as_eviction_can_tell() {
        let known = known();
        let counted = |second| (0..10).filter(|_| known.counts(second)).count();
        assert_eq!((counted(7), counted(7), counted(8)), (usize::from(MAX_USES), 0, usize::from(MAX_USES)));
    }
}
