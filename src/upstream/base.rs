//! One URL of a registry and the addresses under it. Pure.

use url::{Position, Url};

use crate::config::{self, RegistryMatch};
use crate::credentials::Scope;
use crate::oci::RepositoryName;

/// Where a registry's API begins.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// Up to and including `/v2` and what may follow it, without a final slash.
    root: Url,
    /// What stands between `/v2/` and the repository: there, it is part of the repository's name.
    prefix: String,
}

impl Base {
    /// The base at a configured URL. `/v2` is added to a path that does not have it: `https://host/mirror` is asked at
    /// `/mirror/v2/…` and `https://host/v2/project` at `/v2/project/…`.
    pub(super) fn new(url: &Url) -> Self {
        let path = url.path().trim_end_matches('/');
        let (before, after) = split_at_v2(path).unwrap_or((path, ""));
        let (before, prefix) = (before.to_owned(), after.trim_matches('/').to_owned());
        let mut root = url.clone();
        root.set_path(&if prefix.is_empty() { format!("{before}/v2") } else { format!("{before}/v2/{prefix}") });
        root.set_query(None);
        root.set_fragment(None);
        Self { root, prefix }
    }

    /// `/<repository>/<rest>` under this base.
    pub(super) fn url(&self, repository: &RepositoryName, rest: &str) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("{}/{repository}/{rest}", self.root.path()));
        url
    }

    /// What a token for `repository` must allow.
    pub(super) fn scope(&self, repository: &RepositoryName) -> Scope {
        match self.prefix.as_str() {
            "" => Scope::pull(repository.as_str()),
            prefix => Scope::pull(&format!("{prefix}/{repository}")),
        }
    }

    pub(super) fn as_url(&self) -> &Url {
        &self.root
    }

    pub(super) fn host(&self) -> &str {
        host(&self.root)
    }
}

/// Host and, where it is not the scheme's own, port: what messages name an upstream by.
pub(super) fn host(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

fn split_at_v2(path: &str) -> Option<(&str, &str)> {
    let at = path.match_indices("/v2").map(|(at, _)| at).find(|at| matches!(path.as_bytes().get(at + 3), None | Some(b'/')))?;
    Some((&path[..at], &path[at + 3..]))
}

/// A configured URL with the `*` of a wildcard registry put right. `None` where `host` cannot stand in a URL.
pub(super) fn concrete(url: &Url, registry: &config::Registry, host: &str) -> Option<Url> {
    let mut url = url.clone();
    if matches!(registry.name, RegistryMatch::Suffix(_)) && url.host_str() == Some("*") {
        url.set_host(Some(host)).ok()?;
        if url.host_str() != Some(host) {
            return None;
        }
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(base: &str) -> (String, String) {
        let (base, repository) = (Base::new(&base.parse().unwrap()), "library/busybox".parse().unwrap());
        (base.url(&repository, "manifests/latest").into(), base.scope(&repository).as_str().to_owned())
    }

    #[test]
    fn the_path_of_a_url_is_kept() {
        for (base, url, scope) in [
            ("https://r.test", "https://r.test/v2/library/busybox/manifests/latest", "repository:library/busybox:pull"),
            ("https://r.test/v2/", "https://r.test/v2/library/busybox/manifests/latest", "repository:library/busybox:pull"),
            (
                "http://r.test:5000/a/b",
                "http://r.test:5000/a/b/v2/library/busybox/manifests/latest",
                "repository:library/busybox:pull",
            ),
            ("https://r.test/a/v2", "https://r.test/a/v2/library/busybox/manifests/latest", "repository:library/busybox:pull"),
            (
                "https://r.test/v2/hub",
                "https://r.test/v2/hub/library/busybox/manifests/latest",
                "repository:hub/library/busybox:pull",
            ),
            ("https://r.test/v2x", "https://r.test/v2x/v2/library/busybox/manifests/latest", "repository:library/busybox:pull"),
        ] {
            assert_eq!(asked(base), (url.to_owned(), scope.to_owned()), "{base}");
        }
    }
}
