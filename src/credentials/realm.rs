//! Whether a challenge's realm may be asked. Pure.
//!
//! The realm comes from the upstream's answer, so whoever can forge one chooses it; credentials sent there would be theirs.

use url::Url;

use super::Error;

/// The realm of a challenge, where it is the registry's: the pinned one, or without one any on the registry's own origin.
pub(super) fn admit(realm: &str, pinned: Option<&Url>, registry: &Url) -> Result<Url, Error> {
    let refused = || Error::Realm(shown(realm));
    let url = Url::parse(realm).map_err(|_| refused())?;
    let same = match pinned {
        Some(pinned) => url.origin() == pinned.origin() && path(&url) == path(pinned),
        None => url.origin() == registry.origin(),
    };
    let fit = same && url.origin().is_tuple() && url.username().is_empty() && url.password().is_none();
    if fit { Ok(url) } else { Err(refused()) }
}

fn path(url: &Url) -> &str {
    url.path().trim_end_matches('/')
}

/// What an upstream wrote, fit for a message.
fn shown(realm: &str) -> String {
    realm.chars().take(200).map(|c| if c.is_control() || c == '"' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(realm: &str, pinned: Option<&str>) -> bool {
        let pinned = pinned.map(|text| Url::parse(text).unwrap());
        admit(realm, pinned.as_ref(), &"https://r.test".parse().unwrap()).is_ok()
    }

    #[test]
    fn a_pinned_realm_is_the_only_one() {
        let pinned = Some("https://auth.test/token");
        for realm in ["https://auth.test/token", "https://AUTH.test:443/token/", "https://auth.test/token?x=y"] {
            assert!(good(realm, pinned), "{realm}");
        }
        for realm in [
            "https://auth.test/other",
            "http://auth.test/token",
            "https://auth.test:444/token",
            "https://auth.test.evil.test/token",
            "https://evil.test/token",
            "https://r.test/token",
            "https://evil.test@auth.test/token",
            "https://u:p@auth.test/token",
            "token",
            "",
        ] {
            assert!(!good(realm, pinned), "{realm}");
        }
    }

    #[test]
    fn without_one_it_is_any_on_the_registry_s_origin() {
        assert!(good("https://r.test/token", None));
        assert!(good("https://r.test:443/any/path", None));
        for realm in [
            "http://r.test/token",
            "https://r.test:8443/token",
            "https://auth.r.test/token",
            "https://169.254.169.254/",
            "file:///x",
        ] {
            assert!(!good(realm, None), "{realm}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_realm_leads_elsewhere(realm in "(https?://)?[a-z.@:/\\\\\\[\\]?#%0-9-]{0,40}") {
            if let Ok(url) = admit(&realm, None, &"https://r.test".parse().unwrap()) {
                proptest::prop_assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("r.test"), None));
            }
        }
    }
}
