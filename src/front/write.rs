//! Writing an answer: its head, then its body by the shortest way there is.
//!
//! | connection | body | way |
//! |---|---|---|
//! | plain HTTP/1.1 | stream of known length | *direct*: sendfile for resident files, else a read on the blocking pool; corked |
//! | any other | any | pingora's writer; files are read 64 KiB at a time from the page cache, else on the blocking pool |
//!
//! Nothing is ever re-encoded. Every way has the write stall deadline: the socket's own, and on HTTP/2 one for each stream too,
//! because a stream may stand still on a connection that does not.

use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, Method, StatusCode, Version};
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_http::ResponseHeader;

use super::client::Client;
use super::fields::Fields;
use super::io::Wire;
use super::{Answer, Body, Chunk, ChunkStream, Cut, file};
use crate::oci::Span;
use crate::telemetry::Outcome;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most handed to one sendfile call, in bytes; after a whole one other tasks get their turn.
const SLICE: u64 = 1 << 20;
/// The most handed to pingora's writer at once, in bytes. On HTTP/2 the stall deadline is for one such piece.
const PIECE: usize = 64 << 10;

/// Writes one answer.
pub(super) struct Writer<'a> {
    session: &'a mut ServerSession,
    client: &'a mut Client,
    wire: &'a Wire,
    outcome: &'a mut Outcome,
    /// Whether body bytes go straight to the socket.
    direct: bool,
    /// Body bytes still to come, where the length is known.
    left: Option<u64>,
    /// Whether a file turned out to be damaged.
    damaged: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(session: &'a mut ServerSession, client: &'a mut Client, wire: &'a Wire, outcome: &'a mut Outcome) -> Self {
        Self { session, client, wire, outcome, direct: false, left: None, damaged: false }
    }

    /// Writes everything but the end marks that `ServerSession::finish` adds. After an error, or when the future is dropped,
    /// the session must not be finished: what the client has is not the whole. `head_only`: the request was HEAD.
    pub(super) async fn send(mut self, answer: Answer, head_only: bool) -> Result<(), Cut> {
        let Answer { status, headers, body, length, reason, code } = answer;
        self.outcome.error_code = code;
        self.outcome.reason = self.outcome.reason.take().or(reason);
        let framed = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let header = self.header(status, &headers, length, framed)?;
        self.outcome.answered(status.as_u16());
        if head_only || !framed || length == Some(0) {
            return self.head(header, true).await;
        }
        self.left = length;
        // Of HTTP/1.0, where only the end of the connection is the end of the body.
        let until_close = length.is_none() && self.session.req_header().version < Version::HTTP_11;
        if until_close {
            self.wire.reset_on_close(true);
        }
        if matches!(body, Body::Stream(_)) && length.is_some() && self.is_plain_http1() {
            self.go_direct();
        }
        self.head(header, false).await?;
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) => self.chunk(Chunk::Bytes(bytes)).await?,
            Body::Stream(chunks) => self.stream(chunks).await?,
        }
        self.complete()?;
        if until_close {
            self.wire.reset_on_close(false);
        }
        Ok(())
    }

    fn header(&self, status: StatusCode, headers: &Fields, length: Option<u64>, framed: bool) -> Result<Box<ResponseHeader>, Cut> {
        let mut header = ResponseHeader::build_no_case(status, Some(headers.len() + 4)).map_err(unsent)?;
        for (name, value) in headers {
            header.append_header(name.clone(), value.clone()).map_err(unsent)?;
        }
        header.insert_header(REQUEST_ID, self.outcome.id.as_str()).map_err(unsent)?;
        match length {
            Some(length) if framed => header.insert_header(CONTENT_LENGTH, length).map_err(unsent)?,
            // HTTP/1.0 has no other end than that of the connection, and HTTP/2 needs none.
            None if framed && self.session.req_header().version == Version::HTTP_11 => {
                header.insert_header(TRANSFER_ENCODING, "chunked").map_err(unsent)?;
            }
            _ => {}
        }
        Ok(Box::new(header))
    }

    async fn head(&mut self, header: Box<ResponseHeader>, end: bool) -> Result<(), Cut> {
        match &mut *self.session {
            ServerSession::H2(stream) => stream.write_response_header(header, end),
            session => session.write_response_header(header).await,
        }
        .map_err(unsent)
    }

    fn is_plain_http1(&self) -> bool {
        self.session.stream().is_some_and(|stream| stream.get_ssl_digest().is_none())
    }

    /// Keeps pingora's body writer out of it: told that this is the answer to HEAD, it expects no body, sends the head at
    /// once, and leaves the connection in a state to be used again.
    fn go_direct(&mut self) {
        self.session.req_header_mut().set_method(Method::HEAD);
        self.wire.cork(true);
        self.direct = true;
    }

    async fn stream(&mut self, mut chunks: Box<dyn ChunkStream>) -> Result<(), Cut> {
        while let Some(chunk) = self.next(chunks.as_mut()).await? {
            let written = self.chunk(chunk).await;
            if self.damaged {
                chunks.unreadable();
            }
            written?;
        }
        Ok(())
    }

    /// The next chunk. Before waiting for it, everything written so far is pushed out.
    async fn next(&mut self, chunks: &mut dyn ChunkStream) -> Result<Option<Chunk>, Cut> {
        let mut next = AssertUnwindSafe(chunks.next()).catch_unwind();
        let next = match futures_util::poll!(&mut next) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                self.push().await?;
                tokio::select! {
                    biased;
                    next = next => next,
                    () = self.client.left(self.session) => return Err(Cut("the client left".to_owned())),
                }
            }
        };
        match next {
            Ok(next) => next.transpose(),
            Err(panic) => Err(Cut(super::session::panic_text(panic.as_ref()))),
        }
    }

    async fn push(&mut self) -> Result<(), Cut> {
        if self.direct {
            self.wire.cork(false);
        } else if self.left.is_some() && !self.session.is_http2() {
            // Of bodies with a length pingora flushes only the end, and TLS may hold back up to 64 KiB meanwhile. Its one way
            // to flush in between is a failed task, which changes nothing else and hands the failure back.
            let failure = pingora_core::Error::new_str("flush");
            // That failure says nothing; one to write shows at the next write.
            let _ = self.session.response_duplex_vec(vec![HttpTask::Body(None, false), HttpTask::Failed(failure)]).await;
        }
        Ok(())
    }

    async fn chunk(&mut self, chunk: Chunk) -> Result<(), Cut> {
        if self.left.is_some_and(|left| left < chunk.len()) {
            return Err(Cut("the body is longer than its announced length".to_owned()));
        }
        match chunk {
            Chunk::Bytes(bytes) => self.bytes(bytes).await,
            Chunk::File { file, span } => self.file(&file, span).await,
        }
    }

    async fn bytes(&mut self, mut bytes: Bytes) -> Result<(), Cut> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let length = piece.len() as u64;
            if self.direct {
                self.wire.write_all(&piece).await.map_err(unsent)?;
            } else {
                self.session.write_response_body(piece, false).await.map_err(unsent)?;
            }
            self.sent(length);
        }
        Ok(())
    }

    async fn file(&mut self, file: &Arc<File>, mut span: Span) -> Result<(), Cut> {
        while !span.is_empty() {
            let slice = Span::new(span.start, span.end.min(span.start + SLICE));
            span.start += match (self.direct, self.direct && file::is_resident(file, slice)) {
                (true, true) => self.send_file(file, slice).await?,
                (true, false) => self.read_and_send(file::read_cold(file, slice).await).await?,
                (false, _) => self.read_and_send(file::read(file, slice).await).await?,
            };
        }
        Ok(())
    }

    async fn send_file(&mut self, file: &File, slice: Span) -> Result<u64, Cut> {
        let count = usize::try_from(slice.len()).unwrap_or(usize::MAX);
        let sent = self.wire.send_file(file, slice.start, count).await;
        let sent = sent.map_err(|error| if file::is_damage(&error) { self.unread(&error) } else { unsent(error) })?;
        self.sent(sent as u64);
        if sent == count {
            tokio::task::yield_now().await;
        }
        Ok(sent as u64)
    }

    async fn read_and_send(&mut self, piece: io::Result<Bytes>) -> Result<u64, Cut> {
        let piece = piece.map_err(|error| self.unread(&error))?;
        let length = piece.len() as u64;
        self.bytes(piece).await?;
        Ok(length)
    }

    fn unread(&mut self, error: &io::Error) -> Cut {
        self.damaged = file::is_damage(error);
        Cut(format!("stored content cannot be read: {error}"))
    }

    fn sent(&mut self, bytes: u64) {
        self.outcome.sent += bytes;
        self.left = self.left.map(|left| left - bytes);
    }

    fn complete(&self) -> Result<(), Cut> {
        if self.direct {
            self.wire.cork(false);
        }
        match self.left {
            None | Some(0) => Ok(()),
            Some(left) => Err(Cut(format!("the body ended {left} bytes before its announced length"))),
        }
    }
}

fn unsent(error: impl std::fmt::Display) -> Cut {
    Cut(format!("the answer could not be sent: {error}"))
}
