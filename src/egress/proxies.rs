//! The HTTP proxies of one registry's way: which exchange goes through which, and which addresses they may have. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use url::{Host, Url};

use super::own::Own;
use super::{Class, Error, Kind, classify, guard};
use crate::config::{self, Proxy, ProxyChoice, SharedProxy, Source};

/// All proxies of a way.
#[derive(Debug)]
pub(super) struct Proxies {
    choice: ProxyChoice,
    shared: SharedProxy,
    gates: Vec<Arc<Gate>>,
}

/// One proxy, and what its name may resolve to. Through it the names of registries are resolved elsewhere, where nobody
/// checks what they resolve to.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) proxy: Proxy,
    networks: Vec<IpNet>,
    source: Option<Source>,
}

impl Proxies {
    pub(super) fn new(registry: &config::Registry, egress: &config::Egress) -> Self {
        let (choice, shared) = (registry.proxy.clone(), egress.proxy.clone());
        let gate = |proxy: &Proxy| {
            let (networks, source) = (egress.proxy_addresses.clone(), registry.source.clone());
            Arc::new(Gate { proxy: proxy.clone(), networks, source })
        };
        let gates = all(&choice, &shared).map(gate).collect();
        Self { choice, shared, gates }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.gates.len()
    }

    /// Which one an exchange with `url` goes through, if any.
    pub(super) fn of(&self, url: &Url) -> Option<(usize, &Arc<Gate>)> {
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default()?;
        let proxy = self.choice.proxy(&self.shared, url.scheme() == "https", host, port)?;
        let index = all(&self.choice, &self.shared).position(|one| std::ptr::eq(one, proxy))?;
        Some((index, &self.gates[index]))
    }
}

fn all<'a>(choice: &'a ProxyChoice, shared: &'a SharedProxy) -> impl Iterator<Item = &'a Proxy> {
    let (own, shared) = match choice {
        ProxyChoice::Through(proxy) => (Some(proxy), None),
        ProxyChoice::Direct => (None, None),
        ProxyChoice::Shared => (None, Some(shared.all())),
    };
    own.into_iter().chain(shared.into_iter().flatten())
}

impl Gate {
    /// `host:port`, for messages.
    pub(super) fn name(&self) -> &str {
        &self.proxy.url[url::Position::BeforeHost..url::Position::AfterPort]
    }

    /// Whether the proxy may be connected to, as far as can be told without resolving its name: an address that is written
    /// is meant, but for one of this proxy itself or of a cloud's metadata.
    pub(super) fn check(&self, own: &Own) -> Result<(), Error> {
        let address: IpAddr = match self.proxy.url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            _ => return Ok(()),
        };
        if classify(address) == Class::Metadata && !guard::names_exactly(address, &self.networks) {
            return Err(self.refused(address));
        }
        self.refuse_own(address, own)?;
        guard::leads_from(self.source.as_ref(), self.name(), vec![SocketAddr::new(address, 0)]).map(|_| ())
    }

    /// The addresses to connect to for `host`, which resolved to `found`. Whoever is asked for by this way's connections but
    /// the proxy is not meant.
    pub(super) fn admit(&self, host: &str, found: Vec<SocketAddr>, own: &Own) -> Result<Vec<SocketAddr>, Error> {
        if host != self.proxy.host() {
            return Err(Error::new(Kind::Forbidden, format!("{host} is not the proxy {}", self.name())));
        }
        for address in &found {
            let ip = address.ip().to_canonical();
            if !(guard::admits(ip, &self.networks) || (host == "localhost" && ip.is_loopback())) {
                return Err(self.refused(ip));
            }
            self.refuse_own(ip, own)?;
        }
        let found = found.into_iter().map(|address| SocketAddr::new(address.ip(), self.proxy.port())).collect();
        guard::leads_from(self.source.as_ref(), host, found)
    }

    fn refuse_own(&self, address: IpAddr, own: &Own) -> Result<(), Error> {
        let target = SocketAddr::new(address, self.proxy.port());
        if own.contains(target) {
            let what = format!("the proxy {} is this proxy itself; name another one", self.name());
            return Err(
                Error::new(Kind::Loop, what).with_detail(format!("the proxy {} is this proxy itself ({target})", self.name()))
            );
        }
        Ok(())
    }

    fn refused(&self, address: IpAddr) -> Error {
        let remedy = "if that is meant, name its network in proxy_addresses of [egress]";
        let what = format!("the proxy {} may not be connected to: it is at no public address; {remedy}", self.name());
        let detail = format!("the proxy {} may not be connected to: it is at {address}; {remedy}", self.name());
        Error::new(Kind::Forbidden, what).with_detail(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::scripted::registry;

    fn proxies(url: &str, networks: &[&str]) -> Proxies {
        let proxy = SharedProxy::Given(Proxy { url: url.parse().unwrap(), credentials: None });
        let proxy_addresses = networks.iter().map(|text| text.parse().unwrap()).collect();
        Proxies::new(&registry("https://r.test"), &config::Egress { proxy, proxy_addresses, ..Default::default() })
    }

    fn gate(url: &str, networks: &[&str]) -> Arc<Gate> {
        proxies(url, networks).gates[0].clone()
    }

    fn admitted(gate: &Gate, host: &str, address: &str) -> Result<Vec<SocketAddr>, Kind> {
        gate.admit(host, vec![address.parse().unwrap()], &Own::default()).map_err(|error| error.kind)
    }

    #[test]
    fn this_machine_is_reached_without_one() {
        let proxies = proxies("http://p.test:3128", &[]);
        assert!(proxies.of(&"https://r.test/v2/".parse().unwrap()).is_some());
        for direct in ["http://127.0.0.1:5000/", "http://[::1]:5000/", "http://localhost/", "http://[::ffff:127.0.0.1]/"] {
            assert!(proxies.of(&direct.parse().unwrap()).is_none(), "{direct}");
        }
    }

    #[test]
    fn a_name_must_resolve_to_what_is_public_or_named() {
        let gate = |networks: &[&str]| gate("http://p.test:3128", networks);
        assert_eq!(admitted(&gate(&[]), "p.test", "1.1.1.1:0"), Ok(vec!["1.1.1.1:3128".parse().unwrap()]));
        assert_eq!(admitted(&gate(&["10.0.0.0/8"]), "p.test", "10.1.1.1:0"), Ok(vec!["10.1.1.1:3128".parse().unwrap()]));
        for (host, address) in [("p.test", "10.1.1.1:0"), ("p.test", "169.254.169.254:0"), ("r.test", "1.1.1.1:0")] {
            assert_eq!(admitted(&gate(&["192.168.0.0/16", "169.254.0.0/16"]), host, address), Err(Kind::Forbidden), "{address}");
        }
    }

    #[test]
    fn an_address_is_meant_but_for_metadata_and_ourselves() {
        let own = Own::default();
        own.set(vec!["127.0.0.1:5000".parse().unwrap()]);
        let check = |url: &str, networks: &[&str]| gate(url, networks).check(&own).map_err(|error| error.kind);
        assert_eq!(check("http://10.1.1.1:3128", &[]), Ok(()));
        assert_eq!(check("http://127.0.0.1:3128", &[]), Ok(()));
        assert_eq!(check("http://127.0.0.1:5000", &[]), Err(Kind::Loop));
        assert_eq!(check("http://169.254.169.254", &["169.254.0.0/16"]), Err(Kind::Forbidden));
        assert_eq!(check("http://169.254.169.254", &["169.254.169.254/32"]), Ok(()));
    }
}
