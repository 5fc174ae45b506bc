//! Why there was no answer.

/// Why an exchange failed. Cheap to clone, since many waiters may share one failure; never holds a URL's query or a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to do about it.
    pub kind: Kind,
    message: Box<str>,
    detail: Option<Box<str>>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The registry's way does not lead there.
    Forbidden,
    /// It would have been a connection to this proxy itself.
    Loop,
    /// No connection could be made: name, network or TLS.
    Unreachable,
    /// A deadline ran out.
    TimedOut,
    /// The connection broke, or what came over it was not HTTP.
    Broken,
    /// The body is longer than the caller can use.
    TooLarge,
    /// The way itself cannot be made: a certificate file that cannot be read or used.
    Setup,
}

impl Error {
    /// An error that says `message`: what went wrong, where, and what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into().into_boxed_str(), detail: None }
    }

    /// With what the message leaves out because clients read it too: addresses of the network that this proxy is in.
    pub(super) fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into().into_boxed_str()), ..self }
    }

    /// What the operator alone is told instead of the message, where there is more to tell.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}
