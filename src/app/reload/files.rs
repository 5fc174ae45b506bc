//! What files look like from outside, so that a change of one shows.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Config, Listener};

/// What the files that are read for listeners (certificates, keys, authorities, users) look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::app) struct Prints(Vec<(PathBuf, Option<Print>)>);

/// When a file was written, how long it is and which one: another one under its name shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    written: SystemTime,
    length: u64,
    inode: u64,
}

impl Prints {
    /// Looks at the files of `config` now. One that cannot be looked at differs from what it was. Blocks on the disk.
    pub(in crate::app) fn take(config: &Config) -> Self {
        let files = config.listeners.iter().flat_map(Listener::files);
        Self(files.map(looked_at).collect())
    }
}

fn looked_at(file: PathBuf) -> (PathBuf, Option<Print>) {
    let print = print(&file);
    (file, print)
}

fn print(file: &Path) -> Option<Print> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(Print { written: metadata.modified().ok()?, length: metadata.len(), inode: metadata.ino() })
}
