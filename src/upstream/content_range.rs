//! `Content-Range` of an upstream's 206 or 416 (RFC 9110 section 14.4). Pure.

use std::ops::Range;

use http::HeaderMap;
use http::header::CONTENT_RANGE;

/// Which bytes an answer says it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// Their offsets; `None` where none of the content is sent.
    pub(super) sent: Option<Range<u64>>,
    /// Length of the whole content, where it is said.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes first-last/total`, either side of the slash possibly `*`. `None` where that is missing or contradicts
    /// itself.
    pub(super) fn parse(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = text.trim().strip_prefix("bytes ")?.trim_start().split_once('/')?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        if range == "*" {
            return Some(Self { sent: None, total });
        }
        let (first, last) = range.split_once('-')?;
        let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
        let fits = first < end && total.is_none_or(|total| end <= total);
        fits.then_some(Self { sent: Some(first..end), total })
    }
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<(Option<Range<u64>>, Option<u64>)> {
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, value.parse().unwrap())]);
        ContentRange::parse(&headers).map(|range| (range.sent, range.total))
    }

    #[test]
    fn reads_what_is_consistent() {
        assert_eq!(parse("bytes 5-9/10"), Some((Some(5..10), Some(10))));
        assert_eq!(parse("bytes 0-0/*"), Some((Some(0..1), None)));
        assert_eq!(parse("bytes */0"), Some((None, Some(0))));
        for bad in [
            "",
            "bytes",
            "items 0-1/2",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "bytes a-b/c",
            "bytes 0-+1/9",
            "bytes 0-99999999999999999999/*",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(ContentRange::parse(&HeaderMap::new()), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in "(bytes )?[0-9*/ -]{0,60}") {
            let _ = parse(&value);
        }
    }
}
