//! Writing an answer: its head, then its body by the shortest way there is.
//!
//! | connection | body | way |
//! |---|---|---|
//! | plain HTTP/1.1 | stream of known length | *direct*: sendfile for resident files, else a read on the blocking pool; corked if long |
//! | any other | any | through the exchange; files are read 64 KiB at a time from the page cache, else on the blocking pool |
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
use http::{StatusCode, Version};

use super::exchange::{AnswerHead, Exchange, Framing, unsent};
use super::io::Wire;
use super::{Answer, Body, Chunk, ChunkStream, Cut, file};
use crate::oci::Span;
use crate::telemetry::Outcome;

/// The most handed to one sendfile call, in bytes; after so many of a file other tasks get their turn.
const SLICE: u64 = 1 << 20;
/// The most handed to the exchange at once, in bytes. On HTTP/2 the stall deadline is for one such piece.
const PIECE: usize = 64 << 10;

/// Writes one answer.
pub(super) struct Writer<'a, E> {
    exchange: &'a mut E,
    wire: &'a Wire,
    outcome: &'a mut Outcome,
    /// Whether files go to the client as they are.
    direct: bool,
    /// Body bytes still to come, where the length is known.
    left: Option<u64>,
    /// Body bytes sent since others had their turn.
    turn: u64,
    /// Whether a file turned out to be damaged.
    damaged: bool,
}

impl<'a, E: Exchange> Writer<'a, E> {
    pub(super) fn new(exchange: &'a mut E, wire: &'a Wire, outcome: &'a mut Outcome) -> Self {
        Self { exchange, wire, outcome, direct: false, left: None, turn: 0, damaged: false }
    }

    /// Writes everything but the end marks that finishing the exchange adds. After an error, or when the future is dropped,
    /// it must not be finished: what the client has is not the whole. `head_only`: the request was HEAD.
    pub(super) async fn send(mut self, answer: Answer, head_only: bool) -> Result<(), Cut> {
        let Answer { status, headers, body, length, reason, code } = answer;
        self.outcome.error_code = code;
        self.outcome.reason = self.outcome.reason.take().or(reason);
        let framing = self.framing(status, length);
        let end = head_only || matches!(framing, Framing::None | Framing::Length(0));
        self.outcome.answered(status.as_u16());
        self.left = length;
        let until_close = !end && framing == Framing::End && self.exchange.version() < Version::HTTP_11;
        if until_close {
            self.wire.reset_on_close(true);
        }
        if let (Framing::Length(length), Body::Stream(_)) = (framing, &body)
            && !end
            && self.exchange.takes_files()
        {
            self.exchange.expect_files(length);
            self.direct = true;
        }
        let id = self.outcome.id.as_str();
        self.exchange.head(AnswerHead { status, headers: &headers, id, framing, end }).await?;
        if end {
            return Ok(());
        }
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) => self.chunk(Chunk::Bytes(bytes)).await?,
            Body::Stream(chunks) => self.stream(chunks).await?,
        }
        self.complete().await?;
        if until_close {
            self.wire.reset_on_close(false);
        }
        Ok(())
    }

    fn framing(&self, status: StatusCode, length: Option<u64>) -> Framing {
        match length {
            _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Framing::None,
            Some(length) => Framing::Length(length),
            // HTTP/1.0 has no other end than that of the connection, and HTTP/2 needs none.
            None if self.exchange.version() == Version::HTTP_11 => Framing::Chunked,
            None => Framing::End,
        }
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
                self.exchange.push().await;
                tokio::select! {
                    biased;
                    next = next => next,
                    () = self.exchange.left() => return Err(Cut("the client left".to_owned())),
                }
            }
        };
        match next {
            Ok(next) => next.transpose(),
            Err(panic) => Err(Cut(super::session::panic_text(panic.as_ref()))),
        }
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
            self.exchange.body(piece).await?;
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
            if self.turn >= SLICE {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn send_file(&mut self, file: &File, slice: Span) -> Result<u64, Cut> {
        let count = usize::try_from(slice.len()).unwrap_or(usize::MAX);
        let sent = self.exchange.file(file, slice.start, count).await;
        let sent = sent.map_err(|error| if file::is_damage(&error) { self.unread(&error) } else { unsent(error) })?;
        self.sent(sent as u64);
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
        self.turn += bytes;
        self.left = self.left.map(|left| left - bytes);
    }

    async fn complete(&mut self) -> Result<(), Cut> {
        if self.direct {
            self.exchange.push().await;
        }
        match self.left {
            None | Some(0) => Ok(()),
            Some(left) => Err(Cut(format!("the body ended {left} bytes before its announced length"))),
        }
    }
}
