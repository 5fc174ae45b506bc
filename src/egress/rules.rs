//! Which hosts and addresses one registry may reach. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use url::{Host, Url};

use super::own::Own;
use super::proxies::{Gate, Proxies};
use super::{Class, Error, Kind, classify, guard};
use crate::config::{self, HostPattern, PrivateEndpoint, RegistryMatch, Source};

/// Names of metadata services. What they resolve to is refused like any such address; through a proxy nobody here sees it.
const METADATA_NAMES: [&str; 3] = ["metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"];

/// What one configured registry may reach.
#[derive(Debug)]
pub(super) struct Rules {
    /// The registry's name in messages and metrics.
    pub(super) label: Arc<str>,
    endpoints: Vec<Endpoint>,
    exceptions: Vec<IpNet>,
    private_endpoint: Option<PrivateEndpoint>,
    /// Where connections start from.
    pub(super) source: Option<Source>,
    proxies: Proxies,
}

#[derive(Debug)]
struct Endpoint {
    pattern: HostPattern,
    /// Plain HTTP is meant.
    http: bool,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Named in the registry's `urls`.
    Api,
    /// Named in the registry's `realm` or `blob_hosts`.
    Named,
    /// Named for all registries, so no leave to connect to a literal private address.
    Shared,
}

impl Rules {
    pub(super) fn new(registry: &config::Registry, egress: &config::Egress) -> Self {
        let plain = registry.urls.iter().any(|url| url.scheme() == "http");
        let api = registry.urls.iter().filter_map(|url| exact(url, &registry.name, Role::Api));
        let realm = registry.realm.iter().filter_map(|url| exact(url, &registry.name, Role::Named));
        let blobs = registry.blob_hosts.iter().map(|pattern| {
            let http = plain && (pattern.port.is_some() || pattern.host.parse::<IpAddr>().is_ok());
            Endpoint { pattern: canonical(pattern), http, role: Role::Named }
        });
        let shared = egress.allow.iter().map(|pattern| Endpoint { pattern: canonical(pattern), http: false, role: Role::Shared });
        Self {
            label: registry.label().into(),
            endpoints: api.chain(realm).chain(blobs).chain(shared).collect(),
            exceptions: registry.addresses.clone(),
            private_endpoint: registry.private_endpoint.clone(),
            source: registry.source.clone(),
            proxies: Proxies::new(registry, egress),
        }
    }

    /// Whether an exchange with `url` may be tried, as far as can be told without resolving its name: its host is declared,
    /// its scheme is meant, and an address in it is one that the registry's own configuration spells out.
    pub(super) fn check(&self, url: &Url, own: &Own) -> Result<(), Error> {
        let host = url.host().ok_or_else(|| self.forbidden("a URL without a host", "nothing can be done about it"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.forbidden(&host.to_string(), "URLs with a user name or password in them are never followed"));
        }
        let (name, port) = (bare(&host), port(url));
        let endpoint = self.endpoint(url, &name, port)?;
        let proxied = self.proxy(url).is_some();
        let Some(address) = literal(&host) else {
            if proxied && METADATA_NAMES.contains(&name.trim_end_matches('.')) {
                return Err(self.forbidden(&name, "it is a cloud's metadata service"));
            }
            return Ok(());
        };
        let target = SocketAddr::new(address, port);
        self.refuse_own(&name, target, own)?;
        let admitted = match (endpoint.role, classify(address)) {
            (_, Class::Metadata) | (Role::Shared, _) => guard::admits(address, &self.exceptions),
            (Role::Api | Role::Named, _) => true,
        };
        if !admitted {
            return Err(self.address_refused(&name, address));
        }
        let source = self.source.as_ref().filter(|_| !proxied);
        guard::leads_from(source, &name, vec![target]).map(|_| ())
    }

    /// The proxy that an exchange with `url` goes through, with its place among [`proxies`](Self::proxies).
    pub(super) fn proxy(&self, url: &Url) -> Option<(usize, &Arc<Gate>)> {
        self.proxies.of(url).filter(|_| !self.is_private(url))
    }

    /// How many proxies there are.
    pub(super) fn proxies(&self) -> usize {
        self.proxies.len()
    }

    /// The addresses to connect to for `host`, which resolved to `found`. All of them must be fit: one that is not tells of a
    /// name under foreign control (DNS rebinding).
    pub(super) fn admit(&self, host: &str, found: Vec<SocketAddr>, own: &Own) -> Result<Vec<SocketAddr>, Error> {
        let loopback = host == "localhost" && self.endpoints.iter().any(|e| e.role != Role::Shared && e.pattern.host == host);
        for address in &found {
            self.admit_one(host, address.ip().to_canonical(), loopback)?;
            self.refuse_own_ports(host, *address, own)?;
        }
        guard::leads_from(self.source.as_ref(), host, found)
    }

    fn admit_one(&self, host: &str, ip: IpAddr, loopback: bool) -> Result<(), Error> {
        let admitted = guard::admits(ip, &self.exceptions) || (loopback && ip.is_loopback());
        if admitted { Ok(()) } else { Err(self.address_refused(host, ip)) }
    }

    /// Where to connect for `host` instead of to its own addresses.
    pub(super) fn private_endpoint(&self, host: &str) -> Option<&PrivateEndpoint> {
        self.private_endpoint.as_ref().filter(|_| self.api(host).next().is_some())
    }

    /// The addresses to connect to for `host`, whose private `endpoint` has those that were `found`. An address that is written
    /// is meant, but for a cloud's metadata; those of a name must be fit like any.
    pub(super) fn admit_private(
        &self,
        host: &str,
        endpoint: &PrivateEndpoint,
        found: Vec<SocketAddr>,
        own: &Own,
    ) -> Result<Vec<SocketAddr>, Error> {
        let name = endpoint.host();
        for address in &found {
            let ip = address.ip().to_canonical();
            let meant = matches!(endpoint, PrivateEndpoint::Address(_)) && classify(ip) != Class::Metadata;
            if !meant {
                self.admit_one(&name, ip, name == "localhost")?;
            }
            self.refuse_own_ports(host, SocketAddr::new(ip, endpoint.port()), own)?;
        }
        let found = found.into_iter().map(|address| SocketAddr::new(address.ip(), endpoint.port())).collect();
        guard::leads_from(self.source.as_ref(), &name, found)
    }

    /// The port to connect to instead of `url`'s own.
    pub(super) fn private_port(&self, url: &Url) -> Option<u16> {
        let private = self.private_endpoint.as_ref()?.port();
        (self.is_private(url) && Some(private) != url.port_or_known_default()).then_some(private)
    }

    /// Whether an exchange with `url` goes to the private endpoint.
    fn is_private(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.private_endpoint.is_some() && self.api(url.host_str().unwrap_or_default()).any(|api| api.pattern.port == port)
    }

    fn api<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.endpoints.iter().filter(move |endpoint| {
            endpoint.role == Role::Api && endpoint.pattern.port.is_some_and(|port| endpoint.pattern.matches(host, port, port))
        })
    }

    fn endpoint(&self, url: &Url, host: &str, port: u16) -> Result<&Endpoint, Error> {
        let default_port = if url.scheme() == "http" { 80 } else { 443 };
        let mut declared = self.endpoints.iter().filter(|endpoint| endpoint.pattern.matches(host, port, default_port)).peekable();
        if declared.peek().is_none() {
            let remedy = format!("if the registry really sends us there, add it to blob_hosts of registry {}", self.label);
            return Err(self.forbidden(&authority(url), &remedy));
        }
        declared
            .find(|endpoint| url.scheme() == "https" || (url.scheme() == "http" && endpoint.http))
            .ok_or_else(|| self.forbidden(&format!("{}://{}", url.scheme(), authority(url)), "only https is allowed there"))
    }

    fn refuse_own(&self, host: &str, address: SocketAddr, own: &Own) -> Result<(), Error> {
        if own.contains(address) {
            let what = format!("registry {}: {host} is this proxy itself; point it at the real registry", self.label);
            let detail = format!("registry {}: {host} is this proxy itself ({address})", self.label);
            return Err(Error::new(Kind::Loop, what).with_detail(detail));
        }
        Ok(())
    }

    /// The port that a connection to a resolved name will use is the URL's, which the resolver is not told: every port that
    /// the name may be asked on is tried.
    fn refuse_own_ports(&self, host: &str, address: SocketAddr, own: &Own) -> Result<(), Error> {
        let fits = |endpoint: &&Endpoint| {
            let any = endpoint.pattern.port.unwrap_or(443);
            endpoint.pattern.matches(host, any, any)
        };
        let declared = self.endpoints.iter().filter(fits).map(|endpoint| endpoint.pattern.port.unwrap_or(443));
        for port in declared.chain([address.port()]) {
            self.refuse_own(host, SocketAddr::new(address.ip(), port), own)?;
        }
        Ok(())
    }

    fn address_refused(&self, host: &str, address: IpAddr) -> Error {
        let remedy = match classify(address) {
            Class::Metadata => {
                "that is an address of a cloud's metadata; only its own network in addresses would allow it".to_owned()
            }
            _ => format!("that is not a public address; if it is meant, name its network in addresses of registry {}", self.label),
        };
        let detail = format!("registry {} may not connect to {host} at {address}: {remedy}", self.label);
        self.forbidden(host, &remedy).with_detail(detail)
    }

    fn forbidden(&self, place: &str, remedy: &str) -> Error {
        Error::new(Kind::Forbidden, format!("registry {} may not connect to {place}: {remedy}", self.label))
    }
}

/// The endpoint that a configured URL names. A wildcard registry's `*` stands for all hosts that its name matches.
fn exact(url: &Url, name: &RegistryMatch, role: Role) -> Option<Endpoint> {
    let port = Some(port(url));
    let pattern = match (url.host()?, name) {
        (Host::Domain("*"), RegistryMatch::Suffix(suffix)) => HostPattern { wildcard: true, host: suffix.clone(), port },
        (host, _) => HostPattern { wildcard: false, host: bare(&host), port },
    };
    Some(Endpoint { pattern, http: url.scheme() == "http", role })
}

/// Addresses in the one spelling that URLs have them in.
fn canonical(pattern: &HostPattern) -> HostPattern {
    let host = pattern.host.parse::<IpAddr>().map_or_else(|_| pattern.host.clone(), |address| address.to_string());
    HostPattern { host, ..pattern.clone() }
}

fn bare(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => (*name).to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

fn literal(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
    }
}

/// The port of `url`; 0 for a scheme that has none, which no pattern matches.
fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(0)
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests;
