//! `proxy_protocol = { … }` of a listener: who may say whose connections they pass on.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::fault::Complaint;
use super::raw::{Keys, Value};
use super::registry;

pub(super) const KEYS: Keys = Keys { known: &["from"], later: &[] };

/// `proxy_protocol = { … }`: connections from some begin with a header of the PROXY protocol, all others with none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The networks of the load balancers that send the header. At least one.
    pub from: Vec<IpNet>,
}

impl ProxyProtocol {
    /// Whether connections from `peer` begin with a header.
    pub fn is_sender(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        self.from.iter().any(|network| network.contains(&address))
    }
}

/// Reads the value.
pub(super) fn check(value: &Value<'_>) -> Option<ProxyProtocol> {
    let section = value.section(&KEYS)?;
    let from = section.require("from", "name the networks of the load balancers, such as from = [\"10.0.0.0/24\"]")?;
    let items = from.items()?;
    if items.is_empty() {
        from.fault("no network", "name those of the load balancers, or remove proxy_protocol");
    }
    Some(ProxyProtocol { from: items.iter().filter_map(network).collect() })
}

fn network(item: &Value<'_>) -> Option<IpNet> {
    let network = item.parse(|text| registry::network(text).and_then(unmapped))?;
    if network.prefix_len() == 0 {
        item.warn("everybody may claim any source address and endpoint", "name the networks of the load balancers");
    }
    Some(network)
}

/// Addresses are compared in their plain form, so a network of mapped ones would never match.
fn unmapped(network: IpNet) -> Result<IpNet, Complaint> {
    match network.addr() {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() && network.prefix_len() >= 96 => {
            let plain = IpNet::new(network.addr().to_canonical(), network.prefix_len() - 96).unwrap_or(network);
            Err(Complaint::new(format!("{network} is a network of IPv4"), format!("write \"{plain}\"")))
        }
        _ => Ok(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_known_by_its_plain_address() {
        let config = ProxyProtocol { from: vec!["10.0.0.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()] };
        for (peer, sends) in [
            ("10.0.0.255:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("10.0.1.0:1", false),
            ("[2001:db8::9]:1", true),
            ("[2001:db8:0:1::9]:1", false),
        ] {
            assert_eq!(config.is_sender(peer.parse().unwrap()), sends, "{peer}");
        }
    }
}
