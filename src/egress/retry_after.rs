//! `Retry-After` (RFC 9110 section 10.2.3). Pure.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::Timestamp;

/// The longest that an upstream may make us wait.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How long from `now` the answer asks to be left alone, an hour at most. `None` where it does not say so, or not legibly.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => until(text, now)?,
    };
    Some(wait.min(LONGEST))
}

/// An HTTP date is one of e-mail's forms with the zone `GMT`. One that has passed asks for no wait.
fn until(date: &str, now: Timestamp) -> Option<Duration> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, "2026-01-01T00:00:00Z".parse().unwrap()).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates() {
        for (value, wait) in [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("Thu, 01 Jan 2026 00:01:30 GMT", Some(90)),
            ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0)),
            ("18446744073709551615", Some(3600)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(parse(value), wait, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in "[ -~]{0,60}") {
            let _ = parse(&value);
        }
    }
}
