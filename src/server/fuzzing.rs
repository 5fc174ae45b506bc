//! For the fuzz targets, and in no other build: the parsers of this room that are otherwise its own.

use std::sync::Arc;

use super::path::{self, Asked, Query};
use crate::config::Registry;
use crate::oci::{RegistryName, RepositoryName};

/// The registry and repository that a request is for, as [`Server`](super::Server) reads them.
pub fn route(registries: &[Arc<Registry>], path: &str, query: Option<&str>, host: &str) -> Option<(RegistryName, RepositoryName)> {
    let Asked::Of(name, _) = path::parse(path).ok()? else { return None };
    let query = Query::parse(query).ok()?;
    let route = super::route::route(registries, None, query.ns.as_deref(), host, name).ok()?;
    Some((route.registry, path::repository(route.repository).ok()?))
}
