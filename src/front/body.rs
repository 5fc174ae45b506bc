//! What an answer's body is made of.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use crate::oci::Span;

/// The body of an answer.
pub enum Body {
    /// None.
    Empty,
    /// All of it, in memory.
    Bytes(Bytes),
    /// Piece by piece.
    Stream(Box<dyn ChunkStream>),
}

/// A body that comes piece by piece.
#[async_trait::async_trait]
pub trait ChunkStream: Send {
    /// The next piece; `None` where the body is complete; a [`Cut`] where it cannot be completed. Not called again after
    /// either. The future and then the stream are dropped when the client leaves.
    async fn next(&mut self) -> Option<Result<Chunk, Cut>>;

    /// The file of the piece that came last cannot be read, or ends inside its span. The answer is cut; this is for those who
    /// keep the file. Not called for pieces in memory, nor where it was the client that failed.
    fn unreadable(&mut self) {}
}

/// A piece of a body.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file. All of the span must be there already, and must not change.
    File {
        /// The file, open for reading.
        file: Arc<File>,
        /// Which of its bytes.
        span: Span,
    },
}

impl Chunk {
    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { span, .. } => span.len(),
        }
    }

    /// Keeps the first `length` bytes, and returns what comes behind them, if anything does.
    pub fn split_off(&mut self, length: u64) -> Option<Self> {
        if self.len() <= length {
            return None;
        }
        Some(match self {
            Self::Bytes(bytes) => Self::Bytes(bytes.split_off(usize::try_from(length).unwrap_or(bytes.len()))),
            Self::File { file, span } => {
                let rest = Span::new(span.start + length, span.end);
                span.end = rest.start;
                Self::File { file: file.clone(), span: rest }
            }
        })
    }
}

/// Why an answer cannot be completed, in words for the operator. The connection (HTTP/2: the stream) is then broken off so
/// that no client takes what it has for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut(pub String);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
