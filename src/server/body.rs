//! Bodies as the front door takes them: one span, or several as `multipart/byteranges` (RFC 9110 section 14.6).

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;

use crate::front::{Chunk, ChunkStream, Cut};
use crate::mirror::{Content, Piece, Pieces};
use crate::oci::Span;

/// One run of bytes.
pub(super) struct Whole(Pieces);

impl Whole {
    pub(super) fn new(pieces: Pieces) -> Self {
        Self(pieces)
    }
}

#[async_trait]
impl ChunkStream for Whole {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        next_chunk(&mut self.0).await
    }

    fn unreadable(&mut self) {
        self.0.unreadable();
    }
}

async fn next_chunk(pieces: &mut Pieces) -> Option<Result<Chunk, Cut>> {
    Some(match pieces.next().await? {
        Ok(Piece::Bytes(bytes)) => Ok(Chunk::Bytes(bytes)),
        Ok(Piece::File(file, span)) => Ok(Chunk::File { file, span }),
        Err(error) => Err(Cut(error.to_string())),
    })
}

/// Several parts, each with a small head of its own.
pub(super) struct Multipart {
    boundary: String,
    length: u64,
    parts: VecDeque<Part>,
}

enum Part {
    Text(String),
    Content(Pieces),
}

impl Multipart {
    pub(super) fn new(content: &Content, spans: &[Span], total: u64, media_type: &str) -> Self {
        let boundary = format!("{:032x}", rand::random::<u128>());
        let mut parts = VecDeque::with_capacity(2 * spans.len() + 1);
        let mut length = 0;
        for span in spans {
            let range = span.content_range(total);
            let head = format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n");
            length += head.len() as u64 + span.len();
            parts.push_back(Part::Text(head));
            parts.push_back(Part::Content(content.span(*span)));
        }
        let end = format!("\r\n--{boundary}--\r\n");
        length += end.len() as u64;
        parts.push_back(Part::Text(end));
        Self { boundary, length, parts }
    }

    /// The length of the whole body, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn media_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }
}

#[async_trait]
impl ChunkStream for Multipart {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        loop {
            match self.parts.front_mut()? {
                Part::Text(text) => {
                    let text = Bytes::from(std::mem::take(text));
                    self.parts.pop_front();
                    return Some(Ok(Chunk::Bytes(text)));
                }
                Part::Content(pieces) => match next_chunk(pieces).await {
                    Some(chunk) => return Some(chunk),
                    None => self.parts.pop_front(),
                },
            };
        }
    }

    fn unreadable(&mut self) {
        if let Some(Part::Content(pieces)) = self.parts.front_mut() {
            pieces.unreadable();
        }
    }
}
