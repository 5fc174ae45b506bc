//! The built-in registries.

use std::path::Path;
use std::sync::Arc;

use super::Registry;
use super::raw::{Reader, Section};
use super::registry;

const TEXT: &str = include_str!("well_known.toml");

/// The public registries that are mirrored without a configuration file.
pub(super) fn registries() -> Vec<Arc<Registry>> {
    let reader = Reader::new(TEXT, Path::new("built-in registries"), &|_| None);
    let table = reader.parse().expect("the built-in registries are TOML");
    let root = Section::root(&reader, table.get_ref(), &super::KEYS);
    let sections = root.get("registry").map(|value| value.sections(&registry::KEYS)).unwrap_or_default();
    let registries = registry::check(&sections, &[]);
    reader.finish().expect("the built-in registries have no fault");
    registries
}
