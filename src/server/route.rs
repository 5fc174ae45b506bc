//! Which registry a request is for. A pure table over the configuration.

use std::sync::Arc;

use crate::config::{Registry, RegistryMatch};
use crate::oci::RegistryName;

/// The registry that was named, and what is left of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) registry: RegistryName,
    /// The configured name, for metrics.
    pub(super) label: Arc<str>,
    /// Whether it is asked with credentials of ours.
    pub(super) is_private: bool,
    /// The repository as the client wrote it, without the registry.
    pub(super) repository: &'a str,
    /// The part of the client's path in front of the repository, with its slash; empty where there was none.
    pub(super) prefix: &'a str,
}

/// Why no registry is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RouteError {
    #[error("ns is not a registry name")]
    MalformedNs,
    #[error("{0} is not a registry of this proxy; its configuration names those that are")]
    Unknown(String),
    #[error("the request names no registry and none is the default: put its name in front of the repository, or in ns")]
    NoDefault,
}

/// Finds the registry by `ns`, else by the first segment of `name`, else by `host`, else takes `default` (the listener's own),
/// else the default of all. The wildcard never wins over an exact name.
///
/// # Errors
/// See [`RouteError`]. A first segment that looks like a host is never taken for a part of a repository's name.
pub(super) fn route<'a>(
    registries: &[Arc<Registry>],
    default: Option<&RegistryName>,
    ns: Option<&str>,
    host: &str,
    name: &'a str,
) -> Result<Route<'a>, RouteError> {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    if let Some(ns) = ns {
        let registry = registry(registries, ns).ok_or(RouteError::MalformedNs)?;
        let named_twice = names(first, &registry);
        return to(registries, registry, if named_twice { (first, rest) } else { ("", name) }, name);
    }
    if let Some(registry) = named_by(registries, first) {
        return to(registries, registry, (first, rest), name);
    }
    if RegistryName::looks_like_host(first) {
        return Err(RouteError::Unknown(first.to_owned()));
    }
    let of_all = || registries.iter().find(|registry| registry.default);
    let found = by_host(registries, host);
    let found = found.or_else(|| Registry::meant_by(registries, default?)).or_else(of_all);
    match found.map(|registry| (&registry.name, registry)) {
        Some((RegistryMatch::Exact(exact), registry)) => Ok(Route {
            registry: exact.clone(),
            label: label(registry),
            is_private: registry.credentials.is_some(),
            repository: name,
            prefix: "",
        }),
        _ => Err(RouteError::NoDefault),
    }
}

/// The name that `text` is, without making anew what the configuration has.
fn registry(registries: &[Arc<Registry>], text: &str) -> Option<RegistryName> {
    configured(registries, |name| name == text).cloned().or_else(|| text.parse().ok())
}

fn configured(registries: &[Arc<Registry>], is_meant: impl Fn(&str) -> bool) -> Option<&RegistryName> {
    registries.iter().find_map(|registry| match &registry.name {
        RegistryMatch::Exact(name) => Some(name).filter(|name| is_meant(name.as_str())),
        RegistryMatch::Suffix(_) => None,
    })
}

/// Whether a first segment names this registry. Only what looks like a host may do so by another name.
fn names(first: &str, registry: &RegistryName) -> bool {
    first.eq_ignore_ascii_case(registry.as_str())
        || RegistryName::looks_like_host(first) && first.parse::<RegistryName>().is_ok_and(|name| name == *registry)
}

/// The registry that a first segment names: a wildcard's always looks like a host.
fn named_by(registries: &[Arc<Registry>], first: &str) -> Option<RegistryName> {
    if RegistryName::looks_like_host(first) {
        return registry(registries, first);
    }
    configured(registries, |name| name.eq_ignore_ascii_case(first)).cloned()
}

fn label(registry: &Registry) -> Arc<str> {
    match &registry.name {
        RegistryMatch::Exact(name) => name.shared(),
        RegistryMatch::Suffix(_) => registry.label().into(),
    }
}

fn to<'a>(
    registries: &[Arc<Registry>],
    registry: RegistryName,
    (first, repository): (&str, &'a str),
    name: &'a str,
) -> Result<Route<'a>, RouteError> {
    let configured = Registry::meant_by(registries, &registry).ok_or_else(|| RouteError::Unknown(registry.to_string()))?;
    let prefix = if first.is_empty() { "" } else { &name[..=first.len()] };
    Ok(Route { label: label(configured), is_private: configured.credentials.is_some(), registry, repository, prefix })
}

fn by_host<'r>(registries: &'r [Arc<Registry>], host: &str) -> Option<&'r Arc<Registry>> {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    let is_meant = |known: &String| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(bare);
    registries.iter().find(|registry| registry.hosts.iter().any(is_meant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::sync::Arc;

    fn registries() -> Vec<Arc<Registry>> {
        let text = r#"
            [[registry]]
            name = "docker.io"
            default = true
            [[registry]]
            name = "ghcr.io"
            hosts = ["ghcr.mirror.test"]
            [[registry]]
            name = "*.pkg.dev"
            [[registry]]
            name = "eu.pkg.dev"
            urls = ["https://eu.pkg.dev"]
            [[registry]]
            name = "127.0.0.1:5000"
            urls = ["http://127.0.0.1:5000"]
        "#;
        let environment = |key: &str| (key == "HOME").then(|| "/nonexistent".to_owned());
        Config::parse(text, std::path::Path::new("test.toml"), &environment).unwrap().0.registries
    }

    #[test]
    fn ns_then_first_segment_then_host_then_default() {
        let registries = registries();
        for (ns, host, name, registry, repository, prefix) in [
            (Some("ghcr.io"), "x", "acme/app", "ghcr.io", "acme/app", ""),
            (Some("GHCR.io"), "x", "ghcr.io/acme/app", "ghcr.io", "acme/app", "ghcr.io/"),
            (Some("registry-1.docker.io"), "x", "busybox", "docker.io", "busybox", ""),
            (None, "x", "ghcr.io/acme/app", "ghcr.io", "acme/app", "ghcr.io/"),
            (None, "x", "index.docker.io/a/b", "docker.io", "a/b", "index.docker.io/"),
            (None, "x", "127.0.0.1:5000/a", "127.0.0.1:5000", "a", "127.0.0.1:5000/"),
            (None, "x", "us-docker.pkg.dev/p/r/i", "us-docker.pkg.dev", "p/r/i", "us-docker.pkg.dev/"),
            (None, "ghcr.mirror.test:5000", "acme/app", "ghcr.io", "acme/app", ""),
            (None, "GHCR.mirror.test", "acme/app", "ghcr.io", "acme/app", ""),
            (None, "localhost:5000", "library/busybox", "docker.io", "library/busybox", ""),
            (None, "", "busybox", "docker.io", "busybox", ""),
        ] {
            let route = route(&registries, None, ns, host, name).unwrap();
            assert_eq!(
                (route.registry.as_str(), route.repository, route.prefix),
                (registry, repository, prefix),
                "{ns:?} {host} {name}"
            );
        }
    }

    #[test]
    fn a_listeners_own_default_stands_before_that_of_all_and_behind_everything_else() {
        let (registries, own) = (registries(), "ghcr.io".parse().unwrap());
        let to = |registries: &[Arc<Registry>], ns, host, name| {
            route(registries, Some(&own), ns, host, name).map(|route| route.registry.to_string())
        };
        assert_eq!(to(&registries, None, "x", "acme/app").as_deref(), Ok("ghcr.io"));
        assert_eq!(to(&registries[1..], None, "x", "acme/app").as_deref(), Ok("ghcr.io"));
        assert_eq!(to(&registries, Some("docker.io"), "x", "a").as_deref(), Ok("docker.io"));
        assert_eq!(to(&registries, None, "x", "docker.io/a").as_deref(), Ok("docker.io"));
        let hub = Registry { hosts: vec!["hub.test".to_owned()], ..Registry::clone(&registries[0]) };
        assert_eq!(to(&[Arc::new(hub), registries[1].clone()], None, "hub.test", "a").as_deref(), Ok("docker.io"));
        assert!(matches!(to(&registries, None, "x", "evil.test/a"), Err(RouteError::Unknown(_))));
    }

    #[test]
    fn a_wildcard_keeps_its_label_and_gives_way_to_an_exact_name() {
        let registries = registries();
        assert_eq!(route(&registries, None, Some("us.pkg.dev"), "x", "a").unwrap().label.as_ref(), "*.pkg.dev");
        assert_eq!(route(&registries, None, Some("eu.pkg.dev"), "x", "a").unwrap().label.as_ref(), "eu.pkg.dev");
    }

    #[test]
    fn of_two_wildcards_the_longer_one_is_meant_wherever_it_stands() {
        let wildcard = |suffix: &str| {
            Arc::new(Registry { name: RegistryMatch::Suffix(suffix.to_owned()), ..Registry::clone(&registries()[2]) })
        };
        for order in [[".dev", ".pkg.dev"], [".pkg.dev", ".dev"]] {
            let registries = order.map(wildcard);
            assert_eq!(route(&registries, None, Some("us.pkg.dev"), "x", "a").unwrap().label.as_ref(), "*.pkg.dev", "{order:?}");
            assert_eq!(route(&registries, None, Some("us.dev"), "x", "a").unwrap().label.as_ref(), "*.dev", "{order:?}");
        }
    }

    #[test]
    fn a_host_that_is_not_configured_is_never_the_default() {
        let registries = registries();
        for name in ["evil.test/a/b", "localhost/a", "evil:5000/a", "a..b/c"] {
            assert!(matches!(route(&registries, None, None, "x", name), Err(RouteError::Unknown(_))), "{name}");
        }
        assert!(matches!(route(&registries, None, Some("evil.test"), "x", "a"), Err(RouteError::Unknown(_))));
        assert_eq!(route(&registries, None, Some("a/b"), "x", "a"), Err(RouteError::MalformedNs));
        assert_eq!(route(&registries[1..], None, None, "x", "a"), Err(RouteError::NoDefault));
    }
}
