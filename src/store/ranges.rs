//! Which bytes of a growing file are there.

use std::collections::BTreeMap;

use crate::oci::Span;

/// A set of byte offsets, held as the fewest runs: no two touch. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    /// Start of each run to its end. No run is empty.
    runs: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a span; what is there already stays.
    pub(super) fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let (mut start, mut end) = (span.start, span.end);
        while let Some((&run_start, &run_end)) = self.runs.range(..=end).next_back().filter(|(_, run_end)| **run_end >= start) {
            self.runs.remove(&run_start);
            start = start.min(run_start);
            end = end.max(run_end);
        }
        self.runs.insert(start, end);
    }

    /// The end of the run that holds `offset`, or `offset` itself where no run does.
    pub(super) fn present_until(&self, offset: u64) -> u64 {
        self.runs.range(..=offset).next_back().map_or(offset, |(_, &end)| end.max(offset))
    }

    /// Whether all of `span` is there.
    pub(super) fn covers(&self, span: Span) -> bool {
        self.present_until(span.start) >= span.end
    }

    /// The first run of missing bytes within `span`.
    pub(super) fn first_gap(&self, span: Span) -> Option<Span> {
        let start = self.present_until(span.start);
        if start >= span.end {
            return None;
        }
        let end = self.runs.range(start..).next().map_or(span.end, |(&next, _)| next.min(span.end));
        Some(Span::new(start, end))
    }

    /// What of it lies before `end`.
    pub(super) fn clipped(&self, end: u64) -> Self {
        let mut clipped = Self::default();
        self.runs.iter().for_each(|(&start, &run_end)| clipped.insert(Span::new(start.min(end), run_end.min(end))));
        clipped
    }

    /// Adds all of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        other.runs.iter().for_each(|(&start, &end)| self.insert(Span::new(start, end)));
    }

    /// Its `most` longest runs, in order.
    pub(super) fn longest(&self, most: usize) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = self.runs.iter().map(|(&start, &end)| (start, end)).collect();
        runs.sort_unstable_by_key(|(start, end)| std::cmp::Reverse(end - start));
        runs.truncate(most);
        runs.sort_unstable();
        runs
    }

    /// Where all of it lies: nothing missing in between. Empty where it is.
    pub(super) fn hull(&self) -> Span {
        let start = self.runs.first_key_value().map_or(0, |(&start, _)| start);
        Span::new(start, self.end())
    }

    /// How many runs it has.
    pub(super) fn count(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The offset after the last byte that is there.
    pub(super) fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(_, &end)| end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_runs_become_one() {
        let mut set = RangeSet::default();
        set.insert(Span::new(0, 2));
        set.insert(Span::new(4, 6));
        assert_eq!((set.present_until(0), set.present_until(2), set.present_until(5), set.end()), (2, 2, 6, 6));
        assert_eq!(set.first_gap(Span::new(0, 9)), Some(Span::new(2, 4)));
        set.insert(Span::new(2, 4));
        assert_eq!(set.runs.len(), 1);
        assert!(set.covers(Span::new(0, 6)) && !set.covers(Span::new(0, 7)));
        assert_eq!(set.first_gap(Span::new(0, 6)), None);
    }

    proptest::proptest! {
        #[test]
        fn is_a_set_of_offsets(spans in proptest::collection::vec((0u64..60, 0u64..20), 0..20), at in 0u64..90, length in 0u64..40) {
            let (mut set, mut model) = (RangeSet::default(), [false; 200]);
            for (start, length) in spans {
                set.insert(Span::new(start, start + length));
                model[start as usize..(start + length) as usize].fill(true);
            }
            let first = |from: u64, value: bool| (from..200).find(|&i| model[i as usize] == value).unwrap_or(200);
            let span = Span::new(at, at + length);
            proptest::prop_assert_eq!(set.present_until(at), first(at, false));
            proptest::prop_assert_eq!(set.covers(span), (at..at + length).all(|i| model[i as usize]));
            let gap = (at..at + length).find(|&i| !model[i as usize]);
            let expected = gap.map(|start| Span::new(start, first(start, true).min(span.end)));
            proptest::prop_assert_eq!(set.first_gap(span), expected);
            proptest::prop_assert_eq!(set.end(), (0..200).rev().find(|&i| model[i as usize]).map_or(0, |i| i + 1));
            let runs: Vec<_> = set.runs.iter().collect();
            proptest::prop_assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0), "runs touch");
        }
    }
}
