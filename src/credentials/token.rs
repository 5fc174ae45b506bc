//! A token and how long it is good for. Pure.

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

/// The largest answer of a token server that is read, in bytes.
pub(super) const MAX_ANSWER: u64 = 1024 * 1024;
/// The longest token that is kept, in bytes. Thousands are, and no registry takes longer headers.
const MAX_TOKEN: usize = 32 * 1024;
/// What a token lives where the server does not say, and the least that is believed (distribution-spec token protocol:
/// `expires_in` defaults to 60 s and is never less). A server whose clock or mind is wrong must not cause a token per request.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// A token is renewed this long before its end, so that it does not die on its way.
const SKEW: Duration = Duration::from_secs(10);

/// A token as it goes out.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// `Bearer …`, marked sensitive.
    pub(super) header: HeaderValue,
    /// When it came.
    pub(super) obtained: Instant,
    lifetime: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    issued_at: Option<String>,
}

impl Token {
    /// Reads a token server's answer that came at `now`, which the wall clock calls `wall`. The error says what is wrong.
    pub(super) fn parse(body: &[u8], now: Instant, wall: Timestamp) -> Result<Self, &'static str> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "its answer is not a JSON object with a token")?;
        let text = answer.token.filter(|t| !t.is_empty()).or(answer.access_token.filter(|t| !t.is_empty()));
        let text = text.ok_or("its answer has no token")?;
        if text.len() > MAX_TOKEN {
            return Err("its token is longer than 32 KiB");
        }
        let header = bearer(&text).ok_or("its token cannot be sent in a header")?;
        let issued = answer.issued_at.and_then(|text| text.parse::<Timestamp>().ok());
        let age = issued.and_then(|issued| Duration::try_from(wall.duration_since(issued)).ok()).unwrap_or_default();
        Ok(Self { header, obtained: now, lifetime: lifetime(seconds(answer.expires_in.as_ref()), age) })
    }

    /// Whether it may still be sent.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.obtained) + SKEW < self.lifetime
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Some servers write the number as a text.
fn seconds(value: Option<&serde_json::Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// How long a token is used that is said to live `seconds` and was `age` old when it came.
fn lifetime(seconds: Option<u64>, age: Duration) -> Duration {
    let said = seconds.map_or(SHORTEST, Duration::from_secs);
    said.saturating_sub(age).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Token, &'static str> {
        Token::parse(body.as_bytes(), Instant::now(), "2026-01-01T00:01:00Z".parse().unwrap())
    }

    #[test]
    fn both_names_and_odd_numbers_are_read() {
        for (body, header, lifetime) in [
            (r#"{"token":"a"}"#, "Bearer a", 60),
            (r#"{"access_token":"b","expires_in":300}"#, "Bearer b", 300),
            (r#"{"token":"","access_token":"c","expires_in":"300"}"#, "Bearer c", 300),
            (r#"{"token":"d","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#, "Bearer d", 240),
            (r#"{"token":"e","expires_in":300,"issued_at":"2026-01-01T02:00:00+01:00"}"#, "Bearer e", 300),
        ] {
            let token = parse(body).unwrap();
            assert_eq!((token.header.to_str().unwrap(), token.lifetime.as_secs()), (header, lifetime), "{body}");
        }
    }

    #[test]
    fn an_expiry_in_the_past_or_beyond_reason_makes_no_storm() {
        for (body, lifetime) in [
            (r#"{"token":"a","expires_in":0}"#, SHORTEST),
            (r#"{"token":"a","expires_in":-5}"#, SHORTEST),
            (r#"{"token":"a","expires_in":300,"issued_at":"2015-01-01T00:00:00Z"}"#, SHORTEST),
            (r#"{"token":"a","expires_in":18446744073709551615}"#, LONGEST),
        ] {
            assert_eq!(parse(body).unwrap().lifetime, lifetime, "{body}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":7}"#, r#"{"token":"a\r\nX: y"}"#] {
            assert!(parse(body).is_err(), "{body}");
        }
        assert!(parse(&format!(r#"{{"token":"{}"}}"#, "a".repeat(MAX_TOKEN + 1))).is_err());
    }

    #[test]
    fn a_token_never_shows() {
        assert!(!format!("{:?}", parse(r#"{"token":"secret"}"#)).contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(body in ".{0,200}", expires: u64, issued in "[0-9TZ:.+-]{0,30}") {
            let _ = parse(&body);
            let _ = parse(&format!(r#"{{"token":"a","expires_in":{expires},"issued_at":"{issued}"}}"#));
        }
    }
}
