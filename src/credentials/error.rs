//! Why there is nothing to send.

use std::time::Duration;

use crate::egress;

/// Why a registry's challenge could not be met. Cheap to clone: many waiters share one failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The challenge points at a realm that does not belong to the registry. Nothing was sent there.
    #[error("it sends us for a token to {0}, which is not its configured realm; if that is right, set realm = \"{0}\"")]
    Realm(String),
    /// Credentials are wanted and none are configured, or the challenge is of a kind that cannot be met.
    #[error("it wants credentials; set credentials for it, or check those that are set ({0})")]
    Missing(&'static str),
    /// The configured credentials, or a token that was had for them, were refused.
    #[error("{0} refuses our credentials or says that they do not allow this; check credentials and the name asked for")]
    Rejected(String),
    /// The token server asks for fewer requests.
    #[error("the token server {host} asks us to slow down")]
    RateLimited {
        /// The token server.
        host: String,
        /// When it may be asked again.
        retry_after: Option<Duration>,
    },
    /// The token server failed.
    #[error("the token server {host} failed: {what}")]
    Failed {
        /// The token server.
        host: String,
        /// What it did.
        what: String,
    },
    /// The token server could not be asked.
    #[error("the token server could not be asked: {0}")]
    Egress(#[from] egress::Error),
}
