//! Which bytes of a download are there, and which were. Pure.

use crate::oci::Span;
use crate::store::ranges::RangeSet;

/// Beyond so many runs, all between the first and the last changed byte counts as changed: an upstream has a say in it.
const MOST_CHANGES: usize = 1024;

/// What a growing file holds.
#[derive(Debug, Default)]
pub(super) struct Extent {
    pub(super) present: RangeSet,
    /// What was there when the download started over.
    pub(super) before: RangeSet,
    changed: RangeSet,
    /// How many bytes came in all; some may have come twice.
    pub(super) received: u64,
}

impl Extent {
    pub(super) fn of(present: RangeSet) -> Self {
        Self { present, ..Self::default() }
    }

    /// Bytes are in the file.
    pub(super) fn arrived(&mut self, span: Span) {
        self.present.insert(span);
        self.received += span.len();
    }

    /// Nothing counts as there any more.
    pub(super) fn start_over(&mut self) {
        let present = std::mem::take(&mut self.present);
        self.before.extend(&present);
    }

    /// The bytes at `offset` are about to be replaced by others.
    pub(super) fn replaced(&mut self, offset: u64, old: &[u8], new: &[u8]) {
        let mut at = 0;
        while let Some(start) = differs(old, new, at, true) {
            at = differs(old, new, start, false).unwrap_or(old.len());
            self.changed.insert(Span::new(offset + start as u64, offset + at as u64));
            if self.changed.count() > MOST_CHANGES {
                self.changed.insert(self.changed.hull());
            }
        }
    }

    /// Whether any of these bytes was there and was replaced by another.
    pub(super) fn changed(&self, span: Span) -> bool {
        !span.is_empty() && self.changed.first_gap(span) != Some(span)
    }
}

/// The first place from `from` on where the two differ, or where they do not.
fn differs(old: &[u8], new: &[u8], from: usize, wanted: bool) -> Option<usize> {
    let pairs = old.iter().zip(new).enumerate().skip(from);
    pairs.into_iter().find(|(_, (old, new))| (old != new) == wanted).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_known_to_the_byte() {
        let mut extent = Extent::of(RangeSet::default());
        extent.replaced(10, b"abcdef", b"aXcdYZ");
        let changed = |start, end| extent.changed(Span::new(start, end));
        assert!(!changed(0, 11) && changed(11, 12) && !changed(12, 14) && changed(13, 15) && changed(15, 16) && !changed(16, 99));
        assert!(changed(0, 99) && !changed(11, 11));
    }

    #[test]
    fn many_changes_take_little_memory() {
        let mut extent = Extent::default();
        let (old, new): (Vec<u8>, Vec<u8>) = (vec![0; 10_000], (0..10_000).map(|i| i as u8 % 2).collect());
        extent.replaced(0, &old, &new);
        assert!(extent.changed.count() <= MOST_CHANGES);
        assert!((1..10_000).step_by(2).all(|at| extent.changed(Span::new(at, at + 1))));
    }
}
