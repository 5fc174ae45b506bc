//! `proxy_protocol = { … }` of a listener: who may say whose connections they pass on.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::network;
use super::raw::{Keys, Value};

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
    Some(ProxyProtocol { from: items.iter().filter_map(sender).collect() })
}

fn sender(item: &Value<'_>) -> Option<IpNet> {
    let network = item.parse(network::network)?;
    if network.prefix_len() == 0 {
        item.warn("everybody may claim any source address and endpoint", "name the networks of the load balancers");
    }
    Some(network)
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
