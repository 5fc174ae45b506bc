//! Which addresses may be connected to. Pure tables.
//!
//! Sources: the IANA special-purpose address registries for IPv4 and IPv6, and the cloud providers' documented metadata
//! addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Error, Kind};
use crate::config::Source;

/// What an address is to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// On the public internet.
    Public,
    /// Private, loopback, link-local, multicast, documentation, tunnel or otherwise not for general use.
    Special,
    /// Answers with the machine's own cloud credentials.
    Metadata,
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, h: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, h)
}

/// The IPv4 ranges that are not public.
pub(super) const SPECIAL_V4: [Ipv4Net; 18] = [
    Ipv4Net::new_assert(v4(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(v4(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(v4(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(v4(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(v4(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(v4(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(v4(192, 0, 0, 0), 24),
    Ipv4Net::new_assert(v4(192, 0, 2, 0), 24),
    Ipv4Net::new_assert(v4(192, 31, 196, 0), 24),
    Ipv4Net::new_assert(v4(192, 52, 193, 0), 24),
    Ipv4Net::new_assert(v4(192, 88, 99, 0), 24),
    Ipv4Net::new_assert(v4(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(v4(192, 175, 48, 0), 24),
    Ipv4Net::new_assert(v4(198, 18, 0, 0), 15),
    Ipv4Net::new_assert(v4(198, 51, 100, 0), 24),
    Ipv4Net::new_assert(v4(203, 0, 113, 0), 24),
    Ipv4Net::new_assert(v4(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(v4(240, 0, 0, 0), 4),
];

/// Global unicast; everything outside is special.
pub(super) const GLOBAL_V6: Ipv6Net = Ipv6Net::new_assert(v6(0x2000, 0, 0, 0, 0), 3);

/// The ranges within [`GLOBAL_V6`] that are not public: IETF protocols (Teredo among them), documentation, 6to4.
pub(super) const SPECIAL_V6: [Ipv6Net; 4] = [
    Ipv6Net::new_assert(v6(0x2001, 0, 0, 0, 0), 23),
    Ipv6Net::new_assert(v6(0x2001, 0xdb8, 0, 0, 0), 32),
    Ipv6Net::new_assert(v6(0x2002, 0, 0, 0, 0), 16),
    Ipv6Net::new_assert(v6(0x3fff, 0, 0, 0, 0), 20),
];

/// The well-known NAT64 prefix (RFC 6052): where it is in use, every public IPv4 host is reached through it.
const NAT64: Ipv6Net = Ipv6Net::new_assert(v6(0x64, 0xff9b, 0, 0, 0), 96);

/// AWS, ECS, EKS Pod Identity, Azure, Alibaba, Oracle and Scaleway; Google uses the first as well.
pub(super) const METADATA_V4: [Ipv4Addr; 7] = [
    v4(169, 254, 169, 254),
    v4(169, 254, 170, 2),
    v4(169, 254, 170, 23),
    v4(168, 63, 129, 16),
    v4(100, 100, 100, 200),
    v4(192, 0, 0, 192),
    v4(169, 254, 42, 42),
];

/// AWS, EKS Pod Identity, Google and Scaleway.
const METADATA_V6: [Ipv6Addr; 4] =
    [v6(0xfd00, 0xec2, 0, 0, 0x254), v6(0xfd00, 0xec2, 0, 0, 0x23), v6(0xfd20, 0xce, 0, 0, 0x254), v6(0xfd00, 0x42, 0, 0, 0x42)];

/// What `address` is. IPv4 addresses in an IPv6 dress are seen for what they are.
pub fn classify(address: IpAddr) -> Class {
    match reached(address) {
        IpAddr::V4(address) if METADATA_V4.contains(&address) => Class::Metadata,
        IpAddr::V4(address) if SPECIAL_V4.iter().any(|net| net.contains(&address)) => Class::Special,
        IpAddr::V6(address) if METADATA_V6.contains(&address) => Class::Metadata,
        IpAddr::V6(address) if embedded(address).iter().any(|inner| METADATA_V4.contains(inner)) => Class::Metadata,
        IpAddr::V6(address) if !GLOBAL_V6.contains(&address) => Class::Special,
        IpAddr::V6(address) if SPECIAL_V6.iter().any(|net| net.contains(&address)) => Class::Special,
        _ => Class::Public,
    }
}

/// Whether a name may resolve to `address`. `exceptions` are the networks that its registry names; a metadata address needs
/// one that names just it.
pub(super) fn admits(address: IpAddr, exceptions: &[IpNet]) -> bool {
    let reached = reached(address);
    match classify(address) {
        Class::Public => true,
        Class::Special => exceptions.iter().any(|net| net.contains(&reached)),
        Class::Metadata => names_exactly(reached, exceptions),
    }
}

/// Whether a network of one address among `exceptions` is `address`.
pub(super) fn names_exactly(address: IpAddr, exceptions: &[IpNet]) -> bool {
    let reached = reached(address);
    exceptions.iter().any(|net| net.prefix_len() == net.max_prefix_len() && net.addr() == reached)
}

/// Those of `found` that connections from `source` can lead to.
pub(super) fn leads_from(source: Option<&Source>, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Error> {
    let Some(source) = source else { return Ok(found) };
    let found: Vec<SocketAddr> = found.into_iter().filter(|address| source.reaches(address.ip())).collect();
    if found.is_empty() {
        return Err(Error::new(Kind::Unreachable, format!("{host} has no address of the same family as {source}")));
    }
    Ok(found)
}

/// The host that packets to `address` end at: mapped and NAT64 addresses are IPv4 hosts.
fn reached(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None if NAT64.contains(&v6) => IpAddr::V4(low_bits(v6)),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

/// IPv4 addresses that a relay may take out of `address`: 6to4's, Teredo's server and (inverted) client, and the last 32
/// bits, which is where the other transition forms keep theirs.
fn embedded(address: Ipv6Addr) -> [Ipv4Addr; 4] {
    let [_, b, c, d, ..] = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let last = low_bits(address);
    [pair(b, c), pair(c, d), Ipv4Addr::from(!u32::from(last)), last]
}

fn low_bits(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Class {
        classify(text.parse().unwrap())
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn public_addresses_are_public() {
        for text in ["1.1.1.1", "93.184.216.34", "100.63.255.255", "172.15.0.1", "172.32.0.1", "192.169.0.1", "223.255.255.255"] {
            assert_eq!(class(text), Class::Public, "{text}");
        }
        for text in ["2606:4700::1111", "2a00:1450:4001::1", "2400:cb00::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2001:200::1"] {
            assert_eq!(class(text), Class::Public, "{text}");
        }
    }

    #[test]
    fn special_addresses_are_special_in_every_dress() {
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert_eq!(class(text), Class::Special, "{text}");
            assert_eq!(class(&format!("::ffff:{text}")), Class::Special, "mapped {text}");
            assert_eq!(class(&format!("64:ff9b::{text}")), Class::Special, "NAT64 {text}");
        }
        for text in [
            "::",
            "::1",
            "::7f00:1",
            "::ffff:0:7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:101:101::1",
            "3fff::1",
            "4000::1",
        ] {
            assert_eq!(class(text), Class::Special, "{text}");
        }
    }

    #[test]
    fn metadata_addresses_are_known_in_every_dress() {
        for text in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "169.254.42.42",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
            "::ffff:169.254.169.254",
            "64:ff9b::168.63.129.16",
            "::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001::5601:5601",
            "64:ff9b:1::a9fe:a9fe",
        ] {
            assert_eq!(class(text), Class::Metadata, "{text}");
        }
    }

    #[test]
    fn exceptions_open_networks_but_never_metadata_by_accident() {
        let admits = |address: &str, networks: &[&str]| admits(address.parse().unwrap(), &nets(networks));
        assert!(admits("10.1.2.3", &["10.0.0.0/8"]));
        assert!(admits("::ffff:10.1.2.3", &["10.0.0.0/8"]));
        assert!(admits("fd12::1", &["fd00::/8"]));
        assert!(!admits("10.1.2.3", &["192.168.0.0/16", "::/0"]));
        for everything in [&["0.0.0.0/0", "::/0"][..], &["169.254.0.0/16"], &["168.63.129.16/31"]] {
            assert!(!admits("169.254.169.254", everything));
            assert!(!admits("168.63.129.16", everything));
        }
        assert!(admits("169.254.169.254", &["169.254.169.254/32"]));
        assert!(admits("fd00:ec2::254", &["fd00:ec2::254/128"]));
        assert!(!admits("fd00:ec2::254", &["fd00:ec2::/64"]));
    }

    proptest::proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_address_in_it(bits: u32) {
            let address = Ipv4Addr::from(bits);
            proptest::prop_assert_eq!(classify(address.into()), classify(address.to_ipv6_mapped().into()));
        }
    }
}
