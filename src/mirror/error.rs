//! Why the mirror cannot answer. Cheap to clone: everyone who waited for one download gets the same reason.

use std::sync::Arc;
use std::time::Duration;

use crate::oci::{Digest, ManifestError, RegistryName};
use crate::{store, upstream};

/// What went wrong, as far as an answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every upstream that may have it said 404.
    NotFound,
    /// The permit does not cover it, as far as is known how it was reached. To whoever asked it is not there.
    Withheld,
    /// The upstream said 403.
    Denied,
    /// The upstream said 401: our credential is missing or wrong.
    Unauthorized,
    /// The upstream said 429.
    RateLimited,
    /// The upstream failed, or what it sent makes no sense or is not what its digest says.
    BadGateway,
    /// The upstream did not answer in time.
    TimedOut,
    /// This proxy has as much to do as it may.
    Overloaded,
    /// This proxy itself failed.
    Internal,
}

/// Why there is no answer. Its text is meant for the client, and for the log where there is no [`detail`](Self::detail); it
/// never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to act on.
    pub kind: Kind,
    /// When asking again makes sense, where somebody said.
    pub retry_after: Option<Duration>,
    message: String,
    detail: Option<String>,
    /// What the upstream's failure was, where it was one.
    upstream: Option<upstream::Kind>,
    /// By which statement of the policy it is withheld.
    statement: Option<Arc<str>>,
}

impl Error {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, retry_after: None, message: message.into(), detail: None, upstream: None, statement: None }
    }

    pub(super) fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("{what} is not there: the upstream said so a moment ago"))
    }

    pub(super) fn withheld(what: impl std::fmt::Display, statement: Option<Arc<str>>) -> Self {
        let message = format!("{what} was not reached in a way that the policy allows");
        Self { statement, ..Self::new(Kind::Withheld, message) }
    }

    pub(super) fn mismatch(registry: &str, expected: &Digest, found: impl std::fmt::Display) -> Self {
        Self::new(Kind::BadGateway, format!("{registry} sent {found} for {expected}: nothing of it was kept"))
    }

    pub(super) fn late(what: &impl std::fmt::Display) -> Self {
        Self::new(Kind::TimedOut, format!("the upstream of {what} did not answer in time"))
    }

    pub(super) fn changed(registry: &RegistryName) -> Self {
        Self::new(Kind::Overloaded, format!("the configuration of {registry} has just changed; ask again"))
    }

    pub(super) fn stopped() -> Self {
        Self::new(Kind::Overloaded, "the proxy is stopping; ask again")
    }

    /// What the operator alone is told instead of the text, where there is more to tell.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The id of the policy's statement by which it is withheld, where one says so.
    pub fn statement(&self) -> Option<&Arc<str>> {
        self.statement.as_ref()
    }

    /// One of each kind, for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn example(kind: Kind) -> Self {
        Self::new(kind, format!("{kind:?}"))
    }

    /// Whether it may be about the repository that was asked through, so that asking through another one may go better.
    pub(super) fn is_of_repository(&self) -> bool {
        matches!(self.kind, Kind::NotFound | Kind::Denied | Kind::Unauthorized | Kind::BadGateway)
    }

    /// Whether the upstream says that the blob ends before what was asked for.
    pub(super) fn is_past_the_end(&self) -> bool {
        self.upstream == Some(upstream::Kind::Ended)
    }

    /// Whether no connection was to be had, or it broke before an answer.
    pub(super) fn is_unreachable(&self) -> bool {
        self.upstream == Some(upstream::Kind::Unreachable)
    }

    /// Whether an upstream that works said this of the thing itself, so that nothing held may be served in its place.
    pub fn is_authoritative(&self) -> bool {
        matches!(self.kind, Kind::NotFound | Kind::Denied)
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        let kind = match error.kind {
            upstream::Kind::NotFound => Kind::NotFound,
            upstream::Kind::Denied => Kind::Denied,
            upstream::Kind::Unauthorized => Kind::Unauthorized,
            upstream::Kind::RateLimited => Kind::RateLimited,
            upstream::Kind::TimedOut => Kind::TimedOut,
            upstream::Kind::Overloaded => Kind::Overloaded,
            upstream::Kind::Failed
            | upstream::Kind::Ended
            | upstream::Kind::Unreachable
            | upstream::Kind::Forbidden
            | upstream::Kind::Loop => Kind::BadGateway,
        };
        let (message, detail) = (error.to_string(), error.detail().map(str::to_owned));
        Self { kind, retry_after: error.retry_after, message, detail, upstream: Some(error.kind), statement: None }
    }
}

impl From<store::Error> for Error {
    /// The store's own words name paths, which are for the log alone.
    fn from(error: store::Error) -> Self {
        tracing::warn!(%error, "the store failed");
        Self::new(Kind::Internal, "the proxy's cache failed; its log has the reason")
    }
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        Self::new(Kind::BadGateway, format!("the upstream's manifest is refused: {error}"))
    }
}
