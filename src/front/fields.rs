//! The header fields of an answer before it is written.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Most answers have no more fields than this.
const USUAL: usize = 12;

/// Header fields in the order in which they are sent. A list and no map: they are few, made for each answer, and nobody looks
/// one up.
#[derive(Debug)]
pub(super) struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(USUAL))
    }

    pub(super) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// To be looked into.
    pub(super) fn to_map(&self) -> HeaderMap {
        self.0.iter().cloned().collect()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a (HeaderName, HeaderValue);
    type IntoIter = std::slice::Iter<'a, (HeaderName, HeaderValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
