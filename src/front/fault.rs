//! Errors as clients see them: kind, status, code and message.

use std::time::Duration;

use http::StatusCode;

use crate::oci::ErrorCode;

/// When to try again what there was no room for.
const LATER: Duration = Duration::from_secs(2);

/// An error answer before it has a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What sort of error, which decides the status.
    pub kind: FaultKind,
    /// The code in the body.
    pub code: ErrorCode,
    /// The message in the body, for the client's user and for the log. Never holds a secret.
    pub message: String,
    /// What the log says instead, where that is more than clients are told.
    pub detail: Option<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// What sort of error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The request makes no sense.
    BadRequest,
    /// This proxy wants to know who asks.
    Unauthorized {
        /// The value of `WWW-Authenticate`.
        challenge: String,
    },
    /// The request is refused.
    Denied,
    /// There is no such thing.
    NotFound,
    /// Not offered here.
    MethodNotAllowed {
        /// The methods that are: the value of `Allow`.
        allow: &'static str,
    },
    /// The request's path and query are too long.
    TargetTooLong,
    /// The request has too many header fields, or too large ones.
    HeaderTooLarge,
    /// No room for more work now, or asked not to send more.
    Overloaded,
    /// The upstream failed.
    BadGateway,
    /// The upstream did not answer in time.
    GatewayTimeout,
    /// This proxy failed.
    Internal,
}

impl FaultKind {
    /// The one place where an error gets its status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Fault {
    /// A fault without a time to try again.
    pub fn new(kind: FaultKind, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), detail: None, retry_after: None }
    }

    /// No room here for what is asked now; there may be in 2 s.
    pub(super) fn overloaded(message: &'static str) -> Self {
        Self::new(FaultKind::Overloaded, ErrorCode::TooManyRequests, message).retry_after(LATER)
    }

    /// Says when to try again.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}
