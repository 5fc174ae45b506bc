//! `[cache]`.

use std::path::PathBuf;

use super::fault::Complaint;
use super::raw::{Keys, Reader, Section};
use super::{Cache, file};

pub(super) const KEYS: Keys = Keys { known: &["directory", "max_size", "memory"], later: &[] };

const MEMORY: u64 = 256 << 20;

/// Reads the section, or what holds where it is absent.
pub(super) fn check(reader: &Reader<'_>, section: Option<&Section<'_>>) -> Cache {
    let get = |key| section.and_then(|section| section.get(key));
    let directory = match get("directory") {
        Some(value) => file::path(&value),
        None => user_directory(reader),
    };
    Cache {
        directory: directory.unwrap_or_default(),
        max_size: get("max_size").and_then(|value| value.size()),
        memory: get("memory").and_then(|value| value.size()).unwrap_or(MEMORY),
    }
}

/// The user's cache folder, as the XDG base directory specification finds it: relative paths in the variable do not count.
fn user_directory(reader: &Reader<'_>) -> Option<PathBuf> {
    let absolute = |name| reader.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    if base.is_none() {
        let remedy = "write [cache] directory into a configuration file and name it with --config";
        reader.fault(None, "cache.directory", Complaint::new("not set, and neither are XDG_CACHE_HOME and HOME", remedy));
    }
    base.map(|base| base.join("roadstead"))
}
