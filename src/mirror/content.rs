//! A blob's bytes, wherever they are, read span by span.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::Error;
use super::download::{Download, Reader, Through};
use crate::oci::Span;
use crate::store::Blob;

/// Where a blob's bytes are.
pub struct Content(Place);

enum Place {
    Memory(Bytes),
    Stored(Blob),
    Filling(Arc<Download>),
    Through(Box<Through>),
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
    Through(Box<Through>),
}

impl Content {
    pub(super) fn memory(bytes: Bytes) -> Self {
        Self(Place::Memory(bytes))
    }

    pub(super) fn stored(blob: Blob) -> Self {
        Self(Place::Stored(blob))
    }

    pub(super) fn filling(download: Arc<Download>) -> Self {
        Self(Place::Filling(download))
    }

    pub(super) fn through(through: Through) -> Self {
        Self(Place::Through(Box::new(through)))
    }

    /// Whether single spans can be read. Not so for what is only passed through, and for what has no known length yet.
    pub fn has_spans(&self) -> bool {
        match &self.0 {
            Place::Memory(_) | Place::Stored(_) => true,
            Place::Filling(download) => download.length().is_some(),
            Place::Through(_) => false,
        }
    }

    /// Reads one span; it must lie inside the blob, and [`Content::has_spans`] must hold.
    pub fn span(&self, span: Span) -> Pieces {
        match &self.0 {
            Place::Memory(bytes) => Pieces::ready(Piece::Bytes(slice(bytes, span))),
            Place::Stored(blob) => Pieces::ready(Piece::File(blob.file.clone(), span)),
            Place::Filling(download) => Pieces(Source::Filling(Reader::new(download.clone(), Some(span)))),
            Place::Through(_) => Pieces(Source::Ready(VecDeque::new())),
        }
    }

    /// Reads the whole.
    pub fn whole(self) -> Pieces {
        match self.0 {
            Place::Memory(bytes) => Pieces::ready(Piece::Bytes(bytes)),
            Place::Stored(blob) => Pieces::ready(Piece::File(blob.file, Span::new(0, blob.size))),
            Place::Filling(download) => Pieces(Source::Filling(Reader::new(download, None))),
            Place::Through(through) => Pieces(Source::Through(through)),
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
            Source::Filling(reader) => Some(reader.next().await?.map(|(file, span)| Piece::File(file, span))),
            Source::Through(through) => Some(through.next().await?.map(Piece::Bytes)),
        }
    }
}
