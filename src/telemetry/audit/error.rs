//! Why there can be no audit log.

use std::io;
use std::path::{Path, PathBuf};

/// Why the audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the audit log {} {problem}", .path.display())]
pub struct AuditError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an audit log's file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The disk or its rights.
    #[error("cannot be opened or written: {0}; its folder must exist, and be writable for the user running roadstead")]
    Io(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("is not a plain file: name one, or write output = \"stdout\"")]
    NotAFile,
    /// Something else is in it.
    #[error("has content that is no audit log: name a file of its own")]
    Foreign,
    /// Somebody holds it.
    #[error("is in use by another process")]
    InUse,
}

impl AuditError {
    pub(super) fn new(path: &Path, problem: impl Into<Problem>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}
