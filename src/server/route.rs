//! Which registry a request is for. A pure table over the configuration.

use crate::config::{Registry, RegistryMatch};
use crate::oci::RegistryName;

/// The registry that was named, and what is left of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub(super) registry: RegistryName,
    /// The configured name, for metrics.
    pub(super) label: String,
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
    registries: &[std::sync::Arc<Registry>],
    default: Option<&RegistryName>,
    ns: Option<&str>,
    host: &str,
    name: &'a str,
) -> Result<Route<'a>, RouteError> {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let by_first = first.parse::<RegistryName>().ok();
    if let Some(ns) = ns {
        let registry: RegistryName = ns.parse().map_err(|_| RouteError::MalformedNs)?;
        let named_twice = by_first.as_ref() == Some(&registry);
        return to(registries, registry, if named_twice { (first, rest) } else { ("", name) }, name);
    }
    if let Some(registry) = by_first
        && (RegistryName::looks_like_host(first) || Registry::meant_by(registries, &registry).is_some())
    {
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
            label: registry.label(),
            is_private: registry.credentials.is_some(),
            repository: name,
            prefix: "",
        }),
        _ => Err(RouteError::NoDefault),
    }
}

fn to<'a>(
    registries: &[std::sync::Arc<Registry>],
    registry: RegistryName,
    (first, repository): (&str, &'a str),
    name: &'a str,
) -> Result<Route<'a>, RouteError> {
    let configured = Registry::meant_by(registries, &registry).ok_or_else(|| RouteError::Unknown(registry.to_string()))?;
    let prefix = if first.is_empty() { "" } else { &name[..=first.len()] };
    Ok(Route { label: configured.label(), is_private: configured.credentials.is_some(), registry, repository, prefix })
}

fn by_host<'r>(registries: &'r [std::sync::Arc<Registry>], host: &str) -> Option<&'r std::sync::Arc<Registry>> {
    let host = host.to_ascii_lowercase();
    let bare = host.rsplit_once(':').map_or(host.as_str(), |(bare, _)| bare);
    registries.iter().find(|registry| registry.hosts.iter().any(|known| *known == host || known == bare))
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
        assert_eq!(route(&registries, None, Some("us.pkg.dev"), "x", "a").unwrap().label, "*.pkg.dev");
        assert_eq!(route(&registries, None, Some("eu.pkg.dev"), "x", "a").unwrap().label, "eu.pkg.dev");
    }

    #[test]
    fn of_two_wildcards_the_longer_one_is_meant_wherever_it_stands() {
        let wildcard = |suffix: &str| {
            Arc::new(Registry { name: RegistryMatch::Suffix(suffix.to_owned()), ..Registry::clone(&registries()[2]) })
        };
        for order in [[".dev", ".pkg.dev"], [".pkg.dev", ".dev"]] {
            let registries = order.map(wildcard);
            assert_eq!(route(&registries, None, Some("us.pkg.dev"), "x", "a").unwrap().label, "*.pkg.dev", "{order:?}");
            assert_eq!(route(&registries, None, Some("us.dev"), "x", "a").unwrap().label, "*.dev", "{order:?}");
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
