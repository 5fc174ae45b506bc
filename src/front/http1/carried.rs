//! An exchange that we carry ourselves: the connection, what was read ahead, and what waits to be written.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Version;
use pingora_core::protocols::{Shutdown, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::format::write_head;
use super::ordinary::Ordinary;
use crate::front::Cut;
use crate::front::exchange::{AnswerHead, Exchange, Framing, unsent};
use crate::front::io::Wire;

/// What is read at once, in bytes; an ordinary head fits. Kept for as long as the connection is open.
const ROOM: usize = 4 << 10;

/// A longer body takes several calls to be sent from a file, in bytes: only then is it worth two more to cork the socket.
const ONE_SEND: u64 = 1 << 20;

/// A connection of HTTP/1.1, carrying one request after the other.
pub(super) struct Carried {
    stream: Stream,
    wire: Arc<Wire>,
    is_plain: bool,
    /// Read and not yet looked at as a request.
    fresh: BytesMut,
    /// What came behind the last request, and before what is fresh.
    ahead: Bytes,
    /// What waits for company on its way out.
    kept: Vec<u8>,
    /// How the answer under way is sent.
    keep_alive: bool,
    chunked: bool,
    /// Whether full segments only leave the socket.
    corked: bool,
    /// Whether the client is still listened to while its request is answered.
    listening: bool,
}

impl Carried {
    pub(super) fn new(stream: Stream, wire: Arc<Wire>, ahead: BytesMut) -> Self {
        let is_plain = stream.get_ssl_digest().is_none();
        Self {
            stream,
            wire,
            is_plain,
            fresh: BytesMut::new(),
            ahead: ahead.freeze(),
            kept: Vec::new(),
            keep_alive: true,
            chunked: false,
            corked: false,
            listening: true,
        }
    }

    /// Gives the connection back, and all that was read and not consumed.
    pub(super) fn into_parts(mut self) -> (Stream, BytesMut) {
        self.gather();
        (self.stream, BytesMut::from(self.ahead))
    }

    /// Whether nothing was read of the next request.
    pub(super) fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.fresh.is_empty()
    }

    /// Reads once, and says how many bytes: none at the end. A dropped future has read none.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.fresh.reserve(ROOM.saturating_sub(self.fresh.len()));
        self.stream.read_buf(&mut self.fresh).await
    }

    /// Takes the next request, if what was read begins with a whole one that is ordinary; otherwise it is all still there.
    pub(super) fn next_request(&mut self) -> Option<Ordinary> {
        self.gather();
        let (request, length) = Ordinary::read(&self.ahead)?;
        drop(self.ahead.split_to(length));
        (self.chunked, self.corked, self.listening) = (false, false, true);
        Some(request)
    }

    /// Has the head of the answer say whether the connection goes on.
    pub(super) fn keep_alive(&mut self, goes_on: bool) {
        self.keep_alive = goes_on;
    }

    /// Ends the answer. Unless the connection goes on, nothing more is written to it.
    pub(super) async fn finish(&mut self) -> Result<(), Cut> {
        if self.chunked {
            self.kept.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush().await.map_err(|error| Cut(format!("the answer could not be ended: {error}")))?;
        if !self.keep_alive {
            Shutdown::shutdown(&mut *self.stream).await;
        }
        Ok(())
    }

    /// Sends what is kept.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.write(&[], &[]).await?;
        if self.is_plain { Ok(()) } else { AsyncWriteExt::flush(&mut self.stream).await }
    }

    /// Everything read and not consumed in one place.
    fn gather(&mut self) {
        if self.ahead.is_empty() {
            self.ahead = self.fresh.split().freeze();
        } else if !self.fresh.is_empty() {
            self.ahead = [&self.ahead[..], &self.fresh].concat().into();
            self.fresh.clear();
        }
    }

    /// Writes what is kept, then `body`, then `end`. After an error nothing is kept any more.
    async fn write(&mut self, body: &[u8], end: &[u8]) -> io::Result<()> {
        let mut kept = std::mem::take(&mut self.kept);
        let mut slices = [IoSlice::new(&kept), IoSlice::new(body), IoSlice::new(end)];
        let mut left = &mut slices[..];
        // Drops the empty ones at the beginning.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.stream.write_vectored(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut left, written),
            }
        }
        kept.clear();
        self.kept = kept;
        Ok(())
    }
}

impl Exchange for Carried {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn takes_files(&self) -> bool {
        self.is_plain
    }

    fn expect_files(&mut self, length: u64) {
        self.corked = length > ONE_SEND;
        if self.corked {
            self.wire.cork(true);
        }
    }

    async fn head(&mut self, head: AnswerHead<'_>) -> Result<(), Cut> {
        self.chunked = head.framing == Framing::Chunked && !head.end;
        write_head(&mut self.kept, &head, self.keep_alive);
        Ok(())
    }

    async fn body(&mut self, piece: Bytes) -> Result<(), Cut> {
        let mut end: &[u8] = b"";
        if self.chunked {
            // Of any other writer than one into memory an error might come.
            drop(write!(self.kept, "{:X}\r\n", piece.len()));
            end = b"\r\n";
        }
        self.write(&piece, end).await.map_err(unsent)
    }

    async fn file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        if !self.kept.is_empty() {
            let mut kept = std::mem::take(&mut self.kept);
            self.wire.write_more(&kept).await?;
            kept.clear();
            self.kept = kept;
        }
        self.wire.send_file(file, offset, count).await
    }

    async fn push(&mut self) {
        // A failure shows at the next write.
        let _ = self.flush().await;
        if self.corked {
            self.wire.cork(false);
        }
    }

    /// What comes is the next request, and kept. A client that sends it early is listened to no further.
    async fn left(&mut self) {
        if self.listening && self.ahead.len() + self.fresh.len() < ROOM {
            if !matches!(self.fill().await, Ok(1..)) {
                return tracing::debug!("the client left");
            }
            self.listening = false;
        }
        std::future::pending().await
    }
}
