//! The proxy's own listening addresses, which it must not take for an upstream.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The addresses this proxy listens on. Empty until they are known.
#[derive(Debug, Default)]
pub(super) struct Own(ArcSwap<Vec<SocketAddr>>);

impl Own {
    pub(super) fn set(&self, addresses: Vec<SocketAddr>) {
        self.0.store(Arc::new(addresses));
    }

    /// Whether a connection to `target` would end at this proxy.
    pub(super) fn contains(&self, target: SocketAddr) -> bool {
        let ip = target.ip().to_canonical();
        let ends_at = |own: IpAddr| own == ip || if own.is_unspecified() { is_local(ip) } else { leads_to(ip, own) };
        self.0.load().iter().any(|own| own.port() == target.port() && ends_at(own.ip().to_canonical()))
    }
}

/// Connecting to the unspecified address leads to loopback.
fn leads_to(ip: IpAddr, own: IpAddr) -> bool {
    ip.is_unspecified() && own.is_loopback()
}

/// Whether `ip` belongs to this machine: only then can a socket be bound to it. Sends nothing.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_itself_under_every_address_of_the_machine() {
        let own = Own::default();
        let contains = |own: &Own, text: &str| own.contains(text.parse().unwrap());
        assert!(!contains(&own, "127.0.0.1:5000"));
        own.set(vec!["127.0.0.1:5000".parse().unwrap(), "0.0.0.0:6000".parse().unwrap()]);
        assert!(contains(&own, "127.0.0.1:5000"));
        assert!(contains(&own, "[::ffff:127.0.0.1]:5000"));
        assert!(contains(&own, "0.0.0.0:5000") && contains(&own, "0.0.0.0:6000") && !contains(&own, "0.0.0.0:7000"));
        assert!(!contains(&own, "127.0.0.1:5001"));
        assert!(!contains(&own, "127.0.0.2:5000"));
        assert!(contains(&own, "127.0.0.9:6000"));
        assert!(!contains(&own, "192.0.2.1:6000"));
    }
}
