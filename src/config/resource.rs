//! A statement's `resources`: registry, repository and perhaps tag or digest, each a pattern.

use std::fmt;
use std::str::FromStr;

use super::fault::Complaint;
use crate::oci::{Digest, RegistryName, RepositoryName, Tag};

/// `registry/repository[:tag|@digest]`. `*` stands for any text without a `/`, `**` for any text, `?` for one character that is
/// no `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `registry/repository` as a pattern, the registry in lower case and under the name that requests are known by.
    pub name: String,
    /// The part of the repository that is meant, where not all of it is.
    pub limit: Option<Limit>,
}

/// A part of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// What is reached by the tags of this pattern.
    Tag(String),
    /// The content with the digests of this pattern, and what is reached through it.
    Digest(String),
}

impl Resource {
    /// The registry, where the pattern names a single one.
    pub fn registry(&self) -> Option<&str> {
        self.name.split_once('/').map(|(registry, _)| registry).filter(|registry| !is_pattern(registry))
    }
}

/// Why a text is no [`Resource`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; {1}")]
pub struct ResourceError(String, String);

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        resource(text).map_err(|complaint| ResourceError(complaint.message, complaint.remedy))
    }
}

impl fmt::Display for Resource {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.limit {
            None => Ok(()),
            Some(Limit::Tag(tag)) => write!(f, ":{tag}"),
            Some(Limit::Digest(digest)) => write!(f, "@{digest}"),
        }
    }
}

impl serde::Serialize for Resource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a text stands for more than itself.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

pub(super) fn resource(text: &str) -> Result<Resource, Complaint> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    // A colon further to the left is that of a registry's port.
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[last..].rfind(':') {
        Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
        None => (rest, None),
    };
    let limit = match (tag, digest) {
        (None, None) => None,
        (Some(tag), None) => Some(Limit::Tag(self::tag(tag)?)),
        (None, Some(digest)) => Some(Limit::Digest(self::digest(digest)?)),
        (Some(_), Some(_)) => return Err(Complaint::new(format!("{text:?} has both a tag and a digest"), "write one of the two")),
    };
    Ok(Resource { name: self::name(name, text)?, limit })
}

fn name(name: &str, text: &str) -> Result<String, Complaint> {
    let Some((registry, repository)) = name.split_once('/') else {
        // What crosses slashes may stand for both.
        return if name.starts_with("**") { pattern(name, WORD) } else { Err(no_repository(name, text)) };
    };
    let registry = registry.to_ascii_lowercase();
    let registry = match is_pattern(&registry) {
        true => pattern(&registry, "._-:[]")?,
        false => registry.parse::<RegistryName>().map_err(|error| wrong(&registry, &error))?.to_string(),
    };
    if is_pattern(repository) {
        pattern(repository, WORD)?;
        if repository.split('/').any(str::is_empty) {
            return Err(Complaint::new(format!("{repository:?} has an empty part"), "write one slash between two names"));
        }
    } else {
        repository.parse::<RepositoryName>().map_err(|error| wrong(repository, &error))?;
    }
    let official = registry == RegistryName::DOCKER_HUB && !repository.contains('/') && !repository.contains("**");
    Ok(format!("{registry}/{}{repository}", if official { "library/" } else { "" }))
}

/// What separates the words of a repository's name.
const WORD: &str = "._-/";

fn tag(text: &str) -> Result<String, Complaint> {
    if !is_pattern(text) {
        return text.parse::<Tag>().map(|tag| tag.to_string()).map_err(|error| wrong(text, &error));
    }
    let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-*?".contains(&byte));
    if good { Ok(text.to_owned()) } else { Err(no_pattern(text)) }
}

fn digest(text: &str) -> Result<String, Complaint> {
    if is_pattern(text) {
        return pattern(text, ":");
    }
    text.parse::<Digest>().map(|digest| digest.to_string()).map_err(|error| wrong(text, &error))
}

fn pattern(text: &str, others: &str) -> Result<String, Complaint> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "*?".contains(c) || others.contains(c);
    if text.chars().all(fits) { Ok(text.to_owned()) } else { Err(no_pattern(text)) }
}

fn no_repository(name: &str, text: &str) -> Complaint {
    let remedy = match text.parse::<RegistryName>() {
        Ok(registry) if RegistryName::looks_like_host(registry.as_str()) => format!("write \"{registry}/**\" for all of it"),
        _ => format!("write registry/repository, such as \"docker.io/{name}\""),
    };
    Complaint::new(format!("{text:?} names no repository of a registry"), remedy)
}

fn wrong(text: &str, error: &impl fmt::Display) -> Complaint {
    Complaint::new(
        format!("{text:?} cannot be matched: {error}"),
        "write registry/repository, and :tag or @digest where not all is meant",
    )
}

fn no_pattern(text: &str) -> Complaint {
    let remedy = "only *, ** and ? stand for other text; names of repositories are in lower case";
    Complaint::new(format!("{text:?} is not a pattern"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_tags_and_digests_are_told_apart() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, name, limit) in [
            ("docker.io/library/*", "docker.io/library/*", None),
            ("ghcr.io/acme/**:v*", "ghcr.io/acme/**", Some(Limit::Tag("v*".to_owned()))),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a", None),
            ("127.0.0.1:5000/a:5000", "127.0.0.1:5000/a", Some(Limit::Tag("5000".to_owned()))),
            ("[::1]:5000/a/b", "[::1]:5000/a/b", None),
            ("*:5000/a", "*:5000/a", None),
            (&format!("quay.io/a@{digest}"), "quay.io/a", Some(Limit::Digest(digest.clone()))),
            ("quay.io/a@sha256:*", "quay.io/a", Some(Limit::Digest("sha256:*".to_owned()))),
            ("**", "**", None),
            ("**:latest", "**", Some(Limit::Tag("latest".to_owned()))),
            ("**/app", "**/app", None),
            ("GHCR.io/a", "ghcr.io/a", None),
            ("docker.io/busybox", "docker.io/library/busybox", None),
            ("index.docker.io/busy*:1", "docker.io/library/busy*", Some(Limit::Tag("1".to_owned()))),
            ("docker.io/**", "docker.io/**", None),
            ("docker.io/a/*", "docker.io/a/*", None),
        ] as [(&str, &str, Option<Limit>); 16]
        {
            let read = resource(text).unwrap_or_else(|complaint| panic!("{text}: {complaint:?}"));
            assert_eq!((read.name.as_str(), &read.limit), (name, &limit), "{text}");
            assert_eq!(resource(&read.to_string()), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_could_never_be_meant_is_refused() {
        for (text, told) in [
            ("docker.io", "\"docker.io\" names no repository of a registry"),
            ("localhost:5000", "\"localhost:5000\" names no repository of a registry"),
            ("*", "\"*\" names no repository of a registry"),
            ("ghcr.io/", "\"\" cannot be matched"),
            ("ghcr.io/Acme/app", "\"Acme/app\" cannot be matched"),
            ("ghcr.io/Acme/*", "\"Acme/*\" is not a pattern"),
            ("ghcr.io/a//*", "\"a//*\" has an empty part"),
            ("ghcr.io/a:v[0-9]*", "\"v[0-9]*\" is not a pattern"),
            ("ghcr.io/a:", "\"\" cannot be matched"),
            ("ghcr.io/a@sha256:12", "\"sha256:12\" cannot be matched"),
            ("ghcr.io/a:v1@sha256:*", "\"ghcr.io/a:v1@sha256:*\" has both a tag and a digest"),
            ("https://ghcr.io/a", "\"https:\" cannot be matched"),
        ] {
            let complaint = resource(text).unwrap_err();
            assert!(complaint.message.starts_with(told), "{text}: {complaint:?}");
        }
    }
}
