//! For the fuzz targets and for tests, and in no other build: the parsers of this room that are otherwise its own.

use std::net::SocketAddr;

pub use super::http1::seen::{Seen, by_pingora, by_us};
use super::proxy_protocol::{self, Progress};
use crate::request::Endpoint;

/// What is known of the header that `bytes` begin with.
#[derive(Debug, PartialEq)]
pub enum Header {
    /// It is none, or not a sound one.
    Malformed,
    /// At least so many more bytes belong to it.
    Needs(usize),
    /// It has so many bytes and names these.
    Complete(usize, Option<SocketAddr>, Option<Endpoint>),
}

/// Reads a header of the PROXY protocol, as the listeners do.
pub fn proxy_header(bytes: &[u8]) -> Header {
    match proxy_protocol::parse(bytes) {
        Ok(Progress::Complete { header, length }) => Header::Complete(length, header.source, header.endpoint),
        Ok(Progress::Needs(more)) => Header::Needs(more),
        Err(_) => Header::Malformed,
    }
}
