//! The `Range` header and what it selects (RFC 9110 section 14; fact sheet section 2).

/// How many parts one answer may have. A request for more is answered in whole, as RFC 9110 section 14.2 allows.
pub const MAX_PARTS: usize = 16;

/// A run of bytes: `start` inclusive, `end` exclusive. Never empty where it comes from a [`Selection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last byte.
    pub end: u64,
}

impl Span {
    /// A span of `start..end`.
    pub fn new(start: u64, end: u64) -> Self {
        debug_assert!(start <= end);
        Self { start, end }
    }

    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the byte at `offset` is in it.
    pub fn contains(&self, offset: u64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// The value of `Content-Range` for this part of a body of `total` bytes.
    pub fn content_range(&self, total: u64) -> String {
        format!("bytes {}-{}/{total}", self.start, self.end - 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// A syntactically good `Range: bytes=…`, before the length of the body is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeHeader(Vec<Spec>);

/// What a range selects from a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The whole body, as 200: there was no range, or one that RFC 9110 lets a server ignore.
    Whole,
    /// One part, as 206.
    Part(Span),
    /// Several parts in the order asked, as a multipart 206. At most [`MAX_PARTS`].
    Parts(Vec<Span>),
    /// Nothing: 416.
    Unsatisfiable,
}

impl RangeHeader {
    /// Reads a header value. `None` for another unit, a malformed set or numbers past `u64`: such a header is ignored.
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, set) = value.trim().split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let specs: Vec<Spec> = set
            .split(',')
            .map(str::trim)
            .filter(|spec| !spec.is_empty())
            .take(MAX_PARTS + 1)
            .map(Spec::parse)
            .collect::<Option<_>>()?;
        if specs.is_empty() { None } else { Some(Self(specs)) }
    }

    /// What is selected from a body of `total` bytes. Overlapping parts beyond two, and more than [`MAX_PARTS`], are answered
    /// in whole: they cost more than they are worth, and RFC 9110 section 14.2 names them as an attack.
    pub fn select(&self, total: u64) -> Selection {
        if self.0.len() > MAX_PARTS {
            return Selection::Whole;
        }
        let spans: Vec<Span> = self.0.iter().filter_map(|spec| spec.resolve(total)).collect();
        match spans.as_slice() {
            [] => Selection::Unsatisfiable,
            [one] => Selection::Part(*one),
            many if overlaps(many) > 1 => Selection::Whole,
            _ => Selection::Parts(spans),
        }
    }
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        if first.is_empty() {
            return number(last).map(Self::Suffix);
        }
        let first = number(first)?;
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        if last.is_some_and(|last| last < first) { None } else { Some(Self::From { first, last }) }
    }

    fn resolve(self, total: u64) -> Option<Span> {
        match self {
            Self::From { first, .. } if first >= total => None,
            Self::From { first, last } => Some(Span::new(first, last.map_or(total, |last| last.saturating_add(1).min(total)))),
            Self::Suffix(length) if length == 0 || total == 0 => None,
            Self::Suffix(length) => Some(Span::new(total.saturating_sub(length), total)),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn overlaps(spans: &[Span]) -> usize {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.start);
    sorted.windows(2).filter(|pair| pair[1].start < pair[0].end).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(value: &str, total: u64) -> Option<Selection> {
        RangeHeader::parse(value).map(|range| range.select(total))
    }

    #[test]
    fn one_range() {
        let part = |start, end| Some(Selection::Part(Span::new(start, end)));
        assert_eq!(select("bytes=0-1", 10), part(0, 2));
        assert_eq!(select("bytes=5-", 10), part(5, 10));
        assert_eq!(select("bytes=5-99", 10), part(5, 10));
        assert_eq!(select("bytes=-3", 10), part(7, 10));
        assert_eq!(select("bytes=-99", 10), part(0, 10));
        assert_eq!(select("Bytes= 0-0 ", 10), part(0, 1));
        assert_eq!(select(&format!("bytes=1-{}", u64::MAX), 10), part(1, 10));
    }

    #[test]
    fn nothing_to_select_is_unsatisfiable() {
        for value in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            assert_eq!(select(value, 10), Some(Selection::Unsatisfiable), "{value}");
        }
        assert_eq!(select("bytes=0-", 0), Some(Selection::Unsatisfiable));
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for value in
            ["", "bytes", "bytes=", "bytes=5-4", "items=0-1", "bytes=a-b", "bytes=+1-2", "bytes=18446744073709551616-", "bytes=-"]
        {
            assert_eq!(select(value, 10), None, "{value}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_up_to_the_cap() {
        assert_eq!(select("bytes=4-5,0-1", 10), Some(Selection::Parts(vec![Span::new(4, 6), Span::new(0, 2)])));
        assert_eq!(select("bytes=0-1,20-30", 10), Some(Selection::Part(Span::new(0, 2))));
        let many = |n: usize| format!("bytes={}", (0..n).map(|i| format!("{0}-{0}", 2 * i)).collect::<Vec<_>>().join(","));
        assert!(matches!(select(&many(16), 100), Some(Selection::Parts(parts)) if parts.len() == 16));
        assert_eq!(select(&many(17), 100), Some(Selection::Whole));
        assert_eq!(select("bytes=0-9,0-9,0-9,0-9", 10), Some(Selection::Whole));
    }

    #[test]
    fn a_span_contains_its_start_and_not_its_end() {
        let span = Span::new(2, 4);
        assert_eq!([1, 2, 3, 4].map(|offset| span.contains(offset)), [false, true, true, false]);
        assert!(!Span::new(2, 2).contains(2));
    }

    #[test]
    fn content_range_is_inclusive() {
        assert_eq!(Span::new(0, 2).content_range(10), "bytes 0-1/10");
    }

    proptest::proptest! {
        #[test]
        fn a_selection_stays_inside_the_body(value in "bytes=[0-9,\\-]{1,40}", total in 0u64..1000) {
            match select(&value, total) {
                Some(Selection::Part(span)) => proptest::prop_assert!(!span.is_empty() && span.end <= total),
                Some(Selection::Parts(spans)) => {
                    proptest::prop_assert!(spans.len() <= MAX_PARTS);
                    proptest::prop_assert!(spans.iter().all(|span| !span.is_empty() && span.end <= total));
                }
                _ => {}
            }
        }
    }
}
