//! What a configuration needs of the network: every host and port that may be connected to, and why. Pure.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use url::Url;

use crate::config::{Config, HostPattern, PrivateEndpoint, Proxy, ProxyChoice, Registry, RegistryMatch};

/// One host and port that the proxy may connect to, itself or through somebody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Entry {
    /// A name, `*.suffix`, or an address (IPv6 without brackets). For DNS `*`: the servers are the system's.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What for.
    pub reason: Reason,
    /// The registry that needs it, by its configured name; none where it is for all.
    pub registry: Option<String>,
    /// Who is connected to in its place. Where there is somebody, the network need not let this host through.
    pub via: Option<Through>,
    /// The networks in which the name may lie besides public addresses.
    pub networks: Vec<IpNet>,
}

/// What a host is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The registry's API.
    Api,
    /// Its tokens.
    TokenRealm,
    /// What it redirects to.
    BlobHost,
    /// What `[egress]` allows all registries to redirect to, or to have their tokens from.
    Shared,
    /// Where a registry is reached.
    PrivateEndpoint,
    /// An HTTP proxy.
    Proxy,
    /// The look-up of the names above.
    Dns,
}

/// Who is connected to in a host's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Through {
    /// A private endpoint, `host:port`.
    PrivateEndpoint(String),
    /// An HTTP proxy, `host:port`; it looks the name up.
    Proxy(String),
}

impl Reason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::TokenRealm => "token realm",
            Self::BlobHost => "blob host",
            Self::Shared => "for all registries",
            Self::PrivateEndpoint => "private endpoint",
            Self::Proxy => "proxy",
            Self::Dns => "dns",
        }
    }
}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrivateEndpoint(place) => write!(f, "private endpoint {place}"),
            Self::Proxy(place) => write!(f, "proxy {place}"),
        }
    }
}

impl Entry {
    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Everything that `config` lets the proxy connect to: registry by registry, then what is for all, then DNS. Each host and
/// port stands once for each registry and way, with the first of its reasons.
pub fn plan(config: &Config) -> Vec<Entry> {
    let mut entries: Vec<Entry> = config.registries.iter().flat_map(|registry| of_registry(config, registry)).collect();
    entries.extend(shared(config));
    let mut seen = HashSet::new();
    entries.retain(|entry| seen.insert((entry.host.clone(), entry.port, entry.registry.clone(), entry.via.clone())));
    let names = entries.iter().any(|entry| entry.via.is_none() && entry.address().is_none() && entry.host != "localhost");
    entries.extend(names.then(dns));
    entries
}

fn of_registry(config: &Config, registry: &Registry) -> Vec<Entry> {
    let plain = registry.urls.iter().any(|url| url.scheme() == "http");
    let entry = |host: String, port, https, reason| {
        let api = registry.urls.iter().any(|url| self::host(url, registry) == host && self::port(url) == port);
        let via = match registry.private_endpoint.as_ref().filter(|_| api) {
            Some(endpoint) => Some(Through::PrivateEndpoint(endpoint.to_string())),
            None => registry.proxy.proxy(&config.egress.proxy, https, &host, port).map(|proxy| Through::Proxy(place(proxy))),
        };
        let networks = registry.addresses.clone();
        Entry { host, port, reason, registry: Some(registry.label()), via, networks }
    };
    let url = |url: &Url, reason| entry(host(url, registry), port(url), url.scheme() == "https", reason);
    let api = registry.urls.iter().map(|at| url(at, Reason::Api));
    let realm = registry.realm.iter().map(|realm| url(realm, Reason::TokenRealm));
    let blobs = registry.blob_hosts.iter().flat_map(|pattern| {
        let https = !(plain && pattern.port.is_some());
        ports(pattern, plain).into_iter().map(move |port| entry(shown(pattern), port, https && port != 80, Reason::BlobHost))
    });
    let own_proxy = match &registry.proxy {
        ProxyChoice::Through(proxy) => Some(proxy),
        ProxyChoice::Shared | ProxyChoice::Direct => None,
    };
    let private = registry.private_endpoint.iter().map(|endpoint| private(endpoint, registry));
    let proxy = own_proxy.map(|proxy| of_proxy(config, proxy, Some(registry.label())));
    api.chain(private).chain(realm).chain(blobs).chain(proxy).collect()
}

fn shared(config: &Config) -> impl Iterator<Item = Entry> {
    let allowed = config.egress.allow.iter().map(|pattern| {
        let (host, port) = (shown(pattern), pattern.port.unwrap_or(443));
        let via = ProxyChoice::Shared.proxy(&config.egress.proxy, true, &host, port).map(|proxy| Through::Proxy(place(proxy)));
        Entry { host, port, reason: Reason::Shared, registry: None, via, networks: Vec::new() }
    });
    // One that every registry does without is in nobody's way.
    let used = config.registries.iter().any(|registry| matches!(registry.proxy, ProxyChoice::Shared));
    allowed.chain(config.egress.proxy.all().filter(move |_| used).map(|proxy| of_proxy(config, proxy, None)))
}

fn private(endpoint: &PrivateEndpoint, registry: &Registry) -> Entry {
    let (registry, networks) = (Some(registry.label()), registry.addresses.clone());
    Entry { host: endpoint.host(), port: endpoint.port(), reason: Reason::PrivateEndpoint, registry, via: None, networks }
}

fn of_proxy(config: &Config, proxy: &Proxy, registry: Option<String>) -> Entry {
    let (host, networks) = (proxy.host().to_owned(), config.egress.proxy_addresses.clone());
    Entry { host, port: proxy.port(), reason: Reason::Proxy, registry, via: None, networks }
}

fn dns() -> Entry {
    Entry { host: "*".to_owned(), port: 53, reason: Reason::Dns, registry: None, via: None, networks: Vec::new() }
}

fn place(proxy: &Proxy) -> String {
    format!("{}:{}", proxy.url.host_str().unwrap_or_default(), proxy.port())
}

/// The host of a configured URL; for the `*` of a wildcard registry its name.
fn host(url: &Url, registry: &Registry) -> String {
    match (url.host_str().unwrap_or_default(), &registry.name) {
        ("*", RegistryMatch::Suffix(suffix)) => format!("*{suffix}"),
        (host, _) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
    }
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(443)
}

fn shown(pattern: &HostPattern) -> String {
    if pattern.wildcard { format!("*{}", pattern.host) } else { pattern.host.clone() }
}

/// Without a port it is that of https, and for an address of a plain registry that of http as well.
fn ports(pattern: &HostPattern, plain: bool) -> Vec<u16> {
    match pattern.port {
        Some(port) => vec![port],
        None if plain && pattern.host.parse::<IpAddr>().is_ok() => vec![443, 80],
        None => vec![443],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `host:port reason [registry] [via …]` of every entry.
    fn lines(toml: &str) -> Vec<String> {
        let (config, _) = Config::parse(toml, std::path::Path::new("test.toml"), &|_| None).unwrap();
        let line = |entry: &Entry| {
            let registry = entry.registry.as_deref().unwrap_or("-");
            let via = entry.via.as_ref().map(|via| format!(" via {via}")).unwrap_or_default();
            format!("{}:{} {} {registry}{via}", entry.host, entry.port, entry.reason.as_str())
        };
        plan(&config).iter().map(line).collect()
    }

    const CACHE: &str = "[cache]\ndirectory = '/c'\n";

    #[test]
    fn every_host_has_its_reason() {
        let text = format!(
            "{CACHE}[egress]\nallow = ['*.cdn.test']\n[[registry]]\nname = 'a.test'\nurls = ['https://a.test', 'https://b.test:8443/x']\n\
             realm = 'https://auth.test/token'\nblob_hosts = ['a.test', '*.store.test', 'odd.test:9000']\n\
             [[registry]]\nname = '*.pkg.test'\nurls = ['https://*']\n\
             [[registry]]\nname = 'plain.test'\nurls = ['http://[::1]:5000']\nblob_hosts = ['10.0.0.5']\n"
        );
        assert_eq!(
            lines(&text),
            [
                "a.test:443 api a.test",
                "b.test:8443 api a.test",
                "auth.test:443 token realm a.test",
                "*.store.test:443 blob host a.test",
                "odd.test:9000 blob host a.test",
                "*.pkg.test:443 api *.pkg.test",
                "::1:5000 api plain.test",
                "10.0.0.5:443 blob host plain.test",
                "10.0.0.5:80 blob host plain.test",
                "*.cdn.test:443 for all registries -",
                "*:53 dns -",
            ]
        );
    }

    #[test]
    fn who_stands_in_for_a_host_is_said_and_needed() {
        let text = format!(
            "{CACHE}[egress]\nproxy = 'http://10.0.0.1:3128'\n[[registry]]\nname = 'a.test'\nurls = ['https://a.test']\n\
             private_endpoint = 'vpce.test:8443'\nrealm = 'https://a.test/token'\nblob_hosts = ['cdn.test']\n\
             [[registry]]\nname = 'b.test'\nurls = ['https://b.test']\nproxy = 'http://own.test'\nblob_hosts = ['own.test:80']\n\
             [[registry]]\nname = 'c.test'\nurls = ['https://c.test']\nproxy = 'direct'\n"
        );
        assert_eq!(
            lines(&text),
            [
                "a.test:443 api a.test via private endpoint vpce.test:8443",
                "vpce.test:8443 private endpoint a.test",
                "cdn.test:443 blob host a.test via proxy 10.0.0.1:3128",
                "b.test:443 api b.test via proxy own.test:80",
                "own.test:80 blob host b.test via proxy own.test:80",
                "own.test:80 proxy b.test",
                "c.test:443 api c.test",
                "10.0.0.1:3128 proxy -",
                "*:53 dns -",
            ]
        );
    }

    #[test]
    fn nothing_is_looked_up_where_a_proxy_at_an_address_does_it() {
        let registry = "[[registry]]\nname = 'a.test'\nurls = ['https://a.test']\n";
        let text = format!("{CACHE}[egress]\nproxy = 'http://10.0.0.1:3128'\n{registry}");
        assert_eq!(lines(&text), ["a.test:443 api a.test via proxy 10.0.0.1:3128", "10.0.0.1:3128 proxy -"]);
    }
}
