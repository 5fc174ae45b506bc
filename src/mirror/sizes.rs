//! The sizes that manifests gave for what they name, so that an upstream's length can be checked before it is promised.

use moka::sync::Cache;

use super::place::Place;
use crate::oci::{Digest, Manifest, RegistryName, RepositoryName};

const MOST: u64 = 100_000;

type Key = (RegistryName, RepositoryName, Digest);

/// Sizes by repository and digest. Held per repository, so that one repository's manifest cannot spoil another's pulls.
pub(super) struct Sizes(Cache<Key, u64>);

impl Sizes {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST))
    }

    /// Takes in what `manifest` says of its children.
    pub(super) fn learn(&self, place: &Place, manifest: &Manifest) {
        for child in &manifest.children {
            self.0.insert((place.name.clone(), place.repository.clone(), child.digest), child.size);
        }
    }

    /// The size a manifest gave, in bytes.
    pub(super) fn get(&self, place: &Place, digest: &Digest) -> Option<u64> {
        self.0.get(&(place.name.clone(), place.repository.clone(), *digest))
    }
}
