//! Where a download's bytes came from, so that wrong ones are blamed on whoever sent them. Pure.

use std::collections::BTreeSet;

/// Who contributed to the bytes of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origins {
    urls: BTreeSet<usize>,
    /// Bytes of an earlier download that did not come to its end.
    earlier: bool,
}

impl Origins {
    /// The URL sent some.
    pub(super) fn add(&mut self, url: usize) {
        self.urls.insert(url);
    }

    /// Some were here before.
    pub(super) fn add_earlier(&mut self) {
        self.earlier = true;
    }

    /// The URL that must have sent wrong bytes, where only one can have.
    pub(super) fn culprit(&self) -> Option<usize> {
        self.urls.first().copied().filter(|_| self.urls.len() == 1 && !self.earlier)
    }

    /// The URLs that sent bytes.
    pub(super) fn urls(&self) -> impl Iterator<Item = usize> {
        self.urls.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_sent_everything_can_be_blamed() {
        let mut origins = Origins::default();
        assert_eq!(origins.culprit(), None);
        origins.add(1);
        origins.add(1);
        assert_eq!(origins.culprit(), Some(1));
        let mut both = origins.clone();
        both.add(0);
        assert_eq!((both.culprit(), both.urls().collect::<Vec<_>>()), (None, vec![0, 1]));
        origins.add_earlier();
        assert_eq!(origins.culprit(), None);
    }
}
