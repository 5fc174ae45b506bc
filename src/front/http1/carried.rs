//! An exchange that we carry ourselves: the connection, and how the answer under way is written to it.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Version;
use pingora_core::protocols::{Shutdown, Stream};
use tokio::io::AsyncWriteExt;

use super::ahead::Ahead;
use super::format::write_head;
use super::ordinary::Ordinary;
use crate::front::Cut;
use crate::front::exchange::{AnswerHead, Exchange, Framing, unsent};
use crate::front::io::Wire;

/// A longer body takes several calls to be sent from a file, in bytes: only then is it worth two more to cork the socket.
const ONE_SEND: u64 = 1 << 20;

/// A connection of HTTP/1.1, carrying one request after the other.
pub(super) struct Carried {
    stream: Stream,
    wire: Arc<Wire>,
    is_plain: bool,
    ahead: Ahead,
    /// What waits for company on its way out.
    kept: Vec<u8>,
    sending: Sending,
    /// Whether the connection goes on behind the answer.
    keep_alive: bool,
}

/// How the answer under way is sent.
#[derive(Default)]
struct Sending {
    chunked: bool,
    /// Whether full segments only leave the socket.
    corked: bool,
    /// Whether the client is not listened to any more until its request is answered.
    deaf: bool,
}

impl Carried {
    pub(super) fn new(stream: Stream, wire: Arc<Wire>, ahead: BytesMut) -> Self {
        let is_plain = stream.get_ssl_digest().is_none();
        let (ahead, kept, sending) = (Ahead::new(ahead), Vec::new(), Sending::default());
        Self { stream, wire, is_plain, ahead, kept, sending, keep_alive: true }
    }

    /// Gives the connection back, and all that was read and not consumed.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.ahead.into_bytes())
    }

    /// Whether nothing was read of the next request.
    pub(super) fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Reads once, and says how many bytes: none at the end. A dropped future has read none.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.fill(&mut self.stream).await
    }

    /// Takes the next request, if what was read begins with a whole one that is ordinary; otherwise it is all still there.
    pub(super) fn next_request(&mut self) -> Option<Ordinary> {
        let request = self.ahead.next_request()?;
        self.sending = Sending::default();
        Some(request)
    }

    /// Has the head of the answer say whether the connection goes on.
    pub(super) fn keep_alive(&mut self, goes_on: bool) {
        self.keep_alive = goes_on;
    }

    /// Ends the answer. Unless the connection goes on, nothing more is written to it.
    pub(super) async fn finish(&mut self) -> Result<(), Cut> {
        if self.sending.chunked {
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
        self.sending.corked = length > ONE_SEND;
        if self.sending.corked {
            self.wire.cork(true);
        }
    }

    async fn head(&mut self, head: AnswerHead<'_>) -> Result<(), Cut> {
        self.sending.chunked = head.framing == Framing::Chunked && !head.end;
        write_head(&mut self.kept, &head, self.keep_alive);
        Ok(())
    }

    async fn body(&mut self, piece: Bytes) -> Result<(), Cut> {
        let mut end: &[u8] = b"";
        if self.sending.chunked {
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
        if self.sending.corked {
            self.wire.cork(false);
        }
    }

    /// What comes is the next request, and kept. A client that sends it early is listened to no further.
    async fn left(&mut self) {
        if !self.sending.deaf && !self.ahead.is_full() {
            if !matches!(self.fill().await, Ok(1..)) {
                return tracing::debug!("the client left");
            }
            self.sending.deaf = true;
        }
        std::future::pending().await
    }
}
