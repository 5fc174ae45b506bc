//! Why a file of users cannot be used.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a file of users cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Something in it is not as it must be.
    #[error("{path}:{line}: {flaw}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        flaw: Flaw,
    },
}

/// What is wrong with a line of the file. Says nothing of what stands there but a name: it might be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file goes on beyond what is read.
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    /// More users than are taken.
    #[error("more than 10000 users")]
    TooMany,
    /// Not text.
    #[error("not UTF-8")]
    NotText,
    /// No colon.
    #[error("not a user; write name:hash, as `htpasswd -B` does")]
    NoUser,
    /// The name cannot be one.
    #[error("not a name; use 1 to 128 bytes without ':', control characters and blanks at the ends")]
    Name,
    /// The name stands further up already.
    #[error("{name:?} stands on line {first} already; keep one of them")]
    Twice {
        /// Whose line it is.
        name: Box<str>,
        /// The earlier line, from 1.
        first: usize,
    },
    /// A hash that is not bcrypt's.
    #[error("the password is hashed by {0}, which is not taken; make the line anew with `htpasswd -B`, which uses bcrypt")]
    Scheme(&'static str),
    /// Begins like a hash of bcrypt and is none.
    #[error("the bcrypt hash is damaged; make the line anew with `htpasswd -B`")]
    Damaged,
    /// A cost that would hold up everybody, or one that bcrypt does not have.
    #[error("a bcrypt cost of {0} is not taken; make the line anew with `htpasswd -B -C 10` (4 to 14)")]
    Cost(u32),
}
