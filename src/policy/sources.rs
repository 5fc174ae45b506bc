//! Networks as ranges of addresses, so that one look-up says whether an address is in any of a thousand.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of addresses. IPv4 and IPv6 are apart: `::/0` has no IPv4 address in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sources {
    v4: Ranges,
    v6: Ranges,
}

/// Ranges, both ends in them, in order and with gaps between.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Sources {
    /// The addresses of these networks, in their canonical form.
    pub(super) fn new(networks: &[IpNet]) -> Self {
        let of = |is_v4| networks.iter().filter(move |network| network.addr().is_ipv4() == is_v4);
        let range = |network: &IpNet| (number(network.network()), number(network.broadcast()));
        Self { v4: Ranges::new(of(true).map(range).collect()), v6: Ranges::new(of(false).map(range).collect()) }
    }

    /// Every address there is.
    pub(super) fn all() -> Self {
        Self { v4: Ranges(vec![(0, u128::from(u32::MAX))]), v6: Ranges(vec![(0, u128::MAX)]) }
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        Self { v4: self.v4.without(&other.v4), v6: self.v6.without(&other.v6) }
    }

    /// Whether an address, which is canonical, is in the set.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        ranges.contain(number(address))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    pub(super) fn cover(&self, other: &Self) -> bool {
        other.without(self).is_empty()
    }
}

impl Ranges {
    fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match joined.last_mut() {
                Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
                _ => joined.push((from, to)),
            }
        }
        Self(joined)
    }

    fn contain(&self, address: u128) -> bool {
        match &*self.0 {
            // What most lists are.
            [(from, to)] => (*from..=*to).contains(&address),
            all => {
                let behind = all.partition_point(|(from, _)| *from <= address);
                behind > 0 && address <= all[behind - 1].1
            }
        }
    }

    fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &(from, to) in &self.0 {
            let mut next = Some(from);
            for &(cut_from, cut_to) in other.0.iter().filter(|(cut_from, cut_to)| *cut_from <= to && *cut_to >= from) {
                if let Some(start) = next.filter(|start| *start < cut_from) {
                    left.push((start, cut_from - 1));
                }
                next = cut_to.checked_add(1);
            }
            left.extend(next.filter(|start| *start <= to).map(|start| (start, to)));
        }
        Self(left)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_ends_of_the_families_are_in_them() {
        let all = Sources::new(&networks(&["0.0.0.0/0", "::/0"]));
        assert_eq!(all, Sources::all());
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(all.contain(address.parse().unwrap()), "{address}");
        }
        assert!(Sources::all().without(&all).is_empty());
        assert!(!Sources::new(&networks(&["::/0"])).contain("10.0.0.1".parse().unwrap()));
    }

    fn some() -> impl Strategy<Value = Vec<IpNet>> {
        let network =
            (0..=63_u8, 26..=32_u8).prop_map(|(last, prefix)| IpNet::new([10, 0, 0, last].into(), prefix).unwrap().trunc());
        prop::collection::vec(network, 0..6)
    }

    proptest! {
        #[test]
        fn it_has_the_addresses_of_its_networks_but_those_cut_out(is in some(), not in some(), last in 0..=70_u8) {
            let set = Sources::new(&is).without(&Sources::new(&not));
            let address = IpAddr::from([10, 0, 0, last]);
            let has = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(set.contain(address), has(&is) && !has(&not));
        }

        #[test]
        fn one_set_covers_another_if_it_has_all_its_addresses(wide in some(), narrow in some()) {
            let (wide, narrow) = (Sources::new(&wide), Sources::new(&narrow));
            let all = (0..=63).map(|last| IpAddr::from([10, 0, 0, last]));
            let covers = all.filter(|address| narrow.contain(*address)).all(|address| wide.contain(address));
            prop_assert_eq!(wide.cover(&narrow), covers);
        }
    }
}
