//! `[[listener]]` and `[admin]`: the addresses that the proxy opens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::fault::Complaint;
use super::raw::{Keys, Once, Section, Value};
use super::{Admin, Listener, Registry, RegistryMatch, is_loopback, proxy_protocol, tls, users};
use crate::oci::RegistryName;

pub(super) const KEYS: Keys =
    Keys { known: &["name", "address", "tls", "proxy_protocol", "users", "default_registry", "max_connections"], later: &[] };
pub(super) const ADMIN_KEYS: Keys = Keys { known: &["address"], later: &[] };

const NAME: &str = "default";
const PORT: u16 = 5000;
const ADMIN_PORT: u16 = 5001;
const MAX_CONNECTIONS: usize = 10_000;

/// Stands in for an address with a fault, and clashes with none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer names only swell logs and metrics.
const MAX_NAME: usize = 64;

/// The addresses that are taken, each with the value that took it.
#[derive(Default)]
pub(super) struct Addresses<'a>(Vec<(SocketAddr, Option<Value<'a>>)>);

impl<'a> Addresses<'a> {
    /// The first address that is reached from other machines, where the file names one.
    pub(super) fn beyond_loopback(&self) -> Option<&Value<'a>> {
        self.0.iter().find(|(address, _)| !is_loopback(address.ip())).and_then(|(_, value)| value.as_ref())
    }

    /// Notes that `address` is taken. That it cannot be opened beside an earlier one is a fault. The admin address comes last.
    fn claim(&mut self, address: SocketAddr, value: Option<Value<'a>>) {
        if let Some((taken, first)) = self.0.iter().find(|(taken, _)| clash(*taken, address)) {
            const REMEDY: &str = "choose another port";
            match (&value, first) {
                (Some(value), Some(first)) => {
                    value.fault(format!("{address} clashes with {taken} of {} on line {}", first.key, first.line), REMEDY);
                }
                (Some(value), None) => value.fault(format!("{address} clashes with {taken}, the default of [[listener]]"), REMEDY),
                (None, Some(first)) => first.fault(format!("{taken} clashes with {address}, the default of [admin]"), REMEDY),
                (None, None) => {}
            }
        }
        self.0.push((address, value));
    }
}

/// Whether two addresses cannot both be opened. Port 0 always finds a free one.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host = a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_host
}

/// Reads the listeners, or the one that is built in.
pub(super) fn check<'a>(sections: &[Section<'a>], registries: &[Arc<Registry>], addresses: &mut Addresses<'a>) -> Vec<Listener> {
    let mut names = Once::default();
    if sections.is_empty() {
        let address = loopback(PORT);
        addresses.claim(address, None);
        return vec![Listener::plain(NAME, address, MAX_CONNECTIONS)];
    }
    sections.iter().map(|section| listener(section, registries, &mut names, addresses)).collect()
}

fn listener<'a>(section: &Section<'a>, registries: &[Arc<Registry>], names: &mut Once, addresses: &mut Addresses<'a>) -> Listener {
    let named = section.get("name");
    let name = named.as_ref().map_or_else(|| Some(NAME.to_owned()), |value| value.parse(endpoint_name));
    let address = section.require("address", "write where it listens, such as address = \"127.0.0.1:5000\"");
    if let (Some(name), Some(value)) = (&name, named.as_ref().or(address.as_ref())) {
        names.claim(value, name, &format!("another listener is named {name:?}"), "give each listener a name of its own");
    }
    let address = address.map_or(NOWHERE, |value| open(value, addresses));
    Listener {
        name: name.unwrap_or_default().into(),
        address,
        tls: section.get("tls").and_then(|value| tls::check(&value)),
        proxy_protocol: section.get("proxy_protocol").and_then(|value| proxy_protocol::check(&value)),
        users: users::check(section, address),
        default_registry: section.get("default_registry").and_then(|value| default_registry(&value, registries)),
        max_connections: section.get("max_connections").and_then(|value| value.count()).unwrap_or(MAX_CONNECTIONS),
    }
}

/// Reads `[admin]`, or what holds where it is absent.
pub(super) fn check_admin<'a>(section: Option<&Section<'a>>, addresses: &mut Addresses<'a>) -> Admin {
    let Some(value) = section.and_then(|section| section.get("address")) else {
        addresses.claim(loopback(ADMIN_PORT), None);
        return Admin { address: loopback(ADMIN_PORT) };
    };
    let line = value.clone();
    let address = open(value, addresses);
    if !is_loopback(address.ip()) {
        let remedy = "listen on 127.0.0.1, or guard it by a firewall";
        line.warn("everybody who reaches this address may read and purge the cache", remedy);
    }
    Admin { address }
}

fn open<'a>(value: Value<'a>, addresses: &mut Addresses<'a>) -> SocketAddr {
    let address = value.parse(socket_address).unwrap_or(NOWHERE);
    addresses.claim(address, Some(value));
    address
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The name of a registry that is one host.
fn default_registry(value: &Value<'_>, registries: &[Arc<Registry>]) -> Option<RegistryName> {
    value.parse(|text| {
        let remedy = "write the name of a [[registry]] that is one host";
        let unknown = || Complaint::new(format!("{text:?} is not one of the registries"), remedy);
        let name: RegistryName = text.parse().map_err(|_| unknown())?;
        let is_known = registries.iter().any(|registry| registry.name == RegistryMatch::Exact(name.clone()));
        if is_known { Ok(name) } else { Err(unknown()) }
    })
}

fn endpoint_name(text: &str) -> Result<String, Complaint> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.len() <= MAX_NAME && text.bytes().all(word) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("{text:?} is not a name"), format!("use at most {MAX_NAME} letters, digits, '.', '_' and '-'")))
}

/// `ip:port`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        let remedy = "write ip:port, such as \"127.0.0.1:5000\", \"0.0.0.0:5000\" or \"[::]:5000\"";
        Complaint::new(format!("{text:?} is not an address with a port"), remedy)
    })
}
