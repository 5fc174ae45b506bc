//! Where a registry and its token realm are.

use url::Url;

use super::fault::Complaint;

const REMEDY: &str = "write https://host[:port] with an optional path";

/// The URL of a registry: scheme, host, port and a path prefix without a slash at its end.
pub(super) fn registry(text: &str) -> Result<Url, Complaint> {
    let mut url = plain(text)?;
    let prefix = url.path().trim_end_matches('/').to_owned();
    if prefix == "/v2" || prefix.ends_with("/v2") {
        return Err(Complaint::new(format!("{text:?} ends in /v2"), "leave /v2 out: every request adds it"));
    }
    url.set_path(&prefix);
    Ok(url)
}

/// The URL of a token realm. Its path is kept to the letter: token servers care about a slash at the end.
pub(super) fn realm(text: &str) -> Result<Url, Complaint> {
    let url = plain(text)?;
    if url.host_str().is_some_and(|host| host.contains('*')) {
        return Err(Complaint::new(format!("{text:?} has a * in its host"), "name the one host that may get the credentials"));
    }
    Ok(url)
}

/// The URL of this proxy's own token server, as clients reach it.
pub(super) fn token_server(text: &str) -> Result<Url, Complaint> {
    let url = realm(text)?;
    if url.path() == "/" {
        return Err(Complaint::new(format!("{text:?} has no path"), "write https://host[:port]/token"));
    }
    Ok(url)
}

/// The URL of an outbound proxy: `http://host[:port]`.
pub(super) fn proxy(text: &str) -> Result<Url, Complaint> {
    const REMEDY: &str = "write http://host:port";
    let url = plain(text).map_err(|complaint| match complaint.message.ends_with("has a user name or password in it") {
        true => Complaint::new(complaint.message, "move it to the key proxy_credentials"),
        false => Complaint::new(complaint.message, REMEDY),
    })?;
    if url.scheme() != "http" {
        return Err(Complaint::new(format!("{text:?} is not http://: to the proxy itself there is no TLS"), REMEDY));
    }
    if url.path() != "/" || url.host_str().is_some_and(|host| host.contains('*')) {
        return Err(Complaint::new(format!("{text:?} is more than a host and a port"), REMEDY));
    }
    Ok(url)
}

fn plain(text: &str) -> Result<Url, Complaint> {
    // Never quoted when something in it may be a password.
    let shown = if text.contains('@') { "the URL".to_owned() } else { format!("{text:?}") };
    let wrong = |what: &str, remedy: &str| Err(Complaint::new(format!("{shown} {what}"), remedy));
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => return wrong("has no scheme", REMEDY),
        Err(error) => return wrong(&format!("is not a URL ({error})"), REMEDY),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("is neither https:// nor http://", REMEDY);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a user name or password in it", "move it to the key credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a query or fragment", "leave out everything from ? or # on");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_an_origin_with_an_optional_prefix() {
        for (text, url) in [
            ("https://ghcr.io", "https://ghcr.io/"),
            ("HTTPS://Ghcr.IO:443/", "https://ghcr.io/"),
            ("http://127.0.0.1:5000/a/b/", "http://127.0.0.1:5000/a/b"),
            ("https://*", "https://*/"),
        ] {
            assert_eq!(registry(text).unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_realm_keeps_its_path() {
        assert_eq!(realm("https://public.ecr.aws/token/").unwrap().path(), "/token/");
        assert!(realm("https://*/token").is_err());
    }

    #[test]
    fn a_token_server_of_ours_has_a_path() {
        assert_eq!(token_server("https://mirror.example/token").unwrap().path(), "/token");
        assert!(token_server("https://mirror.example").is_err() && token_server("https://mirror.example/token?a").is_err());
    }

    #[test]
    fn what_else_a_url_can_hold_is_refused_and_passwords_are_not_quoted() {
        for (text, message) in [
            ("ghcr.io", "\"ghcr.io\" has no scheme"),
            ("localhost:5000", "\"localhost:5000\" is neither https:// nor http://"),
            ("ftp://ghcr.io", "\"ftp://ghcr.io\" is neither https:// nor http://"),
            ("https://a/?b", "\"https://a/?b\" has a query or fragment"),
            ("https://a/#b", "\"https://a/#b\" has a query or fragment"),
            ("https://user:hunter2@a", "the URL has a user name or password in it"),
            ("https://user:hunter2@a b", "the URL is not a URL (invalid international domain name)"),
            ("https://a/v2/", "\"https://a/v2/\" ends in /v2"),
        ] {
            assert_eq!(registry(text).unwrap_err().message, message, "{text}");
        }
    }
}
