//! Which requests are ordinary. Pure.

use std::mem::MaybeUninit;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use httparse::Status;

use crate::front::head::{Head, Request};
use crate::request::Caller;

/// An ordinary request has no more header fields than this.
const MAX_FIELDS: usize = 64;

/// A request to be served the short way.
#[derive(Debug)]
pub(in crate::front) struct Ordinary {
    pub(super) method: Method,
    /// Path and query: of visible ASCII without `#`, so that nothing is to be cut off or escaped.
    target: String,
    pub(super) headers: HeaderMap,
    host: String,
    /// Whether the client wants the connection to go on.
    pub(super) keeps_alive: bool,
}

impl Ordinary {
    /// Reads the request that `bytes` begin with, and says how many of them are its own. `None` where it is not ordinary:
    /// GET or HEAD of HTTP/1.1, whole, with a path of plain characters, one plain `Host`, and no field that says anything of
    /// a body, or of the connection but that it goes on or ends.
    pub(in crate::front) fn read(bytes: &Bytes) -> Option<(Self, usize)> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let Ok(Status::Complete(length)) = request.parse_with_uninit_headers(bytes, &mut fields) else { return None };
        let method = match request.method? {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            _ => return None,
        };
        let target = request.path.filter(|target| request.version == Some(1) && is_plain(target))?;
        let (headers, keeps_alive) = headers(bytes, request.headers)?;
        let head = Head { target: target.as_bytes(), authority: None, version: Version::HTTP_11, headers: &headers };
        // What is not let in is not ordinary: pingora's way refuses it with the same words.
        let host = head.judge().ok().filter(|host| is_host(host))?;
        Some((Self { method, target: target.to_owned(), headers, host, keeps_alive }, length))
    }

    /// Path and query, as sent.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The request as the handler gets it.
    pub(in crate::front) fn admit(self, caller: Arc<Caller>) -> Request {
        let Self { method, target: mut path, headers, host, .. } = self;
        let query = path.find('?').map(|at| {
            let query = path[at + 1..].to_owned();
            path.truncate(at);
            query
        });
        Request { method, path, query, headers, host, caller }
    }
}

fn headers(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Option<(HeaderMap, bool)> {
    let (mut headers, mut keeps_alive) = (HeaderMap::with_capacity(fields.len()), true);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        match name {
            CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT | UPGRADE => return None,
            CONNECTION if headers.contains_key(&CONNECTION) => return None,
            CONNECTION => keeps_alive = !is_close(field.value)?,
            _ => {}
        }
        headers.append(name, HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?);
    }
    Some((headers, keeps_alive))
}

/// Whether the connection ends, by the value of `Connection`; nothing where that says something else.
fn is_close(value: &[u8]) -> Option<bool> {
    let close = value.eq_ignore_ascii_case(b"close");
    (close || value.eq_ignore_ascii_case(b"keep-alive")).then_some(close)
}

/// A path, and perhaps a query, of characters that may be in one (RFC 3986 section 3.3 and 3.4).
fn is_plain(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|byte| PLAIN[usize::from(byte)])
}

const PLAIN: [bool; 256] = {
    let (mut plain, mut byte) = ([false; 256], 0u8);
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let (others, mut at) = (b"/-._~%:@!$&'()*+,;=?", 0);
    while at < others.len() {
        plain[others[at] as usize] = true;
        at += 1;
    }
    plain
};

/// A host with or without its port, not looked at more closely.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}
