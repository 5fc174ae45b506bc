//! What a client is told that may prove who it is: values of `WWW-Authenticate`. Pure.

use url::Url;

use crate::oci::RegistryName;

/// The path of the token server on every listener that has users.
pub const TOKEN_PATH: &str = "/token";

/// Asks for a name and password.
pub const BASIC: &str = "Basic realm=\"roadstead\"";

const SERVICE: &str = "roadstead";

/// Why a token that was shown did not do (RFC 6750 section 3.1). Clients that are told so do not ask in circles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// It has expired, or is not one of ours.
    InvalidToken,
    /// Whoever holds it may not do this.
    InsufficientScope,
}

/// Where tokens are given out: what the configuration says, else at the `host` that the client asked for, if that can be one.
pub fn realm(configured: Option<&Url>, host: &str, tls: bool) -> Option<String> {
    if let Some(url) = configured {
        return Some(url.to_string());
    }
    // What a stranger wrote is only given back where it is a host and nothing else.
    host.parse::<RegistryName>().ok()?;
    Some(format!("{}://{host}{TOKEN_PATH}", if tls { "https" } else { "http" }))
}

/// Asks for a token from `realm`, for pulling from a repository as the client calls it. A realm that cannot be told leaves
/// the name and password to be asked for.
pub fn bearer(realm: Option<&str>, repository: Option<&str>, complaint: Option<Complaint>) -> String {
    let Some(realm) = realm else { return BASIC.to_owned() };
    let mut text = format!("Bearer realm=\"{realm}\",service=\"{SERVICE}\"");
    if let Some(repository) = repository.filter(|name| is_plain(name)) {
        text += &format!(",scope=\"repository:{repository}:pull\"");
    }
    match complaint {
        Some(Complaint::InvalidToken) => text + ",error=\"invalid_token\"",
        Some(Complaint::InsufficientScope) => text + ",error=\"insufficient_scope\"",
        None => text,
    }
}

/// Whether a name can stand between quotes.
fn is_plain(name: &str) -> bool {
    name.len() <= 512 && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Challenge, Challenges};

    #[test]
    fn the_realm_is_where_the_client_came_to_unless_it_is_configured() {
        let configured: Url = "https://mirror.example/roadstead/token".parse().unwrap();
        for (host, tls, told) in [
            ("mirror.test:5000", false, Some("http://mirror.test:5000/token")),
            ("Mirror.test", true, Some("https://Mirror.test/token")),
            ("[::1]:5000", false, Some("http://[::1]:5000/token")),
            ("10.0.0.1:5000", false, Some("http://10.0.0.1:5000/token")),
            ("localhost", false, Some("http://localhost/token")),
            ("", false, None),
            ("a\"b", false, None),
            ("user@evil.test", false, None),
            ("evil.test/x?", false, None),
            ("evil.test:x", false, None),
            ("evil test", false, None),
        ] {
            assert_eq!(realm(None, host, tls).as_deref(), told, "{host}");
            assert_eq!(realm(Some(&configured), host, tls).as_deref(), Some("https://mirror.example/roadstead/token"));
        }
    }

    #[test]
    fn clients_understand_it() {
        let realm = Some("http://m:5000/token");
        let text = bearer(realm, Some("docker.io/library/busybox"), Some(Complaint::InvalidToken));
        assert_eq!(
            text,
            "Bearer realm=\"http://m:5000/token\",service=\"roadstead\",scope=\"repository:docker.io/library/busybox:pull\",error=\"invalid_token\""
        );
        let read = Challenges::parse([text.as_str()]);
        let Some(Challenge::Bearer { realm: told, scope, .. }) = read.preferred() else { panic!("{text}") };
        assert_eq!((told.as_str(), scope.as_deref()), ("http://m:5000/token", Some("repository:docker.io/library/busybox:pull")));
        assert_eq!(bearer(realm, Some("a\"b"), None), "Bearer realm=\"http://m:5000/token\",service=\"roadstead\"");
        assert_eq!(bearer(None, Some("a"), None), BASIC);
    }
}
