//! Registry, repository and tag names, and the reference at the end of a path (fact sheet section 1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Digest;

/// Clients cap `host[:port]/name` at 255 characters; so do we, for each part (distribution-spec "Pulling manifests").
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not the name it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a host name or address with an optional port.
    #[error("not a registry name: a host name or address, with an optional port")]
    Registry,
    /// Not a repository name by the specification's grammar.
    #[error("not a repository name: lower-case letters, digits and single separators, at most 255 characters")]
    Repository,
    /// Not a tag by the specification's grammar.
    #[error("not a tag: letters, digits, '_', '.' and '-', at most 128 characters")]
    Tag,
}

/// The name clients call a registry by: a host in lower case with an optional port.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Arc<str>);

/// A repository's name, as the upstream knows it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

/// A tag.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// What names a manifest in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By a tag, which may come to mean other content.
    Tag(Tag),
    /// By the digest of the content itself.
    Digest(Digest),
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same, to be kept.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
name!(RegistryName);
name!(RepositoryName);
name!(Tag);

impl RegistryName {
    /// Docker Hub, whose one-segment repositories live under `library/`.
    pub const DOCKER_HUB: &'static str = "docker.io";

    /// Whether a first path segment reads as a host rather than as part of a repository name: it has a `.` or a `:`, or is
    /// `localhost` (the rule every client uses to tell `host/name` from `name`).
    pub fn looks_like_host(segment: &str) -> bool {
        segment.contains(['.', ':']) || segment == "localhost"
    }

    /// Whether this is Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == Self::DOCKER_HUB
    }
}

impl FromStr for RegistryName {
    type Err = NameError;

    /// Lower-cases the host; `index.docker.io` and `registry-1.docker.io` become `docker.io`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        if text.len() > MAX_NAME || !is_host(&lower) {
            return Err(NameError::Registry);
        }
        Ok(match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" => Self(Self::DOCKER_HUB.into()),
            _ => Self(lower.into()),
        })
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            return after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_label(label: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&first), Some(&last)) if word(first) && word(last))
        && bytes.iter().all(|&b| word(b) || b == b'-' || b == b'_')
}

impl RepositoryName {
    /// The same repository with `library/` in front where it has only one segment, as Docker Hub wants it.
    #[must_use]
    pub fn with_library(&self) -> Self {
        if self.0.contains('/') { self.clone() } else { Self(format!("library/{}", self.0).into()) }
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() <= MAX_NAME && text.as_bytes().split(|b| *b == b'/').all(is_path_component);
        if good { Ok(Self(text.into())) } else { Err(NameError::Repository) }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(bytes: &[u8]) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (mut at, mut words) = (0, 0);
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() && word(bytes[at]) {
            at += 1;
        }
        if at == start {
            return false;
        }
        words += 1;
        if at == bytes.len() {
            break;
        }
        let separator = at;
        while at < bytes.len() && !word(bytes[at]) {
            at += 1;
        }
        let good = match &bytes[separator..at] {
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|&b| b == b'-'),
        };
        if !good || at == bytes.len() {
            return false;
        }
    }
    words > 0
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let good = bytes.len() <= MAX_TAG
            && bytes.first().is_some_and(|&b| word(b))
            && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Self(text.into())) } else { Err(NameError::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        for good in ["a", "library/busybox", "a.b/c_d/e__f/g---h", "0/1/2", "a/".repeat(127).trim_end_matches('/')] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in
            ["", "/", "a/", "/a", "a//b", "A", "a..b", "a.", ".a", "a___b", "a._b", "..", "a/../b", "a b", "a%2fb", "a\0", "é"]
        {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }

    #[test]
    fn registry_names_are_hosts_in_lower_case() {
        for (text, name) in [
            ("Docker.IO", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(text.parse::<RegistryName>().unwrap().as_str(), name);
        }
        for bad in ["", "a..b", "-a", "a-", "a:", "a:0", "a:65536", "a:1:2", "a/b", "user@host", "[::1", "[x]", "a b", "a\n"] {
            assert!(bad.parse::<RegistryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["latest", "_x", "1.0-rc.1", &"t".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".INVALID_MANIFEST_NAME", "-a", "a/b", "a:b", "a b", &"t".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn docker_hub_puts_official_images_under_library() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        assert_eq!(name("busybox").with_library(), name("library/busybox"));
        assert_eq!(name("e2e/multi").with_library(), name("e2e/multi"));
    }

    #[test]
    fn only_host_like_segments_name_a_registry() {
        for (segment, host) in [("docker.io", true), ("localhost", true), ("mirror:5000", true), ("library", false)] {
            assert_eq!(RegistryName::looks_like_host(segment), host);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_parsed_name_never_leaves_its_folder(text in ".{0,300}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                proptest::prop_assert!(!name.as_str().contains("..") && !name.as_str().starts_with('/'));
                proptest::prop_assert!(name.as_str().len() <= MAX_NAME);
            }
            if let Ok(tag) = text.parse::<Tag>() {
                proptest::prop_assert!(!tag.as_str().contains('/') && !tag.as_str().starts_with('.'));
            }
            if let Ok(name) = text.parse::<RegistryName>() {
                proptest::prop_assert!(!name.as_str().contains('/') && !name.as_str().contains(".."));
            }
        }
    }
}
