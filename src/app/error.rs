//! Why the proxy cannot start.

use std::sync::Arc;

use crate::{config, front, identity, mirror, store, upstream};

/// Why the proxy cannot start, or an offline verb cannot work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A listener.
    #[error(transparent)]
    Front(Arc<front::Error>),
    /// A listener's file of users.
    #[error("a listener's users: {0}")]
    Identity(#[from] identity::Error),
    /// The cache folder.
    #[error(transparent)]
    Store(Arc<store::Error>),
    /// An upstream's files (certificates, authorities).
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    /// The cache itself.
    #[error(transparent)]
    Mirror(#[from] mirror::Error),
    /// The configuration that was read again.
    #[error(transparent)]
    Config(Arc<config::Faults>),
    /// There is nothing to read again.
    #[error("the configuration is built in, there is no file to read again; start with --config")]
    NoSource,
    /// The new configuration lets everybody pull who reaches addresses that it takes for being on loopback.
    #[error(
        "the listeners are still bound to addresses that other machines reach, and the new configuration would let all of them \
         pull; restart instead, or write a policy that does not"
    )]
    StillReached,
    /// A task ended in a panic.
    #[error("a task ended badly: {0}")]
    Task(String),
}

impl From<front::Error> for Error {
    fn from(error: front::Error) -> Self {
        Self::Front(Arc::new(error))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}
