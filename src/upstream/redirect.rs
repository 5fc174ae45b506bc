//! Where a redirect may lead and what goes along. Pure.

use http::StatusCode;
use url::Url;

/// The most redirects that one request follows.
const MAX_HOPS: u8 = 5;
/// The longest `Location` that is read: some times what a signed URL has. It ends up in messages, its host at least.
const MAX_LOCATION: usize = 16 * 1024;
/// The longest name that there is (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 255;

/// The way one request has taken so far.
#[derive(Debug)]
pub(super) struct Trail {
    /// Every hop so far was on the registry's own origin. Once false it stays so: credentials are never attached again, even
    /// where a later hop leads back.
    home: bool,
    hops: u8,
}

/// Why a redirect is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no `Location`, or one that cannot be read or is too long.
    NoTarget,
    /// There were too many.
    TooMany,
    /// It leads from https to http.
    Downgrade(String),
}

impl Trail {
    pub(super) fn new() -> Self {
        Self { home: true, hops: 0 }
    }

    /// Whether the next request goes to the registry itself, and so may carry credentials.
    pub(super) fn is_home(&self) -> bool {
        self.home
    }

    /// The next hop from `url`. Whether its host is allowed is the way's to say.
    pub(super) fn next(&mut self, url: &Url, location: Option<&str>) -> Result<Url, Refusal> {
        self.hops += 1;
        if self.hops > MAX_HOPS {
            return Err(Refusal::TooMany);
        }
        let location = location.filter(|location| location.len() <= MAX_LOCATION).ok_or(Refusal::NoTarget)?;
        let mut next = url.join(location).map_err(|_| Refusal::NoTarget)?;
        if next.host_str().is_some_and(|host| host.len() > MAX_HOST) {
            return Err(Refusal::NoTarget);
        }
        next.set_fragment(None);
        if url.scheme() == "https" && next.scheme() != "https" {
            return Err(Refusal::Downgrade(next.host_str().unwrap_or_default().to_owned()));
        }
        self.home &= next.origin() == url.origin();
        Ok(next)
    }
}

pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(trail: &mut Trail, from: &str, location: &str) -> Result<String, Refusal> {
        trail.next(&from.parse().unwrap(), Some(location)).map(String::from)
    }

    #[test]
    fn home_is_the_same_scheme_host_and_port() {
        for (location, home) in [
            ("/other", true),
            ("https://r.test:443/x", true),
            ("//r.test/x", true),
            ("https://r.test:8443/x", false),
            ("https://cdn.test/x", false),
            ("https://r.test.cdn.test/x", false),
        ] {
            let mut trail = Trail::new();
            hop(&mut trail, "https://r.test/v2/", location).unwrap();
            assert_eq!(trail.is_home(), home, "{location}");
        }
    }

    #[test]
    fn who_left_home_does_not_come_back() {
        let mut trail = Trail::new();
        hop(&mut trail, "https://r.test/a", "https://cdn.test/b").unwrap();
        assert_eq!(hop(&mut trail, "https://cdn.test/b", "https://r.test/c").unwrap(), "https://r.test/c");
        hop(&mut trail, "https://r.test/c", "https://r.test/d").unwrap();
        assert!(!trail.is_home());
    }

    #[test]
    fn neither_down_to_http_nor_without_end() {
        let mut trail = Trail::new();
        assert_eq!(hop(&mut trail, "https://r.test/", "http://r.test/"), Err(Refusal::Downgrade("r.test".to_owned())));
        assert_eq!(hop(&mut trail, "https://r.test/", "file:///etc/passwd"), Err(Refusal::Downgrade(String::new())));
        assert_eq!(trail.next(&"https://r.test/".parse().unwrap(), None), Err(Refusal::NoTarget));
        assert_eq!(hop(&mut trail, "https://r.test/", "https://[x/"), Err(Refusal::NoTarget));
        assert!(hop(&mut trail, "http://r.test/", "https://r.test/").is_ok());
        assert_eq!(hop(&mut trail, "https://r.test/", "/again"), Err(Refusal::TooMany));
    }

    #[test]
    fn what_is_too_long_for_a_message_is_no_target() {
        let mut trail = Trail::new();
        for location in [format!("https://{}.test/", "a".repeat(300)), format!("/{}", "a".repeat(MAX_LOCATION))] {
            assert_eq!(hop(&mut trail, "https://r.test/", &location), Err(Refusal::NoTarget));
        }
        assert!(hop(&mut trail, "https://r.test/", &format!("https://cdn.test/{}", "a".repeat(8000))).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn never_leaves_https(location in "[ -~]{0,60}") {
            if let Ok(next) = Trail::new().next(&"https://r.test/a".parse().unwrap(), Some(&location)) {
                proptest::prop_assert_eq!(next.scheme(), "https");
            }
        }
    }
}
