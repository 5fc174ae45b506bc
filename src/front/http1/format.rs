//! The head of an answer as it goes over the wire. Pure, but for the date.

use std::io::Write;

use http::header::HeaderName;
use pingora_core::protocols::http::date;

use crate::front::exchange::{AnswerHead, Framing, REQUEST_ID};

/// Most heads are no longer than this, in bytes.
const USUAL: usize = 1 << 10;

/// Appends the head of an answer to `out`: the same bytes that pingora's session would send.
pub(super) fn write_head(out: &mut Vec<u8>, head: &AnswerHead<'_>, keep_alive: bool) {
    out.reserve(USUAL);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.headers {
        field(out, titled(name), value.as_bytes());
    }
    field(out, REQUEST_ID.as_str(), head.id.as_bytes());
    match head.framing {
        // Of any other writer than one into memory an error might come.
        Framing::Length(length) => drop(write!(out, "Content-Length: {length}\r\n")),
        Framing::Chunked => field(out, "Transfer-Encoding", b"chunked"),
        Framing::None | Framing::End => {}
    }
    field(out, "Date", date::get_cached_date().as_bytes());
    field(out, "Connection", if keep_alive { b"keep-alive" } else { b"close" });
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The names that pingora writes with capitals.
fn titled(name: &HeaderName) -> &str {
    match name.as_str() {
        "accept-ranges" => "Accept-Ranges",
        "age" => "Age",
        "cache-control" => "Cache-Control",
        "content-type" => "Content-Type",
        "content-encoding" => "Content-Encoding",
        "server" => "Server",
        "set-cookie" => "Set-Cookie",
        name => name,
    }
}
