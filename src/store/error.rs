//! What can go wrong with stored content.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The content does not fit below the cap, or would leave too little of the file system free: pass it through.
    NoRoom,
    /// The file system is full: pass the content through.
    Full,
    /// The content is too large to be read into memory: open it as a file.
    TooLarge,
    /// A download has gaps, was ended before, or is not what it is to be committed as.
    Incomplete,
    /// The disk failed.
    Io,
    /// Another process uses the cache folder.
    Locked,
    /// The folder holds something that is not a cache.
    Foreign,
    /// The folder was written in a format that this program does not know.
    Version,
}

/// A failure of the store. `Clone`, because many waiters share one. Its text names files of this machine: it is for logs,
/// not for clients.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to do about it.
    pub kind: Kind,
    message: String,
    source: Option<Arc<io::Error>>,
}

impl Error {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// `doing` is what was tried, as in "cannot write".
    pub(super) fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
            _ => Kind::Io,
        };
        Self { kind, message: format!("{doing} {}: {source}", path.display()), source: Some(Arc::new(source)) }
    }

    /// Whether this process could not get at a file, which says nothing of what is in it: it has too many open, or no memory,
    /// or no right.
    pub(super) fn is_about_access(&self) -> bool {
        let errno = self.source.as_deref().and_then(Errno::from_io_error);
        errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ACCESS].contains(&errno))
    }
}
