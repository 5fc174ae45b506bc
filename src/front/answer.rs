//! An answer before it is written: status, headers, body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::fields::Fields;
use super::{Body, Fault, FaultKind};
use crate::oci::{ErrorCode, error_body};

/// Carries a fault's code and message, because the answer to HEAD has no body that could.
const ERROR_REASON: HeaderName = HeaderName::from_static("x-error-reason");

/// The reason in that header is kept to this many characters.
const MAX_REASON: usize = 512;

/// What a request is answered with, where it is not a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The whole of what was asked for.
    Ok,
    /// The part that was asked for.
    Partial,
    /// What the client has is still right.
    NotModified,
    /// The range lies outside the body.
    Unsatisfiable,
    /// Not ready to serve: the answer to a health check, without a body.
    Unready,
}

impl Reply {
    fn status(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::Partial => StatusCode::PARTIAL_CONTENT,
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unready => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An answer to one request. `Content-Length`, `Transfer-Encoding`, `Connection`, `Date` and `X-Request-Id` are added when
/// it is written and are not to be set here.
#[derive(Debug)]
pub struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Fields,
    pub(super) body: Body,
    pub(super) length: Option<u64>,
    /// Why this is an error, for the log.
    pub(super) reason: Option<String>,
    /// The code of this error.
    pub(super) code: Option<ErrorCode>,
}

impl Answer {
    /// An answer without headers or body.
    pub fn new(reply: Reply) -> Self {
        Self::empty(reply.status())
    }

    /// An error in the distribution specification's form.
    pub fn fault(fault: Fault) -> Self {
        let body = Bytes::from(error_body(fault.code, &fault.message));
        let length = body.len() as u64;
        let reason: String = format!("{}: {}", fault.code.as_str(), fault.message).chars().take(MAX_REASON).collect();
        let mut answer = Self::empty(fault.kind.status())
            .header(CONTENT_TYPE, "application/json")
            .header(ERROR_REASON, reason)
            .body(Body::Bytes(body), Some(length));
        answer = match &fault.kind {
            FaultKind::Unauthorized { challenge } => answer.header(WWW_AUTHENTICATE, challenge),
            FaultKind::MethodNotAllowed { allow } => answer.header(ALLOW, allow),
            _ => answer,
        };
        if let Some(after) = fault.retry_after {
            answer = answer.header(RETRY_AFTER, whole_seconds(after).to_string());
        }
        (answer.reason, answer.code) = (Some(fault.message), Some(fault.code));
        answer
    }

    /// Adds a header field whose value is made already.
    pub fn header_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Adds a header field. Bytes that no field may carry become `?`.
    pub fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        self.headers.push(name, field_value(value.as_ref()));
        self
    }

    /// Sets the body. `length` is that of the body as GET would send it, in bytes; a HEAD handler may give the length with
    /// an empty body, or none where nobody knows it. Where the length is unknown, the body's own end tells the client where
    /// it ends. A body that turns out shorter or longer than `length` is cut short.
    pub fn body(mut self, body: Body, length: Option<u64>) -> Self {
        self.length = length.or(match &body {
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Empty | Body::Stream(_) => None,
        });
        self.body = body;
        self
    }

    /// Puts another body in the place of this one, of the same length.
    pub fn map_body(mut self, map: impl FnOnce(Body) -> Body) -> Self {
        self.body = map(self.body);
        self
    }

    /// The status that will be sent.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header fields set so far.
    pub fn headers(&self) -> HeaderMap {
        self.headers.to_map()
    }

    fn empty(status: StatusCode) -> Self {
        Self { status, headers: Fields::new(), body: Body::Empty, length: Some(0), reason: None, code: None }
    }
}

/// Whole seconds, never sooner than asked and at least one: `Retry-After: 0` would invite a loop.
fn whole_seconds(after: Duration) -> u64 {
    let rounded = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    rounded.max(1)
}

fn field_value(text: &str) -> HeaderValue {
    let visible = |byte: u8| if byte == b'\t' || (b' '..0x7f).contains(&byte) { byte } else { b'?' };
    let bytes: Vec<u8> = text.bytes().map(visible).collect();
    HeaderValue::from_bytes(&bytes).expect("visible bytes and blanks make a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, message: &str) -> Answer {
        Answer::fault(Fault::new(kind, ErrorCode::Denied, message))
    }

    #[test]
    fn a_fault_says_why_in_body_header_and_log() {
        let answer = fault(FaultKind::Denied, "no\r\nX-Evil: 1 \u{e9}");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.headers()["x-error-reason"], "DENIED: no??X-Evil: 1 ??");
        assert_eq!(answer.reason.as_deref(), Some("no\r\nX-Evil: 1 \u{e9}"));
        assert!(matches!(&answer.body, Body::Bytes(body) if body.starts_with(b"{\"errors\":[{\"code\":\"DENIED\"")));
    }

    #[test]
    fn a_long_reason_is_shortened_in_the_header_alone() {
        let answer = fault(FaultKind::Denied, &"x".repeat(5000));
        assert_eq!(answer.headers()["x-error-reason"].len(), MAX_REASON);
        assert!(answer.length > Some(5000));
    }

    #[test]
    fn some_faults_bring_headers_of_their_own() {
        let challenge = "Basic realm=\"roadstead\"".to_owned();
        assert_eq!(fault(FaultKind::Unauthorized { challenge }, "").headers()["www-authenticate"], "Basic realm=\"roadstead\"");
        assert_eq!(fault(FaultKind::MethodNotAllowed { allow: "GET, HEAD" }, "").headers()["allow"], "GET, HEAD");
        let busy = Fault::new(FaultKind::Overloaded, ErrorCode::TooManyRequests, "").retry_after(Duration::from_millis(1500));
        assert_eq!(Answer::fault(busy).headers()["retry-after"], "2");
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
