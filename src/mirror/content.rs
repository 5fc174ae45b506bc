//! A blob's bytes, wherever they are, read span by span.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use super::download::{Reader, Seat};
use crate::oci::Span;
use crate::store::Blob;

/// Where a blob's bytes are.
pub struct Content(Place);

enum Place {
    Memory(Bytes),
    Stored(Blob),
    Filling(Seat),
}

/// Some bytes of an answer.
#[derive(Debug)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file, which stays readable while this is held.
    File(Arc<File>, Span),
}

/// The bytes of one span, in order.
pub struct Pieces(Source);

enum Source {
    Ready(VecDeque<Piece>),
    Filling(Reader),
}

impl Content {
    pub(super) fn memory(bytes: Bytes) -> Self {
        Self(Place::Memory(bytes))
    }

    pub(super) fn stored(blob: Blob) -> Self {
        Self(Place::Stored(blob))
    }

    pub(super) fn filling(seat: Seat) -> Self {
        Self(Place::Filling(seat))
    }

    /// How many spans one answer can read: any number, or one where bytes only go by, or none where the length is not known
    /// yet.
    pub fn most_spans(&self) -> usize {
        match &self.0 {
            Place::Memory(_) | Place::Stored(_) => usize::MAX,
            Place::Filling(seat) if seat.download.length().is_none() => 0,
            Place::Filling(seat) if seat.download.is_kept() => usize::MAX,
            Place::Filling(_) => 1,
        }
    }

    /// Reads one span; it must lie inside the blob, and there must be no more than [`Content::most_spans`].
    pub fn span(&self, span: Span) -> Pieces {
        match &self.0 {
            Place::Memory(bytes) => Pieces::ready(Piece::Bytes(slice(bytes, span))),
            Place::Stored(blob) => Pieces::ready(Piece::File(blob.file.clone(), span)),
            Place::Filling(seat) => Pieces(Source::Filling(Reader::span(seat, span))),
        }
    }

    /// Reads the whole.
    pub fn whole(self) -> Pieces {
        match self.0 {
            Place::Memory(bytes) => Pieces::ready(Piece::Bytes(bytes)),
            Place::Stored(blob) => Pieces::ready(Piece::File(blob.file, Span::new(0, blob.size))),
            Place::Filling(seat) => Pieces(Source::Filling(Reader::whole(seat))),
        }
    }
}

fn slice(bytes: &Bytes, span: Span) -> Bytes {
    let place = |offset: u64| usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    bytes.slice(place(span.start)..place(span.end))
}

impl Pieces {
    fn ready(piece: Piece) -> Self {
        Self(Source::Ready(VecDeque::from([piece])))
    }

    /// The next bytes; `None` at the end. May be dropped and called again at any time.
    ///
    /// # Errors
    /// The answer cannot be completed, and must not look as if it were.
    pub async fn next(&mut self) -> Option<Result<Piece, Error>> {
        match &mut self.0 {
            Source::Ready(pieces) => pieces.pop_front().map(Ok),
            Source::Filling(reader) => reader.next().await,
        }
    }
}
