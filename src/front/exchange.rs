//! A request and its answer on a connection, as those see it who ask the handler and write what it says: pingora's session, or
//! our own for the ordinary requests of HTTP/1.1.

use std::fs::File;
use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, Method, StatusCode, Version};
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_http::ResponseHeader;

use super::Cut;
use super::client::Client;
use super::fields::Fields;
use super::io::Wire;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How a client learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none, and no field that would tell its length.
    None,
    /// By this length in bytes.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the stream (HTTP/2) or of the connection (HTTP/1.0).
    End,
}

/// The head of an answer, but for what belongs to the connection.
pub(super) struct AnswerHead<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a Fields,
    /// The value of `X-Request-Id`.
    pub(super) id: &'a str,
    pub(super) framing: Framing,
    /// Whether this is all of the answer.
    pub(super) end: bool,
}

/// One request and its answer. After an error, or when a future that writes is dropped, nothing more can be sent.
pub(super) trait Exchange: Send {
    /// The version of HTTP that the client speaks.
    fn version(&self) -> Version;

    /// Whether bytes can go from a file to the client as they are.
    fn takes_files(&self) -> bool;

    /// Says that the body, of so many bytes, may come from files. Called before the head is written, if at all.
    fn expect_files(&mut self, length: u64);

    /// Writes the head of the answer, or keeps it until there is something to go with it.
    fn head(&mut self, head: AnswerHead<'_>) -> impl Future<Output = Result<(), Cut>> + Send;

    /// Writes a piece of the body, which is not empty.
    fn body(&mut self, piece: Bytes) -> impl Future<Output = Result<(), Cut>> + Send;

    /// Sends up to `count` bytes of `file` from `offset` on, and returns how many: at least one. Only where files are expected.
    fn file(&mut self, file: &File, offset: u64, count: usize) -> impl Future<Output = io::Result<usize>> + Send;

    /// Sends what was kept so far, because what comes next is not there yet. A failure shows at the next write.
    fn push(&mut self) -> impl Future<Output = ()> + Send;

    /// Completes when the client leaves. May be dropped at any time and called again.
    fn left(&mut self) -> impl Future<Output = ()> + Send;
}

/// An exchange that pingora carries.
pub(super) struct ByPingora<'a> {
    pub(super) session: &'a mut ServerSession,
    pub(super) client: &'a mut Client,
    wire: &'a Wire,
    /// Whether the body goes past pingora, to the socket.
    direct: bool,
    /// Whether pingora flushes at the end only.
    holds_back: bool,
}

impl<'a> ByPingora<'a> {
    pub(super) fn new(session: &'a mut ServerSession, client: &'a mut Client, wire: &'a Wire) -> Self {
        Self { session, client, wire, direct: false, holds_back: false }
    }
}

impl Exchange for ByPingora<'_> {
    fn version(&self) -> Version {
        self.session.req_header().version
    }

    fn takes_files(&self) -> bool {
        self.session.stream().is_some_and(|stream| stream.get_ssl_digest().is_none())
    }

    /// Keeps pingora's body writer out of it: told that this is the answer to HEAD, it expects no body, sends the head at
    /// once, and leaves the connection in a state to be used again.
    fn expect_files(&mut self, _length: u64) {
        self.session.req_header_mut().set_method(Method::HEAD);
        self.wire.cork(true);
        self.direct = true;
    }

    async fn head(&mut self, head: AnswerHead<'_>) -> Result<(), Cut> {
        let header = Box::new(header(&head).map_err(unsent)?);
        self.holds_back = matches!(head.framing, Framing::Length(_)) && !self.session.is_http2();
        match &mut *self.session {
            ServerSession::H2(stream) => stream.write_response_header(header, head.end),
            session => session.write_response_header(header).await,
        }
        .map_err(unsent)
    }

    async fn body(&mut self, piece: Bytes) -> Result<(), Cut> {
        if self.direct {
            return self.wire.write_all(&piece).await.map_err(unsent);
        }
        self.session.write_response_body(piece, false).await.map_err(unsent)
    }

    async fn file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        self.wire.send_file(file, offset, count).await
    }

    async fn push(&mut self) {
        if self.direct {
            self.wire.cork(false);
        } else if self.holds_back {
            // Of bodies with a length pingora flushes only the end, and TLS may hold back up to 64 KiB meanwhile. Its one way
            // to flush in between is a failed task, which changes nothing else and hands the failure back.
            let failure = pingora_core::Error::new_str("flush");
            // That failure says nothing; one to write shows at the next write.
            let _ = self.session.response_duplex_vec(vec![HttpTask::Body(None, false), HttpTask::Failed(failure)]).await;
        }
    }

    async fn left(&mut self) {
        self.client.left(self.session).await;
    }
}

fn header(head: &AnswerHead<'_>) -> pingora_core::Result<ResponseHeader> {
    let mut header = ResponseHeader::build_no_case(head.status, Some(head.headers.len() + 4))?;
    for (name, value) in head.headers {
        header.append_header(name.clone(), value.clone())?;
    }
    header.insert_header(REQUEST_ID, head.id)?;
    match head.framing {
        Framing::Length(length) => header.insert_header(CONTENT_LENGTH, length)?,
        Framing::Chunked => header.insert_header(TRANSFER_ENCODING, "chunked")?,
        Framing::None | Framing::End => {}
    }
    Ok(header)
}

pub(super) fn unsent(error: impl std::fmt::Display) -> Cut {
    Cut(format!("the answer could not be sent: {error}"))
}
