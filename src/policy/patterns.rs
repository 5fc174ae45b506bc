//! A list of patterns for names in which a slash means nothing.

use crate::config::Glob;

/// Patterns of which one has to match.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    /// Those that match but themselves, in order.
    exact: Box<[Box<str>]>,
    globs: Box<[Glob]>,
}

impl Patterns {
    pub(super) fn new(texts: &[String]) -> Self {
        let (mut exact, mut globs) = (Vec::new(), Vec::new());
        for text in texts {
            let glob = Glob::flat(text);
            if glob.is_literal() { exact.push(text.as_str().into()) } else { globs.push(glob) }
        }
        exact.sort();
        exact.dedup();
        Self { exact: exact.into(), globs: globs.into() }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let is_exact = match &*self.exact {
            // What most lists are.
            [one] => **one == *text,
            all => all.binary_search_by(|exact| (**exact).cmp(text)).is_ok(),
        };
        is_exact || self.globs.iter().any(|glob| glob.matches(text))
    }

    /// The texts that it matches, where they can be listed.
    pub(super) fn exact(&self) -> Option<&[Box<str>]> {
        self.globs.is_empty().then_some(&self.exact)
    }

    /// Whether it surely matches whatever `other` matches.
    pub(super) fn cover(&self, other: &Self) -> bool {
        other.exact.iter().all(|exact| self.matches(exact))
            && other.globs.iter().all(|narrow| self.globs.iter().any(|wide| wide.covers(narrow)))
    }
}
