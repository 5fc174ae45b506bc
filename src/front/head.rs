//! The head of a request: what is let in, and what the handler gets of it. Pure.

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Method, Version};
use pingora_http::RequestHeader;

use super::{Fault, FaultKind};
use crate::oci::ErrorCode;
use crate::request::Caller;

/// Path and query together may be this long, in bytes: 8 KiB.
const MAX_TARGET: usize = 8 << 10;
/// So many header fields may be in one request.
const MAX_FIELDS: usize = 100;
/// Names and values of all header fields together, with four bytes each for what stands between: 32 KiB.
pub(super) const MAX_FIELD_BYTES: usize = 32 << 10;
/// What may be read before a head must be complete, in bytes.
pub(super) const MAX_HEAD: usize = MAX_TARGET + MAX_FIELD_BYTES + (8 << 10);

/// A request as the handler sees it. Its body, if it had one, is read and dropped.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, as sent.
    pub method: Method,
    /// The path, percent-encoded as sent; ASCII, at most 8 KiB. `*` for `OPTIONS *`, empty for CONNECT.
    pub path: String,
    /// What follows `?`, percent-encoded as sent.
    pub query: Option<String>,
    /// The header fields: at most 100, together at most 32 KiB.
    pub headers: HeaderMap,
    /// The host the client asked for, as sent, with its port. Empty where an HTTP/1.0 client named none.
    pub host: String,
    /// Who asks.
    pub caller: Arc<Caller>,
}

/// What decides whether a request is let in, whoever has read it.
pub(super) struct Head<'a> {
    /// Path and query, as sent.
    pub(super) target: &'a [u8],
    /// The host in the target, if there is one.
    pub(super) authority: Option<&'a str>,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
}

impl Head<'_> {
    /// Lets the request in by saying which host it asks for, or says why not.
    pub(super) fn judge(&self) -> Result<String, Fault> {
        self.check_size()?;
        self.host()
    }

    fn check_size(&self) -> Result<(), Fault> {
        if self.target.len() > MAX_TARGET {
            let message = format!("path and query are longer than {MAX_TARGET} bytes");
            return Err(Fault::new(FaultKind::TargetTooLong, ErrorCode::NameInvalid, message));
        }
        let bytes: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if self.headers.len() > MAX_FIELDS || bytes > MAX_FIELD_BYTES { Err(too_large()) } else { Ok(()) }
    }

    /// The host, from the target or the one `Host` field (RFC 9112 section 3.2; for HTTP/2 RFC 9113 section 8.3.1).
    fn host(&self) -> Result<String, Fault> {
        if let Some(authority) = self.authority {
            return Ok(authority.to_owned());
        }
        let mut fields = self.headers.get_all(HOST).iter();
        match (fields.next(), fields.next()) {
            (Some(host), None) => host.to_str().map(str::to_owned).map_err(|_| bad("the Host field is not a host")),
            (None, _) if self.version < Version::HTTP_11 => Ok(String::new()),
            (None, _) => Err(bad("the request has no Host field")),
            (Some(_), Some(_)) => Err(bad("the request has more than one Host field")),
        }
    }
}

/// Lets a request in that pingora has read, or says why not. Limits are checked before anything is copied.
pub(super) fn admit(head: &RequestHeader, caller: Arc<Caller>) -> Result<Request, Fault> {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = Head { target: head.raw_path(), authority, version: head.version, headers: &head.headers }.judge()?;
    if !head.raw_path().iter().all(u8::is_ascii_graphic) {
        return Err(bad("the request target holds bytes that must be percent-encoded"));
    }
    Ok(Request {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers.clone(),
        host,
        caller,
    })
}

/// A request whose head could not even be parsed.
pub(super) fn malformed() -> Fault {
    bad("the request's head is malformed, or has more than 256 header fields")
}

/// A client that speaks TLS to a listener that does not. podman and skopeo try that first with a mirror marked insecure.
pub(super) fn not_http() -> Fault {
    bad("this listener speaks plain HTTP, and the client began with TLS: use http, or give the listener a certificate")
}

/// A request whose head is larger than this server reads.
pub(super) fn too_large() -> Fault {
    let message = format!("a request may have {MAX_FIELDS} header fields of {MAX_FIELD_BYTES} bytes in all");
    Fault::new(FaultKind::HeaderTooLarge, ErrorCode::Unsupported, message)
}

fn bad(message: &str) -> Fault {
    Fault::new(FaultKind::BadRequest, ErrorCode::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn caller() -> Arc<Caller> {
        Arc::new(Caller::direct("nodes".into(), (Ipv4Addr::LOCALHOST, 4000).into()))
    }

    fn head(path: &[u8], fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", path, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn refused(head: &RequestHeader) -> FaultKind {
        admit(head, caller()).unwrap_err().kind
    }

    #[test]
    fn path_and_query_come_as_they_were_sent() {
        let request = admit(&head(b"/v2/a%2Fb/../manifests/x?ns=docker.io&ns=", &[("Host", "h:1")]), caller()).unwrap();
        assert_eq!(request.path, "/v2/a%2Fb/../manifests/x");
        assert_eq!(request.query.as_deref(), Some("ns=docker.io&ns="));
        assert_eq!(request.host, "h:1");
    }

    #[test]
    fn one_host_is_needed() {
        assert_eq!(refused(&head(b"/v2/", &[])), FaultKind::BadRequest);
        assert_eq!(refused(&head(b"/v2/", &[("Host", "a"), ("Host", "a")])), FaultKind::BadRequest);
        let mut old = head(b"/v2/", &[]);
        old.set_version(Version::HTTP_10);
        assert_eq!(admit(&old, caller()).unwrap().host, "");
    }

    #[test]
    fn a_head_of_unreasonable_size_is_refused() {
        let long = format!("/v2/{}", "a".repeat(10_000));
        assert_eq!(refused(&head(long.as_bytes(), &[("Host", "h")])), FaultKind::TargetTooLong);
        assert_eq!(refused(&head(b"/v2/", &[("X-A", "1"); MAX_FIELDS + 1])), FaultKind::HeaderTooLarge);
        assert_eq!(refused(&head(b"/v2/", &[("X-A", &"a".repeat(MAX_FIELD_BYTES))])), FaultKind::HeaderTooLarge);
        let mut most = vec![("X-A", "1"); MAX_FIELDS - 1];
        most.push(("Host", "h"));
        assert!(admit(&head(b"/v2/", &most), caller()).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_target_comes_is_refused_or_plain_ascii(path in proptest::collection::vec(any::<u8>(), 1..60)) {
            let Ok(mut head) = RequestHeader::build("GET", &path, None) else { return Ok(()) };
            head.append_header("Host", "h").unwrap();
            if let Ok(request) = admit(&head, caller()) {
                prop_assert!(request.path.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(request.query.is_none_or(|query| query.bytes().all(|byte| byte.is_ascii_graphic())));
            }
        }
    }
}
