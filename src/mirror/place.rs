//! A repository of a registry, with the way to it.

use std::sync::Arc;

use crate::oci::{RegistryName, RepositoryName};
use crate::request::{Item, Target};
use crate::upstream::Registry;

/// Where a target lives.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) registry: Arc<Registry>,
    pub(super) name: RegistryName,
    pub(super) repository: RepositoryName,
}

impl Place {
    /// One thing in this repository.
    pub(super) fn target(&self, item: Item) -> Target {
        Target { registry: self.name.clone(), repository: self.repository.clone(), item }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.name, self.repository)
    }
}
