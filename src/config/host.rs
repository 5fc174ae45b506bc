//! Which hosts may be connected to, and by which `Host` header a registry is named.

use std::fmt;
use std::net::IpAddr;

use super::fault::Complaint;
use crate::oci::RegistryName;

/// A host that may be connected to: `host`, `host:port` or `*.suffix`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// Whether the pattern begins with `*.`: then `host` is the suffix with its dot.
    pub wildcard: bool,
    /// The host (IPv6 without brackets), or the suffix with its dot.
    pub host: String,
    /// The port; where absent, the scheme's own.
    pub port: Option<u16>,
}

impl HostPattern {
    /// Whether this pattern lets a URL with this host (lower case, no brackets round IPv6) and port through.
    /// `default_port` is the scheme's own.
    pub fn matches(&self, host: &str, port: u16, default_port: u16) -> bool {
        let host_fits = if self.wildcard { host.len() > self.host.len() && host.ends_with(&self.host) } else { host == self.host };
        host_fits && self.port.unwrap_or(default_port) == port
    }

    /// Whether it names an address or localhost rather than a name that is looked up.
    pub(super) fn is_literal(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for HostPattern {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.wildcard, self.host.contains(':')) {
            (true, _) => write!(f, "*{}", self.host)?,
            (false, true) => write!(f, "[{}]", self.host)?,
            (false, false) => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Reads a pattern.
pub(super) fn pattern(text: &str) -> Result<HostPattern, Complaint> {
    let lower = text.to_ascii_lowercase();
    let (wildcard, plain) = match lower.strip_prefix("*.") {
        Some(suffix) => (true, suffix),
        None => (false, lower.as_str()),
    };
    let (host, port) = split(plain).ok_or_else(|| no_host(text))?;
    if wildcard && host.parse::<IpAddr>().is_ok() {
        return Err(no_host(text));
    }
    let host = if wildcard { format!(".{host}") } else { host };
    Ok(HostPattern { wildcard, host, port })
}

/// Reads a `Host` header: a host with an optional port, in lower case.
pub(super) fn header(text: &str) -> Result<String, Complaint> {
    let lower = text.to_ascii_lowercase();
    split(&lower).map(|_| lower.clone()).ok_or_else(|| no_host(text))
}

/// Host and port of a text in lower case, by the grammar of registry names (which also knows the ports and brackets).
fn split(text: &str) -> Option<(String, Option<u16>)> {
    text.parse::<RegistryName>().ok()?;
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':')),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    Some((host.to_owned(), port))
}

fn no_host(text: &str) -> Complaint {
    // A URL may hold a password, so it is not quoted.
    if text.contains("://") {
        return Complaint::new("a URL stands where a host is wanted", "write only its host, or host:port");
    }
    Complaint::new(format!("{text:?} is not a host"), "write a host, host:port or *.suffix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written_alike() {
        for (text, wildcard, host, port) in [
            ("cdn.quay.io", false, "cdn.quay.io", None),
            ("CDN.quay.io:8443", false, "cdn.quay.io", Some(8443)),
            ("*.pkg.dev", true, ".pkg.dev", None),
            ("*.pkg.dev:444", true, ".pkg.dev", Some(444)),
            ("registry-1.docker.io", false, "registry-1.docker.io", None),
            ("127.0.0.1:5000", false, "127.0.0.1", Some(5000)),
            ("[::1]:5000", false, "::1", Some(5000)),
            ("[::1]", false, "::1", None),
            ("localhost", false, "localhost", None),
        ] {
            let read = pattern(text).unwrap();
            assert_eq!((read.wildcard, read.host.as_str(), read.port), (wildcard, host, port), "{text}");
            assert_eq!(read.to_string(), text.to_ascii_lowercase());
        }
        for bad in ["*", "*.", "cdn*.quay.io", "*cdn.quay.io", "a..b", "https://a", "a/b", "a:0", "*.127.0.0.1", "u@h", "é"] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_lets_through_its_own_port_alone() {
        let fits = |pattern_is: &str, host, port| pattern(pattern_is).unwrap().matches(host, port, 443);
        assert!(fits("*.pkg.dev", "us-docker.pkg.dev", 443) && fits("a.example:8443", "a.example", 8443));
        assert!(
            !fits("*.pkg.dev", "pkg.dev", 443) && !fits("*.pkg.dev", "evilpkg.dev", 443) && !fits("a.example", "a.example", 8443)
        );
    }

    #[test]
    fn a_url_with_a_password_is_not_quoted() {
        assert!(!pattern("https://user:hunter2@host").unwrap_err().message.contains("hunter2"));
    }
}
