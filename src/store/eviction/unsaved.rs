//! Which entries' last uses are yet to be written down.

use crate::oci::Digest;

/// Their numbers by shelf, which is how the index has them too: what is taken together lies together there. A million uses in the
/// order in which they came would rewrite the whole index many times over.
#[derive(Debug)]
pub(super) struct Unsaved {
    shelves: Vec<Vec<u32>>,
    /// No shelf before this one has any.
    first: usize,
}

impl Default for Unsaved {
    fn default() -> Self {
        Self { shelves: vec![Vec::new(); 256], first: 0 }
    }
}

impl Unsaved {
    pub(super) fn add(&mut self, digest: &Digest, id: u32) {
        let shelf = usize::from(digest.bytes()[0]);
        self.shelves[shelf].push(id);
        self.first = self.first.min(shelf);
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        while let Some(shelf) = self.shelves.get_mut(self.first) {
            if let Some(id) = shelf.pop() {
                return Some(id);
            }
            // What a burst made it hold is not kept.
            *shelf = Vec::new();
            self.first += 1;
        }
        None
    }
}
