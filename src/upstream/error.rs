//! Why an upstream did not give what was asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::{credentials, egress};

/// Why an upstream did not give what was asked for. Cheap to clone: many waiters share one failure. Its text names the
/// registry, the host and what to do, and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{registry}: {what}")]
pub struct Error {
    /// What to do about it.
    pub kind: Kind,
    /// When to ask again: what the upstream said, or this proxy where it is overloaded.
    pub retry_after: Option<Duration>,
    registry: Arc<str>,
    what: Arc<str>,
    detail: Option<Arc<str>>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every URL says that it is not there.
    NotFound,
    /// The upstream forbids it (403).
    Denied,
    /// The upstream wants credentials, other than those it got (401).
    Unauthorized,
    /// The upstream wants to be asked less often (429).
    RateLimited,
    /// The upstream failed (5xx), or answered what makes no sense.
    Failed,
    /// The blob has no byte where it was asked from (416).
    Ended,
    /// No connection, or it broke.
    Unreachable,
    /// A deadline ran out.
    TimedOut,
    /// The registry's configuration does not let the proxy connect there.
    Forbidden,
    /// The request would come back to this proxy.
    Loop,
    /// This proxy has too many requests to the upstream under way already.
    Overloaded,
}

impl Error {
    /// An error of `registry`: what went wrong, where, and what to do.
    pub fn new(kind: Kind, registry: &str, what: impl Into<String>) -> Self {
        Self { kind, retry_after: None, registry: registry.into(), what: what.into().into(), detail: None }
    }

    /// What the operator alone is told instead of the text, where there is more to tell.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub(super) fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    pub(super) fn from_egress(registry: &str, error: &egress::Error) -> Self {
        let kind = match error.kind {
            egress::Kind::Forbidden => Kind::Forbidden,
            egress::Kind::Loop => Kind::Loop,
            egress::Kind::Unreachable | egress::Kind::Broken => Kind::Unreachable,
            egress::Kind::TimedOut => Kind::TimedOut,
            egress::Kind::TooLarge | egress::Kind::Setup => Kind::Failed,
        };
        Self { detail: error.detail().map(Arc::from), ..Self::new(kind, registry, error.to_string()) }
    }

    pub(super) fn from_credentials(registry: &str, host: &str, error: &credentials::Error) -> Self {
        use credentials::Error as Cause;
        let what = format!("{host}: {error}");
        match error {
            Cause::Realm(_) => Self::new(Kind::Forbidden, registry, what),
            Cause::Missing(_) | Cause::Rejected(_) => Self::new(Kind::Unauthorized, registry, what),
            Cause::RateLimited { retry_after, .. } => Self::new(Kind::RateLimited, registry, what).with_retry_after(*retry_after),
            Cause::Failed { .. } => Self::new(Kind::Failed, registry, what),
            Cause::Egress(error) => Self { what: what.into(), ..Self::from_egress(registry, error) },
        }
    }
}
