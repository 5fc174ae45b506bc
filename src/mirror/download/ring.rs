//! A window of bytes on their way, for when there is no file to keep them. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes in the order of their offsets, each once. Where a file holds some in between, there is a gap.
#[derive(Debug, Default)]
pub(super) struct Ring {
    chunks: VecDeque<(u64, Bytes)>,
    bytes: u64,
    /// Bytes below this offset are not here any more, or never were.
    start: u64,
}

impl Ring {
    /// Begins anew at `offset`.
    pub(super) fn begin(&mut self, offset: u64) {
        *self = Self { start: offset, ..Self::default() };
    }

    /// Bytes below this offset are not here any more.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The offset after the last byte that came.
    pub(super) fn end(&self) -> u64 {
        self.chunks.back().map_or(self.start, |(offset, bytes)| offset + bytes.len() as u64)
    }

    /// The offset after the first bytes that it holds together: who has them lets the window go on.
    pub(super) fn first_end(&self) -> u64 {
        self.chunks.front().map_or(self.start, |(offset, bytes)| offset + bytes.len() as u64)
    }

    /// How many bytes it holds.
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes, which lie after all that came before.
    pub(super) fn push(&mut self, offset: u64, bytes: Bytes) {
        debug_assert!(offset >= self.end());
        self.bytes += bytes.len() as u64;
        self.chunks.push_back((offset, bytes));
    }

    /// The bytes from `offset` on that lie together; `None` where that one is not here.
    pub(super) fn get(&self, offset: u64) -> Option<Bytes> {
        let after = self.chunks.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = self.chunks.get(after.checked_sub(1)?)?;
        let skip = usize::try_from(offset - start).ok().filter(|skip| *skip < bytes.len())?;
        Some(bytes.slice(skip..))
    }

    /// Lets go of what lies below `offset`, in whole chunks.
    pub(super) fn trim(&mut self, offset: u64) {
        while let Some((start, bytes)) = self.chunks.front() {
            let end = start + bytes.len() as u64;
            if end > offset {
                return;
            }
            self.bytes -= bytes.len() as u64;
            self.start = end;
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_not_let_go() {
        let mut ring = Ring::default();
        ring.begin(10);
        assert_eq!((ring.start(), ring.end(), ring.get(10)), (10, 10, None));
        ring.push(10, "abc".into());
        ring.push(13, "de".into());
        ring.push(20, "f".into());
        assert_eq!((ring.len(), ring.end()), (6, 21));
        let at = |ring: &Ring, offset| ring.get(offset).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let seen: Vec<_> = [9, 10, 12, 13, 15, 20, 21].map(|offset| at(&ring, offset).unwrap_or_default()).into();
        assert_eq!(seen, ["", "abc", "c", "de", "", "f", ""]);
        ring.trim(12);
        assert_eq!((ring.start(), ring.len()), (10, 6), "a chunk goes whole or not");
        assert_eq!(ring.first_end(), 13);
        ring.trim(15);
        assert_eq!(ring.first_end(), 21, "behind a gap");
        assert_eq!((ring.start(), ring.len(), at(&ring, 13)), (15, 1, None));
        ring.trim(100);
        assert_eq!((ring.start(), ring.end(), ring.len()), (21, 21, 0));
    }
}
