//! What goes wrong with the disk, told and told again when it works.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::content::{Content, lock};
use super::error::Error;

/// The name of this part in health reports.
const PART: &str = "disk";
/// Operations that say nothing about whether the disk can be written, nor the other way round.
pub(super) const READING: &[&str] = &["open", "read"];
pub(super) const DELETING: &[&str] = &["delete"];

/// The state of the disk as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The operation that failed last and was not seen to work since.
    failing: Mutex<Option<&'static str>>,
    /// Unfinished files that could not be deleted when they were to be.
    undeleted: Mutex<Vec<PathBuf>>,
}

impl Content {
    /// Counts a failure of the disk, and tells of it.
    pub(super) fn failed(&self, operation: &'static str, doing: &str, path: &Path, error: io::Error) -> Error {
        let error = Error::io(doing, path, error);
        self.telemetry.metrics.store_failed(operation);
        self.troubled(operation, error.to_string());
        error
    }

    /// Tells of trouble that lasts until `operation` is seen to work.
    pub(super) fn troubled(&self, operation: &'static str, trouble: String) {
        *lock(&self.trouble.failing) = Some(operation);
        self.telemetry.health.troubled(PART, trouble);
    }

    /// Nothing is known to fail.
    pub(super) fn well(&self) {
        self.telemetry.health.well(PART);
    }

    /// One of `operations` worked: if it was among them that the trouble was, that is over.
    pub(super) fn worked(&self, operations: &[&str]) {
        self.recovered(|failing| operations.contains(&failing));
    }

    /// Content was made durable: the trouble is over, unless it was with reading.
    pub(super) fn wrote(&self) {
        self.recovered(|failing| !READING.contains(&failing));
    }

    fn recovered(&self, from: impl Fn(&'static str) -> bool) {
        let over = lock(&self.trouble.failing).take_if(|failing| from(failing)).is_some();
        if over {
            self.well();
        }
    }

    /// Makes the folder again that somebody deleted. What was in it is lost: content is found missing when it is asked for, and
    /// the index is begun anew. Whether that worked.
    pub(super) fn remake(&self) -> bool {
        let root = self.layout.root();
        tracing::warn!(folder = %root.display(), "the cache folder was deleted, or some of it; making it again");
        if let Err(error) = self.layout.remake() {
            self.telemetry.metrics.store_failed("create");
            self.troubled("create", error.to_string());
            return false;
        }
        if !self.layout.index().exists() {
            self.index.begin_anew();
        }
        true
    }

    /// As [`Content::remake`], where that is what an error says.
    pub(super) fn remake_if_gone(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            self.remake();
        }
    }

    /// Deletes an unfinished file, now or, where the disk does not let it, when [`Content::delete_again`] is called.
    pub(super) fn delete_unfinished(&self, path: PathBuf) {
        match self.disk.remove(&path) {
            Ok(_) => self.worked(DELETING),
            Err(error) => {
                self.failed("delete", "cannot delete", &path, error);
                lock(&self.trouble.undeleted).push(path);
            }
        }
    }

    /// Deletes what could not be deleted before.
    pub(super) fn delete_again(&self) {
        let undeleted = std::mem::take(&mut *lock(&self.trouble.undeleted));
        undeleted.into_iter().for_each(|path| self.delete_unfinished(path));
    }
}
