//! A quick sign that a pattern cannot match a text: a pair of letters that it needs and the text does not have.
//!
//! A thousand patterns that nothing can be looked up of are thus mostly passed over at a glance.

use crate::config::Glob;

/// Which pairs of neighbouring bytes there are. Several pairs share a bit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grams(u128);

impl Grams {
    pub(super) fn of(text: &str) -> Self {
        let bits = text.as_bytes().windows(2).map(|pair| (u32::from(pair[0]) * 37 + u32::from(pair[1]) * 11) % u128::BITS);
        Self(bits.fold(0, |all, bit| all | 1 << bit))
    }

    /// Those that every text has that the pattern matches.
    pub(super) fn needed(pattern: &Glob) -> Self {
        Self(pattern.literals().iter().fold(0, |all, literal| all | Self::of(literal).0))
    }

    /// Whether a text with all of `self` may have all of `needed`.
    pub(super) fn may_have(self, needed: Self) -> bool {
        needed.0 & !self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_a_pair_is_passed_over() {
        let needed = Grams::needed(&Glob::path("*/acme/*-17/*"));
        assert!(Grams::of("ghcr.io/acme/team-17/app").may_have(needed));
        assert!(!Grams::of("ghcr.io/acme/team-18/app").may_have(needed));
    }

    proptest::proptest! {
        #[test]
        fn what_matches_is_never_passed_over(pattern in "[abcé/*?]{0,8}", text in "[abcé/]{0,8}") {
            let glob = Glob::path(&pattern);
            proptest::prop_assert!(!glob.matches(&text) || Grams::of(&text).may_have(Grams::needed(&glob)));
        }
    }
}
