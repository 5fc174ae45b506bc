//! A blob's bytes, wherever they are, read span by span.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::download::{Reader, Seat};
use super::{Error, Mirror};
use crate::oci::Span;
use crate::store::Blob;

/// Where a blob's bytes are.
pub struct Content(Place);

enum Place {
    Memory(Bytes),
    Stored(Blob, Arc<Mirror>),
    /// With the length that is told of it, where one is.
    Filling(Seat, Option<u64>),
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
    Memory(Option<Bytes>),
    /// The span is all in one piece.
    Stored(Blob, Option<Span>, Arc<Mirror>),
    Filling(Reader),
}

impl Content {
    pub(super) fn memory(bytes: Bytes) -> Self {
        Self(Place::Memory(bytes))
    }

    /// A file of the store. `mirror` is told when it cannot be read.
    pub(super) fn stored(blob: Blob, mirror: Arc<Mirror>) -> Self {
        Self(Place::Stored(blob, mirror))
    }

    /// `promised` is the length that is told of it, where one is.
    pub(super) fn filling(seat: Seat, promised: Option<u64>) -> Self {
        Self(Place::Filling(seat, promised))
    }

    /// How many spans one answer can read: any number, or one where bytes only go by, or none where the length is not known
    /// yet.
    pub fn most_spans(&self) -> usize {
        match &self.0 {
            Place::Memory(_) | Place::Stored(..) => usize::MAX,
            Place::Filling(seat, _) if seat.download.length().is_none() => 0,
            Place::Filling(seat, _) if seat.download.is_kept() => usize::MAX,
            Place::Filling(..) => 1,
        }
    }

    /// Reads one span; it must lie inside the blob, and there must be no more than [`Content::most_spans`].
    pub fn span(&self, span: Span) -> Pieces {
        Pieces(match &self.0 {
            Place::Memory(bytes) => Source::Memory(Some(slice(bytes, span))),
            Place::Stored(blob, mirror) => Source::Stored(blob.clone(), Some(span), mirror.clone()),
            Place::Filling(seat, _) => Source::Filling(Reader::span(seat, span)),
        })
    }

    /// Reads the whole.
    pub fn whole(self) -> Pieces {
        Pieces(match self.0 {
            Place::Memory(bytes) => Source::Memory(Some(bytes)),
            Place::Stored(blob, mirror) => {
                let all = Span::new(0, blob.size);
                Source::Stored(blob, Some(all), mirror)
            }
            Place::Filling(seat, promised) => Source::Filling(Reader::whole(seat, promised)),
        })
    }
}

fn slice(bytes: &Bytes, span: Span) -> Bytes {
    let place = |offset: u64| usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    bytes.slice(place(span.start)..place(span.end))
}

impl Pieces {
    /// The next bytes; `None` at the end. May be dropped and called again at any time.
    ///
    /// # Errors
    /// The answer cannot be completed, and must not look as if it were.
    pub async fn next(&mut self) -> Option<Result<Piece, Error>> {
        match &mut self.0 {
            Source::Memory(bytes) => bytes.take().map(|bytes| Ok(Piece::Bytes(bytes))),
            Source::Stored(blob, span, _) => span.take().map(|span| Ok(Piece::File(blob.file.clone(), span))),
            Source::Filling(reader) => reader.next().await,
        }
    }

    /// The file of the piece that came last cannot be read as far as it should be. Has the store look into it, behind
    /// everybody's back.
    pub fn unreadable(&self) {
        // A file that is still being filled is its download's business.
        if let Source::Stored(blob, _, mirror) = &self.0 {
            mirror.suspect(blob.digest);
        }
    }
}
