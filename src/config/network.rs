//! Networks, as every key takes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::fault::Complaint;

/// How many bits of an IPv6 address are in front of the IPv4 address that it may hold, `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = (Ipv6Addr::BITS - Ipv4Addr::BITS) as u8;

/// A network without bits beyond its prefix, or an address that stands for itself alone. IPv4 in an IPv6 dress is undressed,
/// as are the addresses that it is compared with.
pub(super) fn network(text: &str) -> Result<IpNet, Complaint> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        let remedy = "write an address and a prefix length, such as \"10.0.0.0/8\"";
        Complaint::new(format!("{text:?} is not a network"), remedy)
    })?;
    if network != network.trunc() {
        let host = IpNet::from(network.addr());
        let remedy = format!("write \"{}\" or \"{host}\"", network.trunc());
        return Err(Complaint::new(format!("{text:?} has bits beyond its prefix"), remedy));
    }
    Ok(undressed(network).unwrap_or(network))
}

fn undressed(network: IpNet) -> Option<IpNet> {
    let IpAddr::V6(address) = network.addr() else { return None };
    let prefix = network.prefix_len().checked_sub(MAPPED_PREFIX)?;
    Ipv4Net::new(address.to_ipv4_mapped()?, prefix).ok().map(IpNet::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_and_a_mapped_one_is_that_of_ipv4() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::1", "fd00::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.1/104", "nodes", ""] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }
}
