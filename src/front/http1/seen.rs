//! What is read of a request by us and by pingora: for the tests and the fuzz target that compare the two.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use pingora_core::protocols::http::v1::server::HttpSession;

use super::ordinary::Ordinary;
use crate::front::{Request, head};
use crate::request::Caller;

/// A request that was let in.
#[derive(Debug, PartialEq)]
pub struct Seen {
    /// All that the handler gets, in words.
    pub request: String,
    /// Whether the connection may go on after it.
    pub keeps_alive: bool,
    /// How many bytes of those it was read from are its own.
    pub length: usize,
}

/// What we read; nothing where it is not ordinary.
pub fn by_us(bytes: &[u8]) -> Option<Seen> {
    let (request, length) = Ordinary::read(&Bytes::copy_from_slice(bytes))?;
    let keeps_alive = request.keeps_alive;
    Some(Seen { request: words(&request.admit(caller())), keeps_alive, length })
}

/// What pingora reads; nothing where it is not let in, or has a body.
pub fn by_pingora(bytes: &[u8]) -> Option<Seen> {
    let (stream, _) = tokio::io::duplex(1);
    let mut session = HttpSession::new(Box::new(stream));
    session.set_pipelining_enabled(true);
    session.set_pipelined_prefix(BytesMut::from(bytes));
    let length = session.read_request().now_or_never()?.ok()??;
    let request = head::admit(session.req_header(), caller()).ok()?;
    session.is_body_empty().then(|| Seen { request: words(&request), keeps_alive: session.will_keepalive(), length })
}

fn words(request: &Request) -> String {
    format!("{request:?}")
}

fn caller() -> Arc<Caller> {
    Arc::new(Caller::direct("nodes".into(), (Ipv4Addr::LOCALHOST, 4000).into()))
}
