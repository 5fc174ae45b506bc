//! What was read of a connection and not consumed yet.

use std::io;

use bytes::{Bytes, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::AsyncReadExt;

use super::ordinary::Ordinary;

/// What is read at once, in bytes; an ordinary head fits. Kept for as long as the connection is open.
const ROOM: usize = 4 << 10;

/// Bytes of requests to come.
pub(super) struct Ahead {
    /// Read and not yet looked at as a request.
    fresh: BytesMut,
    /// What came behind the last request, and before what is fresh.
    rest: Bytes,
}

impl Ahead {
    pub(super) fn new(bytes: BytesMut) -> Self {
        Self { fresh: BytesMut::new(), rest: bytes.freeze() }
    }

    pub(super) fn into_bytes(mut self) -> BytesMut {
        self.gather();
        self.rest.into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.fresh.is_empty()
    }

    /// Whether there is as much as is read at once.
    pub(super) fn is_full(&self) -> bool {
        self.rest.len() + self.fresh.len() >= ROOM
    }

    /// Reads once, and says how many bytes: none at the end. A dropped future has read none.
    pub(super) async fn fill(&mut self, stream: &mut Stream) -> io::Result<usize> {
        self.fresh.reserve(ROOM.saturating_sub(self.fresh.len()));
        stream.read_buf(&mut self.fresh).await
    }

    /// Takes the next request, if what was read begins with a whole one that is ordinary; otherwise it is all still there.
    pub(super) fn next_request(&mut self) -> Option<Ordinary> {
        self.gather();
        let (request, length) = Ordinary::read(&self.rest)?;
        drop(self.rest.split_to(length));
        Some(request)
    }

    /// Everything in one place.
    fn gather(&mut self) {
        if self.rest.is_empty() {
            self.rest = self.fresh.split().freeze();
        } else if !self.fresh.is_empty() {
            self.rest = [&self.rest[..], &self.fresh].concat().into();
            self.fresh.clear();
        }
    }
}
